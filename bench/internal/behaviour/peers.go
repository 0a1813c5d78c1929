package behaviour

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	ginsessions "github.com/gin-contrib/sessions"
	ginredis "github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
	"github.com/gofiber/fiber/v3"
	fiberlog "github.com/gofiber/fiber/v3/log"
	fiberrecover "github.com/gofiber/fiber/v3/middleware/recover"
	fibersession "github.com/gofiber/fiber/v3/middleware/session"
	fiberredis "github.com/gofiber/storage/redis/v3"
	"github.com/gorilla/sessions"
	"github.com/redis/go-redis/v9"
)

// Env has the addresses of the engines for the stores of the peers. An empty one
// is not available.
type Env struct {
	Redis    string // "host:port"; its data is deleted
	DynamoDB string // "http://host:port"
}

// Peer is a library with a store.
type Peer struct {
	Name   string
	Module string // import path, for its version
	Notes  string // settings
	Needs  string // "redis", "dynamodb" or ""

	// ignoresOpened is set where the library's own example ignores the error
	// that comes with a session.
	ignoresOpened bool

	launch func(ctx context.Context, a *App, env Env) error
}

func (p Peer) start(ctx context.Context, env Env) (*App, error) {
	a := &App{peer: p, cookie: "session", status: func(error) int { return http.StatusInternalServerError }}
	if err := p.launch(ctx, a, env); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// Quiet silences the logs of the libraries about the errors that are provoked
// here, and registers the types for encoding/gob.
func Quiet() {
	quiet.Do(func() {
		log.SetOutput(io.Discard)
		slog.SetDefault(slog.New(slog.DiscardHandler))
		fiberlog.SetOutput(io.Discard)
		redis.SetLogger(silence{})
		gin.SetMode(gin.ReleaseMode)
		gin.DefaultErrorWriter = io.Discard
		gob.Register(map[any]any{})
	})
}

var quiet sync.Once

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// Peers returns every library, ours first.
func Peers() []Peer {
	return []Peer{
		ours("memory"), ours("redis"), ours("dynamodb"),
		{
			Name: "scs, Redis", Module: "github.com/alexedwards/scs/v2", Needs: "redis",
			Notes:  "LoadAndSave, goredisstore, defaults",
			launch: launchSCS,
		},
		{
			Name: "gorilla, files", Module: "github.com/gorilla/sessions", ignoresOpened: true,
			Notes:  "FilesystemStore with a 32-byte key; Save before the response; the error of Get is ignored as in the example of its README. It has no call for a new ID: the ID is set to \"\" before Save",
			launch: launchGorillaFiles,
		},
		{
			Name: "gorilla, cookie", Module: "github.com/gorilla/sessions", ignoresOpened: true,
			Notes:  "CookieStore with keys of 32 bytes for signing and encryption",
			launch: launchGorillaCookie,
		},
		{
			Name: "gin-contrib, Redis", Module: "github.com/gin-contrib/sessions", Needs: "redis",
			Notes:  "redis.NewStore with a 32-byte key; Save before the response, its error checked. It has no call for a new ID",
			launch: launchGin,
		},
		{
			Name: "fiber, Redis", Module: "github.com/gofiber/fiber/v3", Needs: "redis",
			Notes:  "the session middleware, storage/redis, and fiber's recover middleware outside, as the session middleware panics if its store fails; Flush is SendStreamWriter",
			launch: launchFiber,
		},
		adapterSCS, adapterGorilla, adapterGin, adapterFiber,
	}
}

// serve runs a handler of net/http.
func (a *App) serve(h http.Handler) {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	a.url = s.URL
	a.onClose(func() error { s.Close(); return nil })
}

// steps answers a request of net/http with a page.
func (a *App) steps(w http.ResponseWriter, r *http.Request, v visit) error {
	return a.page(r.URL.Query().Get("do"), v, w, func() error { return http.NewResponseController(w).Flush() })
}

// failed is the error page.
func (a *App) failed(w http.ResponseWriter, err error) { http.Error(w, err.Error(), a.status(err)) }

// redis empties the server and returns a client that bypasses the cut, and the
// address of the cut.
func (a *App) redis(ctx context.Context, env Env) (client *redis.Client, addr string, err error) {
	client = redis.NewClient(&redis.Options{Addr: env.Redis})
	a.onClose(client.Close)
	if err := client.FlushDB(ctx).Err(); err != nil {
		return nil, "", err
	}
	c, err := newCut(env.Redis)
	if err != nil {
		return nil, "", err
	}
	a.onClose(c.close)
	a.fail = func(broken bool) error { c.set(broken); return nil }
	return client, c.addr(), nil
}

var garbage = "\xc1 not a session"

// garbleString implements garble for stores that keep a session in a string of
// Redis.
func (a *App) garbleString(ctx context.Context, client *redis.Client) {
	var key string
	a.garble = func() error {
		keys, err := client.Keys(ctx, "*").Result()
		if err != nil || len(keys) == 0 {
			return errors.Join(fmt.Errorf("%d keys in Redis", len(keys)), err)
		}
		key = keys[0]
		for _, k := range keys {
			if err := client.Set(ctx, k, garbage, redis.KeepTTL).Err(); err != nil {
				return err
			}
		}
		return nil
	}
	a.garbled = func() (bool, error) {
		s, err := client.Get(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			return false, nil
		}
		return s == garbage, err
	}
}

// text returns a value as text, "" if there is none.
func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func number(v any) int {
	n, _ := v.(int)
	return n
}

type scsVisit struct {
	m   *scs.SessionManager
	ctx context.Context
}

func (v scsVisit) Get(name string) (string, error) { return text(v.m.Get(v.ctx, name)), nil }
func (v scsVisit) Set(name, value string) error    { v.m.Put(v.ctx, name, value); return nil }
func (v scsVisit) Increment(name string) error {
	v.m.Put(v.ctx, name, v.m.GetInt(v.ctx, name)+1)
	return nil
}
func (v scsVisit) Rotate() error  { return v.m.RenewToken(v.ctx) }
func (v scsVisit) Destroy() error { return v.m.Destroy(v.ctx) }
func (v scsVisit) Save() error    { return nil }
func (v scsVisit) Opened() error  { return nil }

func launchSCS(ctx context.Context, a *App, env Env) error {
	direct, addr, err := a.redis(ctx, env)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	a.onClose(client.Close)
	m := scs.New()
	m.Store = goredisstore.New(client)
	a.garbleString(ctx, direct)
	a.serve(a.pageSCS(m))
	return nil
}

func (a *App) pageSCS(m *scs.SessionManager) http.Handler {
	a.planted = "c2hvcnQsIHBsYW50ZWQgYW5kIGtub3duIHRvIG1lLi4" // 43 characters, as its own
	return m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.steps(w, r, scsVisit{m, r.Context()}); err != nil {
			a.failed(w, err)
		}
	}))
}

type gorillaVisit struct {
	w    http.ResponseWriter
	r    *http.Request
	s    *sessions.Session
	err  error // of Get
	hard func() error
}

func (v gorillaVisit) Get(name string) (string, error) { return text(v.s.Values[name]), nil }
func (v gorillaVisit) Set(name, value string) error    { v.s.Values[name] = value; return nil }
func (v gorillaVisit) Increment(name string) error {
	v.s.Values[name] = number(v.s.Values[name]) + 1
	return nil
}
func (v gorillaVisit) Rotate() error  { return v.hard() }
func (v gorillaVisit) Destroy() error { v.s.Options.MaxAge = -1; return nil }
func (v gorillaVisit) Save() error    { return v.s.Save(v.r, v.w) }
func (v gorillaVisit) Opened() error  { return v.err }

func (a *App) serveGorilla(store sessions.Store, rotate func(*sessions.Session) error) {
	a.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, a.cookie)
		v := gorillaVisit{w, r, s, err, func() error { return rotate(s) }}
		if err := a.steps(w, r, v); err != nil {
			a.failed(w, err)
		}
	}))
}

var (
	signing    = []byte("0123456789abcdef0123456789abcdef")
	encryption = []byte("fedcba9876543210fedcba9876543210")
)

func launchGorillaFiles(_ context.Context, a *App, _ Env) error {
	dir, err := os.MkdirTemp("", "session-bench")
	if err != nil {
		return err
	}
	a.onClose(func() error { return os.RemoveAll(dir) })
	each := func(suffix string, f func(path string) error) error {
		files, err := filepath.Glob(filepath.Join(dir, "session_*"+suffix))
		for _, path := range files {
			err = errors.Join(err, f(path))
		}
		return err
	}
	// Replace each file by a folder, which can be neither read nor written.
	const away = ".away"
	broken := false
	a.fail = func(on bool) error {
		if on == broken {
			return nil
		}
		broken = on
		if on {
			return each("", func(path string) error { return errors.Join(os.Rename(path, path+away), os.Mkdir(path, 0o700)) })
		}
		return each(away, func(path string) error {
			path = strings.TrimSuffix(path, away)
			return errors.Join(os.Remove(path), os.Rename(path+away, path))
		})
	}
	a.garble = func() error {
		return each("", func(path string) error { return os.WriteFile(path, []byte(garbage), 0o600) })
	}
	a.garbled = func() (same bool, err error) {
		err = each("", func(path string) error {
			data, err := os.ReadFile(path)
			same = same || string(data) == garbage
			return err
		})
		return same, err
	}
	a.planted = "planted"
	a.serveGorilla(sessions.NewFilesystemStore(dir, signing), func(s *sessions.Session) error { s.ID = ""; return nil })
	return nil
}

func launchGorillaCookie(_ context.Context, a *App, _ Env) error {
	a.planted = "planted"
	a.serveGorilla(sessions.NewCookieStore(signing, encryption), func(*sessions.Session) error { return errNoCall })
	return nil
}

type ginVisit struct{ s ginsessions.Session }

func (v ginVisit) Get(name string) (string, error) { return text(v.s.Get(name)), nil }
func (v ginVisit) Set(name, value string) error    { v.s.Set(name, value); return nil }
func (v ginVisit) Increment(name string) error {
	v.s.Set(name, number(v.s.Get(name))+1)
	return nil
}
func (v ginVisit) Rotate() error { return errNoCall }
func (v ginVisit) Destroy() error {
	v.s.Clear()
	v.s.Options(ginsessions.Options{Path: "/", MaxAge: -1})
	return nil
}
func (v ginVisit) Save() error   { return v.s.Save() }
func (v ginVisit) Opened() error { return nil }

func launchGin(ctx context.Context, a *App, env Env) error {
	direct, addr, err := a.redis(ctx, env)
	if err != nil {
		return err
	}
	store, err := ginredis.NewStore(10, "tcp", addr, "", "", signing)
	if err != nil {
		return err
	}
	rs, err := ginredis.GetRedisStore(store)
	if err != nil {
		return err
	}
	a.onClose(rs.Close)
	a.garbleString(ctx, direct)
	a.planted = "planted"
	a.serveGin(store)
	return nil
}

func (a *App) serveGin(store ginsessions.Store) {
	e := gin.New()
	e.Use(gin.RecoveryWithWriter(io.Discard), ginsessions.Sessions(a.cookie, store))
	e.GET("/", func(c *gin.Context) {
		if err := a.steps(c.Writer, c.Request, ginVisit{ginsessions.Default(c)}); err != nil {
			a.failed(c.Writer, err)
		}
	})
	a.serve(e)
}

type fiberVisit struct{ m *fibersession.Middleware }

func (v fiberVisit) Get(name string) (string, error) { return text(v.m.Get(name)), nil }
func (v fiberVisit) Set(name, value string) error    { v.m.Set(name, value); return nil }
func (v fiberVisit) Increment(name string) error {
	v.m.Set(name, number(v.m.Get(name))+1)
	return nil
}
func (v fiberVisit) Rotate() error  { return v.m.Regenerate() }
func (v fiberVisit) Destroy() error { return v.m.Destroy() }
func (v fiberVisit) Save() error    { return nil }
func (v fiberVisit) Opened() error  { return nil }

func launchFiber(ctx context.Context, a *App, env Env) error {
	direct, addr, err := a.redis(ctx, env)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	a.onClose(client.Close)
	a.garbleString(ctx, direct)
	return a.serveFiber(ctx, fiber.Config{}, fibersession.Config{Storage: fiberredis.NewFromConnection(client)})
}

func (a *App) serveFiber(ctx context.Context, c fiber.Config, sessions fibersession.Config) error {
	a.cookie = "session_id"
	a.planted = "planted-planted-planted-planted-planted-pla"
	app := fiber.New(c)
	app.Use(fiberrecover.New(), fibersession.New(sessions))
	app.Get("/", func(c fiber.Ctx) error {
		var body strings.Builder
		stream := false
		// A copy of the query, because fiber reuses its memory.
		err := a.page(strings.Clone(c.Query("do")), fiberVisit{fibersession.FromContext(c)}, &body, func() error { stream = true; return nil })
		switch {
		case err != nil:
			return fiber.NewError(a.status(err), err.Error())
		case stream:
			return c.SendStreamWriter(streamed(body.String()))
		}
		return c.SendString(body.String())
	})
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.url = "http://" + l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- app.Listener(l, fiber.ListenConfig{DisableStartupMessage: true}) }()
	a.onClose(func() error {
		http.DefaultClient.CloseIdleConnections()
		_ = app.ShutdownWithTimeout(5 * time.Second) // it waits for idle connections only
		return <-served
	})
	return nil
}
