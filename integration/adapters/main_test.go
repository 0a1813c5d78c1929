package adapters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"testing"

	"github.com/gin-gonic/gin"
	fiberlog "github.com/gofiber/fiber/v3/log"

	"github.com/seed-a7bee19b/session/integration/engine"
)

// local is the DynamoDB Local that all tests share, and server the Redis server.
var local, server *engine.Engine

func TestMain(m *testing.M) {
	// The libraries log the errors that are provoked here.
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	fiberlog.SetOutput(io.Discard)
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultWriter, gin.DefaultErrorWriter = io.Discard, io.Discard
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "adapters:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if local, err = engine.Start(ctx, os.Stderr); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, local.Close()) }()
	if server, err = engine.StartRedis(ctx, os.Stderr); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	return m.Run(), nil
}
