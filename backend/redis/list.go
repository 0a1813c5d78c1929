package redisstore

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
// [admin.Lister] says. It includes foreign keys, and expired ones while Redis
// still has them. List calls visit in the caller's goroutine. An Entry has the
// key without [Config].Prefix; for a foreign key it has nothing else.
//
// Entry.Size is the number of bytes of the key with its prefix and of the names
// and values of the fields of this package. Redis needs about 200 bytes more.
// LockedUntil is by the clock of this machine.
//
// List may visit a key twice, when Redis resizes its table or a cluster moves a
// slot: to count exactly, remember the keys.
//
// List goes through all keys of the database, including those of other
// applications, with SCAN, a few hundred at a time and on all masters of a
// cluster at once. A KeyPrefix costs the server almost as much as a full list.
// For each key with the prefix List then runs one small script, in a pipeline.
// It transfers no data unless DataWith is set: then the server searches the data
// of every session, and List transfers the data that matches. List delays other
// clients by the time for a few hundred keys at most.
//
// With a client that is not a cluster client, List lists that one server, even
// if the server is part of a cluster. List fails with an error that wraps
// [errors.ErrUnsupported] if opts.ReadUnits is set, or if the client has no
// method Pipelined, or has neither ForEachMaster nor Scan. The clients of
// go-redis have them. Segments and Workers mean nothing.
func (b *Backend) List(ctx context.Context, opts admin.ListOptions, visit func(admin.Entry) error) (report admin.Report, err error) {
	if opts, err = opts.Complete(); err != nil {
		return report, err
	}
	if opts.ReadUnits != 0 {
		return report, fmt.Errorf("redisstore: List: Redis has no ReadUnits: %w", errors.ErrUnsupported)
	}
	client, ok := b.keys.client.(listClient)
	if !ok {
		return report, fmt.Errorf("redisstore: List: a %T has no Pipelined: %w", b.keys.client, errors.ErrUnsupported)
	}
	if err := contextError(ctx); err != nil {
		return report, fmt.Errorf("redisstore: List: not sent: %w", err)
	}
	begun := time.Now()
	defer func() { report.Elapsed = time.Since(begun) }()
	// The client does not notice a cancelled context while it waits, so it
	// works in a goroutine, as in call.run. That ends with the answer.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &list{
		client: client,
		prefix: b.keys.prefix,
		begins: b.keys.prefix + opts.KeyPrefix,
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
					return report, fmt.Errorf("redisstore: List: %w", err)
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
			return report, fmt.Errorf("redisstore: List: %w", contextError(ctx))
		}
	}
}

// listClient is a Client that List can use.
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
	begins string // the beginning of the keys to visit
	with   string // the text in the data to transfer
	pages  chan []admin.Entry
}

// everywhere lists all servers.
func (l *list) everywhere(ctx context.Context) error {
	switch c := l.client.(type) {
	case cluster:
		// The client returns the first error, but only after the other servers
		// are done, so this cancels them.
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
	return fmt.Errorf("redisstore: List: a %T has no Scan: %w", l.client, errors.ErrUnsupported)
}

// pageSize is the number of keys that one SCAN looks at. The server needs a
// fraction of a millisecond for it, and does nothing else meanwhile.
const pageSize = 250

// server lists one server.
func (l *list) server(ctx context.Context, server scanner) error {
	match := escape(l.begins) + "*"
	for cursor := uint64(0); ; {
		if err := l.fail(ctx, nil); err != nil {
			return err
		}
		found, next, err := server.Scan(ctx, cursor, match, pageSize).Result()
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

// page returns the entries of keys.
func (l *list) page(ctx context.Context, keys []string) ([]admin.Entry, error) {
	var page []admin.Entry
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
		// The error of each command is in the command.
		_, _ = l.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for i, key := range ask {
				cmds[i] = pipe.EvalSha(ctx, listScript.sha1, []string{key}, l.with)
			}
			return nil
		})
		var unknown []string // keys whose server does not know the script
		for i, cmd := range cmds {
			if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
				unknown = append(unknown, ask[i])
				continue
			}
			var err error
			if page, err = l.add(ctx, page, ask[i], cmd); err != nil {
				return nil, err
			}
		}
		if ask = unknown; len(ask) == 0 {
			break
		}
		// This teaches the script to the server of the first of them.
		var err error
		if page, err = l.add(ctx, page, ask[0], l.client.Eval(ctx, listScript.src, ask[:1], l.with)); err != nil {
			return nil, err
		}
		ask = ask[1:]
	}
	return page, nil
}

// add appends the entry of key to page, if the key still exists.
func (l *list) add(ctx context.Context, page []admin.Entry, key string, cmd *redis.Cmd) ([]admin.Entry, error) {
	e := admin.Entry{Key: strings.TrimPrefix(key, l.prefix)}
	fields, err := cmd.Slice()
	if says(err, "WRONGTYPE") {
		e.Foreign = true
		return append(page, e), nil
	}
	var r *reply
	if err == nil {
		r, err = listScript.parse(fields)
	}
	if err != nil {
		return nil, l.fail(ctx, withoutKey(err, key))
	}
	if r.status == statusNone {
		return page, nil
	}
	if r.status == statusForeign || r.flaw != "" {
		e.Foreign = true
		return append(page, e), nil
	}
	e.Created, e.Expires, e.LockedUntil = r.created, r.expires, r.lockedUntil(time.Now())
	e.Size, e.DataSize, e.Data = len(key)+int(r.size), int(r.dataSize), r.found
	return append(page, e), nil
}

// fail returns the error of a failed List. It returns nil if err is nil and ctx
// has not ended.
func (l *list) fail(ctx context.Context, err error) error {
	ctxErr := contextError(ctx)
	switch {
	case ctxErr != nil && err != nil:
		return fmt.Errorf("redisstore: List: %w: %w", ctxErr, err)
	case ctxErr != nil:
		return fmt.Errorf("redisstore: List: %w", ctxErr)
	case err == nil:
		return nil
	}
	if why := explain(err); why != "" {
		return fmt.Errorf("redisstore: List: %s: %w", why, err)
	}
	return fmt.Errorf("redisstore: List: %w", err)
}

// escape returns the pattern of SCAN that matches only s.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

// listScript replies as loadScript does, with "" for the data. Then follow the
// number of bytes of the fields of this package with their names, that of the
// data, and the data if it contains ARGV[1]. If ARGV[1] is "", the script does
// not read the data.
var listScript = newScript("List", false, replies{statusOK: entryFields, statusNone: noFields, statusForeign: noFields}, `
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
