package behaviour

import (
	"context"
	"net/http"

	"github.com/alexedwards/scs/v2"
	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	fiberstore "github.com/seed-a7bee19b/session/adapter/fiber"
	ginstore "github.com/seed-a7bee19b/session/adapter/gin"
	gorillastore "github.com/seed-a7bee19b/session/adapter/gorilla"
	scsstore "github.com/seed-a7bee19b/session/adapter/scs"
	"github.com/seed-a7bee19b/session/backend/memory"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

// The libraries with our adapters. Their pages are those of the libraries alone, but
// an error has the status of session.Status, as the adapters say.
var (
	adapterSCS = Peer{
		Name: "scs, adapter", Module: "github.com/alexedwards/scs/v2", Needs: "redis",
		Notes:  "adapter/scs with backend/redis, else as scs, Redis; ErrorFunc with session.Status",
		launch: onBackend(launchAdapterSCS),
	}
	adapterGorilla = Peer{
		Name: "gorilla, adapter", Module: "github.com/gorilla/sessions", Needs: "redis", ignoresOpened: true,
		Notes:  "adapter/gorilla with backend/redis, else as gorilla, files",
		launch: onBackend(launchAdapterGorilla),
	}
	adapterGin = Peer{
		Name: "gin-contrib, adapter", Module: "github.com/gin-contrib/sessions", Needs: "redis",
		Notes:  "adapter/gin with backend/redis, else as gin-contrib, Redis",
		launch: onBackend(launchAdapterGin),
	}
	adapterFiber = Peer{
		Name: "fiber, adapter", Module: "github.com/gofiber/fiber/v3", Needs: "redis",
		Notes:  "adapter/fiber with backend/redis, else as fiber, Redis; ErrorHandlers with session.Status, of which that of the middleware takes the cookie out of the response",
		launch: onBackend(launchAdapterFiber),
	}
)

// onBackend launches on the Redis of env, or in memory if there is none.
func onBackend(launch func(ctx context.Context, a *App, b session.Backend) error) func(context.Context, *App, Env) error {
	return func(ctx context.Context, a *App, env Env) error {
		b := &switched{Backend: &memory.Backend{}}
		if env.Redis != "" {
			_, addr, err := a.redis(ctx, env)
			if err != nil {
				return err
			}
			client := redis.NewClient(&redis.Options{Addr: addr})
			a.onClose(client.Close)
			if b.Backend, err = redisstore.New(client, redisstore.Config{}); err != nil {
				return err
			}
		} else {
			a.fail = func(broken bool) error { b.broken.Store(broken); return nil }
		}
		a.status = session.Status
		a.garbleRecord(b)
		return launch(ctx, a, b)
	}
}

func launchAdapterSCS(_ context.Context, a *App, b session.Backend) error {
	store, err := scsstore.New(b, scsstore.Config{})
	if err != nil {
		return err
	}
	m := scs.New()
	m.Store = store
	m.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, err error) { a.failed(w, err) }
	a.serve(store.Handler(a.pageSCS(m)))
	return nil
}

// plain lets the cookies travel over http.
var plain = sessions.Options{Path: "/", MaxAge: 86400, HttpOnly: true}

func launchAdapterGorilla(_ context.Context, a *App, b session.Backend) error {
	store, err := gorillastore.New(b, gorillastore.Config{Options: plain})
	if err != nil {
		return err
	}
	a.planted = "plantedplantedplantedplantedplan" // 32 characters, as its own
	a.serveGorilla(store, func(s *sessions.Session) error { s.ID = ""; return nil })
	return nil
}

func launchAdapterGin(_ context.Context, a *App, b session.Backend) error {
	store, err := ginstore.New(b, ginstore.Config{})
	if err != nil {
		return err
	}
	store.Options(ginsessions.Options{Path: "/", MaxAge: 86400, HttpOnly: true})
	a.planted = "plantedplantedplantedplantedplan"
	a.serveGin(store)
	return nil
}

func launchAdapterFiber(ctx context.Context, a *App, b session.Backend) error {
	storage, err := fiberstore.New(b, fiberstore.Config{})
	if err != nil {
		return err
	}
	failed := func(c fiber.Ctx, err error) error { return c.Status(a.status(err)).SendString(err.Error()) }
	return a.serveFiber(ctx, fiber.Config{ErrorHandler: failed}, fibersession.Config{
		Storage: storage, ErrorHandler: func(c fiber.Ctx, err error) {
			c.Response().Header.DelCookie(a.cookie)
			_ = failed(c, err)
		},
	})
}
