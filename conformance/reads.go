package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// readRules are about the records that Load returns.
var readRules = []backendRule{
	{name: "LoadAbsent", run: ruleLoadAbsent, quotes: []string{
		"Load returns the record at key. If there is none it MUST fail with ErrNotFound.",
	}},
	{name: "Clients", run: ruleClients, quotes: []string{
		"its effect MUST be linearizable per key and durable, as far as the store is, when it returns:",
	}},
	{name: "ReadAfterWrite", run: ruleReadAfterWrite, wide: true, quotes: []string{
		"a Load that begins after a write has returned MUST NOT answer with what was there before, whichever client of the store wrote.",
	}},
}

func ruleLoadAbsent(p *probe) {
	if _, err := p.b.Load(p.ctx, p.key("absent")); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Load at a key that never had a record: got error %v, want ErrNotFound", err)
	}
	p.kill(true, false, func(_, key string, _ session.Version) {
		if _, err := p.b.Load(p.ctx, key); !errors.Is(err, session.ErrNotFound) {
			p.Errorf("Load after Delete: got error %v, want ErrNotFound", err)
		}
	})
}

// ruleClients has two clients take turns. Nothing is concurrent.
func ruleClients(p *probe) {
	for name, c := range map[string]struct{ first, second session.Backend }{
		"a": {p.b, p.other}, "b": {p.other, p.b},
	} {
		key := p.key(name)
		see := func(b session.Backend, what, data string) {
			p.Helper()
			if rec, err := b.Load(p.ctx, key); err != nil || string(rec.Data) != data {
				p.Errorf("Load after %s: got error %v and Data %q, want Data %q", what, err, rec.Data, data)
			}
		}
		v, err := c.first.Save(p.ctx, key, p.record("1"))
		if err != nil {
			p.Fatalf("Save of a valid record: got error %v, want none", err)
		}
		see(c.first, "a Save", "1")
		see(c.second, "a Save by another client", "1")
		if _, err = c.second.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
			p.Fatalf("Save with the version that another client's Save returned: got error %v, want none", err)
		}
		see(c.second, "a Save", "2")
		see(c.first, "a Save by another client", "2")
		if err := c.second.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete of a live record: got error %v, want none", err)
		}
		// If the second client still finds it, rule Delete reports it.
		if !p.aliveAt(c.second, key) && p.aliveAt(c.first, key) {
			p.Error("Load after a Delete by another client returned the record, want ErrNotFound")
		}
	}
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
					p.Errorf("Load after %s: got error %v and Data %q, want ErrNotFound", what, err, rec.Data)
				case data != "" && (err != nil || string(rec.Data) != data || rec.Expires.Before(expires)):
					p.Errorf("Load after %s: got error %v, Data %q and Expires %v; want Data %q and Expires %v", what, err, rec.Data, rec.Expires, data, expires)
				}
			}
			must := func(what string, err error) {
				p.Helper()
				if err != nil {
					p.Fatalf("%s: got error %v, want none", what, err)
				}
			}
			until := p.later()
			sees("no write", "", until)
			v, err := first.Save(p.ctx, key, p.record("1"))
			must("Save that creates a record", err)
			sees("a Save at a key where an earlier Load found no record", "1", until)
			v, err = first.Save(p.ctx, key, replacing(p.record("2"), v))
			must("Save that replaces a record", err)
			sees("a Save", "2", until)
			_, err = then.Save(p.ctx, key, p.record("conflict"))
			p.conflict(err, "Save that creates a record where there is one")
			_, err = first.Save(p.ctx, key, replacing(p.record("3"), v))
			must("Save that replaces a record, after a conflict", err)
			sees("a Save after a conflict", "3", until)
			until = until.Add(time.Hour)
			must("Touch", first.Touch(p.ctx, key, until))
			sees("a Touch", "3", until)
			must("Delete", first.Delete(p.ctx, key))
			sees("a Delete", "", until)
			if err := then.Touch(p.ctx, key, until); !errors.Is(err, session.ErrNotFound) {
				p.Errorf("Touch after a Delete by another client: got error %v, want ErrNotFound", err)
			}
			_, err = first.Save(p.ctx, key, p.record("4"))
			must("Save that creates a record, after a Delete", err)
			must("Touch by another client", then.Touch(p.ctx, key, until))
			sees("a Delete, a Save and a Touch", "4", until)
		}
	}
}
