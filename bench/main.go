// Command bench compares this module with other session and lock libraries: the
// time for the same work in one run, and the behaviour if requests overlap or
// stores fail. It writes docs/comparison.md and the picture in it.
//
//	make compare                 all of it, some minutes
//	make compare ARGS=-quick     a smoke run that prints the page
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session/bench/internal/behaviour"
	"github.com/seed-a7bee19b/session/integration/engine"
)

// environment has the addresses of the engines.
type environment struct{ redis, dynamo string }

// effort says how much to measure.
type effort struct {
	speed, redis  plan
	sessions      int // for the bytes of one
	ratioRounds   int
	ratioPairs    int // in a round
	lockRounds    int
	locksAlone    int // in a round
	commandSample int
}

var (
	full = effort{
		speed: plan{15, 20 * time.Millisecond}, redis: plan{11, 40 * time.Millisecond}, sessions: 1_000_000,
		ratioRounds: 60, ratioPairs: 25, lockRounds: 11, locksAlone: 100, commandSample: 200,
	}
	quick = effort{
		speed: plan{3, 2 * time.Millisecond}, redis: plan{3, 5 * time.Millisecond}, sessions: 10_000,
		ratioRounds: 5, ratioPairs: 5, lockRounds: 2, locksAlone: 10, commandSample: 20,
	}
)

func main() {
	out := flag.String("out", filepath.Join("..", "docs"), "the folder for comparison.md and comparison.svg")
	short := flag.Bool("quick", false, "a smoke run of about a minute, which prints the page and writes no file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *short, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, short bool, out, log io.Writer) error {
	e := full
	if short {
		e = quick
	}
	r, err := measure(ctx, e, log)
	if err != nil {
		return err
	}
	r.Command, r.Quick = "make compare", short
	if short {
		r.Command += " ARGS=-quick"
		return r.write(out)
	}
	var text, picture bytes.Buffer
	if err := errors.Join(r.write(&text), r.draw(&picture)); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "comparison.md"), text.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "comparison.svg"), picture.Bytes(), 0o644),
	)
}

func (r *Report) draw(w io.Writer) error {
	return chart(w, []panel{
		{"Read one value of a typical session, store in this process", bars(r.Subjects, r.Speeds, read)},
		{"Write one value of a typical session, store in this process", bars(r.Subjects, r.Speeds, write)},
		{"Write one value of a typical session, store in Redis", bars(r.Redis, r.RedisSpeed, write)},
	})
}

// measure takes all measurements.
func measure(ctx context.Context, e effort, log io.Writer) (r *Report, err error) {
	began := time.Now()
	step := func(what string) { fmt.Fprintf(log, "compare: %4.0f s: %s\n", time.Since(began).Seconds(), what) }
	behaviour.Quiet() // otherwise the logging of the libraries would be timed too
	defer debug.SetGCPercent(debug.SetGCPercent(400))

	step("start DynamoDB Local and Redis")
	dynamo, err := engine.Start(ctx, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dynamo.Close()) }()
	server, err := engine.StartRedis(ctx, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	env := environment{redis: server.Endpoint, dynamo: dynamo.Endpoint}

	r = &Report{Subjects: local(), Redis: onRedis(env.redis), Peers: behaviour.Peers(), Date: began.UTC().Format(time.DateOnly)}
	if r.Machine, r.Modules, err = facts(ctx, env); err != nil {
		return nil, err
	}

	step("behaviours")
	for _, b := range behaviour.All() {
		seen := Seen{Behaviour: b}
		for _, p := range r.Peers {
			got, err := b.Against(ctx, p, behaviour.Env{Redis: env.redis, DynamoDB: env.dynamo})
			if err != nil {
				return nil, err
			}
			seen.Results = append(seen.Results, got)
		}
		r.Behaviours = append(r.Behaviours, seen)
	}
	for _, size := range sizes {
		step("requests, " + size + " session")
		s, err := speeds(ctx, context.Background(), r.Subjects, works, size, e.speed, whole, []way{{1, 1}})
		if err != nil {
			return nil, err
		}
		r.Speeds = append(r.Speeds, s...)
	}
	step("two cores")
	if r.Parallel, err = speeds(ctx, context.Background(), append([]subject{arithmetic}, r.Subjects...), []work{read}, typical, e.speed, lean, []way{{1, 1}, {2, 2}}); err != nil {
		return nil, err
	}
	step("latency beside the raw calls")
	if r.Ratios, err = ratios(ctx, env, e.ratioRounds, e.ratioPairs); err != nil {
		return nil, err
	}
	step("requests and capacity units")
	if r.Prices, err = prices(ctx, env); err != nil {
		return nil, err
	}
	step("libraries on Redis")
	requests, cancel := context.WithCancel(ctx) // like that of a server's request
	defer cancel()
	if r.RedisSpeed, err = speeds(ctx, requests, r.Redis, works, typical, e.redis, whole, []way{{runtime.NumCPU(), 1}}); err != nil {
		return nil, err
	}
	if r.Commands, err = commands(requests, env, e.commandSample); err != nil {
		return nil, err
	}
	step("locks")
	if r.Handoffs, err = handoffs(ctx, env, e.lockRounds, e.locksAlone); err != nil {
		return nil, err
	}
	step(fmt.Sprintf("memory, %d sessions in each store", e.sessions))
	if r.Footprints, err = footprints(ctx, e.sessions); err != nil {
		return nil, err
	}
	r.Took = time.Since(began).Round(time.Second).String()
	step("done")
	return r, nil
}

// commands counts the commands that each library on Redis sends for a request.
func commands(ctx context.Context, env environment, n int) (map[string]map[work]float64, error) {
	m, err := newMeter(env.redis)
	if err != nil {
		return nil, err
	}
	vs := values(typical)
	out := map[string]map[work]float64{}
	for _, s := range onRedis(m.addr()) {
		r, err := s.start(ctx, func() map[string]any { return vs })
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		out[s.name] = map[work]float64{}
		for _, w := range works {
			call, err := r.caller(w, whole)
			if err == nil {
				err = times(3, call) // connections and scripts
			}
			before := m.n.Load()
			if err == nil {
				err = times(n, call)
			}
			if err != nil {
				return nil, errors.Join(err, r.close(), m.close())
			}
			out[s.name][w] = float64(m.n.Load()-before) / float64(n)
		}
		if err := r.close(); err != nil {
			return nil, errors.Join(err, m.close())
		}
	}
	return out, m.close()
}

// facts describes the machine and the versions, without host names or paths.
func facts(ctx context.Context, env environment) (machine, modules []Fact, err error) {
	machine = []Fact{
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"platform", runtime.GOOS + "/" + runtime.GOARCH},
		{"Go", strings.TrimPrefix(runtime.Version(), "go")},
	}
	c := redis.NewClient(&redis.Options{Addr: env.redis})
	defer c.Close() //nolint:errcheck // it only reads
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return nil, nil, err
	}
	modules = []Fact{
		{"github.com/seed-a7bee19b/session", "this checkout"},
		{"Redis server", info["Server"]["redis_version"]},
		{"DynamoDB Local", "as integration/engine starts it"},
	}
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, nil, errors.New("the program has no build information")
	}
	for _, d := range build.Deps {
		for _, known := range []string{
			"github.com/alexedwards/scs/", "github.com/gorilla/sessions", "github.com/gorilla/securecookie", "github.com/gin-contrib/sessions",
			"github.com/gin-gonic/gin", "github.com/quasoft/memstore", "github.com/boj/redistore", "github.com/gofiber/fiber/", "github.com/gofiber/storage/",
			"github.com/valyala/fasthttp", "github.com/bsm/redislock", "github.com/go-redsync/redsync/", "github.com/redis/go-redis/v9",
			"github.com/aws/aws-sdk-go-v2/service/dynamodb", "github.com/vmihailenco/msgpack/",
		} {
			if strings.HasPrefix(d.Path, known) {
				modules = append(modules, Fact{d.Path, d.Version})
			}
		}
	}
	return machine, modules, nil
}
