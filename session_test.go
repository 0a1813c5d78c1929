package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

var (
	ctx     = context.Background()
	counter = session.Key[int]{Name: "counter"}
	note    = session.Key[string]{Name: "note"}
)

func inc(n int) int { return n + 1 }

func TestLife(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})

	s := m.Start()
	if !s.IsNew() || s.Has("note") || len(s.Names()) != 0 {
		t.Error("a new session is not new and empty")
	}
	check(t, s.Save(ctx))
	b.wantCalls(t) // nothing is stored without data

	check(t, note.Set(s, "hello"))
	check(t, errOf(counter.Update(s, inc)))
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save")
	if s.IsNew() || s.Created().IsZero() || !s.Expires().After(s.Created()) {
		t.Error("a stored session has no times")
	}
	check(t, s.Close(ctx))
	check(t, s.Close(ctx))
	b.wantCalls(t)
	wantErr(t, s.Save(ctx), session.ErrClosed)
	wantErr(t, note.Set(s, "x"), session.ErrClosed)
	_, err := note.Get(s)
	wantErr(t, err, session.ErrClosed)

	token := s.Token().Reveal()
	s = open(t, m, token)
	b.wantCalls(t, "Load")
	if got, err := note.Get(s); got != "hello" || err != nil {
		t.Errorf("note is %q, %v", got, err)
	}
	if names := s.Names(); len(names) != 2 || names[0] != "counter" || names[1] != "note" {
		t.Errorf("names are %v", names)
	}
	check(t, note.Set(s, "hello"))
	check(t, s.Save(ctx))
	b.wantCalls(t) // an equal value is no change

	if v, ok, err := note.Take(s); v != "hello" || !ok || err != nil {
		t.Errorf("took %q, %v, %v", v, ok, err)
	}
	if _, ok, err := note.Take(s); ok || err != nil {
		t.Errorf("took it twice: %v, %v", ok, err)
	}
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save")
	check(t, s.Clear())
	check(t, s.Save(ctx))
	if b.Len() != 1 {
		t.Error("an emptied session lost its record")
	}

	check(t, s.Destroy(ctx))
	check(t, s.Destroy(ctx))
	b.wantCalls(t, "Save", "End")
	check(t, s.Close(ctx))
	_, err = m.Open(ctx, token)
	wantErr(t, err, session.ErrNotFound)
	if b.Len() != 0 {
		t.Error("the record is still there")
	}
}

func TestTokens(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	a, z := m.Start(), m.Start()
	if a.Token().Reveal() != "" {
		t.Error("a session that is not stored has a token")
	}
	check(t, errors.Join(note.Set(a, "a"), note.Set(z, "z"), a.Save(ctx), z.Save(ctx)))
	b.took()
	if same := a.Token().Reveal(); same == z.Token().Reveal() || a.Token().Reveal() != same || len(same) != 32 {
		t.Error("tokens are not unique, stable and of 192 bits")
	}
	for _, token := range []string{"", "short", strings.Repeat("A", 33), strings.Repeat("!", 32), "../" + strings.Repeat("A", 29)} {
		_, err := m.Open(ctx, token)
		wantErr(t, err, session.ErrNotFound)
	}
	b.wantCalls(t) // a malformed token costs nothing
	planted := strings.Repeat("A", 32)
	_, err := m.Open(ctx, planted)
	wantErr(t, err, session.ErrNotFound)

	id := a.Token()
	hidden := struct {
		id session.Token
		s  *session.Session
	}{id, a}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "id", id, "session", a, "struct", hidden)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "id", id, "session", a, "struct", hidden)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%t"} {
		for _, v := range []any{id, &id, a, hidden, &hidden, []any{id, a}, map[string]any{"id": id}, m} {
			fmt.Fprintf(&log, verb, v)
		}
	}
	if shown := log.String(); strings.Contains(shown, id.Reveal()) || strings.Contains(shown, fmt.Sprintf("%x", id.Reveal())) {
		t.Errorf("the token is shown: %s", shown)
	}
	if _, err := b.Backend.Load(ctx, id.Reveal()); !errors.Is(err, session.ErrNotFound) {
		t.Error("the store's key is the token itself")
	}
}

func TestStoreErrorIsReturnedAndNothingWritten(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "kept"})

	b.failing("Load", errStore)
	s, err := m.Open(ctx, token)
	wantErr(t, err, errStore)
	if s != nil || errors.Is(err, session.ErrNotFound) {
		t.Errorf("a failed Load gave %v, %v", s, err)
	}
	b.healthy()
	s = open(t, m, token)

	b.failing("Save", errStore)
	check(t, note.Set(s, "changed"))
	wantErr(t, s.Save(ctx), errStore)
	check(t, s.Rotate())
	wantErr(t, s.Save(ctx), errStore)
	fresh := m.Start()
	check(t, note.Set(fresh, "x"))
	wantErr(t, fresh.Save(ctx), errStore)
	if !fresh.IsNew() || fresh.Token().Reveal() != "" {
		t.Error("a session that was not stored says it was")
	}

	b.failing("End", errStore)
	wantErr(t, open(t, m, token).Destroy(ctx), errStore)
	b.healthy()
	wantValue(t, m, token, "note", "kept")
	if b.Len() != 1 {
		t.Errorf("%d records, want 1", b.Len())
	}

	// The changes were still pending.
	check(t, s.Save(ctx))
	wantValue(t, m, s.Token().Reveal(), "note", "changed")
}

func TestDestroyMayBeTriedAgain(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"note": "x"}))
	check(t, note.Set(s, "pending"))
	b.failing("End", errStore)
	wantErr(t, s.Destroy(ctx), errStore)
	b.healthy()
	b.took()
	check(t, s.Close(ctx))
	b.wantCalls(t) // nothing is saved of a session that is destroyed
	check(t, s.Destroy(ctx))
	b.wantCalls(t, "End")
}

// TestNoRevival writes in a request that read its session before another one
// ended it.
func TestNoRevival(t *testing.T) {
	ends := map[string]func(t *testing.T, m *session.Manager, token string){
		"logout": func(t *testing.T, m *session.Manager, token string) {
			check(t, open(t, m, token).Destroy(ctx))
		},
		"rotation": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			check(t, s.Rotate())
			check(t, finish(m, s))
		},
		"login": func(t *testing.T, m *session.Manager, token string) {
			s := open(t, m, token)
			check(t, s.Login("gopher"))
			check(t, finish(m, s))
		},
	}
	slow := map[string]func(s *session.Session) error{
		"set":    func(s *session.Session) error { return note.Set(s, "late") },
		"update": func(s *session.Session) error { return errOf(counter.Update(s, inc)) },
		"rotate": func(s *session.Session) error { return s.Rotate() },
		"login":  func(s *session.Session) error { return s.Login("mallory") },
	}
	for end, finishBy := range ends {
		for name, change := range slow {
			for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
				t.Run(fmt.Sprintf("%s during %s, %v", end, name, mode), func(t *testing.T) {
					var b memory.Backend
					m := newManager(t, &b, session.Config{Mode: mode})
					token := begin(t, m, map[string]any{"note": "x"})
					late := open(t, m, token)
					finishBy(t, m, token)
					_, err := m.Open(ctx, token)
					wantErr(t, err, session.ErrNotFound)
					before := b.Len()

					check(t, change(late))
					err = finish(m, late)
					wantErr(t, err, session.ErrNotFound)
					wantErr(t, err, session.ErrConflict)
					if b.Len() > before {
						t.Errorf("%d records, before the slow request %d", b.Len(), before)
					}
					_, err = m.Open(ctx, token)
					wantErr(t, err, session.ErrNotFound)
				})
			}
		}
	}
}

func TestRotate(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	old := begin(t, m, map[string]any{"note": "kept"})
	s := open(t, m, old)
	b.took()
	check(t, s.Rotate())
	check(t, counter.Set(s, 7))
	if s.Token().Reveal() != old {
		t.Error("the ID changed before it was stored")
	}
	created, expires := s.Created(), s.Expires()
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save", "Save")
	token := s.Token().Reveal()
	if token == old {
		t.Error("the ID did not change")
	}
	if !s.Created().Equal(created) || s.Expires().Before(expires.Add(-time.Second)) {
		t.Error("rotation changed the times")
	}
	wantValue(t, m, token, "note", "kept")
	wantValue(t, m, token, "counter", 7)
	_, err := m.Open(ctx, old)
	wantErr(t, err, session.ErrNotFound)

	// A session that was never stored gets its first ID.
	s = m.Start()
	check(t, s.Rotate())
	check(t, note.Set(s, "x"))
	b.took()
	check(t, s.Save(ctx))
	b.wantCalls(t, "Save")
}

// TestRotateMergesWhatCameBetween checks that a write between the read and the
// rotation of another request is in the rotated session.
func TestRotateMergesWhatCameBetween(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"note": "x", "counter": 1})
	rotating := open(t, m, token)
	other := open(t, m, token)
	check(t, rotating.Rotate())
	check(t, errOf(counter.Update(rotating, inc)))
	check(t, errOf(counter.Update(other, inc)))
	check(t, other.Set("other", "there"))
	check(t, finish(m, other))
	check(t, finish(m, rotating))
	wantValue(t, m, rotating.Token().Reveal(), "other", "there")
	wantValue(t, m, rotating.Token().Reveal(), "counter", 3)
}

// TestRotateFailsWhole checks that if the old ID cannot be ended, it stays, and
// there is no new one.
func TestRotateFailsWhole(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "x"})
	s := open(t, m, token)
	check(t, s.Login("gopher"))
	saves := 0
	b.before = func(_ context.Context, op string) error {
		if op == "Save" {
			if saves++; saves == 2 {
				return session.ErrTooLarge
			}
		}
		return nil
	}
	wantErr(t, s.Save(ctx), session.ErrTooLarge)
	if s.Token().Reveal() != token || b.Len() != 1 {
		t.Errorf("half a rotation: %d records", b.Len())
	}
	if user, err := open(t, m, token).User(); user != "" || err != nil {
		t.Errorf("the old ID is logged in as %q, %v", user, err)
	}
	check(t, s.Save(ctx)) // and it can be tried again
	if user, err := open(t, m, s.Token().Reveal()).User(); user != "gopher" || err != nil {
		t.Errorf("logged in as %q, %v", user, err)
	}
}

func TestLogin(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"cart": "apple"})
	login := func(token, user string) string {
		s := open(t, m, token)
		check(t, s.Login(user))
		check(t, finish(m, s))
		if s.Token().Reveal() == token {
			t.Error("Login did not rotate")
		}
		s = open(t, m, s.Token().Reveal())
		if got, err := s.User(); got != user || err != nil {
			t.Errorf("user is %q, %v", got, err)
		}
		return s.Token().Reveal()
	}
	token = login(token, "ann")
	wantValue(t, m, token, "cart", "apple") // the visitor's data becomes hers
	token = login(token, "ann")
	wantValue(t, m, token, "cart", "apple")
	token = login(token, "bob")
	s := open(t, m, token)
	if names := s.Names(); len(names) != 0 {
		t.Errorf("bob sees ann's %v", names)
	}
	check(t, s.Clear())
	if user, err := s.User(); user != "bob" || err != nil {
		t.Errorf("after Clear the user is %q, %v", user, err)
	}
	if err := s.Login(""); err == nil {
		t.Error("logged in as nobody")
	}
	wantErr(t, s.Set("_session.user", "root"), session.ErrEncode)
}

func TestMergeKeepsEveryWriter(t *testing.T) {
	const n = 20
	m := newManager(t, &memory.Backend{}, session.Config{})
	token := begin(t, m, map[string]any{"counter": 0})
	// All have read before the first one writes.
	sessions := make([]*session.Session, n)
	for i := range sessions {
		sessions[i] = open(t, m, token)
		check(t, sessions[i].Set(fmt.Sprint("own", i), i))
		check(t, errOf(counter.Update(sessions[i], inc)))
	}
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := finish(m, s); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	for i := range n {
		wantValue(t, m, token, fmt.Sprint("own", i), i)
	}
	wantValue(t, m, token, "counter", n)
}

// TestConflict has two requests that read the same state. The second to save
// conflicts with the first.
func TestConflict(t *testing.T) {
	sum := session.Key[int]{Name: "counter", Resolve: func(base, mine, theirs int) int { return theirs + mine - base }}
	first := func(s *session.Session) error {
		return errors.Join(errOf(counter.Update(s, func(n int) int { return n + 10 })), note.Set(s, "first"), s.Set("added", 1), s.Delete("gone"))
	}
	tests := []struct {
		name   string
		mode   session.Mode
		second func(s *session.Session) error
		want   string // counter, note, added, gone, kept; - for none
	}{
		{"untouched values keep theirs", session.Merge, func(s *session.Session) error { return s.Set("kept", 2) }, "11 first 1 - 2"},
		{"the same value goes to the later writer", session.Merge, func(s *session.Session) error { return note.Set(s, "second") }, "11 second 1 - 1"},
		{"Update is applied again", session.Merge, func(s *session.Session) error { return errOf(counter.Update(s, inc)) }, "12 first 1 - 1"},
		{"two Updates are applied again", session.Merge, func(s *session.Session) error {
			return errors.Join(errOf(counter.Update(s, inc)), errOf(counter.Update(s, func(n int) int { return n * 2 })))
		}, "24 first 1 - 1"},
		{"Update after Set is not", session.Merge, func(s *session.Session) error {
			return errors.Join(counter.Set(s, 5), errOf(counter.Update(s, inc)))
		}, "6 first 1 - 1"},
		{"Resolve decides", session.Merge, func(s *session.Session) error { return sum.Set(s, 4) }, "14 first 1 - 1"},
		{"Update follows Resolve", session.Merge, func(s *session.Session) error {
			return errors.Join(sum.Set(s, 4), errOf(counter.Update(s, func(n int) int { return n * 2 })))
		}, "28 first 1 - 1"},
		{"Delete", session.Merge, func(s *session.Session) error { return s.Delete("note") }, "11 - 1 - 1"},
		{"both delete", session.Merge, func(s *session.Session) error { return s.Delete("gone") }, "11 first 1 - 1"},
		{"Set what the other deleted", session.Merge, func(s *session.Session) error { return s.Set("gone", 3) }, "11 first 1 3 1"},
		{"Clear removes theirs too", session.Merge, func(s *session.Session) error { return errors.Join(s.Clear(), note.Set(s, "only")) }, "- only - - -"},
		{"Update after Clear starts from nothing", session.Merge, func(s *session.Session) error {
			return errors.Join(s.Clear(), errOf(counter.Update(s, inc)))
		}, "1 - - - -"},
		{"LastWrite replaces everything", session.LastWrite, func(s *session.Session) error { return s.Set("kept", 2) }, "1 start - 1 2"},
		{"LastWrite does not apply again", session.LastWrite, func(s *session.Session) error { return errOf(counter.Update(s, inc)) }, "2 start - 1 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b store
			m := newManager(t, &b, session.Config{Mode: tt.mode})
			token := begin(t, m, map[string]any{"counter": 1, "note": "start", "gone": 1, "kept": 1})
			s1, s2 := open(t, m, token), open(t, m, token)
			check(t, first(s1))
			check(t, tt.second(s2))
			check(t, finish(m, s1))
			check(t, finish(m, s2))
			s := open(t, m, token)
			var got []string
			for _, name := range []string{"counter", "note", "added", "gone", "kept"} {
				var v any
				if ok, err := s.Get(name, &v); err != nil {
					t.Fatal(err)
				} else if ok {
					got = append(got, fmt.Sprint(v))
				} else {
					got = append(got, "-")
				}
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("stored %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConflictWithNothingLeftToSave(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	token := begin(t, m, map[string]any{"note": "a"})
	s1, s2 := open(t, m, token), open(t, m, token)
	check(t, note.Set(s1, "b"))
	check(t, note.Set(s2, "b"))
	check(t, finish(m, s1))
	b.took()
	check(t, finish(m, s2))
	b.wantCalls(t, "Save") // which had a conflict, and found its change stored already
}

func TestConflictsAreBounded(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{MaxMerges: 3})
	s := open(t, m, begin(t, m, map[string]any{"note": "a"}))
	check(t, note.Set(s, "b"))
	b.failing("Save", &session.ConflictError{})
	b.took()
	wantErr(t, s.Save(ctx), session.ErrConflict)
	b.wantCalls(t, "Save", "Load", "Save", "Load", "Save", "Load", "Save")

	ctx, cancel := context.WithCancel(ctx)
	b.before = func(_ context.Context, op string) error {
		if op == "Save" {
			cancel()
			return &session.ConflictError{}
		}
		return nil
	}
	err := s.Save(ctx)
	wantErr(t, err, context.Canceled)
	wantErr(t, err, session.ErrConflict)
}

func TestMergeOntoUndecodableWritesNothing(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"counter": 1}))
	check(t, errOf(counter.Update(s, inc)))
	b.failing("Save", &session.ConflictError{Current: &session.Record{Data: []byte("junk"), Created: time.Now(), Expires: time.Now().Add(time.Hour), Version: "x"}})
	b.took()
	wantErr(t, s.Save(ctx), session.ErrDecode)
	b.wantCalls(t, "Save")
}

func TestWhatCannotBeStored(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{MaxSize: 1000})
	token := begin(t, m, map[string]any{"note": "kept"})
	s := open(t, m, token)
	b.took()
	wantErr(t, s.Set("note", make(chan int)), session.ErrEncode)
	wantErr(t, s.Set("note", func() {}), session.ErrEncode)
	wantErr(t, s.Set("", 1), session.ErrEncode)
	wantErr(t, s.Set("\xff", 1), session.ErrEncode)
	wantErr(t, session.Key[int]{}.Set(s, 1), session.ErrEncode)
	wantErr(t, errOf(session.Key[int]{}.Update(s, inc)), session.ErrEncode)
	wantErr(t, errOf(session.Key[int]{}.Get(s)), session.ErrEncode)
	wantErr(t, session.Key[int]{}.Delete(s), session.ErrEncode)
	wantErr(t, session.Key[chan int]{Name: "note"}.Set(s, nil), session.ErrEncode)
	check(t, s.Save(ctx))
	b.wantCalls(t) // nothing changed
	check(t, note.Set(s, strings.Repeat("x", 1000)))
	wantErr(t, finish(m, s), session.ErrTooLarge)
	b.wantCalls(t)
	wantValue(t, m, token, "note", "kept")
}

func TestWhatDoesNotDecode(t *testing.T) {
	var b store
	key := func(token string) string { return "k" + token }
	m := newManager(t, &b, session.Config{StoreKey: key})
	token := begin(t, m, map[string]any{"note": "text", "counter": math.MaxInt64})
	s := open(t, m, token)

	var n int
	ok, err := s.Get("note", &n)
	wantErr(t, err, session.ErrDecode)
	if !ok || n != 0 {
		t.Errorf("got %v, %d", ok, n)
	}
	wantErr(t, errOf(session.Key[int]{Name: "note"}.Update(s, inc)), session.ErrDecode)
	_, err = session.Key[int8]{Name: "counter"}.Get(s)
	wantErr(t, err, session.ErrDecode)
	if strings.Contains(err.Error(), token) {
		t.Error("the error shows the token")
	}
	check(t, finish(m, s))
	wantValue(t, m, token, "note", "text")

	rec, err := b.Backend.Load(ctx, "k"+token)
	check(t, err)
	rec.Data = []byte("not a session")
	_, err = b.Backend.Save(ctx, "k"+token, rec)
	check(t, err)
	b.took()
	_, err = m.Open(ctx, token)
	wantErr(t, err, session.ErrDecode)
	b.wantCalls(t, "Load")
	rec, err = b.Backend.Load(ctx, "k"+token)
	if string(rec.Data) != "not a session" || err != nil {
		t.Errorf("stored is now %q, %v", rec.Data, err)
	}
}

func TestReadOnly(t *testing.T) {
	var b store
	m := newManager(t, &b, session.Config{})
	ro, err := m.With(session.Route{Mode: session.ReadOnly})
	check(t, err)
	s := open(t, ro, begin(t, m, map[string]any{"note": "x"}))
	b.took()
	if v, err := note.Get(s); v != "x" || err != nil {
		t.Errorf("read %q, %v", v, err)
	}
	for what, err := range map[string]error{
		"Set": note.Set(s, "y"), "Update": errOf(counter.Update(s, inc)), "Delete": note.Delete(s), "Clear": s.Clear(),
		"Rotate": s.Rotate(), "Login": s.Login("x"), "Destroy": s.Destroy(ctx),
	} {
		if !errors.Is(err, session.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check(t, finish(ro, s))
	b.wantCalls(t)
}

func TestValuesAreNotShared(t *testing.T) {
	list := session.Key[[]int]{Name: "list"}
	m := newManager(t, &memory.Backend{}, session.Config{})
	s := m.Start()
	v := []int{1, 2}
	check(t, list.Set(s, v))
	v[0] = 9
	got, err := list.Get(s)
	check(t, err)
	got[1] = 9
	again, err := list.Get(s)
	if check(t, err); again[0] != 1 || again[1] != 2 {
		t.Errorf("a stored value changed from outside: %v", again)
	}
}

func TestSessionIsSafeForConcurrentUse(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	s := open(t, m, begin(t, m, map[string]any{"counter": 0}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				_, _ = counter.Update(s, inc)
				_, _ = counter.Get(s)
				_ = s.Set(fmt.Sprint(i), i)
				s.Names()
				_ = s.Save(ctx)
			}
		}()
	}
	wg.Wait()
	check(t, finish(m, s))
	wantValue(t, m, s.Token().Reveal(), "counter", 160)
}
