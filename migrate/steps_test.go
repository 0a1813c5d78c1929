package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

var errFault = errors.New("the store failed")

// fault is what happens at one request to a store.
type fault int

const (
	pauseBefore fault = iota // others act before it is applied
	pauseAfter               // others act when it is applied, before its answer comes
	failBefore               // it fails, and then others act
	failAfter                // it is applied, its answer is lost, and then others act
	late                     // its sender gives up, others act, and then it arrives
	faults
)

func (f fault) String() string {
	return [...]string{"pauseBefore", "pauseAfter", "failBefore", "failAfter", "late"}[f]
}

// script counts the requests to both stores, and lets others act at one of them.
type script struct {
	at     int // the number of the request; 0 for none
	fault  fault
	others func()
	n      int
	busy   bool
	after  []func()
}

// step makes one request.
func (s *script) step(apply func() error) error {
	if s.busy {
		return apply()
	}
	if s.n++; s.n != s.at {
		return apply()
	}
	act := func() {
		s.busy = true
		defer func() { s.busy = false }()
		s.others()
	}
	switch s.fault {
	case pauseBefore:
		act()
		return apply()
	case pauseAfter:
		err := apply()
		act()
		return err
	case failBefore:
		s.after = append(s.after, act)
	case failAfter:
		_ = apply()
		s.after = append(s.after, act)
	case late:
		s.after = append(s.after, act, func() { _ = apply() })
	}
	return errFault
}

// finish lets others act if a request failed.
func (s *script) finish() {
	s.at = 0
	for _, f := range s.after {
		f()
	}
}

// stepped is a store whose requests are steps of a script.
type stepped struct {
	*memory.Backend
	*script
}

func (b stepped) Load(ctx context.Context, key string) (rec session.Record, err error) {
	err = b.step(func() (err error) {
		rec, err = b.Backend.Load(ctx, key)
		return err
	})
	return rec, err
}

func (b stepped) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	err = b.step(func() (err error) {
		v, err = b.Backend.Save(ctx, key, rec)
		return err
	})
	return v, err
}

func (b stepped) Touch(ctx context.Context, key string, expires time.Time) error {
	return b.step(func() error { return b.Backend.Touch(ctx, key, expires) })
}

func (b stepped) Delete(ctx context.Context, key string) error {
	return b.step(func() error { return b.Backend.Delete(ctx, key) })
}

func (b stepped) Acquire(ctx context.Context, key string, ttl time.Duration) (rec session.Record, err error) {
	err = b.step(func() (err error) {
		rec, err = b.Backend.Acquire(ctx, key, ttl)
		return err
	})
	return rec, err
}

// counter is a session with a number, as a server sees it that adds to the number,
// logs out, and remembers which record it has read.
type counter struct {
	t   *testing.T
	b   session.Backend
	key string
	rec session.Record
}

func (c *counter) open() error {
	rec, err := c.b.Load(c.t.Context(), c.key)
	if err == nil {
		c.rec = rec
	}
	return err
}

// add does what a Manager does: it saves, and merges after a conflict. It reports
// whether the number was stored.
func (c *counter) add() (bool, error) {
	if c.rec.Version == "" {
		if err := c.open(); err != nil {
			return false, err
		}
	}
	for range 20 {
		n, err := strconv.Atoi(string(c.rec.Data))
		if err != nil {
			return false, fmt.Errorf("read %q", c.rec.Data)
		}
		rec := c.rec
		rec.Data = []byte(strconv.Itoa(n + 1))
		v, err := c.b.Save(c.t.Context(), c.key, rec)
		var conflict *session.ConflictError
		switch {
		case err == nil:
			rec.Version = v
			c.rec = rec
			return true, nil
		case errors.As(err, &conflict) && conflict.Gone:
			return false, session.ErrNotFound
		case errors.As(err, &conflict) && conflict.Current != nil:
			c.rec = *conflict.Current
		case errors.As(err, &conflict):
			if err := c.open(); err != nil {
				return false, err
			}
		default:
			return false, err
		}
	}
	return false, errors.New("conflict again and again")
}

// end does what Destroy does.
func (c *counter) end() error {
	v := c.rec.Version
	for range 20 {
		if v == "" {
			if err := c.open(); err != nil {
				if errors.Is(err, session.ErrNotFound) {
					return nil
				}
				return err
			}
			v = c.rec.Version
		}
		past := time.Unix(0, 0)
		_, err := c.b.Save(c.t.Context(), c.key, session.Record{Created: past, Expires: past, Version: v})
		var conflict *session.ConflictError
		switch {
		case err == nil, errors.As(err, &conflict) && conflict.Gone:
			return nil
		case errors.As(err, &conflict) && conflict.Current != nil:
			v = conflict.Current.Version
		case errors.As(err, &conflict):
			v = ""
		default:
			return err
		}
	}
	return errors.New("conflict again and again")
}

// world is two stores, one session in the old one, and servers.
type world struct {
	t          *testing.T
	script     *script
	servers    map[string]*counter
	added, end int // numbers stored and logouts done
	unsure     int // numbers that may have been stored
	maybeEnded bool
}

// do makes a server act, and notes what it was told.
func (w *world) do(name, what string) {
	c := w.servers[name]
	if name == "old" { // which knows one store only, and is told that the session is gone
		if ok, err := c.add(); ok {
			w.added++
		} else if !errors.Is(err, session.ErrNotFound) {
			w.t.Errorf("old: %v", err)
		}
		return
	}
	switch what {
	case "load":
		switch err := c.open(); {
		case errors.Is(err, session.ErrNotFound) && w.end == 0 && !w.maybeEnded:
			w.t.Errorf("%s: the session is lost", name)
		case err == nil && w.end > 0:
			w.t.Errorf("%s: the session is there after the logout", name)
		case err != nil && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, errFault):
			w.t.Errorf("%s: load: %v", name, err)
		}
	case "add":
		switch ok, err := c.add(); {
		case ok && w.end > 0:
			w.t.Errorf("%s: stored a number after the logout", name)
		case ok:
			w.added++
		case errors.Is(err, errFault):
			w.unsure++
		case errors.Is(err, session.ErrNotFound) && w.end == 0 && !w.maybeEnded:
			w.t.Errorf("%s: the session is lost for an add", name)
		case !errors.Is(err, session.ErrNotFound):
			w.t.Errorf("%s: add: %v", name, err)
		}
	case "touch":
		err := c.b.Touch(w.t.Context(), c.key, time.Now().Add(2*time.Hour))
		switch {
		case err == nil && w.end > 0:
			w.t.Errorf("%s: touched after the logout", name)
		case errors.Is(err, session.ErrNotFound) && w.end == 0 && !w.maybeEnded:
			w.t.Errorf("%s: the session is lost for a touch", name)
		case err != nil && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, errFault):
			w.t.Errorf("%s: touch: %v", name, err)
		}
	case "end", "delete":
		err := c.end
		if what == "delete" {
			err = func() error { return c.b.Delete(w.t.Context(), c.key) }
		}
		switch err := err(); {
		case err == nil:
			w.end++
		case errors.Is(err, errFault):
			w.maybeEnded = true
		default:
			w.t.Errorf("%s: %s: %v", name, what, err)
		}
	}
}

// check reads the session through all servers, twice, as the first may move it.
func (w *world) check() {
	for round := range 2 {
		for _, name := range []string{"hold", "move", "drain"} {
			c, ok := w.servers[name]
			if !ok {
				continue
			}
			rec, err := c.b.Load(w.t.Context(), c.key)
			switch {
			case w.end > 0:
				if !errors.Is(err, session.ErrNotFound) {
					w.t.Errorf("round %d, %s: after the logout: %q, %v", round, name, rec.Data, err)
				}
			case errors.Is(err, session.ErrNotFound) && w.maybeEnded:
			case err != nil:
				w.t.Errorf("round %d, %s: lost: %v", round, name, err)
			default:
				n, err := strconv.Atoi(string(rec.Data))
				if err != nil || n < w.added || n > w.added+w.unsure {
					w.t.Errorf("round %d, %s: the number is %q, want %d, or up to %d more", round, name, rec.Data, w.added, w.unsure)
				}
			}
			if w.t.Failed() {
				return
			}
		}
	}
}

type action struct{ server, what string }

// newWorld makes the servers. Those in phase Hold have opened the session.
func newWorld(t *testing.T, source bool, phases ...migrate.Phase) *world {
	t.Helper()
	w := &world{t: t, script: &script{}, servers: make(map[string]*counter)}
	s := stores{stepped{&memory.Backend{}, w.script}, stepped{&memory.Backend{}, w.script}}
	const key = "k"
	now := time.Now()
	if _, err := s.old.Save(t.Context(), key, session.Record{Data: []byte("0"), Created: now, Expires: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, p := range phases {
		from := s.from()
		if source {
			from = plain{s.old}
		}
		name := map[migrate.Phase]string{migrate.Hold: "hold", migrate.Move: "move", migrate.Drain: "drain"}[p]
		w.servers[name] = &counter{t: t, b: open(t, s.fresh, from, migrate.Config{Phase: p}), key: key}
		if p == migrate.Move {
			w.servers["move2"] = &counter{t: t, b: open(t, s.fresh, from, migrate.Config{Phase: p}), key: key}
		}
	}
	if source {
		w.servers["old"] = &counter{t: t, b: s.old, key: key}
	}
	for _, name := range []string{"hold", "old"} {
		if c := w.servers[name]; c != nil {
			if err := c.open(); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.script.n = 0
	return w
}

// One server acts; at each of its requests, with each fault, others act; and what
// all of them were told must agree.
func TestSteps(t *testing.T) {
	all := []string{"load", "add", "touch", "end", "delete"}
	cross := func(servers ...string) (as []action) {
		for _, s := range servers {
			for _, what := range all {
				as = append(as, action{s, what})
			}
		}
		return as
	}
	for _, tt := range []struct {
		name   string
		source bool
		phases []migrate.Phase
		first  []action
		others []action
	}{
		{"HoldAndMove", false, []migrate.Phase{migrate.Hold, migrate.Move}, cross("move", "hold"), cross("hold", "move2")},
		{"MoveAndDrain", false, []migrate.Phase{migrate.Move, migrate.Drain}, cross("move", "drain"), cross("move2", "drain")},
		{"Source", true, []migrate.Phase{migrate.Move, migrate.Drain}, cross("move", "drain"), append(cross("move2", "drain"), action{"old", "add"})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runs := 0
			for _, first := range tt.first {
				for f := range faults {
					for _, o1 := range tt.others {
						for _, o2 := range tt.others {
							for at := 1; ; at++ {
								runs++
								name := fmt.Sprintf("%v %v at %d: %v, then %v", first, f, at, o1, o2)
								w := newWorld(t, tt.source, tt.phases...)
								w.script.at, w.script.fault = at, f
								w.script.others = func() { w.do(o1.server, o1.what); w.do(o2.server, o2.what) }
								concurrent(w, first)
								reached := w.script.n >= at
								w.script.finish()
								w.check()
								if t.Failed() {
									t.Fatal(name)
								}
								if !reached {
									break
								}
							}
						}
					}
				}
			}
			t.Logf("%d runs", runs)
		})
	}
}

// concurrent is do for an action in which others act: an answer that was right when
// the action began is right.
func concurrent(w *world, a action) {
	ended := w.end
	c := w.servers[a.server]
	switch a.what {
	case "load":
		if err := c.open(); errors.Is(err, session.ErrNotFound) && w.end == 0 && !w.maybeEnded {
			w.t.Error("the session is lost")
		} else if err == nil && ended > 0 {
			w.t.Error("the session is there after the logout")
		}
	case "add":
		// A logout of others that happened meanwhile may have been before or after.
		ok, err := c.add()
		switch {
		case ok:
			w.added++
		case errors.Is(err, errFault):
			w.unsure++
		case errors.Is(err, session.ErrNotFound):
			if w.end == 0 && !w.maybeEnded {
				w.t.Error("the session is lost for an add")
			}
		default:
			w.t.Errorf("add: %v", err)
		}
	case "touch":
		err := c.b.Touch(w.t.Context(), c.key, time.Now().Add(2*time.Hour))
		if errors.Is(err, session.ErrNotFound) && w.end == 0 && !w.maybeEnded {
			w.t.Error("the session is lost for a touch")
		}
	default:
		w.maybeEnded = true // others may see it as ended, or not yet
		v := w.end
		var err error
		if a.what == "delete" {
			err = c.b.Delete(w.t.Context(), c.key)
		} else {
			err = c.end()
		}
		switch {
		case err == nil:
			w.end = v + 1
		case !errors.Is(err, errFault):
			w.t.Errorf("%s: %v", a.what, err)
		}
	}
}
