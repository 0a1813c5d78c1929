package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

// onRedis examines a Redis server.
func (d *doctor) onRedis(ctx context.Context) error {
	s, err := d.openRedis()
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing was left unsaid
	d.result.Store = s.String()
	var sent counter
	s.client.AddHook(&sent)
	defer func() { d.result.Requests = int(sent.commands.Load()) }()
	// The application need not be allowed to ping.
	if err := s.client.Ping(ctx).Err(); err != nil && !goredis.HasErrorPrefix(err, "NOPERM") {
		d.fails(ctx, "endpoint", err)
		return nil
	}
	d.says(isOK, "endpoint", fmt.Sprintf("%s answers.", s.addr), "")

	d.server(ctx, s)
	if !d.scripts(ctx, s) {
		return nil
	}
	clock := newClock()
	for range 3 {
		sent := time.Now()
		at, err := s.client.Time(ctx).Result()
		if err != nil {
			d.fails(ctx, "clock", err)
			break
		}
		clock.saw(sent, time.Now(), at, time.Microsecond)
	}
	d.measure(ctx, strings.HasPrefix(s.addr, "127.") || strings.HasPrefix(s.addr, "localhost:"), func() error {
		// As Load reads a session that is there.
		return s.client.HMGet(ctx, s.prefix+"sessionctl-doctor-"+rand.Text(), "data", "created", "expires", "version").Err()
	})
	d.clock(clock)
	if d.role != "application" {
		d.sample(ctx, s)
	}
	return nil
}

// counter counts the commands that are sent.
type counter struct{ commands atomic.Int64 }

func (*counter) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (c *counter) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		c.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (c *counter) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		c.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// scripts tries what the application needs, on a key that is not there.
func (d *doctor) scripts(ctx context.Context, s *redisStore) bool {
	key := "sessionctl-doctor-" + rand.Text()
	_, loadErr := s.Load(ctx, key)
	touchErr := s.Touch(ctx, key, time.Now().Add(time.Minute))
	deleteErr := s.Delete(ctx, key)
	ok := true
	for _, err := range []error{loadErr, touchErr, deleteErr} {
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			ok = false
			d.fails(ctx, "scripts", err)
			break
		}
	}
	if ok {
		d.says(isOK, "scripts", "EVAL, EVALSHA and the commands in the scripts are allowed.", "")
	}
	return ok
}

// server looks at what the server tells about itself.
func (d *doctor) server(ctx context.Context, s *redisStore) {
	text, err := s.client.Info(ctx).Result()
	if err != nil {
		what, todo := d.explain(ctx, err)
		if d.role == "application" {
			todo = "The application does not need it. Run doctor as operator to check version, eviction and persistence."
		}
		d.says(isWarn, "server", "It gives no information about itself: "+what, todo)
		return
	}
	info := parseInfo(text)
	major, _, _ := strings.Cut(info["redis_version"], ".")
	n, _ := strconv.Atoi(major)
	name := "Redis " + info["redis_version"]
	if v := info["valkey_version"]; v != "" {
		name = "Valkey " + v
	}
	switch {
	case n < 5:
		d.says(isFail, "server", name+".", "Redis 5 or later is needed.")
	case info["role"] == "slave":
		d.says(isFail, "server", name+", a replica, which refuses writes.", "Give the URL of the master.")
	default:
		d.says(isOK, "server", fmt.Sprintf("%s, %s.", name, info["redis_mode"]), "")
	}
	d.eviction(info)
	d.persistence(info)
}

func (d *doctor) eviction(info map[string]string) {
	policy := info["maxmemory_policy"]
	used, _ := strconv.ParseInt(info["used_memory"], 10, 64)
	most, _ := strconv.ParseInt(info["maxmemory"], 10, 64)
	evicted, _ := strconv.ParseInt(info["evicted_keys"], 10, 64)
	const advice = "CONFIG SET maxmemory-policy noeviction, and give it enough memory. Otherwise Redis evicts sessions in use, without any error."
	switch {
	case policy == "":
		d.says(isWarn, "eviction", "The server does not tell its maxmemory-policy.", "It must be noeviction.")
	case policy != "noeviction" && (most > 0 || evicted > 0):
		d.says(isFail, "eviction", fmt.Sprintf("maxmemory-policy is %s; %s keys were evicted so far.", policy, count(evicted)), advice)
	case policy != "noeviction":
		d.says(isWarn, "eviction", fmt.Sprintf("maxmemory-policy is %s. Without maxmemory it does nothing yet.", policy), advice)
	case most > 0 && used > most/5*4:
		d.says(isWarn, "eviction", fmt.Sprintf("%s of %s are in use.", size(used), size(most)), "Give it more memory. A full Redis cannot save sessions.")
	case most > 0:
		d.says(isOK, "eviction", fmt.Sprintf("None; %s of %s are in use.", size(used), size(most)), "")
	default:
		d.says(isOK, "eviction", fmt.Sprintf("None; %s are in use, without a limit.", size(used)), "")
	}
}

func (d *doctor) persistence(info map[string]string) {
	aof := info["aof_enabled"] == "1"
	switch {
	case info["aof_last_write_status"] == "err", info["rdb_last_bgsave_status"] == "err":
		d.says(isFail, "persistence", "The last write to disk failed.", "Look at the log of the server, and at the disk.")
	case aof:
		d.says(isOK, "persistence", "Append-only file: a crash loses a second, unless appendfsync has another value.", "")
	default:
		d.says(isWarn, "persistence", "No append-only file: a restart loses everything since the last snapshot.",
			"CONFIG SET appendonly yes, unless a restart may log everybody out.")
	}
}

func parseInfo(text string) map[string]string {
	info := make(map[string]string)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			info[name] = value
		}
	}
	return info
}
