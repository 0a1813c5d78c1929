package session_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A process is the connection of one process to a store that it shares with
// others. It counts the calls.
type process struct {
	session.Backend
	mu     sync.Mutex
	n      int                               // since the hooks were set
	calls  int                               // in all
	before func(n int, op, key string) error // an error: the call does not reach the store
	after  func(n int, op, key string) error // an error: the answer is lost
	late   []func()                          // calls with errLate, which are still on their way
}

func (p *process) do(ctx context.Context, op, key string, call func(ctx context.Context) error) error {
	p.mu.Lock()
	p.n++
	p.calls++
	n, before, after := p.n, p.before, p.after
	p.mu.Unlock()
	if before != nil {
		if err := before(n, op, key); err != nil {
			if errors.Is(err, errLate) {
				p.mu.Lock()
				p.late = append(p.late, func() { _ = call(context.WithoutCancel(ctx)) })
				p.mu.Unlock()
			}
			return err
		}
	}
	err := call(ctx)
	if after != nil {
		if lost := after(n, op, key); lost != nil {
			return lost
		}
	}
	return err
}

func (p *process) Load(ctx context.Context, key string) (rec session.Record, err error) {
	err = p.do(ctx, "Load", key, func(ctx context.Context) error { rec, err = p.Backend.Load(ctx, key); return err })
	return rec, err
}

func (p *process) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	op := "Save"
	if rec.Version != "" && rec.Expired(time.Now()) {
		op = "End"
	}
	err = p.do(ctx, op, key, func(ctx context.Context) error { v, err = p.Backend.Save(ctx, key, rec); return err })
	return v, err
}

func (p *process) Touch(ctx context.Context, key string, expires time.Time) error {
	return p.do(ctx, "Touch", key, func(ctx context.Context) error { return p.Backend.Touch(ctx, key, expires) })
}

func (p *process) Delete(ctx context.Context, key string) error {
	return p.do(ctx, "Delete", key, func(ctx context.Context) error { return p.Backend.Delete(ctx, key) })
}

// hooks sets the hooks, and counts anew.
func (p *process) hooks(before, after func(n int, op, key string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n, p.before, p.after = 0, before, after
}

// TestPackingBesideARevocation packs pages into one that refers to them, while a
// revocation replaces one of them.
func TestPackingBesideARevocation(t *testing.T) {
	var b memory.Backend
	revoker := &process{Backend: &b}
	mr, m := indexed(t, revoker, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
	var all []*session.Session
	for range 1023 {
		all = append(all, login(t, m, session.Login{User: "ann"}))
	}
	// The login comes when all pages are read, before the revocation is finished.
	record, loads := "", 0
	revoker.hooks(func(n int, op, key string) error {
		if n == 1 {
			record = key
		}
		if op == "Load" && key == record {
			if loads++; loads == 2 {
				all = append(all, login(t, m, session.Login{User: "ann"}))
			}
		}
		return nil
	}, nil)
	check(t, mr.RevokeOne(t.Context(), all[3].Handle(), session.User("ann")))
	revoker.hooks(nil, nil)
	if n := len(handles(t, m, session.User("ann"))); n != len(all)-1 {
		t.Errorf("%d are listed", n)
	}
	check(t, m.Revoke(t.Context(), session.User("ann")))
	for i, s := range all {
		if alive(t, m, s) {
			t.Fatalf("%d is alive", i)
		}
	}
}

// TestListBesidePacking: a login joins pages while they are read.
func TestListBesidePacking(t *testing.T) {
	for at := 1; at < 12; at++ {
		var b memory.Backend
		p := &process{Backend: &b}
		lister, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		for range 127 {
			login(t, m, session.Login{User: "ann"})
		}
		p.hooks(func(n int, _, _ string) error {
			if n == at {
				login(t, m, session.Login{User: "ann"})
			}
			return nil
		}, nil)
		got := handles(t, lister, session.User("ann"))
		slices.Sort(got)
		if n := len(slices.Compact(got)); n < 127 || n != len(got) {
			t.Errorf("a login before call %d: %d are listed, %d of them once", at, len(got), n)
		}
	}
}

// TestListBesideARevocation: a revocation replaces pages while they are read. The
// list has all others, or says that it has not.
func TestListBesideARevocation(t *testing.T) {
	for _, sessions := range []int{20, 200} {
		var b memory.Backend
		p := &process{Backend: &b}
		lister, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		var all []*session.Session
		for range sessions {
			all = append(all, login(t, m, session.Login{User: "ann"}))
		}
		const revocations = 8
		for at := range revocations {
			p.hooks(func(n int, _, _ string) error {
				if n == at+1 {
					return m.RevokeOne(t.Context(), all[at].Handle(), session.User("ann"))
				}
				return nil
			}, nil)
			got, failed := map[string]bool{}, false
			for e, err := range lister.Sessions(t.Context(), session.User("ann")) {
				if err != nil {
					wantErr(t, err, session.ErrStore)
					failed = true
					break
				}
				if got[e.Handle] {
					t.Errorf("%d, %d: listed twice", sessions, at)
				}
				got[e.Handle] = true
			}
			for _, s := range all[at+1:] {
				if !failed && !got[s.Handle()] {
					t.Errorf("%d, %d: not listed", sessions, at)
				}
			}
			if failed && sessions < 128 {
				t.Errorf("%d, %d: it failed", sessions, at)
			}
			p.hooks(nil, nil)
			if n := len(handles(t, lister, session.User("ann"))); n != sessions-at-1 {
				t.Errorf("%d, %d: %d are listed", sessions, at, n)
			}
		}
	}
}

// A lagging store answers some Loads of one key with an earlier state of it, as one
// whose reads are eventually consistent may.
type lagging struct {
	process
	key         string
	old         session.Record
	first, last int // the Loads of that key that lag
	loads       int
}

func (l *lagging) Load(ctx context.Context, key string) (session.Record, error) {
	rec, err := l.process.Load(ctx, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	if key != l.key {
		return rec, err
	}
	if l.loads++; l.first <= l.loads && l.loads <= l.last {
		return l.old, nil
	}
	return rec, err
}
