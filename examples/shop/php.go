package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec/php"
)

// phpPath is where the pages are that are still in PHP; see php/cart.php.
const phpPath = "/php/"

// phpSessions is what the table has beside PHP: its rows are those of PHP's session
// handler, which writes with php/VersionedConnection.php of this repository.
var phpSessions = dynamodb.PHPConfig{
	Connection:      dynamodb.VersionedConnection,
	SessionLifetime: 24 * time.Minute,
}

// besidePHP returns cfg with what PHP demands: its cookie, its IDs, its keys, and
// the format of its values.
func besidePHP(cfg session.Config) session.Config {
	cfg.IdleTimeout = phpSessions.SessionLifetime
	cfg.Codec = php.Codec{User: "user"} // $_SESSION['user']
	cfg.Cookie.Name = "PHPSESSID"
	cfg.Tokens = dynamodb.PHPTokens()
	cfg.StoreKey = dynamodb.PHPStoreKey("PHPSESSID")
	return cfg
}

// phpPages passes requests on to a PHP server.
func phpPages(server *url.URL) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(server)
		r.SetXForwarded()
		r.Out.Host = r.In.Host
	}}
}
