package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// A kind of fault is a client around one of a model that is right. Beside the
// rule that is named others may see it as well.
type kind struct {
	mutant
	fault func(h *hooked)
}

// hooked is a client of the model, of which some methods are replaced.
type hooked struct {
	*sweeper
	number int // of the client
	shared *kindStore
	load   func(ctx context.Context, key string) (session.Record, error)
	save   func(ctx context.Context, key string, rec session.Record) (session.Version, error)
	touch  func(ctx context.Context, key string, expires time.Time) error
	delete func(ctx context.Context, key string) error
	lock   func(ctx context.Context, key string, ttl time.Duration) (session.Record, error)
	extend func(ctx context.Context, key string, v session.Version, ttl time.Duration) error
	unlock func(ctx context.Context, key string, v session.Version, expires time.Time) error
	sweep  func(ctx context.Context, opts admin.SweepOptions) (admin.Report, error)
}

// kindStore is what the clients of one store have in common, for what breaks
// them.
type kindStore struct {
	sync.Mutex
	count int
	keys  []string
	names map[string]session.Version // of states, or of holders, by what they are called
	now   map[string]string          // how the state of a key is called
}

func (h *hooked) Load(ctx context.Context, key string) (session.Record, error) {
	return h.load(ctx, key)
}
func (h *hooked) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	return h.save(ctx, key, rec)
}
func (h *hooked) Touch(ctx context.Context, key string, expires time.Time) error {
	return h.touch(ctx, key, expires)
}
func (h *hooked) Delete(ctx context.Context, key string) error { return h.delete(ctx, key) }
func (h *hooked) Acquire(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
	return h.lock(ctx, key, ttl)
}
func (h *hooked) Extend(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
	return h.extend(ctx, key, v, ttl)
}
func (h *hooked) Release(ctx context.Context, key string, v session.Version, expires time.Time) error {
	return h.unlock(ctx, key, v, expires)
}
func (h *hooked) Sweep(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
	return h.sweep(ctx, opts)
}

func kindBackend(fault func(h *hooked)) Backend {
	backend := modelSweeper("")
	hook := func(s session.Backend, number int, shared *kindStore) *hooked {
		m := s.(*sweeper)
		h := &hooked{
			sweeper: m, number: number, shared: shared, load: m.Load, save: m.Save, touch: m.Touch, delete: m.Delete,
			lock: m.Acquire, extend: m.Extend, unlock: m.Release, sweep: m.Sweep,
		}
		if fault != nil {
			fault(h)
		}
		return h
	}
	made, reopen, advance, fail := backend.New, backend.Reopen, backend.Advance, backend.Fail
	backend.New = func(t testing.TB) session.Backend {
		return hook(made(t), 0, &kindStore{names: map[string]session.Version{}, now: map[string]string{}})
	}
	backend.Reopen = func(t testing.TB, b session.Backend) session.Backend {
		return hook(reopen(t, b.(*hooked).sweeper), 1, b.(*hooked).shared)
	}
	backend.Advance = func(t testing.TB, b session.Backend, d time.Duration) { advance(t, b.(*hooked).sweeper, d) }
	backend.Fail = func(t testing.TB, b session.Backend) func() { return fail(t, b.(*hooked).sweeper) }
	return backend
}

// named has versions that are called by name, and compared with same.
func named(name func(h *hooked, n int) string, same func(a, b string) bool) func(*hooked) {
	return func(h *hooked) {
		load, save, s := h.load, h.save, h.shared
		own := 0
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			s.Lock()
			defer s.Unlock()
			rec, err := load(ctx, key)
			if err == nil {
				rec.Version = session.Version(s.now[key])
			}
			return rec, err
		}
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			s.Lock()
			defer s.Unlock()
			if rec.Version != "" && same(string(rec.Version), s.now[key]) {
				rec.Version = s.names[key]
			} else if rec.Version != "" {
				rec.Version = "none"
			}
			v, err := save(ctx, key, rec)
			var conflict *session.ConflictError
			if errors.As(err, &conflict) {
				conflict.Current = nil
			}
			if err != nil {
				return "", err
			}
			s.count++
			own++
			n := s.count
			if name == nil {
				n = own
				s.now[key] = fmt.Sprint(n)
			} else {
				s.now[key] = name(h, n)
			}
			s.names[key] = v
			return session.Version(s.now[key]), nil
		}
	}
}

func exactly(a, b string) bool { return a == b }

func lettered(_ *hooked, n int) string { return fmt.Sprintf("Version-%08x-Of-A-Record", n) }

// loose compares versions after both have been changed.
func loose(change func(string) string) func(*hooked) {
	return named(lettered, func(a, b string) bool { return change(a) == change(b) })
}

// storing changes what is stored.
func storing(change func(rec *session.Record)) func(*hooked) {
	return func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			rec.Data = bytes.Clone(rec.Data)
			change(&rec)
			return save(ctx, key, rec)
		}
	}
}

func mending(change func(string) string) func(*hooked) {
	return storing(func(rec *session.Record) { rec.Data = []byte(change(string(rec.Data))) })
}

// keyed changes keys.
func keyed(change func(string) string) func(*hooked) {
	return func(h *hooked) {
		load, save, touch, del := h.load, h.save, h.touch, h.delete
		h.load = func(ctx context.Context, key string) (session.Record, error) { return load(ctx, change(key)) }
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			return save(ctx, change(key), rec)
		}
		h.touch = func(ctx context.Context, key string, e time.Time) error { return touch(ctx, change(key), e) }
		h.delete = func(ctx context.Context, key string) error { return del(ctx, change(key)) }
	}
}

// timed changes the times that are stored.
func timed(change func(time.Time) time.Time) func(*hooked) {
	return func(h *hooked) {
		storing(func(rec *session.Record) {
			rec.Created = change(rec.Created)
			if !rec.Expires.IsZero() {
				rec.Expires = change(rec.Expires)
			}
		})(h)
		touch := h.touch
		h.touch = func(ctx context.Context, key string, e time.Time) error { return touch(ctx, key, change(e)) }
	}
}

// looking does something else than the model with what it has at a key, after
// it has looked at it and let go.
func (h *hooked) looking(key string, act func(was leased, is *leased)) bool {
	m := h.leaser
	m.mu.Lock()
	r := m.records[key]
	if r == nil || r.rec.Expired(m.now()) {
		m.mu.Unlock()
		return false
	}
	was := *r
	m.mu.Unlock()
	gap()
	m.mu.Lock()
	defer m.mu.Unlock()
	act(was, m.records[key])
	return true
}

// gap lets others in, even on a machine that is busy. What pairs find without
// it depends on that.
func gap() { time.Sleep(time.Microsecond) }

// causes returns the cause of the end of a context in place of its error.
func causes(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

func rounded(up bool) func(*hooked) {
	round := func(ttl time.Duration) time.Duration {
		if up && ttl > 0 {
			return (ttl + time.Second - 1).Truncate(time.Second)
		}
		return max(ttl.Truncate(time.Second), min(ttl, time.Millisecond))
	}
	return func(h *hooked) {
		lock, extend := h.lock, h.extend
		h.lock = func(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
			return lock(ctx, key, round(ttl))
		}
		h.extend = func(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
			return extend(ctx, key, v, round(ttl))
		}
	}
}

var kinds = []kind{
	{mutant{"version counts in the client", "VersionMany"}, named(nil, exactly)},
	{mutant{"version is one of 250", "VersionMany"}, named(func(_ *hooked, n int) string { return fmt.Sprint(n % 250) }, exactly)},
	{mutant{"version is one of 1000", "VersionMany"}, named(func(_ *hooked, n int) string { return fmt.Sprint(n % 1000) }, exactly)},
	{mutant{"version is the time in milliseconds", "VersionMany"}, named(func(*hooked, int) string { return fmt.Sprint(time.Now().UnixMilli()) }, exactly)},
	{mutant{"version without case", "VersionBytes"}, loose(strings.ToLower)},
	{mutant{"version by its first bytes", "VersionBytes"}, loose(func(v string) string { return v[:min(len(v), 20)] })},
	{mutant{"version by its last bytes", "VersionBytes"}, loose(func(v string) string { return v[max(0, len(v)-22):] })},
	{mutant{"version by eight bits", "VersionBytes"}, loose(func(v string) string { return fmt.Sprint(crc32.ChecksumIEEE([]byte(v)) % 256) })},
	{mutant{"version trimmed", "VersionBytes"}, loose(strings.TrimSpace)},
	{mutant{"version ends at a zero byte", "VersionBytes"}, loose(func(v string) string { v, _, _ = strings.Cut(v, "\x00"); return v })},
	{mutant{"foreign version is another error", "VersionBytes"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if rec.Version != "" && rec.Version[0] > '~' {
				return "", errors.New("model: not text")
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"long version is another error", "VersionBytes"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if len(rec.Version) > 1024 {
				return "", session.ErrTooLarge
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"load shares a buffer with the next", "SharedResults"}, func(h *hooked) {
		load := h.load
		var mu sync.Mutex
		var buf []byte
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			rec, err := load(ctx, key)
			mu.Lock()
			defer mu.Unlock()
			buf = append(buf[:0], rec.Data...)
			rec.Data = buf
			return rec, err
		}
	}},
	{mutant{"loads at once share a buffer", "SharedResults"}, flight(false)},
	{mutant{"loads at once share one that began before", "RaceLoad"}, flight(true)},
	{mutant{"load tears", "RaceLoad"}, func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			first, _ := load(ctx, key)
			rec, err := load(ctx, key)
			if err == nil && first.Version != "" {
				rec.Data = first.Data
			}
			return rec, err
		}
	}},
	{mutant{"absence is cached", "ReadAfterWrite"}, func(h *hooked) {
		load, save := h.load, h.save
		var absent sync.Map
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			if _, ok := absent.Load(key); ok {
				return session.Record{}, session.ErrNotFound
			}
			rec, err := load(ctx, key)
			if errors.Is(err, session.ErrNotFound) {
				absent.Store(key, true)
			}
			return rec, err
		}
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			absent.Delete(key)
			return save(ctx, key, rec)
		}
	}},
	{mutant{"delete of what this client saw last", "DeleteUnseen"}, func(h *hooked) {
		load, del := h.load, h.delete
		var seen sync.Map
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			rec, err := load(ctx, key)
			seen.Store(key, rec.Version)
			return rec, err
		}
		h.delete = func(ctx context.Context, key string) error {
			rec, _ := load(ctx, key)
			if v, ok := seen.Load(key); ok && v != rec.Version {
				return nil
			}
			return del(ctx, key)
		}
	}},
	{mutant{"cause in place of the error", "DoneContextLoad"}, func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			rec, err := load(ctx, key)
			return rec, causes(ctx, err)
		}
	}},
	{mutant{"one connection", "HangingCall"}, func(h *hooked) {
		load, touch := h.load, h.touch
		var connection sync.Mutex
		wait := func(ctx context.Context) {
			if down := h.isDown(); down {
				<-ctx.Done()
			}
		}
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			connection.Lock()
			defer connection.Unlock()
			wait(ctx)
			return load(ctx, key)
		}
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			connection.Lock()
			defer connection.Unlock()
			wait(ctx)
			return touch(ctx, key, e)
		}
	}},
	{mutant{"keeps 500 records", "ManyRecords"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			s := h.shared
			s.Lock()
			defer s.Unlock()
			if !slices.Contains(s.keys, key) {
				s.keys = append(s.keys, key)
			}
			if len(s.keys) > 500 {
				_ = h.leaser.Delete(ctx, s.keys[0])
				s.keys = s.keys[1:]
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"keys by 32 bits", "ShortHashes"}, keyed(func(key string) string { return fmt.Sprint(crc32.ChecksumIEEE([]byte(key))) })},
	{mutant{"data compared by 32 bits", "ShortHashes"}, func(h *hooked) {
		save, load := h.save, h.load
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if old, err := load(ctx, key); err == nil && crc32.ChecksumIEEE(old.Data) == crc32.ChecksumIEEE(rec.Data) {
				rec.Data = old.Data
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"times without zone", "Times"}, timed(func(t time.Time) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	})},
	{mutant{"times in 32 bits", "Times"}, timed(func(t time.Time) time.Time { return time.Unix(int64(uint32(t.Unix())), 0) })},
	{mutant{"times in 31 bits", "Times"}, timed(func(t time.Time) time.Time { return time.Unix(min(t.Unix(), 1<<31-1), 0) })},
	{mutant{"times in nanoseconds", "Times"}, timed(func(t time.Time) time.Time { return time.Unix(0, t.UnixNano()) })},
	{mutant{"load drops what has expired, later", "PairCreateExpired"}, func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			rec, err := load(ctx, key)
			if err == nil && rec.Expired(h.now()) {
				gap()
				_ = h.leaser.Delete(ctx, key)
				return session.Record{}, session.ErrNotFound
			}
			return rec, err
		}
	}},
	{mutant{"create over expired looks, then writes", "PairCreateExpired"}, func(h *hooked) {
		save, load := h.save, h.load
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if old, err := load(ctx, key); rec.Version == "" && err == nil && old.Expired(h.now()) {
				gap()
				_ = h.leaser.Delete(ctx, key)
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"touch to the same is refused", "TouchEarlier"}, func(h *hooked) {
		touch, load := h.touch, h.load
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if rec, err := load(ctx, key); err == nil && rec.Expires.Equal(e) {
				return &session.ConflictError{}
			}
			return touch(ctx, key, e)
		}
	}},
	{mutant{"touch changes Created", "TouchKeeps"}, func(h *hooked) {
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			err := h.leaser.Touch(ctx, key, e)
			h.looking(key, func(_ leased, is *leased) { is.rec.Created = h.now() })
			return err
		}
	}},
	{mutant{"line ends are mended", "Data"}, mending(func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") })},
	{mutant{"the last line end is cut", "Data"}, mending(func(s string) string { return strings.TrimSuffix(s, "\n") })},
	{mutant{"a mark is cut", "Data"}, mending(func(s string) string { return strings.TrimPrefix(s, "\ufeff") })},
	{mutant{"slashes are unescaped", "Data"}, mending(func(s string) string { return strings.ReplaceAll(s, `\/`, "/") })},
	{mutant{"entities are read", "Data"}, mending(func(s string) string { return strings.ReplaceAll(s, "&amp;", "&") })},
	{mutant{"data is composed", "Data"}, mending(func(s string) string { return strings.ReplaceAll(s, "e\u0301", "\u00e9") })},
	{mutant{"data is lower case", "Data"}, mending(strings.ToLower)},
	{mutant{"keys are patterns", "Keys"}, func(h *hooked) {
		h.delete = func(ctx context.Context, key string) error {
			if err := h.leaser.Delete(ctx, key); err != nil {
				return err
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			for other := range h.records {
				if ok, _ := path.Match(key, other); ok {
					delete(h.records, other)
				}
			}
			return nil
		}
	}},
	{mutant{"keys are composed", "Keys"}, keyed(func(s string) string { return strings.ReplaceAll(s, "A\u030a", "\u00c5") })},
	{mutant{"backslashes are slashes", "Keys"}, keyed(func(s string) string { return strings.ReplaceAll(s, `\`, "/") })},
	{mutant{"line ends of keys are mended", "Keys"}, keyed(func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") })},
	{mutant{"too large moves the deadline", "TooLarge"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			v, err := save(ctx, key, rec)
			if errors.Is(err, session.ErrTooLarge) {
				_ = h.leaser.Touch(ctx, key, rec.Expires)
			}
			return v, err
		}
	}},
	{mutant{"KeepLater ignored", "KeepLater"}, storing(func(rec *session.Record) { rec.KeepLater = false })},
	{mutant{"KeepLater ends what is past", "KeepLater"}, storing(func(rec *session.Record) {
		if rec.Expires.Before(time.Now()) {
			rec.KeepLater = false
		}
	})},
	{mutant{"KeepLater is refused", "KeepLater"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if old, err := h.load(ctx, key); rec.KeepLater && err == nil && old.Expires.After(rec.Expires) {
				return "", &session.ConflictError{}
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"the end of what is due is another error", "EndingSave"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			v, err := save(ctx, key, rec)
			if errors.Is(err, session.ErrNotFound) && rec.Expires.Before(h.now()) && rec.Version != "" {
				err = session.ErrNotFound
			}
			return v, err
		}
	}},
	{mutant{"an end takes any version", "EndingSave"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if rec.Version != "" && rec.Expires.Before(h.now()) && !rec.Expires.IsZero() && string(rec.Data) == "end" {
				return "ended", h.leaser.Delete(ctx, key)
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"goroutines stay", "Goroutines"}, func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			go func() { <-h.ended }()
			return load(ctx, key)
		}
	}},

	// With the least pause between the look and the write.
	{mutant{"create looks, then writes", "PairCreate"}, func(h *hooked) {
		save, load := h.save, h.load
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if _, err := load(ctx, key); rec.Version == "" && errors.Is(err, session.ErrNotFound) {
				gap()
				_ = h.leaser.Delete(ctx, key)
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"save looks, then writes", "PairSave"}, func(h *hooked) {
		save, load := h.save, h.load
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if old, err := load(ctx, key); rec.Version != "" && err == nil && old.Version == rec.Version {
				gap()
				now, _ := load(ctx, key)
				rec.Version = now.Version
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"touch writes back what it read", "PairTouch"}, func(h *hooked) {
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !h.looking(key, func(was leased, is *leased) {
				if is != nil && e.After(was.rec.Expires) {
					is.rec = was.rec
					is.rec.Expires = e
				}
			}) {
				return session.ErrNotFound
			}
			return nil
		}
	}},
	{mutant{"touch looks, then moves", "PairTouch"}, func(h *hooked) {
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if !h.looking(key, func(was leased, is *leased) {
				if is != nil && e.After(was.rec.Expires) {
					is.rec.Expires = e
				}
			}) {
				return session.ErrNotFound
			}
			return nil
		}
	}},
	{mutant{"touch puts back what it read", "PairDelete"}, func(h *hooked) {
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if !h.looking(key, func(was leased, is *leased) {
				if was.rec.Expires = e; is == nil {
					h.records[key] = &was
				} else if e.After(is.rec.Expires) {
					is.rec.Expires = e
				}
			}) {
				return session.ErrNotFound
			}
			return nil
		}
	}},
	{mutant{"acquire looks, then locks", "PairAcquire"}, func(h *hooked) {
		lock := h.lock
		h.lock = func(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
			h.looking(key, func(was leased, is *leased) {
				if is != nil && !h.live(&was) {
					is.token = ""
				}
			})
			return lock(ctx, key, ttl)
		}
	}},
	{mutant{"release looks, then unlocks", "PairRelease"}, func(h *hooked) {
		h.unlock = func(ctx context.Context, key string, v session.Version, e time.Time) error {
			err := error(&session.ConflictError{})
			h.looking(key, func(was leased, is *leased) {
				if is != nil && was.token != "" && v == was.holder() {
					is.token = ""
					if e.After(is.rec.Expires) {
						is.rec.Expires = e
					}
					err = nil
				}
			})
			return err
		}
	}},
	{mutant{"extend puts back what it read", "PairLockDelete"}, func(h *hooked) {
		extend := h.extend
		h.extend = func(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
			h.looking(key, func(was leased, is *leased) {
				if is == nil && was.token != "" && v == was.holder() {
					h.records[key] = &was
				}
			})
			return extend(ctx, key, v, ttl)
		}
	}},

	// Locks.
	{mutant{"holders count in the client", "HolderVersion"}, func(h *hooked) {
		lock, save, extend, unlock, s := h.lock, h.save, h.extend, h.unlock, h.shared
		own := 0
		translate := func(key string, v session.Version) session.Version {
			s.Lock()
			defer s.Unlock()
			if r, ok := s.names[key+string(v)]; ok {
				return r
			}
			return v
		}
		h.lock = func(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
			rec, err := lock(ctx, key, ttl)
			if err == nil {
				s.Lock()
				defer s.Unlock()
				own++
				v, _, _ := strings.Cut(string(rec.Version), ".")
				name := fmt.Sprintf("%s.c%d", v, own)
				s.names[key+name] = rec.Version
				rec.Version = session.Version(name)
			}
			return rec, err
		}
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			rec.Version = translate(key, rec.Version)
			return save(ctx, key, rec)
		}
		h.extend = func(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
			return extend(ctx, key, translate(key, v), ttl)
		}
		h.unlock = func(ctx context.Context, key string, v session.Version, e time.Time) error {
			return unlock(ctx, key, translate(key, v), e)
		}
	}},
	{mutant{"takeover by another client leaves the lock", "TakeoverByAcquire"}, func(h *hooked) {
		extend, s := h.extend, h.shared
		h.extend = func(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
			err := extend(ctx, key, v, ttl)
			s.Lock()
			defer s.Unlock()
			if h.mu.Lock(); err != nil && ttl > 0 && h.records[key] != nil && h.records[key].client != h.leaser && h.formerOf(h.records[key], v) {
				err = nil
			}
			h.mu.Unlock()
			return err
		}
	}},
	{mutant{"leases in whole seconds, rounded up", "LeaseEnds"}, rounded(true)},
	{mutant{"leases in whole seconds, rounded down", "LeaseHolds"}, rounded(false)},
	{mutant{"holder by the beginning", "HolderBytes"}, func(h *hooked) {
		extend := h.extend
		h.extend = func(ctx context.Context, key string, v session.Version, ttl time.Duration) error {
			if r := h.records[key]; r != nil && r.token != "" && len(v) > len(r.holder()) {
				v = v[:len(r.holder())]
			}
			return extend(ctx, key, v, ttl)
		}
	}},
	{mutant{"release with a long version is another error", "HolderBytes"}, func(h *hooked) {
		unlock := h.unlock
		h.unlock = func(ctx context.Context, key string, v session.Version, e time.Time) error {
			if len(v) > 1024 {
				return errors.New("model: too long")
			}
			return unlock(ctx, key, v, e)
		}
	}},
	{mutant{"keeps 200 locks", "ManyLocks"}, func(h *hooked) {
		lock, s := h.lock, h.shared
		h.lock = func(ctx context.Context, key string, ttl time.Duration) (session.Record, error) {
			rec, err := lock(ctx, key, ttl)
			s.Lock()
			defer s.Unlock()
			if s.keys = append(s.keys, key); len(s.keys) > 200 {
				h.looking(s.keys[0], func(_ leased, is *leased) { is.token = "" })
				s.keys = s.keys[1:]
			}
			return rec, err
		}
	}},
	{mutant{"client remembers what is free", "LockedReads"}, func(h *hooked) {
		load := h.load
		var free sync.Map
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			rec, err := load(ctx, key)
			if _, ok := free.LoadOrStore(key+string(rec.Version), true); ok {
				rec.LockedUntil = time.Time{}
			}
			return rec, err
		}
	}},
	{mutant{"an end ignores the lock", "LockedEndingSave"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if rec.Version != "" && rec.Expires.Before(h.now()) && string(rec.Data) == "end" {
				h.looking(key, func(_ leased, is *leased) {
					if is != nil && is.rec.Version == rec.Version {
						is.token = ""
					}
				})
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"too large ends the lock", "LockedTooLarge"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			v, err := save(ctx, key, rec)
			if errors.Is(err, session.ErrTooLarge) {
				h.looking(key, func(_ leased, is *leased) { is.token = "" })
			}
			return v, err
		}
	}},

	// Sweeps.
	{mutant{"grace in whole seconds, rounded up", "SweepFraction"}, graced(time.Second - 1)},
	{mutant{"grace in whole seconds, rounded down", "SweepFraction"}, graced(0)},
	{mutant{"prefix is a pattern", "SweepPattern"}, func(h *hooked) {
		h.sweep = func(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
			return h.sweepMatching(ctx, opts, func(key string) bool {
				dir := key[:strings.LastIndex(key, "/")+1]
				ok, _ := path.Match(opts.KeyPrefix, dir)
				return ok
			})
		}
	}},
	{mutant{"n is the size of a batch", "SweepBeforeBatch"}, func(h *hooked) {
		sweep := h.sweep
		h.sweep = func(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
			if before := opts.BeforeBatch; before != nil {
				opts.BeforeBatch = func(ctx context.Context, _ int) error { return before(ctx, max(opts.BatchSize, 1)) }
			}
			return sweep(ctx, opts)
		}
	}},
}

func graced(add time.Duration) func(*hooked) {
	return func(h *hooked) {
		sweep := h.sweep
		h.sweep = func(ctx context.Context, opts admin.SweepOptions) (admin.Report, error) {
			opts.Grace = max((opts.Grace + add).Truncate(time.Second), 1)
			return sweep(ctx, opts)
		}
	}
}

// sweepMatching deletes the expired records of which the key is matched, too.
func (h *hooked) sweepMatching(ctx context.Context, opts admin.SweepOptions, matches func(key string) bool) (admin.Report, error) {
	h.mu.Lock()
	for key, r := range h.records {
		if r.rec.Expired(h.now()) && matches(key) && !strings.HasPrefix(key, opts.KeyPrefix) {
			delete(h.records, key)
		}
	}
	h.mu.Unlock()
	return h.sweeper.Sweep(ctx, opts)
}

// flight has Loads of a key that are under way at the same time share one.
func flight(clone bool) func(*hooked) {
	type call struct {
		done chan struct{}
		rec  session.Record
		err  error
	}
	return func(h *hooked) {
		load := h.load
		var mu sync.Mutex
		calls := map[string]*call{}
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			mu.Lock()
			c := calls[key]
			if c == nil {
				c = &call{done: make(chan struct{})}
				calls[key] = c
				mu.Unlock()
				c.rec, c.err = load(ctx, key)
				mu.Lock()
				delete(calls, key)
				mu.Unlock()
				close(c.done)
			} else {
				mu.Unlock()
				<-c.done
			}
			rec := c.rec
			if clone {
				rec.Data = bytes.Clone(rec.Data)
			}
			return rec, c.err
		}
	}
}

// TestKinds runs the rule that is named on each kind of fault. A race may not
// meet on a machine that is busy enough, so it has some tries.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.bug, func(t *testing.T) {
			t.Parallel()
			testKind(t, kindBackend(k.fault), k.mutant)
		})
	}
}

func testKind(t *testing.T, backend Backend, m mutant) {
	t.Helper()
	rules := rulesFor(backend, backend.New(t))
	i := slices.IndexFunc(rules, func(r backendRule) bool { return r.name == m.rule })
	if i < 0 {
		t.Fatalf("no rule %s", m.rule)
	}
	tried(t, m.rule, func(t testing.TB, res *results) {
		rules[i].test(t, backend, backend.clients(t, backend.New(t)), time.Second, res)
	})
}

// tried expects a rule to fail, if not at once.
func tried(t *testing.T, rule string, test func(t testing.TB, res *results)) {
	t.Helper()
	for range 30 {
		res := &results{spell: spell}
		ok, log := run(t, func(t testing.TB) { test(t, res) })
		if why := res.unexplained(); why != "" {
			t.Fatalf("rule %s was left out: %s", rule, why)
		}
		if !ok {
			t.Logf("%s", log)
			return
		}
	}
	t.Errorf("rule %s passes", rule)
}

// Without a fault, all rules pass.
func TestKindOfNone(t *testing.T) {
	t.Parallel()
	TestBackend(t, kindBackend(nil))
}

// A rule that leaves itself out is a failure if no other says why.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	backend := kindBackend(func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			if strings.HasSuffix(key, "sound") {
				return session.Record{}, errors.New("model: broken where nobody looks")
			}
			return load(ctx, key)
		}
	})
	failed := failures(t, backend, mutant{bug: "left out", rule: "left out"})
	if log := failed["left out"]; len(failed) != 1 || !strings.Contains(log, "RaceSave: the backend fails already") {
		t.Errorf("got %v, want that rules were left out", failed)
	}
}

// A call that hangs ends the rule with its name.
func TestHangs(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	backend := kindBackend(func(h *hooked) {
		touch := h.touch
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if calls.Add(1) > 2 {
				<-h.ended
			}
			return touch(ctx, key, e)
		}
	})
	rules := rulesFor(backend, backend.New(t))
	i := slices.IndexFunc(rules, func(r backendRule) bool { return r.name == "TouchEarlier" })
	res := new(results)
	ok, log := run(t, func(t testing.TB) {
		rules[i].test(t, backend, backend.clients(t, backend.New(t)), 10*time.Millisecond, res)
	})
	if ok || !res.hung.Load() || !strings.Contains(log, "Touch has not returned after") {
		t.Errorf("passed: %v, hung: %v, log: %s", ok, res.hung.Load(), log)
	}
}

// A store that takes its time is right all the same: what a rule compares does
// not change as a second ends.
func TestSlow(t *testing.T) {
	t.Parallel()
	var loads atomic.Int64
	backend := kindBackend(func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			if strings.HasSuffix(key, "sound lock") && loads.Add(1) == 3 {
				time.Sleep(1100 * time.Millisecond)
			}
			return load(ctx, key)
		}
	})
	i := slices.IndexFunc(leaserRules, func(r backendRule) bool { return r.name == "RaceLockTouch" })
	res := &results{spell: spell}
	ok, log := run(t, func(t testing.TB) {
		leaserRules[i].test(t, backend, backend.clients(t, backend.New(t)), patience, res)
	})
	if why := res.unexplained(); !ok || why != "" || loads.Load() < 3 {
		t.Errorf("passed: %v, %s%s", ok, why, log)
	}
}
