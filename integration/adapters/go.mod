// Not released: only tests are here.
module github.com/seed-a7bee19b/session/integration/adapters

go 1.26.0

require (
	github.com/alexedwards/scs/v2 v2.9.0
	github.com/gin-contrib/sessions v1.0.4
	github.com/gin-gonic/gin v1.10.1
	github.com/gofiber/fiber/v3 v3.1.0
	github.com/gorilla/sessions v1.4.0
	github.com/aws/aws-sdk-go-v2 v1.47.7
	github.com/aws/aws-sdk-go-v2/credentials v1.20.15
	github.com/aws/aws-sdk-go-v2/service/dynamodb v1.73.1
	github.com/redis/go-redis/v9 v9.23.0
	github.com/seed-a7bee19b/session v0.1.0
	github.com/seed-a7bee19b/session/adapter/gin v0.1.0
	github.com/seed-a7bee19b/session/adapter/gorilla v0.1.0
	github.com/seed-a7bee19b/session/backend/redis v0.1.0
	github.com/seed-a7bee19b/session/integration v0.1.0
)
