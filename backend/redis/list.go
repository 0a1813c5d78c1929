package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session/admin"
)

var _ admin.Lister = (*Backend)(nil)

// List calls visit for each key that begins with [Config].Prefix, as
// [admin.Lister] says. It visits expired records while Redis still has them, and
// foreign keys. visit runs in the goroutine of the caller. An Entry has the key
// without [Config].Prefix; of a foreign key it has nothing else.
//
// Entry.Size is the length of the key with its prefix and of the fields of this
// package with their names. Redis needs about 200 bytes more. LockedUntil is by
// the clock of this machine. With opts.DataWith the server searches the data of
// all sessions, and sends the data of those that match.
//
// A key may be visited twice, when Redis resizes its table or a cluster moves a
// slot. To count exactly, remember the keys.
//
// List goes through all keys of the database with SCAN, a few hundred at a time,
// other users' keys too, and through all masters of a cluster at once. For each
// key with the prefix it runs one small script, in a pipeline. Other clients
// wait for a few hundred keys at most.
//
// A plain client lists the one server that it talks to, even if that is part of
// a cluster. List fails with an error that wraps [errors.ErrUnsupported] if
// opts.ReadUnits is set, or if the client lacks Pipelined, or both
// ForEachMaster and Scan. It ignores opts.Segments and opts.Workers.
func (b *Backend) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (report admin.Report, err error) {
	if opts, err = opts.Complete(); err != nil {
		return report, err
	}
	if opts.ReadUnits != 0 {
		return report, fmt.Errorf("redis: List: Redis has no ReadUnits: %w", errors.ErrUnsupported)
	}
	client, ok := b.client.(listClient)
	if !ok {
		return report, fmt.Errorf("redis: List: a %T has no Pipelined: %w", b.client, errors.ErrUnsupported)
	}
	if err := contextError(ctx); err != nil {
		return report, fmt.Errorf("redis: List: not sent: %w", err)
	}
	begun := time.Now()
	defer func() { report.Elapsed = time.Since(begun) }()
	// The client does not look at a context while it waits, so it works in a
	// goroutine, as in call.go. The goroutine ends with the answer that it waits
	// for.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &list{
		client: client,
		prefix: b.c.Prefix,
		match:  escape(b.c.Prefix+opts.KeyPrefix) + "*",
		begins: b.c.Prefix + opts.KeyPrefix,
		with:   opts.DataWith,
		pages:  make(chan []admin.Entry),
	}
	done := make(chan error, 1)
	go func() { done <- l.everywhere(inner) }()
	for {
		select {
		case page := <-l.pages:
			for _, e := range page {
				if err := contextError(ctx); err != nil {
					return report, fmt.Errorf("redis: List: %w", err)
				}
				report.Scanned++
				if e.Foreign {
					report.Foreign++
				}
				if err := visit(e); err != nil {
					return report, err
				}
				if report.Scanned == int64(opts.Limit) {
					return report, nil
				}
			}
		case err := <-done:
			return report, err
		case <-ctx.Done():
			return report, fmt.Errorf("redis: List: %w", contextError(ctx))
		}
	}
}

// listClient has the methods of a client that List needs.
type listClient interface {
	Client
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// cluster is a client of several masters.
type cluster interface {
	ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error
}

// scanner is a client of one server.
type scanner interface {
	Scan(ctx context.Context, cursor uint64, match string, count int64) *redis.ScanCmd
}

// list is one call of List.
type list struct {
	client listClient
	prefix string // of all keys of the Backend
	match  string // of the keys to visit, for the server
	begins string // the same, for us
	with   string // text in the data to return
	pages  chan []admin.Entry
}

// everywhere lists all servers.
func (l *list) everywhere(ctx context.Context) error {
	switch c := l.client.(type) {
	case cluster:
		// The client returns the first error and waits for the other servers, so
		// that error ends them too.
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		var first sync.Once
		var failure error
		err := c.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error {
			err := l.server(ctx, server)
			if err != nil {
				first.Do(func() { failure = err; cancel(err) })
			}
			return err
		})
		if failure != nil {
			return failure
		}
		return l.fail(ctx, err) // the client could not find the masters
	case scanner:
		return l.server(ctx, c)
	}
	return fmt.Errorf("redis: List: a %T has no Scan: %w", l.client, errors.ErrUnsupported)
}

// pageSize is the number of keys that SCAN looks at in one call: a fraction of a
// millisecond in which the server does nothing else.
const pageSize = 250

// server lists one server.
func (l *list) server(ctx context.Context, server scanner) error {
	for cursor := uint64(0); ; {
		if err := l.fail(ctx, nil); err != nil {
			return err
		}
		found, next, err := server.Scan(ctx, cursor, l.match, pageSize).Result()
		if err != nil {
			return l.fail(ctx, err)
		}
		page, err := l.page(ctx, found)
		if err != nil {
			return err
		}
		select {
		case l.pages <- page:
		case <-ctx.Done():
			return l.fail(ctx, nil)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// page asks about keys.
func (l *list) page(ctx context.Context, keys []string) ([]admin.Entry, error) {
	var page []admin.Entry
	add := func(key string, fields []any) {
		if e, ok := l.entry(key, fields); ok {
			page = append(page, e)
		}
	}
	seen := make(map[string]bool, len(keys))
	var ask []string
	for _, key := range keys {
		if strings.HasPrefix(key, l.begins) && !seen[key] {
			seen[key] = true
			ask = append(ask, key)
		}
	}
	for len(ask) > 0 {
		cmds := make([]*redis.Cmd, len(ask))
		// An error of one command is in that command.
		_, _ = l.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, key := range ask {
				cmds[i] = pipe.EvalSha(ctx, listScript.sha1, []string{key}, l.with)
			}
			return nil
		})
		var unknown []string // keys whose server does not know the script
		for i, cmd := range cmds {
			fields, err := listReply(cmd)
			switch {
			case err == nil:
				add(ask[i], fields)
			case says(err, "WRONGTYPE"):
				add(ask[i], []any{"foreign"})
			case redis.HasErrorPrefix(err, "NOSCRIPT"):
				unknown = append(unknown, ask[i])
			default:
				return nil, l.fail(ctx, withoutKey(err, ask[i]))
			}
		}
		if ask = unknown; len(ask) == 0 {
			break
		}
		// Eval teaches the script to the server of the key.
		fields, err := listReply(l.client.Eval(ctx, listScript.src, ask[:1], l.with))
		switch {
		case err == nil:
			add(ask[0], fields)
		case says(err, "WRONGTYPE"):
			add(ask[0], []any{"foreign"})
		default:
			return nil, l.fail(ctx, withoutKey(err, ask[0]))
		}
		ask = ask[1:]
	}
	return page, nil
}

// listReply returns a reply to the script.
func listReply(cmd *redis.Cmd) ([]any, error) {
	fields, err := cmd.Slice()
	if err == nil {
		err = listScript.check(fields, 0)
	}
	return fields, err
}

// entry reads the reply of the script about a key. It returns false if there is
// no such key.
func (l *list) entry(key string, fields []any) (admin.Entry, bool) {
	r := &reply{fields: fields}
	e := admin.Entry{Key: strings.TrimPrefix(key, l.prefix)}
	switch r.status() {
	case "none":
		return admin.Entry{}, false // expired or deleted since SCAN found it
	case "foreign":
		e.Foreign = true
		return e, true
	}
	rec, err := decode(r)
	if err != nil {
		e.Foreign = true
		return e, true
	}
	e.Created, e.Expires, e.LockedUntil = rec.Created, rec.Expires, lockedUntil(r)
	size, _ := fields[6].(int64)
	data, _ := fields[7].(int64)
	e.Size, e.DataSize = len(key)+int(size), int(data)
	e.Data, _ = fields[8].(string)
	return e, true
}

// fail returns the error of a failed list, or nil if err is nil and ctx has not
// ended.
func (l *list) fail(ctx context.Context, err error) error {
	ctxErr := contextError(ctx)
	switch {
	case ctxErr != nil && err != nil:
		return fmt.Errorf("redis: List: %w: %w", ctxErr, err)
	case ctxErr != nil:
		return fmt.Errorf("redis: List: %w", ctxErr)
	case err == nil:
		return nil
	}
	if why := explain(err); why != "" {
		return fmt.Errorf("redis: List: %s: %w", why, err)
	}
	return fmt.Errorf("redis: List: %w", err)
}

// escape returns a pattern of SCAN that matches only s.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// The reply is that of Load, but for the data, which is "". Then come the bytes
// of the fields of this package, with their names, those of the data, and the
// data if it contains ARGV[1]. If that is "", no data is read.
var listScript = newScript("List", false, replies{"ok": 9, "none": 1, "foreign": 1}, `
local key = KEYS[1]
local names = {'until', 'created', 'expires', 'version', 'written', 'lock'}
local f = redis.call('HMGET', key, unpack(names))
if not (f[3] and f[4]) then return {redis.call('EXISTS', key) == 0 and 'none' or 'foreign'} end
local data = redis.call('HSTRLEN', key, 'data')
if data == 0 and redis.call('HEXISTS', key, 'data') == 0 then return {'foreign'} end
local size = #'data' + data
for i, name in ipairs(names) do
	if f[i] then size = size + #name + #f[i] end
end
local left, till = 0, f[1] and tonumber(f[1]) or 0
if till > 0 then
	local t = redis.call('TIME')
	left = math.max(0, math.ceil(till - t[1] * 1000 - t[2] / 1000))
end
local found = ''
if ARGV[1] ~= '' then
	local all = redis.call('HMGET', key, 'data')[1]
	if string.find(all, ARGV[1], 1, true) then found = all end
end
return {'ok', left, '', f[2], f[3], string.sub(f[4], 1, 8), size, data, found}
`)
