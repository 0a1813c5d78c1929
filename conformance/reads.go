package conformance

import (
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // of keys that backends may shorten with it
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"hash/fnv"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// readRules are about what calls see of each other's work.
var readRules = []backendRule{
	{name: "SharedResults", run: ruleSharedResults, wide: true, quotes: []string{
		"and what it returns MUST NOT alias what it keeps, nor what it returns to another call.",
	}},
	{name: "ReadAfterWrite", run: ruleReadAfterWrite, wide: true, quotes: []string{
		"a Load that begins after a write has returned MUST NOT answer with what was there before, whichever client of the store wrote.",
	}},
	{name: "RaceLoad", run: ruleRaceLoad, wide: true, quotes: append(concurrent,
		"a Load that begins after a write has returned MUST NOT answer with what was there before, whichever client of the store wrote.",
		"It may come from a second read, but MUST be one state of the record, whole.",
	)},
	{name: "DeleteUnseen", run: ruleDeleteUnseen, wide: true, quotes: []string{
		"Delete removes the record, whatever its version, and whatever of it this client has seen.",
	}},
	{name: "ManyRecords", run: ruleManyRecords, wide: true, quotes: []string{
		"It MUST keep a record until its Expires;",
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "ShortHashes", run: ruleShortHashes, wide: true, quotes: []string{
		"a backend MUST keep any two of them apart, byte by byte.",
		"Save stores Data, Created and Expires of rec",
	}},
	{name: "Times", run: ruleTimes, wide: true, quotes: []string{
		"Times are moments of the years 1970 to 9999, given in any time zone, and MUST be kept as that.",
	}},
	{name: "HangingCall", run: ruleHangingCall, wide: true, own: true, quotes: []string{
		"Once ctx is done it MUST return promptly, whatever other calls wait for,",
		"and if it fails because of that, then with an error that wraps ctx.Err(); to wrap the cause of ctx is not enough.",
	}, needs: canFail},
	{name: "Goroutines", run: ruleGoroutines, wide: true, quotes: []string{
		"It MUST NOT leave behind a goroutine for each call.",
	}},
}

func ruleSharedResults(p *probe) {
	const n = 4
	data := func(i int) string { return strings.Repeat(strconv.Itoa(i), 100) }
	for i := range n {
		p.save(p.key(fmt.Sprint(i)), p.record(data(i)))
	}
	// One after the other, and all kept.
	var kept [2 * n][]byte
	for i := range kept {
		kept[i] = p.load(p.key(fmt.Sprint(i % n))).Data
	}
	for i := range kept {
		if string(kept[i]) != data(i%n) {
			p.Fatalf("the Data that a Load returned was changed by another Load")
		}
	}
	spoiled := func(results [][]byte, want string, what string) bool {
		for i, data := range results {
			for j := range results {
				if j > i && string(results[j]) != want {
					p.Errorf("a caller changed the Data that %s returned, and that of another caller changed", what)
					return true
				}
			}
			clear(data[:cap(data)])
		}
		return false
	}
	if spoiled(append(append([][]byte{}, kept[0]), kept[n]), data(0), "Load") {
		return
	}
	var conflicts [][]byte
	for range 2 {
		var conflict *session.ConflictError
		if err := second(p.b.Save(p.ctx, p.key("1"), p.record("x"))); errors.As(err, &conflict) && conflict.Current != nil {
			conflicts = append(conflicts, conflict.Current.Data)
		}
	}
	if spoiled(append(conflicts, p.load(p.key("1")).Data), data(1), "a conflict") {
		return
	}
	// At the same time.
	const callers = 4
	p.often(10, 2000, func(int) bool {
		var results [callers][]byte
		p.race(callers, func(i int, b session.Backend) {
			if rec, err := b.Load(p.ctx, p.key("2")); err == nil {
				results[i] = rec.Data
			}
		})
		return !spoiled(results[:], data(2), "Load")
	})
}

func ruleReadAfterWrite(p *probe) {
	clients := []session.Backend{p.b, p.other}
	for i, first := range clients {
		for j, then := range clients {
			key := p.key(fmt.Sprint(i, j))
			sees := func(what, data string, expires time.Time) {
				p.Helper()
				rec, err := then.Load(p.ctx, key)
				switch {
				case data == "" && (err == nil && !rec.Expired(p.now()) || err != nil && !errors.Is(err, session.ErrNotFound)):
					p.Errorf("after %s, Load: %v, %q, want ErrNotFound", what, err, rec.Data)
				case data != "" && (err != nil || string(rec.Data) != data || rec.Expires.Before(expires)):
					p.Errorf("after %s, Load: %v, %q, Expires %v; want %q, %v", what, err, rec.Data, rec.Expires, data, expires)
				}
			}
			must := func(err error) {
				p.Helper()
				if err != nil {
					p.Fatal(err)
				}
			}
			until := p.later()
			sees("nothing", "", until)
			v, err := first.Save(p.ctx, key, p.record("1"))
			must(err)
			sees("a Save where a Load had found nothing", "1", until)
			v, err = first.Save(p.ctx, key, replacing(p.record("2"), v))
			must(err)
			sees("a Save", "2", until)
			_, err = then.Save(p.ctx, key, p.record("conflict"))
			p.conflict(err, "creating what is there")
			_, err = first.Save(p.ctx, key, replacing(p.record("3"), v))
			must(err)
			sees("a Save after a conflict", "3", until)
			until = until.Add(time.Hour)
			must(first.Touch(p.ctx, key, until))
			sees("a Touch", "3", until)
			must(first.Delete(p.ctx, key))
			sees("a Delete", "", until)
			if err := then.Touch(p.ctx, key, until); !errors.Is(err, session.ErrNotFound) {
				p.Errorf("Touch after a Delete: got error %v, want ErrNotFound", err)
			}
			_, err = first.Save(p.ctx, key, p.record("4"))
			must(err)
			must(then.Touch(p.ctx, key, until))
			sees("a Save after a Delete, and a Touch", "4", until)
		}
	}
}

func ruleRaceLoad(p *probe) {
	if !p.sound() {
		return
	}
	// Others load all the time, so that a Load may meet one that has begun
	// before the write.
	const readers = 4
	key := p.key("a")
	var states sync.Map // version to data
	v := p.save(key, p.record("0"))
	states.Store(v, "0")
	whole := func(rec session.Record, what string) {
		if data, ok := states.Load(rec.Version); ok && data != string(rec.Data) {
			p.Errorf("%s has the version of %q and the Data %q", what, data, rec.Data)
		}
	}
	done := make(chan struct{})
	p.race(1+readers, func(i int, b session.Backend) {
		if i > 0 {
			for {
				select {
				case <-done:
					return
				default:
				}
				if rec, err := b.Load(p.ctx, key); err == nil {
					whole(rec, "a Load beside Saves")
				}
				var conflict *session.ConflictError
				if err := second(b.Save(p.ctx, key, replacing(p.record("x"), "no such version"))); errors.As(err, &conflict) && conflict.Current != nil {
					whole(*conflict.Current, "a conflict beside Saves")
				}
			}
		}
		defer close(done)
		p.often(10, 5000, func(n int) bool {
			data := fmt.Sprint(n + 1)
			var err error
			if v, err = p.other.Save(p.ctx, key, replacing(p.record(data), v)); err != nil {
				p.Errorf("Save, with nobody else who saves: %v", err)
				return false
			}
			states.Store(v, data)
			for _, b := range []session.Backend{p.b, p.other} {
				if rec, err := b.Load(p.ctx, key); err != nil || string(rec.Data) != data || rec.Version != v {
					p.Errorf("after a Save of %q, with others who load, Load: %v, %q", data, err, rec.Data)
					return false
				}
			}
			until := p.later().Add(time.Duration(n) * time.Second)
			if err := p.other.Touch(p.ctx, key, until); err != nil {
				p.Errorf("Touch: %v", err)
				return false
			}
			if rec, err := p.b.Load(p.ctx, key); err != nil || rec.Expires.Before(until) {
				p.Errorf("after a Touch to %v, with others who load, Load: %v, %v", until, err, rec.Expires)
				return false
			}
			if n%8 != 7 {
				return true
			}
			if err := p.other.Delete(p.ctx, key); err != nil {
				p.Errorf("Delete: %v", err)
				return false
			}
			if p.alive(key) {
				p.Error("after a Delete, with others who load, Load returned the record")
				return false
			}
			if v, err = p.other.Save(p.ctx, key, p.record("new")); err != nil {
				p.Errorf("creating after Delete: %v", err)
				return false
			}
			states.Store(v, "new")
			if !p.alive(key) {
				p.Error("after a record was created, with others who load, Load did not find it")
				return false
			}
			return true
		})
	})
}

func ruleDeleteUnseen(p *probe) {
	for what, see := range map[string]func(b session.Backend, key string, v session.Version) error{
		"a Load of the state before": func(b session.Backend, key string, _ session.Version) error { return second(b.Load(p.ctx, key)) },
		"a conflict": func(b session.Backend, key string, _ session.Version) error {
			_, _ = b.Save(p.ctx, key, p.record("conflict"))
			return nil
		},
		"a Save of its own": func(b session.Backend, key string, v session.Version) error {
			return second(b.Save(p.ctx, key, replacing(p.record("2"), v)))
		},
		"a Touch": func(b session.Backend, key string, _ session.Version) error {
			return b.Touch(p.ctx, key, p.later().Add(time.Minute))
		},
		"nothing": func(session.Backend, string, session.Version) error { return nil },
	} {
		key := p.key(what)
		if _, err := p.other.Load(p.ctx, key); !errors.Is(err, session.ErrNotFound) {
			return // rule LoadAbsent says so
		}
		v := p.save(key, p.record("1"))
		if err := see(p.other, key, v); err != nil {
			p.Fatal(err)
		}
		rec := p.load(key)
		p.save(key, replacing(p.record("3"), rec.Version))
		if err := p.b.Touch(p.ctx, key, p.later().Add(time.Hour)); err != nil {
			p.Fatalf("Touch: %v", err)
		}
		if err := p.other.Delete(p.ctx, key); err != nil {
			p.Errorf("Delete of what another client has saved since this one saw %s: %v", what, err)
		}
		if p.alive(key) {
			p.Errorf("a Delete by a client that saw %s has left what another client saved since", what)
		}
	}
}

// together calls f for 0 to n-1, some at the same time.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				f(i)
			}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func ruleManyRecords(p *probe) {
	const n = 900
	versions := make([]session.Version, n)
	key := func(i int) string { return p.key(fmt.Sprint("record ", i)) }
	together(n, func(i int) {
		var err error
		if versions[i], err = p.b.Save(p.ctx, key(i), p.record(fmt.Sprint(i))); err != nil {
			p.Errorf("creating record %d of %d: %v", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		switch rec, err := p.b.Load(p.ctx, key(i)); {
		case err != nil || string(rec.Data) != fmt.Sprint(i) || rec.Version != versions[i]:
			p.Errorf("of %d records that are live, Load of number %d: %v, %q", n, i, err, rec.Data)
		case i%90 == 0:
			if _, err := p.b.Save(p.ctx, key(i), replacing(p.record("2"), versions[i])); err != nil {
				p.Errorf("of %d records that are live, Save of number %d: %v", n, i, err)
			}
		}
	})
}

// ruleShortHashes has pairs of keys, and of Data, of which a short hash is the
// same.
func ruleShortHashes(p *probe) {
	hash32 := func(h interface {
		Write([]byte) (int, error)
		Sum32() uint32
		Reset()
	}) func([]byte) uint32 {
		return func(b []byte) uint32 { h.Reset(); _, _ = h.Write(b); return h.Sum32() }
	}
	first4 := func(b []byte) uint32 { return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) }
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	for name, hash := range map[string]func([]byte) uint32{
		"CRC-32":   crc32.ChecksumIEEE,
		"CRC-32C":  func(b []byte) uint32 { return crc32.Checksum(b, castagnoli) },
		"Adler-32": adler32.Checksum,
		"FNV-1":    hash32(fnv.New32()),
		"FNV-1a":   hash32(fnv.New32a()),
		"MD5":      func(b []byte) uint32 { sum := md5.Sum(b); return first4(sum[:]) },
		"SHA-1":    func(b []byte) uint32 { sum := sha1.Sum(b); return first4(sum[:]) },
		"SHA-256":  func(b []byte) uint32 { sum := sha256.Sum256(b); return first4(sum[:]) },
		"31":       func(b []byte) uint32 { return polynomial(b, 31) },
		"33":       func(b []byte) uint32 { return polynomial(b, 33) },
	} {
		one, two := collision(p.key(name), hash)
		v := p.save(one, p.record(one))
		if _, err := p.b.Save(p.ctx, two, p.record(two)); err != nil {
			p.Errorf("creating a record at a new key, of which the %s hash is that of another: %v", name, err)
			continue
		}
		if got := p.load(one).Data; string(got) != one {
			p.Errorf("a record has the Data of another, of whose key the %s hash is the same", name)
		}
		p.save(one, replacing(p.record(two), v))
		if got := p.load(one).Data; string(got) != two {
			p.Errorf("a Save of Data of which the %s hash is that of the Data before has not stored it", name)
		}
	}
}

func polynomial(b []byte, by uint32) (sum uint32) {
	for _, c := range b {
		sum = by*sum + uint32(c)
	}
	return sum
}

// collision returns two strings that begin alike and have the same hash.
func collision(prefix string, hash func([]byte) uint32) (one, two string) {
	seen := map[uint32]uint64{}
	buf := []byte(prefix)
	for i := uint64(0); ; i++ {
		// Numbers in a row do not collide in a CRC.
		n := i * 0x9e3779b97f4a7c15
		buf = strconv.AppendUint(buf[:len(prefix)], n, 36)
		h := hash(buf)
		if m, ok := seen[h]; ok {
			return prefix + strconv.FormatUint(m, 36), string(buf)
		}
		seen[h] = n
	}
}

func ruleTimes(p *probe) {
	zones := []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -(9*3600 + 1800)), time.FixedZone("X", 5*3600+45*60)}
	base := p.now().Truncate(time.Second)
	for i, far := range []time.Time{
		base.Add(time.Hour),
		time.Date(2038, 1, 19, 3, 14, 9, 0, time.UTC), time.Date(2106, 2, 7, 6, 28, 17, 0, time.UTC), // 31 and 32 bits of seconds
		time.Date(2262, 4, 11, 23, 47, 18, 0, time.UTC), // 63 bits of nanoseconds
		time.Date(2554, 7, 21, 23, 34, 35, 0, time.UTC), time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		if far.Before(base) {
			continue
		}
		for _, created := range []time.Time{
			time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2001, 9, 9, 1, 46, 39, 999e6, time.UTC), base.Add(-time.Hour), far,
		} {
			zone := zones[i%len(zones)]
			i++
			key := p.key(fmt.Sprint(i, far, created))
			is := func(what string, created, expires time.Time) {
				p.Helper()
				rec := p.load(key)
				if rec.Created.Sub(created).Abs() > time.Millisecond || rec.Expires.Before(expires) || rec.Expires.Sub(expires) >= time.Second {
					p.Errorf("%s with Created %v and Expires %v, they came back as %v and %v", what, created, expires, rec.Created, rec.Expires)
				}
			}
			rec := session.Record{Data: []byte("1"), Created: created.In(zone), Expires: far.Add(-time.Minute).In(zone)}
			v := p.save(key, rec)
			is("created", rec.Created, rec.Expires)
			if err := p.b.Touch(p.ctx, key, far.In(zone)); err != nil {
				p.Errorf("Touch to %v: %v", far.In(zone), err)
			}
			is("touched", rec.Created, far)
			rec.Version, rec.Created = v, created.Add(time.Second).In(zone)
			p.save(key, rec)
			is("replaced", rec.Created, rec.Expires)
		}
	}
	// An end in the past is one in each zone and each year.
	for _, past := range []time.Time{time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC), base.Add(-time.Minute).In(zones[1]), base.Add(-time.Minute).In(zones[2])} {
		key := p.key(past.String())
		v := p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), past), v)); err != nil {
			p.Errorf("a Save with Expires %v: %v", past, err)
		}
		if p.alive(key) {
			p.Errorf("after a Save with Expires %v the record is alive", past)
		}
	}
}

// ruleHangingCall has calls wait for a store that fails, and then others whose
// contexts end. Where the store fails at once, it has nothing to say.
func ruleHangingCall(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	calls := func(key string) []func(ctx context.Context) error {
		list := []func(ctx context.Context) error{
			func(ctx context.Context) error { return second(p.b.Load(ctx, key)) },
			func(ctx context.Context) error { return second(p.b.Save(ctx, key, replacing(p.record("2"), v))) },
			func(ctx context.Context) error { return p.b.Touch(ctx, key, p.later().Add(time.Hour)) },
			func(ctx context.Context) error { return p.b.Delete(ctx, key) },
		}
		if l, ok := p.raw.b.(session.LockingBackend); ok {
			list = append(list,
				func(ctx context.Context) error { return second(l.Acquire(ctx, key, long)) },
				func(ctx context.Context) error { return l.Extend(ctx, key, v, long) },
				func(ctx context.Context) error { return l.Release(ctx, key, v, time.Time{}) },
			)
		}
		return list
	}
	p.hanging(calls(key), append(calls(key), calls(p.key("b"))...))
}

// hanging has calls wait for a store that fails, and then others, of which the
// contexts end.
func (s *scene) hanging(first, then []func(ctx context.Context) error) {
	defer s.fail()()
	hang, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	// The same calls hang in several connections, as far as there are any.
	for range 3 {
		for _, call := range first {
			wg.Add(1)
			go func() { defer wg.Done(); _ = call(hang) }()
		}
	}
	time.Sleep(20 * time.Millisecond)
	ctx, end := context.WithCancelCause(s.ctx)
	var others sync.WaitGroup
	var mu sync.Mutex
	waiting := len(then)
	for _, call := range then {
		others.Add(1)
		go func() {
			defer others.Done()
			err := call(ctx)
			mu.Lock()
			defer mu.Unlock()
			if waiting--; ctx.Err() != nil && errors.Is(err, errCause) && !errors.Is(err, context.Canceled) {
				s.Errorf("the context of a call has ended: got error %v, want one that wraps %v", err, context.Canceled)
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	end(errCause)
	if !s.ends(others.Wait) {
		mu.Lock()
		s.Errorf("while calls wait for a store that fails, %d others have not returned %v after their contexts ended", waiting, s.patience)
		mu.Unlock()
	}
	cancel()
	if !s.ends(wg.Wait) {
		s.Errorf("a call has not returned %v after its context ended", s.patience)
	}
}

func ruleGoroutines(p *probe) {
	p.goroutines(func(ctx context.Context, key string) {
		_, _ = p.b.Load(ctx, key)
		v, _ := p.b.Save(ctx, key, p.record("1"))
		_, _ = p.b.Save(ctx, key, replacing(p.record("2"), "no such version"))
		_ = p.b.Touch(ctx, key, p.later().Add(time.Hour))
		if l, ok := p.raw.b.(session.LockingBackend); ok {
			rec, _ := l.Acquire(ctx, key, time.Minute)
			_ = l.Extend(ctx, key, rec.Version, time.Minute)
			_ = l.Release(ctx, key, rec.Version, time.Time{})
		}
		_, _ = p.b.Save(ctx, key, replacing(p.record("2"), v))
		_ = p.b.Delete(ctx, key)
	})
}

// labelled counts the goroutines with a label.
func labelled(label string) (n int) {
	var buf bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 1); err != nil {
		return 0
	}
	_, stacks, _ := strings.Cut(buf.String(), "\n") // after the total
	for _, stack := range strings.Split(stacks, "\n\n") {
		if strings.Contains(stack, label) {
			var some int
			_, _ = fmt.Sscanf(stack, "%d @", &some)
			n += some
		}
	}
	return n
}
