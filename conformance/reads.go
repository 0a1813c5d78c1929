package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// readRules are about what a Load sees.
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
		p.Errorf("Load of a key that never was: got error %v, want ErrNotFound", err)
	}
	p.kill(true, false, func(_, key string, _ session.Version) {
		if _, err := p.b.Load(p.ctx, key); !errors.Is(err, session.ErrNotFound) {
			p.Errorf("Load after Delete: got error %v, want ErrNotFound", err)
		}
	})
}

// ruleClients is about two clients taking turns. Nothing is concurrent here.
func ruleClients(p *probe) {
	for name, c := range map[string]struct{ first, second session.Backend }{
		"a": {p.b, p.other}, "b": {p.other, p.b},
	} {
		key := p.key(name)
		see := func(b session.Backend, what, data string) {
			p.Helper()
			if rec, err := b.Load(p.ctx, key); err != nil || string(rec.Data) != data {
				p.Errorf("after %s, Load: %v, %q, want %q", what, err, rec.Data, data)
			}
		}
		v, err := c.first.Save(p.ctx, key, p.record("1"))
		if err != nil {
			p.Fatalf("Save: %v", err)
		}
		see(c.first, "Save", "1")
		see(c.second, "Save of another client", "1")
		if _, err = c.second.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
			p.Fatalf("Save with a version from another client: %v", err)
		}
		see(c.second, "Save", "2")
		see(c.first, "Save of another client", "2")
		if err := c.second.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete: %v", err)
		}
		// Where the second client still has it, rule Delete says so.
		if !p.aliveAt(c.second, key) && p.aliveAt(c.first, key) {
			p.Error("after Delete of another client, Load returned the record")
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
