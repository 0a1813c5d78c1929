package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// acquireRules are about Acquire.
var acquireRules = []backendRule{
	{name: "Acquire", run: locking(ruleAcquire), quotes: []string{
		"Acquire is Load and lock in one step.",
	}},
	{name: "AcquireLocked", run: locking(ruleAcquireLocked), quotes: []string{
		"It MUST NOT wait: while another holder's lock is live it fails with a *LockedError.",
	}},
	{name: "AcquireAbsent", run: locking(ruleAcquireAbsent), quotes: []string{
		"It MUST NOT create: where there is no live record it fails with ErrNotFound.",
	}},
	{name: "AcquireExpired", run: locking(ruleAcquireExpired), waits: true, quotes: []string{
		"It MUST NOT create: where there is no live record it fails with ErrNotFound.",
	}},
	{name: "AcquireTTL", run: locking(ruleAcquireTTL), quotes: []string{
		"A ttl that is not positive MUST be refused with an error.",
	}},
	{name: "AcquiredData", run: locking(ruleAcquiredData), quotes: []string{
		"What Backend demands of every method applies here too.",
		"and what it returns MUST NOT alias what it keeps,",
	}},
	{name: "LockKeys", run: locking(ruleLockKeys), quotes: []string{
		"a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "LockLarge", run: locking(ruleLockLarge), quotes: []string{
		"Acquire is Load and lock in one step.",
	}},
	{name: "LockClients", run: locking(ruleLockClients), quotes: []string{
		"The Version that Acquire returns is the holder's alone,",
		"its effect MUST be linearizable per key and durable, as far as the store is, when it returns:",
	}, needs: func(b Backend) bool { return b.Reopen != nil }},
	{name: "ManyLocks", run: locking(ruleManyLocks), wide: true, quotes: []string{
		"it holds until the ttl of Acquire or Extend has passed",
	}},
}

func ruleAcquire(p *lockingProbe) {
	for _, data := range []string{"", "1", strings.Repeat("x", p.large()/2)} {
		key := p.key(fmt.Sprint(len(data)))
		p.save(key, p.record(data))
		before := p.load(key)
		if rec := p.acquire(key, long); !sameContent(rec, before) {
			p.Errorf("Acquire returned %s, want the stored record, %s, but for the version", describe(rec), describe(before))
		}
	}
}

func ruleAcquireLocked(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	holder := p.acquire(key, long)
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	// With so many calls even a short wait in each of them shows.
	ended := p.ends(func() {
		for range 40 {
			if _, err := p.l.Acquire(ctx, key, long); ctx.Err() == nil {
				p.locked(err, "Acquire of a locked record")
			}
		}
	})
	if !ended {
		p.Fatalf("40 Acquires of a locked record have not returned after %v, want them to fail at once", p.patience)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), holder.Version)); err != nil && !p.Failed() {
		p.Errorf("the holder's Save, after others tried to acquire the lock: got error %v, want none", err)
	}
}

func ruleAcquireAbsent(p *lockingProbe) {
	p.acquireCreatesNothing("absent", p.key("absent"), "")
	p.kill(true, false, p.acquireCreatesNothing)
}

func ruleAcquireExpired(p *lockingProbe) { p.kill(false, true, p.acquireCreatesNothing) }

func (p *lockingProbe) acquireCreatesNothing(how, key string, _ session.Version) {
	if _, err := p.l.Acquire(p.ctx, key, long); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Acquire of a record that was %s: got error %v, want ErrNotFound", how, err)
	}
	if p.alive(key) {
		p.Errorf("an Acquire of a record that was %s made a live one, want none", how)
	}
	if _, err := p.b.Save(p.ctx, key, p.record("new")); errors.Is(err, session.ErrLocked) {
		p.Errorf("Save that creates a record, after an Acquire of one that was %s: got error ErrLocked, want no lock", how)
	}
}

func ruleAcquireTTL(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	for _, ttl := range []time.Duration{0, -1, -time.Second, -1 << 63} {
		if _, err := p.l.Acquire(p.ctx, key, ttl); err == nil {
			p.Fatalf("Acquire with a ttl of %v: got no error, want one", ttl)
		}
	}
	// None of these locked the record, and the shortest positive ttl is valid.
	if _, err := p.l.Acquire(p.ctx, key, 1); err != nil {
		p.Errorf("Acquire with a ttl of 1ns, after others that were refused: got error %v, want none", err)
	}
}

func ruleAcquiredData(p *lockingProbe) {
	key := p.key("a")
	p.save(key, p.record("1234"))
	data := p.acquire(key, long).Data
	clear(data[:cap(data)])
	if got := p.load(key).Data; string(got) != "1234" {
		p.Errorf("the caller changed the Data that Acquire had returned; Load then returned %q, want 1234, as it was saved", got)
	}
}

func ruleLockKeys(p *lockingProbe) {
	names := []string{
		"a", "A", "a ", "a.", "a/", "a:", "a:lock", "a.lock", "a/lock", "a#lock", "lock", "lock:", "{a}", "{a}:lock",
		"a*", "a%", "a?", "\u00e9", "e\u0301", "a\x00", "a\x00lock",
	}
	for _, end := range []string{"a", "b"} {
		long := strings.Repeat("x", 512-len(p.prefix)-1) + end
		names = append(names, long, long[:256-len(p.prefix)]+end)
	}
	type item struct {
		name, key string
		v         session.Version
		holder    session.Record
	}
	var items []item
	for _, name := range names {
		key := p.key(name)
		v, err := p.b.Save(p.ctx, key, p.record(name))
		if err != nil {
			return // rule Keys reports it
		}
		items = append(items, item{key: key, v: v, name: name})
	}
	lock := func(i *item) {
		p.Helper()
		var err error
		if i.holder, err = p.l.Acquire(p.ctx, i.key, long); err != nil {
			p.Fatalf("Acquire at the key that ends in %q, with locks at other keys: got error %v, want none", end(i.name), err)
		}
	}
	for i := 0; i < len(items); i += 2 {
		lock(&items[i])
	}
	for i := 1; i < len(items); i += 2 {
		if _, err := p.b.Save(p.ctx, items[i].key, replacing(p.record(items[i].name), items[i].v)); err != nil {
			p.Fatalf("Save at the key that ends in %q, with locks at other keys: got error %v, want none", end(items[i].name), err)
		}
		lock(&items[i])
	}
	for i := 0; i < len(items); i += 2 {
		if err := p.l.Release(p.ctx, items[i].key, items[i].holder.Version, time.Time{}); err != nil {
			p.Fatalf("Release at the key that ends in %q: got error %v, want none", end(items[i].name), err)
		}
	}
	for i := 1; i < len(items); i += 2 {
		if !p.held(items[i].key) {
			p.Fatalf("a Release at another key ended the lock at the key that ends in %q, want it to stay", end(items[i].name))
		}
	}
}

func ruleLockLarge(p *lockingProbe) {
	key := p.key("")
	key += strings.Repeat("x", 512-len(key))
	data := bytes.Repeat([]byte("x"), p.large())
	rec := p.record("")
	rec.Data = data
	p.save(key, rec)
	holder, err := p.l.Acquire(p.ctx, key, long)
	if err != nil {
		p.Fatalf("Acquire of a record with %d bytes: got error %v, want none", len(data), err)
	}
	if err := p.l.Extend(p.ctx, key, holder.Version, long); err != nil {
		p.Errorf("Extend for a record with %d bytes: got error %v, want none", len(data), err)
	}
	if _, err := p.b.Save(p.ctx, key, replacing(rec, holder.Version)); err != nil {
		p.Errorf("the holder's Save of %d bytes: got error %v, want none", len(data), err)
	}
	if holder, err = p.l.Acquire(p.ctx, key, long); err != nil {
		return // rule HolderSave reports it
	}
	if err := p.l.Release(p.ctx, key, holder.Version, p.later().Add(time.Hour)); err != nil {
		p.Errorf("Release of a record with %d bytes: got error %v, want none", len(data), err)
	}
}

// ruleLockClients has two clients take turns. Nothing is concurrent.
func ruleLockClients(p *lockingProbe) {
	for name, c := range map[string]struct{ first, second session.LockingBackend }{
		"a": {p.l, p.otherL}, "b": {p.otherL, p.l},
	} {
		lock := func(key string) (session.Version, session.Record) {
			v := p.save(key, p.record("1"))
			holder, err := c.first.Acquire(p.ctx, key, long)
			if err != nil {
				p.Fatalf("Acquire of a free record: got error %v, want none", err)
			}
			return v, holder
		}
		key := p.key(name + "acquire")
		lock(key)
		if err := p.try(c.second, key, long); err == nil {
			p.Fatal("Acquire of a record that another client has locked: got no error, want ErrLocked")
		}
		refused := func(l session.LockingBackend, who string) bool {
			key := p.key(name + "save" + who)
			v, _ := lock(key)
			_, err := l.Save(p.ctx, key, replacing(p.record("2"), v))
			return errors.Is(err, session.ErrLocked)
		}
		if refused(c.first, "first") && !refused(c.second, "second") { // or rule LockedSave reports it
			p.Fatal("Save under the lock of another client, without the holder's version: got no ErrLocked, though a Save of the same client does; want it from both")
		}
		key = p.key(name)
		_, holder := lock(key)
		// Only the Version makes a holder: a process may have several clients.
		if err := c.second.Extend(p.ctx, key, holder.Version, long); err != nil {
			p.Errorf("Extend with the holder's version, which another client has acquired: got error %v, want none", err)
		}
		if err := c.second.Release(p.ctx, key, holder.Version, time.Time{}); err != nil {
			p.Errorf("Release with the holder's version, which another client has acquired: got error %v, want none", err)
		}
		var err error
		if holder, err = c.first.Acquire(p.ctx, key, long); err != nil {
			return // rule Release reports it, or the calls above
		}
		if _, err := c.second.Save(p.ctx, key, replacing(p.record("3"), holder.Version)); err != nil {
			p.Errorf("Save with the holder's version, which another client has acquired: got error %v, want none", err)
		}
	}
}

func ruleManyLocks(p *lockingProbe) {
	const n = 300
	key := func(i int) string { return p.key(fmt.Sprint("locked ", i)) }
	together(n, func(i int) {
		if _, err := p.b.Save(p.ctx, key(i), p.record("1")); err != nil {
			p.Errorf("Save that creates record %d of %d: got error %v, want none", i, n, err)
		} else if _, err := p.l.Acquire(p.ctx, key(i), long); err != nil {
			p.Errorf("Acquire of record %d of %d: got error %v, want none", i, n, err)
		}
	})
	if p.Failed() {
		return
	}
	together(n, func(i int) {
		if err := p.try(p.otherL, key(i), long); err == nil {
			p.Errorf("Acquire of record %d of %d, all of them locked: got no error, want ErrLocked", i, n)
		}
	})
}
