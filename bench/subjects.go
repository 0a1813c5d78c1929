package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	ginsessions "github.com/gin-contrib/sessions"
	ginmemstore "github.com/gin-contrib/sessions/memstore"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	fiberredis "github.com/gofiber/storage/redis/v3"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
)

// subject is a library with a store, or the bare chain of its web framework. It
// is measured.
type subject struct {
	name   string
	module string
	notes  string
	bare   bool // no session
	memory bool // the store is in memory, so bytes per session can be measured
	ours   bool

	// start serves sessions with the values that vs makes, to requests with
	// the context ctx.
	start func(ctx context.Context, vs func() map[string]any) (*running, error)
}

const (
	modOurs    = "github.com/seed-a7bee19b/session"
	modSCS     = "github.com/alexedwards/scs/v2"
	modGorilla = "github.com/gorilla/sessions"
	modGin     = "github.com/gin-contrib/sessions"
	modFiber   = "github.com/gofiber/fiber/v3"
)

var (
	signing    = []byte("0123456789abcdef0123456789abcdef")
	encryption = []byte("fedcba9876543210fedcba9876543210")
)

// local returns the subjects that need no server.
func local() []subject {
	return []subject{
		{name: "net/http, no session", bare: true, notes: "a handler that writes 2 bytes", start: bareHTTP},
		{name: "session, memory", module: modOurs, ours: true, memory: true, notes: "defaults", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			return startOurs(ctx, &memory.Backend{}, vs, nil)
		}},
		{name: "scs, memstore", module: modSCS, memory: true, notes: "LoadAndSave, no cleanup in the background, else defaults: no idle timeout, so that reading never writes", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			return startSCSMemory(ctx, vs, 0)
		}},
		{name: "scs, memstore, idle timeout", module: modSCS, notes: "as above with IdleTimeout 2 h: it then saves on every request", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			return startSCSMemory(ctx, vs, 2*time.Hour)
		}},
		{name: "gorilla, cookie", module: modGorilla, notes: "CookieStore, keys for signing and encryption; the session is in the cookie, and no store is asked", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			return startGorilla(ctx, sessions.NewCookieStore(signing, encryption), vs, nil)
		}},
		{name: "gorilla, files", module: modGorilla, notes: "FilesystemStore in a temporary folder, key for signing", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			dir, err := os.MkdirTemp("", "session-bench")
			if err != nil {
				return nil, err
			}
			return startGorilla(ctx, sessions.NewFilesystemStore(dir, signing), vs, func() error { return os.RemoveAll(dir) })
		}},
		{name: "gin, no session", module: "github.com/gin-gonic/gin", bare: true, notes: "release mode, no middleware", start: func(ctx context.Context, _ func() map[string]any) (*running, error) {
			return startGin(ctx, nil, nil, nil)
		}},
		{name: "gin-contrib, memstore", module: modGin, memory: true, notes: "memstore, key for signing; it keeps Go values and encodes nothing", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			return startGin(ctx, ginmemstore.NewStore(signing), vs, nil)
		}},
		{name: "fiber, no session", module: modFiber, bare: true, notes: "fasthttp's own request and response, used again, as in fiber's own benchmarks; no net/http in it", start: func(context.Context, func() map[string]any) (*running, error) {
			return startFiber(nil, false, nil, nil)
		}},
		{name: "fiber, middleware", module: modFiber, memory: true, notes: "session.New, storage in memory: it saves on every request", start: func(_ context.Context, vs func() map[string]any) (*running, error) {
			return startFiber(&fibersession.Config{}, false, vs, nil)
		}},
		{name: "fiber, Store", module: modFiber, notes: "session.NewStore, and Save only where something changed: reading then moves no deadline", start: func(_ context.Context, vs func() map[string]any) (*running, error) {
			return startFiber(&fibersession.Config{}, true, vs, nil)
		}},
	}
}

// arithmetic touches no memory. It shows the best that two cores gave in this
// run.
var arithmetic = subject{
	name: "arithmetic", bare: true, notes: "2,000 multiplications: what two cores gave in this run",
	start: func(context.Context, func() map[string]any) (*running, error) {
		return &running{close: nothing, caller: func(work, kind) (func() error, error) {
			return func() error {
				x := uint64(1) // not shared with the other core, and not in the same cache line
				for range 2000 {
					x = x*6364136223846793005 + 1442695040888963407
				}
				if x == 0 {
					return errEmpty // so that it is not optimized away
				}
				return nil
			}, nil
		}}, nil
	},
}

// onRedis returns the subjects that keep sessions in the Redis server at addr.
func onRedis(addr string) []subject {
	client := func() *redis.Client { return redis.NewClient(&redis.Options{Addr: addr}) }
	return []subject{
		{name: "session, Redis", module: modOurs, ours: true, notes: "defaults", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			c := client()
			b, err := redisstore.New(c, redisstore.Config{})
			if err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return startOurs(ctx, b, vs, c.Close)
		}},
		{name: "scs, goredisstore", module: modSCS, notes: "defaults", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			c := client()
			m := scs.New()
			m.Store = goredisstore.New(c)
			return startSCS(ctx, m, vs, c.Close), nil
		}},
		{name: "gin-contrib, redis", module: modGin, notes: "redis.NewStore, 10 idle connections", start: func(ctx context.Context, vs func() map[string]any) (*running, error) {
			store, err := ginredis.NewStore(10, "tcp", addr, "", "", signing)
			if err != nil {
				return nil, err
			}
			rs, err := ginredis.GetRedisStore(store)
			if err != nil {
				return nil, err
			}
			return startGin(ctx, store, vs, rs.Close)
		}},
		{name: "fiber, storage/redis", module: modFiber, notes: "the middleware with storage/redis", start: func(_ context.Context, vs func() map[string]any) (*running, error) {
			c := client()
			return startFiber(&fibersession.Config{Storage: fiberredis.NewFromConnection(c)}, false, vs, c.Close)
		}},
	}
}

func nothing() error { return nil }

func bareHTTP(ctx context.Context, _ func() map[string]any) (*running, error) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })
	return &running{caller: alike(ctx, map[work]http.Handler{fresh: h}), close: nothing}, nil
}

// alike makes the same requests for every kind of work, because there is no
// session.
func alike(ctx context.Context, handlers map[work]http.Handler) func(work, kind) (func() error, error) {
	return func(_ work, k kind) (func() error, error) { return caller(ctx, handlers)(fresh, k) }
}

func orNothing(f func() error) func() error {
	if f == nil {
		return nothing
	}
	return f
}

var (
	number = session.Key[int]{Name: "n"}
	user   = session.Key[string]{Name: "user"}
)

func increment(n int) int { return n + 1 }

var errEmpty = errors.New("the session has no user")

func startOurs(ctx context.Context, b session.Backend, vs func() map[string]any, stop func() error) (*running, error) {
	m, err := session.New(b, session.Config{})
	if err != nil {
		return nil, err
	}
	return &running{caller: caller(ctx, ourHandlers(m, vs)), close: orNothing(stop)}, nil
}

func ourHandlers(m *session.Manager, vs func() map[string]any) map[work]http.Handler {
	handler := func(f func(*session.Session) error) http.Handler {
		return m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if err := f(s); err != nil {
				return err
			}
			_, _ = w.Write(page)
			return nil
		})
	}
	return map[work]http.Handler{
		read: handler(func(s *session.Session) error {
			u, err := user.Get(s)
			if u == "" && err == nil {
				err = errEmpty
			}
			return err
		}),
		write: handler(func(s *session.Session) error { _, err := number.Update(s, increment); return err }),
		fresh: handler(func(s *session.Session) error {
			for name, v := range vs() {
				if err := s.Set(name, v); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func startSCSMemory(ctx context.Context, vs func() map[string]any, idle time.Duration) (*running, error) {
	m := scs.New()
	m.IdleTimeout = idle
	m.Store = memstore.NewWithCleanupInterval(0)
	return startSCS(ctx, m, vs, nothing), nil
}

func startSCS(ctx context.Context, m *scs.SessionManager, vs func() map[string]any, stop func() error) *running {
	handler := func(f func(r *http.Request)) http.Handler {
		return m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f(r)
			_, _ = w.Write(page)
		}))
	}
	return &running{close: stop, caller: caller(ctx, map[work]http.Handler{
		read: m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.GetString(r.Context(), "user") == "" {
				http.Error(w, errEmpty.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(page)
		})),
		write: handler(func(r *http.Request) { m.Put(r.Context(), "n", m.GetInt(r.Context(), "n")+1) }),
		fresh: handler(func(r *http.Request) {
			for name, v := range vs() {
				m.Put(r.Context(), name, v)
			}
		}),
	})}
}

func startGorilla(ctx context.Context, store sessions.Store, vs func() map[string]any, stop func() error) (*running, error) {
	handler := func(f func(*sessions.Session) (save bool, err error)) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := store.Get(r, "session")
			save := false
			if err == nil {
				save, err = f(s)
			}
			if err == nil && save {
				err = s.Save(r, w)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = w.Write(page)
		})
	}
	return &running{close: orNothing(stop), caller: caller(ctx, map[work]http.Handler{
		read: handler(func(s *sessions.Session) (bool, error) {
			if u, _ := s.Values["user"].(string); u == "" {
				return false, errEmpty
			}
			return false, nil
		}),
		write: handler(func(s *sessions.Session) (bool, error) {
			n, _ := s.Values["n"].(int)
			s.Values["n"] = n + 1
			return true, nil
		}),
		fresh: handler(func(s *sessions.Session) (bool, error) {
			for name, v := range vs() {
				s.Values[name] = v
			}
			return true, nil
		}),
	})}, nil
}

func startGin(ctx context.Context, store ginsessions.Store, vs func() map[string]any, stop func() error) (*running, error) {
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultErrorWriter = io.Discard
	handler := func(f func(ginsessions.Session) error) http.Handler {
		e := gin.New()
		if store != nil {
			e.Use(ginsessions.Sessions("session", store))
		}
		e.GET("/", func(c *gin.Context) {
			if store != nil {
				if err := f(ginsessions.Default(c)); err != nil {
					c.AbortWithStatus(http.StatusInternalServerError)
					return
				}
			}
			_, _ = c.Writer.Write(page)
		})
		return e
	}
	handlers := map[work]http.Handler{
		read: handler(func(s ginsessions.Session) error {
			if u, _ := s.Get("user").(string); u == "" {
				return errEmpty
			}
			return nil
		}),
		write: handler(func(s ginsessions.Session) error {
			n, _ := s.Get("n").(int)
			s.Set("n", n+1)
			return s.Save()
		}),
		fresh: handler(func(s ginsessions.Session) error {
			for name, v := range vs() {
				s.Set(name, v)
			}
			return s.Save()
		}),
	}
	if store == nil {
		return &running{caller: alike(ctx, handlers), close: nothing}, nil
	}
	return &running{caller: caller(ctx, handlers), close: orNothing(stop)}, nil
}

// sessionOf has the common methods of fiber's middleware and its Session.
type sessionOf interface {
	Get(key any) any
	Set(key, value any)
}

// startFiber serves without sessions if cfg is nil. byHand uses the Store instead
// of the middleware, and saves only changed sessions.
func startFiber(cfg *fibersession.Config, byHand bool, vs func() map[string]any, stop func() error) (*running, error) {
	var middleware fiber.Handler
	var store *fibersession.Store
	if cfg != nil {
		middleware, store = fibersession.NewWithStore(*cfg)
	}
	handler := func(change bool, f func(sessionOf) error) fasthttp.RequestHandler {
		app := fiber.New()
		switch {
		case cfg == nil:
			app.Get("/", func(c fiber.Ctx) error { return c.Send(page) })
		case byHand:
			app.Get("/", func(c fiber.Ctx) error {
				s, err := store.Get(c)
				if err != nil {
					return err
				}
				defer s.Release()
				if err = f(s); err == nil && change {
					err = s.Save()
				}
				if err != nil {
					return err
				}
				return c.Send(page)
			})
		default:
			app.Use(middleware)
			app.Get("/", func(c fiber.Ctx) error {
				if err := f(fibersession.FromContext(c)); err != nil {
					return err
				}
				return c.Send(page)
			})
		}
		return app.Handler()
	}
	handlers := map[work]fasthttp.RequestHandler{
		read: handler(false, func(s sessionOf) error {
			if u, _ := s.Get("user").(string); u == "" {
				return errEmpty
			}
			return nil
		}),
		write: handler(true, func(s sessionOf) error {
			n, _ := s.Get("n").(int)
			s.Set("n", n+1)
			return nil
		}),
		fresh: handler(true, func(s sessionOf) error {
			for name, v := range vs() {
				s.Set(name, v)
			}
			return nil
		}),
	}
	call := func(c *fasthttp.RequestCtx, h fasthttp.RequestHandler, id string) error {
		c.Request.Reset()
		c.Response.Reset()
		c.ResetUserValues()
		c.Request.Header.SetMethod(fiber.MethodGet)
		c.Request.SetRequestURI("/")
		if id != "" {
			c.Request.Header.SetCookie("session_id", id)
		}
		h(c)
		if code := c.Response.StatusCode(); code != http.StatusOK {
			return fmt.Errorf("status %d", code)
		}
		return nil
	}
	return &running{close: orNothing(stop), caller: func(w work, _ kind) (func() error, error) {
		c, id := new(fasthttp.RequestCtx), ""
		if cfg != nil && w != fresh {
			if err := call(c, handlers[fresh], ""); err != nil {
				return nil, err
			}
			var cookie fasthttp.Cookie
			cookie.SetKey("session_id")
			if !c.Response.Header.Cookie(&cookie) {
				return nil, errors.New("a new session, and no cookie")
			}
			id = string(cookie.Value())
		}
		return func() error { return call(c, handlers[w], id) }, nil
	}}, nil
}
