module github.com/seed-a7bee19b/session/oidc

go 1.24.0

require (
	github.com/go-jose/go-jose/v4 v4.1.9
	github.com/seed-a7bee19b/session v0.1.0
)

require (
	github.com/vmihailenco/msgpack/v5 v5.4.1 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
)
