package session_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var ann = session.User("ann")

// once returns a hook that calls f at the nth call.
func once(n int, f func() error) func(int, string, string) error {
	return func(at int, _, _ string) error {
		if at != n {
			return nil
		}
		return f()
	}
}

// TestListWhileASessionGetsNewIDs: the list has read the owner's record, and not yet
// the session's.
func TestListWhileASessionGetsNewIDs(t *testing.T) {
	for _, times := range []int{1, 3} {
		var b memory.Backend
		p := &process{Backend: &b}
		mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		s := login(t, m, session.Login{User: "ann"})
		p.hooks(once(2, func() error {
			for range times {
				check(t, s.Rotate())
				check(t, s.Save(t.Context()))
			}
			return nil
		}), nil)
		if got := handles(t, mp, ann); !slices.Equal(got, []string{s.Handle()}) {
			t.Errorf("after %d new IDs, %d are listed", times, len(got))
		}
	}
}

// TestListAfterAnUnfinishedRevocation: a session that is alive is listed, also if a
// revocation covers it that was not carried out.
func TestListAfterAnUnfinishedRevocation(t *testing.T) {
	for _, more := range []int{0, 20} { // sessions, which move it to a page
		var b memory.Backend
		p := &process{Backend: &b}
		mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		s := login(t, m, session.Login{User: "ann"})
		for range more {
			login(t, m, session.Login{User: "ann"})
		}
		p.hooks(func(_ int, op, _ string) error {
			if op == "Delete" {
				return errStore
			}
			return nil
		}, nil)
		wantErr(t, mp.Revoke(t.Context(), ann), errStore)
		if got := handles(t, m, ann); !slices.Contains(got, s.Handle()) || len(got) != 1+more {
			t.Errorf("%d are listed, want %d", len(got), 1+more)
		}
		if !alive(t, m, s) {
			t.Error("it is not alive")
		}
		check(t, m.Revoke(t.Context(), ann))
		if got := handles(t, m, ann); len(got) != 0 || alive(t, m, s) {
			t.Errorf("%d are listed, alive is %v", len(got), alive(t, m, s))
		}
	}
}

// TestRevokeOneThatAnotherCarriesOut: another request carries out what RevokeOne has
// begun, and RevokeOne is told nothing of the one or the other.
func TestRevokeOneThatAnotherCarriesOut(t *testing.T) {
	for name, lost := range map[string]error{"the answer is lost": errStore, "before the page is read": nil} {
		for _, more := range []int{0, 20} { // sessions, which move it to a page
			t.Run(fmt.Sprint(name, more), func(t *testing.T) {
				var b memory.Backend
				p := &process{Backend: &b}
				mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
				s := login(t, m, session.Login{User: "ann"})
				for range more {
					login(t, m, session.Login{User: "ann"})
				}
				p.hooks(nil, once(2, func() error { // the Save
					check(t, m.Revoke(t.Context(), ann))
					return lost
				}))
				check(t, mp.RevokeOne(t.Context(), s.Handle(), ann))
				if alive(t, m, s) {
					t.Error("it is alive")
				}
				if err := mp.RevokeOne(t.Context(), s.Handle(), ann); !errors.Is(err, session.ErrNotFound) {
					t.Errorf("a second time: %v", err)
				}
			})
		}
	}
}

// TestRevocationEndsTheLatestIDFirst: the markers of a session that is still alive
// lead to it, so that a list and a logout find it.
func TestRevocationEndsTheLatestIDFirst(t *testing.T) {
	for _, more := range []int{0, 20} { // sessions, which move the first entry to a page
		var b memory.Backend
		p := &process{Backend: &b}
		mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		s := login(t, m, session.Login{User: "ann"})
		old := session.DefaultStoreKey(s.Token().Reveal())
		for range more {
			login(t, m, session.Login{User: "ann"})
		}
		check(t, s.Rotate())
		check(t, s.Save(t.Context()))
		latest := session.DefaultStoreKey(s.Token().Reveal())
		var deleted []string
		p.hooks(nil, func(_ int, op, key string) error {
			if op == "Delete" && (key == old || key == latest) {
				deleted = append(deleted, key)
			}
			return nil
		})
		check(t, mp.RevokeOne(t.Context(), s.Handle(), ann))
		// In a page there is an entry with the old one only.
		if at := slices.Index(deleted, latest); at != 0 {
			t.Errorf("%d before it", at)
		}
	}
}

// TestListedOnceAfterALostAnswer: it is not known whether a session was listed, and
// other logins have moved it to a page when it is tried again.
func TestListedOnceAfterALostAnswer(t *testing.T) {
	for _, more := range []int{20, 300} {
		var b memory.Backend
		p := &process{Backend: &b}
		mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
		crowd := func() {
			for range more {
				login(t, m, session.Login{User: "ann"})
			}
		}
		p.hooks(nil, once(3, func() error { // the Save of the owner's record
			crowd()
			return errStore
		}))
		s := login(t, mp, session.Login{User: "ann"})
		crowd()
		got := handles(t, m, ann)
		slices.Sort(got)
		n, different := len(got), slices.Compact(got)
		if n != 1+2*more || len(different) != n || !slices.Contains(different, s.Handle()) {
			t.Errorf("%d are listed, and %d are different, want %d", n, len(different), 1+2*more)
		}
	}
}

// TestRevocationOfAnOldRecord: an owner's record has expired and was stored anew
// while a revocation was under way. It takes no session off that it has not ended.
func TestRevocationOfAnOldRecord(t *testing.T) {
	var b memory.Backend
	p := &process{Backend: &b}
	mp, m := indexed(t, p, session.OwnersConfig{}), indexed(t, &b, session.OwnersConfig{})
	login(t, m, session.Login{User: "ann"})
	var late *session.Session
	record := ""
	p.hooks(func(n int, op, key string) error {
		switch {
		case n == 1:
			record = key
		case op == "Delete":
			check(t, b.Delete(t.Context(), record))
			late = login(t, m, session.Login{User: "ann"})
		}
		return nil
	}, nil)
	check(t, mp.Revoke(t.Context(), ann))
	if got := handles(t, m, ann); !slices.Equal(got, []string{late.Handle()}) || !alive(t, m, late) {
		t.Errorf("%d are listed, and the later one is alive: %v", len(got), alive(t, m, late))
	}
}
