package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// Handoff has the costs of a lock.
type Handoff struct {
	Subject string
	Notes   string
	Alone   float64 // microseconds for a lock without contention
	AloneN  float64 // requests for it
	Shared  float64 // milliseconds until ten contenders of one process are done
	SharedN float64 // requests per lock
	Apart   float64 // the same, for ten that share nothing
	ApartN  float64
	Does    string // in the locked section
}

// locking is a subject of the lock table.
type locking struct {
	name, module, notes, does string
	// process returns a function of a new process, which acquires the lock,
	// works for hold, and releases it.
	process func() (func(ctx context.Context, hold time.Duration) error, error)
	sent    func() int64 // requests so far
}

const (
	contenders = 10
	hold       = 5 * time.Millisecond
)

func lockings(ctx context.Context, redisAddr string, commands func() int64, p *proxy.Proxy) ([]locking, func() error, error) {
	var clients []*redis.Client
	client := func() *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: redisAddr})
		clients = append(clients, c)
		return c
	}
	stop := func() error {
		var err error
		for _, c := range clients {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	requests := func() int64 {
		var n int64
		for _, c := range p.Counts() {
			n += int64(c.Requests)
		}
		return n
	}
	section := func(m *session.Manager, token string) func(context.Context, time.Duration) error {
		return func(ctx context.Context, hold time.Duration) error {
			s, err := m.Open(ctx, token)
			if err != nil {
				return err
			}
			if hold > 0 {
				time.Sleep(hold)
			}
			n, err := number.Get(s)
			return errors.Join(err, number.Set(s, n+1), s.Save(ctx), s.Close(ctx))
		}
	}
	begin := func(b session.Backend) (string, error) {
		m, err := session.New(b, session.Config{})
		if err != nil {
			return "", err
		}
		s := m.Start()
		if err := errors.Join(number.Set(s, 1), s.Save(ctx)); err != nil {
			return "", err
		}
		return s.Token().Reveal(), nil
	}
	db, err := dynamoBackend(ctx, dynamoClient(p.URL()))
	if err != nil {
		return nil, stop, err
	}
	dynamoToken, err := begin(db)
	if err != nil {
		return nil, stop, err
	}
	rb, err := redisstore.New(client(), redisstore.Config{})
	if err != nil {
		return nil, stop, err
	}
	redisToken, err := begin(rb)
	if err != nil {
		return nil, stop, err
	}
	mem := &memory.Backend{}
	memToken, err := begin(mem)
	if err != nil {
		return nil, stop, err
	}
	const fast, slow = 2 * time.Millisecond, 10 * time.Millisecond
	onRedis := session.LockConfig{MaxWait: time.Minute, MinRetry: fast, MaxRetry: slow}
	withSession := "reads and saves the session in the same requests"
	lockOnly := "the lock only"
	return []locking{
		{"session on DynamoDB", modOurs, "mode Exclusive, defaults: looks every 10 to 50 ms", withSession, func() (func(context.Context, time.Duration) error, error) {
			m, err := session.New(db, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: time.Minute}})
			return section(m, dynamoToken), err
		}, requests},
		{"session on Redis", modOurs, "mode Exclusive, MinRetry 2 ms, MaxRetry 10 ms as its documentation says", withSession, func() (func(context.Context, time.Duration) error, error) {
			b, err := redisstore.New(client(), redisstore.Config{})
			if err != nil {
				return nil, err
			}
			m, err := session.New(b, session.Config{Mode: session.Exclusive, Lock: onRedis})
			return section(m, redisToken), err
		}, commands},
		{"session, redisstore.Locker", modOurs, "mode Exclusive over a store in memory, locked in Redis, 2 to 10 ms", "and reads and saves the session, in memory", func() (func(context.Context, time.Duration) error, error) {
			l, err := redisstore.NewLocker(client(), redisstore.LockerConfig{})
			if err != nil {
				return nil, err
			}
			lock := onRedis
			lock.Locker = l
			m, err := session.New(mem, session.Config{Mode: session.Exclusive, Lock: lock})
			return section(m, memToken), err
		}, commands},
		{"bsm/redislock", "github.com/bsm/redislock", "LinearBackoff(2 ms)", lockOnly, func() (func(context.Context, time.Duration) error, error) {
			c := redislock.New(client())
			return func(ctx context.Context, hold time.Duration) error {
				l, err := c.Obtain(ctx, "bsm", 5*time.Second, &redislock.Options{RetryStrategy: redislock.LinearBackoff(fast)})
				if err != nil {
					return err
				}
				if hold > 0 {
					time.Sleep(hold)
				}
				return l.Release(ctx)
			}, nil
		}, commands},
		{"redsync", "github.com/go-redsync/redsync/v4", "one server, WithRetryDelay(2 ms), WithTries(10,000), WithExpiry(5 s); its defaults are 50 to 250 ms and 32 tries", lockOnly, func() (func(context.Context, time.Duration) error, error) {
			rs := redsync.New(redsyncpool.NewPool(client()))
			return func(ctx context.Context, hold time.Duration) error {
				m := rs.NewMutex("redsync", redsync.WithExpiry(5*time.Second), redsync.WithTries(10_000), redsync.WithRetryDelay(fast))
				if err := m.LockContext(ctx); err != nil {
					return err
				}
				if hold > 0 {
					time.Sleep(hold)
				}
				_, err := m.UnlockContext(ctx)
				return err
			}, nil
		}, commands},
	}, stop, nil
}

// handoffs measures locks in rounds, in which each takes its turn.
func handoffs(ctx context.Context, env environment, rounds, alone int) (out []Handoff, err error) {
	p, err := proxy.New(env.dynamo)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	mt, err := newMeter(env.redis)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mt.close()) }()
	subjects, stop, err := lockings(ctx, mt.addr(), mt.n.Load, p)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	type processes []func(context.Context, time.Duration) error
	procs := make([]processes, len(subjects))
	for i, l := range subjects {
		for range contenders {
			f, err := l.process()
			if err == nil {
				err = f(ctx, 0) // connections and scripts
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			procs[i] = append(procs[i], f)
		}
	}
	type column struct{ took, sent []float64 }
	cols := make([][3]column, len(subjects))
	for range rounds {
		for i, l := range subjects {
			same := make(processes, contenders)
			for k := range same {
				same[k] = procs[i][0]
			}
			for c, run := range []func() (int, error){
				func() (int, error) {
					return alone, times(alone, func() error { return procs[i][0](ctx, 0) })
				},
				func() (int, error) { return contenders, together(ctx, same) },
				func() (int, error) { return contenders, together(ctx, procs[i]) },
			} {
				before, began := l.sent(), time.Now()
				n, err := run()
				took := time.Since(began)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", l.name, err)
				}
				cols[i][c].took = append(cols[i][c].took, float64(took.Nanoseconds()))
				cols[i][c].sent = append(cols[i][c].sent, float64(l.sent()-before)/float64(n))
			}
		}
	}
	for i, l := range subjects {
		c := cols[i]
		out = append(out, Handoff{
			Subject: l.name, Notes: l.notes, Does: l.does,
			Alone: middle(c[0].took) / float64(alone) / 1e3, AloneN: middle(c[0].sent),
			Shared: middle(c[1].took) / 1e6, SharedN: middle(c[1].sent),
			Apart: middle(c[2].took) / 1e6, ApartN: middle(c[2].sent),
		})
	}
	return out, nil
}

// together lets all acquire the lock at once.
func together(ctx context.Context, all []func(context.Context, time.Duration) error) error {
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, f := range all {
		wg.Go(func() { errs[i] = f(ctx, hold) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
