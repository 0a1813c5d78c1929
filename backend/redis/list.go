package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Entry is what [Backend.List] tells of a key.
type Entry struct {
	Key string // without [Config].Prefix
	// Size is the bytes of the key, with its prefix, and of the fields of this
	// package, their names included. Redis needs about 200 more for it.
	// DataSize is that of the encoded session.
	Size     int
	DataSize int
	// Data is the encoded session where it contains [ListOptions].DataWith, ""
	// elsewhere.
	Data string

	Created time.Time
	Expires time.Time
	// LockedUntil is when the lease of a live lock runs out, by the clock of
	// this machine; zero if there is none.
	LockedUntil time.Time

	// Foreign is set for what this package did not write, which Load refuses.
	// Only Key is known of it.
	Foreign bool
}

// ListOptions says what to list. The zero value lists everything.
type ListOptions struct {
	// KeyPrefix restricts the list to keys that begin with it, after
	// [Config].Prefix. It costs the server almost the same. Default "".
	KeyPrefix string

	// DataWith is a text. Of the sessions that contain it Entry.Data is
	// transferred, too; the server looks into all of them. Default "", none.
	DataWith string
}

// ListReport is what a List has done.
type ListReport struct {
	Scanned int64 // keys with the prefixes that were visited
	Foreign int64 // of these, not written by this package
}

// List calls visit with each key that begins with [Config].Prefix, in no
// order: expired ones too, while Redis still has them, and foreign ones. visit
// is called in the caller's goroutine. An error from it ends the list, and is
// what List returns; the report then says what was done until then.
//
// What is there from the beginning to the end is visited. What is created or
// deleted meanwhile may be, and a key may be visited twice: when Redis resizes
// its table, or a cluster moves a slot. To count exactly, remember the keys.
//
// It goes through all keys of the database, those of others included, with
// SCAN, a few hundred at a time, on all masters of a cluster at once. For each
// key with the prefix it then runs one small script, in a pipeline. No data is
// transferred, and others wait for a few hundred keys at most.
//
// A plain client lists the one server that it talks to, even if that is part
// of a cluster. List fails with an error that wraps [errors.ErrUnsupported] if the client has
// no Pipelined, or neither ForEachMaster nor Scan, as those of go-redis have.
func (b *Backend) List(ctx context.Context, opts ListOptions, visit func(Entry) error) (ListReport, error) {
	var report ListReport
	client, ok := b.client.(listClient)
	if !ok {
		return report, fmt.Errorf("redis: List: a %T has no Pipelined: %w", b.client, errors.ErrUnsupported)
	}
	if err := contextError(ctx); err != nil {
		return report, fmt.Errorf("redis: List: not sent: %w", err)
	}
	// The client does not look at a context while it waits, so it works in a
	// goroutine, as in call.go. It ends with the answer that it waits for.
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &list{
		client: client,
		prefix: b.c.Prefix,
		match:  escape(b.c.Prefix+opts.KeyPrefix) + "*",
		begins: b.c.Prefix + opts.KeyPrefix,
		with:   opts.DataWith,
		pages:  make(chan []Entry),
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
			}
		case err := <-done:
			return report, err
		case <-ctx.Done():
			return report, fmt.Errorf("redis: List: %w", contextError(ctx))
		}
	}
}

// listClient is what List needs of a client.
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
	begins string // the same for us
	with   string // what is in the data that is wanted
	pages  chan []Entry
}

// everywhere lists all servers.
func (l *list) everywhere(ctx context.Context) error {
	switch c := l.client.(type) {
	case cluster:
		// The client returns the first error and waits for the others, which
		// have no reason to go on.
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
		return l.fail(ctx, err) // it could not learn where the masters are
	case scanner:
		return l.server(ctx, c)
	}
	return fmt.Errorf("redis: List: a %T has no Scan: %w", l.client, errors.ErrUnsupported)
}

// pageSize is how many keys SCAN looks at in one go: a fraction of a
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
func (l *list) page(ctx context.Context, keys []string) ([]Entry, error) {
	var page []Entry
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
		var unknown []string // to the server is the script
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
		// This makes the script known to the server of the key.
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

// entry reads what the script says about a key, if there is one.
func (l *list) entry(key string, fields []any) (Entry, bool) {
	r := &reply{fields: fields}
	e := Entry{Key: strings.TrimPrefix(key, l.prefix)}
	switch r.status() {
	case "none":
		return Entry{}, false // expired or deleted since it was found
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

// fail puts together what the caller sees of a failed list; nil if err is nil
// and ctx has not ended.
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

// escape makes a pattern of SCAN that matches s alone.
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
