package behaviour

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/backend/memory"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

func ours(store string) Peer {
	p := Peer{Name: "session, " + store, Module: "github.com/seed-a7bee19b/session", Notes: "Handler, defaults"}
	if store != "memory" {
		p.Needs = store
	}
	p.launch = func(ctx context.Context, a *App, env Env) error {
		var b session.Backend
		var err error
		switch store {
		case "redis":
			var addr string
			if _, addr, err = a.redis(ctx, env); err != nil {
				return err
			}
			client := redis.NewClient(&redis.Options{Addr: addr})
			a.onClose(client.Close)
			b, err = redisstore.New(client, redisstore.Config{})
		case "dynamodb":
			b, err = a.dynamodb(ctx, env)
		default:
			b = &memory.Backend{}
		}
		if err != nil {
			return err
		}
		return a.launchOurs(&switched{Backend: b})
	}
	return p
}

func (a *App) dynamodb(ctx context.Context, env Env) (session.Backend, error) {
	p, err := proxy.New(env.DynamoDB)
	if err != nil {
		return nil, err
	}
	a.onClose(p.Close)
	b, err := dynamodb.New(aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String(p.URL()),
	}, dynamodb.Config{Table: "behaviour"})
	if err != nil {
		return nil, err
	}
	a.fail = func(broken bool) error {
		if !broken {
			p.SetRule(nil)
			return nil
		}
		p.SetRule(func(proxy.Request) proxy.Action { return proxy.Action{Fault: proxy.DropRequest} })
		return nil
	}
	return b, b.CreateTable(ctx, dynamodb.TableOptions{})
}

// switched is a backend that fails on demand, and remembers the key of the
// session.
type switched struct {
	session.Backend
	broken atomic.Bool
	mu     sync.Mutex
	key    string
}

var errDown = errors.New("the store is down")

func (b *switched) Load(ctx context.Context, key string) (session.Record, error) {
	if b.broken.Load() {
		return session.Record{}, errDown
	}
	return b.Backend.Load(ctx, key)
}

func (b *switched) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if b.broken.Load() {
		return "", errDown
	}
	b.mu.Lock()
	b.key = key
	b.mu.Unlock()
	return b.Backend.Save(ctx, key, rec)
}

// garbleRecord implements garble for a Backend.
func (a *App) garbleRecord(b *switched) {
	a.garble = func() error {
		rec, err := b.Backend.Load(context.Background(), b.key)
		if err != nil {
			return err
		}
		rec.Data = []byte(garbage)
		_, err = b.Backend.Save(context.Background(), b.key, rec)
		return err
	}
	a.garbled = func() (bool, error) {
		rec, err := b.Backend.Load(context.Background(), b.key)
		return string(rec.Data) == garbage, err
	}
}

type ourVisit struct {
	ctx context.Context
	m   *session.Manager
	s   *session.Session
}

func (v ourVisit) Get(name string) (string, error) {
	var value any
	_, err := v.s.Get(name, &value)
	return text(value), err
}
func (v ourVisit) Set(name, value string) error { return v.s.Set(name, value) }
func (v ourVisit) Increment(name string) error {
	_, err := session.Key[int]{Name: name}.Update(v.s, func(n int) int { return n + 1 })
	return err
}
func (v ourVisit) Rotate() error  { return v.s.Rotate() }
func (v ourVisit) Destroy() error { return v.s.Destroy(v.ctx) }
func (v ourVisit) Save() error    { return nil }
func (v ourVisit) Opened() error  { return nil }

func (a *App) launchOurs(b *switched) error {
	a.cookie = "session"
	m, err := session.New(b, session.Config{Cookie: session.Cookie{Name: a.cookie, InsecureHTTP: true}})
	if err != nil {
		return err
	}
	if a.fail == nil {
		a.fail = func(broken bool) error { b.broken.Store(broken); return nil }
	}
	a.garbleRecord(b)
	a.planted = "plantedplantedplantedplantedplan" // 32 characters, as its own
	a.serve(m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if err := a.steps(w, r, ourVisit{r.Context(), m, s}); err != nil {
			return fmt.Errorf("page: %w", err)
		}
		return nil
	}))
	return nil
}
