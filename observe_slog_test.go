package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func newLogObserver(t testing.TB, w io.Writer, level slog.Level, cfg session.LogConfig) *session.LogObserver {
	t.Helper()
	o, err := session.NewLogObserver(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), cfg)
	check(t, err)
	return o
}

// logged is one line of a log.
type logged struct {
	Level, Msg, Event, Error, Op, Name, Table string
	Bytes, Conflicts, Wait, Duration          int64
	ReadUnits                                 float64 `json:"read_units"`
}

func lines(t testing.TB, b *bytes.Buffer) []logged {
	t.Helper()
	var all []logged
	for d := json.NewDecoder(b); ; {
		var l logged
		err := d.Decode(&l)
		if err == io.EOF {
			return all
		}
		check(t, err)
		all = append(all, l)
	}
}

func TestLogConfigIsChecked(t *testing.T) {
	l := slog.New(slog.DiscardHandler)
	tests := []struct {
		name string
		log  *slog.Logger
		cfg  session.LogConfig
		want string // in the error; "": none
	}{
		{"zero", l, session.LogConfig{}, ""},
		{"never slow", l, session.LogConfig{Slow: session.Never}, ""},
		{"levels", l, session.LogConfig{Levels: map[session.EventKind]slog.Level{session.LockLost: slog.LevelWarn}}, ""},
		{"no logger", nil, session.LogConfig{}, "Logger"},
		{"negative", l, session.LogConfig{Slow: -2}, "Slow"},
		{"unknown event", l, session.LogConfig{Levels: map[session.EventKind]slog.Level{99: slog.LevelWarn}}, "EventKind 99"},
		{"no event", l, session.LogConfig{Levels: map[session.EventKind]slog.Level{0: slog.LevelWarn}}, "EventKind 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := session.NewLogObserver(tt.log, tt.cfg)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || (o == nil) != (err != nil) {
				t.Errorf("got %v, %v", o, err)
			}
		})
	}
}

// kinds are all kinds of events.
func kinds() []session.EventKind {
	var all []session.EventKind
	for k := session.EventKind(1); !strings.HasPrefix(k.String(), "EventKind("); k++ {
		all = append(all, k)
	}
	return all
}

func TestEventsAreLogged(t *testing.T) {
	gone := &session.ConflictError{Gone: true}
	noLock := fmt.Errorf("%w: %w", session.ErrLockTimeout, session.ErrLocked)
	tests := []struct {
		event session.Event
		want  string
	}{
		{session.Event{Kind: session.TokenMalformed}, "INFO"},
		{session.Event{Kind: session.TokenDuplicate, N: 2}, "INFO"},
		{session.Event{Kind: session.TokenUnknown}, "DEBUG"},
		{session.Event{Kind: session.TokenMoved}, "DEBUG"},
		{session.Event{Kind: session.SessionExpired}, "DEBUG"},
		{session.Event{Kind: session.Undecodable, Err: session.ErrDecode}, "ERROR"},
		{session.Event{Kind: session.SessionCreated, N: 5}, "DEBUG"},
		{session.Event{Kind: session.SessionSaved, N: 5}, "DEBUG"},
		{session.Event{Kind: session.SessionRotated, N: 5}, "DEBUG"},
		{session.Event{Kind: session.SessionDestroyed}, "DEBUG"},
		{session.Event{Kind: session.Merged, N: 2}, "DEBUG"},
		{session.Event{Kind: session.TouchSaved}, "DEBUG"},
		{session.Event{Kind: session.TouchFailed, Err: errStore}, "WARN"},
		{session.Event{Kind: session.CommitFailed, Err: errStore}, "ERROR"},
		{session.Event{Kind: session.CommitFailed, Err: session.ErrTooLarge}, "ERROR"},
		{session.Event{Kind: session.CommitFailed, Err: context.DeadlineExceeded}, "ERROR"},
		{session.Event{Kind: session.CommitFailed, Err: gone}, "INFO"},
		{session.Event{Kind: session.CommitFailed, Err: fmt.Errorf("the client is gone: %w", context.Canceled)}, "INFO"},
		{session.Event{Kind: session.CommitFailed, Err: session.ErrConflict}, "WARN"},
		{session.Event{Kind: session.CommitFailed, Err: noLock}, "WARN"},
		{session.Event{Kind: session.CommitFailed, Err: fmt.Errorf("%w: %w", session.ErrLockLost, gone)}, "WARN"},
		{session.Event{Kind: session.LateFailed, Err: gone}, "WARN"},
		{session.Event{Kind: session.LateFailed, Err: errStore}, "ERROR"},
		{session.Event{Kind: session.LockAcquired, Wait: time.Second}, "DEBUG"},
		{session.Event{Kind: session.LockAcquired, Wait: time.Second + 1}, "WARN"},
		{session.Event{Kind: session.LockFailed, Err: noLock, Wait: time.Minute}, "WARN"},
		{session.Event{Kind: session.LockFailed, Err: errStore}, "WARN"},
		{session.Event{Kind: session.LockFailed, Err: session.ErrNotFound}, "DEBUG"},
		{session.Event{Kind: session.LockLost, Err: session.ErrLockLost}, "ERROR"},
		{session.Event{Kind: 99, N: 3}, "DEBUG"}, // of a later version
	}
	seen := map[session.EventKind]bool{}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.event.Kind, " ", tt.event.Err), func(t *testing.T) {
			var b bytes.Buffer
			o := newLogObserver(t, &b, slog.LevelDebug, session.LogConfig{})
			o.Event(ctx, tt.event)
			got := lines(t, &b)
			if len(got) != 1 {
				t.Fatalf("%d lines", len(got))
			}
			l := got[0]
			if l.Level != tt.want || l.Event != tt.event.Kind.String() || !strings.HasPrefix(l.Msg, "session: ") {
				t.Errorf("got %+v", l)
			}
			if tt.event.Err != nil && l.Error != tt.event.Err.Error() || l.Wait != int64(tt.event.Wait) {
				t.Errorf("got %+v", l)
			}
			seen[tt.event.Kind] = true

			o = newLogObserver(t, &b, slog.LevelDebug, session.LogConfig{Slow: session.Never,
				Levels: map[session.EventKind]slog.Level{session.LockAcquired: slog.LevelInfo}})
			o.Event(ctx, session.Event{Kind: session.LockAcquired, Wait: time.Hour})
			if got := lines(t, &b); len(got) != 1 || got[0].Level != "INFO" {
				t.Errorf("got %+v", got)
			}
		})
	}
	for _, k := range kinds() {
		if !seen[k] {
			t.Errorf("%v is not tested", k)
		}
	}
}

func TestCallsAreLogged(t *testing.T) {
	tests := []struct {
		name string
		op   session.Op
		err  error
		cfg  session.LogConfig
		want string // level and message; "": nothing
	}{
		{"success", session.OpLoad, nil, session.LogConfig{}, ""},
		{"every call", session.OpLoad, nil, session.LogConfig{Calls: true}, "DEBUG session: store call"},
		{"absent", session.OpLoad, session.ErrNotFound, session.LogConfig{}, ""},
		{"conflict", session.OpSave, &session.ConflictError{}, session.LogConfig{Calls: true}, "DEBUG session: store call"},
		{"locked", session.OpAcquire, &session.LockedError{}, session.LogConfig{}, ""},
		{"caller gone", session.OpLoad, fmt.Errorf("load: %w", context.Canceled), session.LogConfig{}, ""},
		{"too late", session.OpLoad, context.DeadlineExceeded, session.LogConfig{}, "ERROR session: store call failed"},
		{"failure", session.OpSave, errStore, session.LogConfig{}, "ERROR session: store call failed"},
		{"slow", session.OpSave, nil, session.LogConfig{Slow: 1}, "WARN session: store call was slow"},
		{"slow failure", session.OpSave, errStore, session.LogConfig{Slow: 1}, "ERROR session: store call failed"},
		{"sweeping", session.OpSweep, nil, session.LogConfig{Slow: 1}, ""},
		{"never slow", session.OpSave, nil, session.LogConfig{Slow: session.Never}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			o := newLogObserver(t, &b, slog.LevelDebug, tt.cfg)
			_, done := o.Call(ctx, tt.op)
			time.Sleep(time.Microsecond) // longer than the 1 ns of slow
			done(tt.err)
			got := lines(t, &b)
			switch {
			case tt.want == "" && len(got) == 0:
			case len(got) != 1 || got[0].Level+" "+got[0].Msg != tt.want || got[0].Op != tt.op.String() || got[0].Duration <= 0:
				t.Errorf("got %+v, want %q", got, tt.want)
			case tt.err != nil && got[0].Error != tt.err.Error():
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestRequestsAreLogged(t *testing.T) {
	tests := []struct {
		name    string
		request session.Request
		cfg     session.LogConfig
		want    string
	}{
		{"success", session.Request{Duration: time.Second}, session.LogConfig{}, ""},
		{"every request", session.Request{}, session.LogConfig{Calls: true}, "DEBUG session: store request"},
		{"refused", session.Request{Err: errStore, Refused: true}, session.LogConfig{}, ""},
		{"caller gone", session.Request{Err: context.Canceled}, session.LogConfig{}, ""},
		{"failure", session.Request{Err: errStore}, session.LogConfig{}, "WARN session: store request failed"},
		{"slow", session.Request{Duration: time.Second + 1}, session.LogConfig{}, "WARN session: store request was slow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			o := newLogObserver(t, &b, slog.LevelDebug, tt.cfg)
			r := tt.request
			r.Name, r.Table, r.Attempt, r.ReadUnits = "GetItem", "sessions", 1, 0.5
			o.Request(ctx, r)
			got := lines(t, &b)
			switch {
			case tt.want == "" && len(got) == 0:
			case len(got) != 1 || got[0].Level+" "+got[0].Msg != tt.want || got[0].Name != "GetItem" || got[0].Table != "sessions" ||
				got[0].ReadUnits != 0.5 || got[0].Duration != int64(r.Duration):
				t.Errorf("got %+v, want %q", got, tt.want)
			}
		})
	}
}

// TestLogHasNoSecrets logs all there is of a workload with failures in it, and
// looks for what must not be there.
func TestLogHasNoSecrets(t *testing.T) {
	var b bytes.Buffer
	o := newLogObserver(t, &b, slog.LevelDebug, session.LogConfig{Calls: true})
	var keys, secrets []string
	var s store
	m := newManager(t, &s, session.Config{
		Observer: o,
		StoreKey: func(token string) string {
			keys = append(keys, "key-of-"+token[:8])
			return keys[len(keys)-1]
		},
	})
	login := func(_ http.ResponseWriter, _ *http.Request, s *session.Session) {
		secrets = append(secrets, s.ID().Token())
		check(t, note.Set(s, "what-is-in-it"))
		check(t, s.Login("the-user"))
	}
	token := begin(t, m, map[string]any{"note": "what-was-in-it"})
	secrets = append(secrets, token)
	first, second := open(t, m, token), open(t, m, token)
	check(t, note.Set(first, "what-is-in-it"))
	check(t, counter.Update(second, inc))
	check(t, errors.Join(m.Save(ctx, first), m.Save(ctx, second)))
	w := serve(t, m, token, login)
	moved := w.Result().Cookies()[0].Value
	secrets = append(secrets, moved)
	serve(t, m, strings.Repeat("A", 32), login)
	serve(t, m, "not-a-token", login)
	for _, op := range []string{"Save", "End"} {
		s.failing(op, fmt.Errorf("%s: %w", op, errStore))
		serve(t, m, moved, func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			check(t, note.Set(s, op))
			if op == "End" {
				wantErr(t, m.Destroy(r.Context(), s), errStore)
			}
		})
	}
	s.failing("Load", errStore)
	_, err := m.Open(ctx, moved)
	wantErr(t, err, errStore)
	s.healthy()
	check(t, m.Destroy(ctx, open(t, m, moved)))

	text := b.String()
	for _, secret := range slices.Concat(keys, secrets, []string{"not-a-token", "what-is", "what-was", "the-user", "key-of"}) {
		if secret != "" && strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
	got := lines(t, &b)
	for _, want := range []string{
		"SessionCreated", "SessionSaved", "Merged", "SessionRotated", "TokenUnknown", "TokenMalformed", "CommitFailed", "SessionDestroyed",
	} {
		if !slices.ContainsFunc(got, func(l logged) bool { return l.Event == want }) {
			t.Errorf("no %s in the log:\n%s", want, text)
		}
	}
}

// TestWhatIsNotLoggedCostsNothing: a logger that does not take it must not be
// paid for.
func TestWhatIsNotLoggedCostsNothing(t *testing.T) {
	off := newLogObserver(t, io.Discard, slog.LevelError+1, session.LogConfig{Calls: true})
	info := newLogObserver(t, io.Discard, slog.LevelInfo, session.LogConfig{Calls: true})
	tests := []struct {
		name string
		most float64
		f    func()
	}{
		{"call", 0, func() {
			if _, done := off.Call(ctx, session.OpLoad); done != nil {
				t.Error("wants to know the outcome")
			}
		}},
		{"call that may fail", 1, func() { _, done := info.Call(ctx, session.OpLoad); done(nil) }},
		{"event", 0, func() { info.Event(ctx, session.Event{Kind: session.SessionSaved, N: 100}) }},
		{"failure", 0, func() { off.Event(ctx, session.Event{Kind: session.LockLost, Err: errStore}) }},
		{"request", 0, func() { info.Request(ctx, session.Request{Name: "GetItem", ReadUnits: 1}) }},
		{"failed request", 0, func() { off.Request(ctx, session.Request{Name: "GetItem", Err: errStore}) }},
		{"none to tell", 0, func() { session.Observers{off, nil, off}.Call(ctx, session.OpLoad) }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

type ctxKey struct{}

// tracer notes the calls of an observer, and what came in its context.
type tracer struct {
	name string
	log  *[]string
}

func (o tracer) note(ctx context.Context, what ...any) {
	*o.log = append(*o.log, fmt.Sprint(o.name, " in ", ctx.Value(ctxKey{}), ": ", fmt.Sprint(what...)))
}

func (o tracer) Call(ctx context.Context, op session.Op) (context.Context, func(error)) {
	o.note(ctx, op)
	return context.WithValue(ctx, ctxKey{}, o.name), func(err error) { o.note(ctx, "done ", err) }
}

func (o tracer) Event(ctx context.Context, e session.Event) { o.note(ctx, e.Kind) }

func (o tracer) Request(ctx context.Context, r session.Request) { o.note(ctx, r.Name) }

// silent is an Observer that does not care for outcomes or requests.
type silent struct{}

func (silent) Call(ctx context.Context, _ session.Op) (context.Context, func(error)) { return ctx, nil }
func (silent) Event(context.Context, session.Event)                                  {}

func TestObservers(t *testing.T) {
	var got []string
	o := session.Observers{tracer{"a", &got}, silent{}, nil, tracer{"b", &got}}
	ctx, done := o.Call(ctx, session.OpSave)
	done(errStore)
	o.Event(ctx, session.Event{Kind: session.Merged})
	o.Request(ctx, session.Request{Name: "UpdateItem"})
	want := []string{
		"a in <nil>: Save", "b in a: Save", "b in a: done store is down", "a in <nil>: done store is down",
		"a in b: Merged", "b in b: Merged", "a in b: UpdateItem", "b in b: UpdateItem",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	one := session.Observers{silent{}, tracer{"c", new([]string)}}
	if _, done := one.Call(ctx, session.OpLoad); done == nil {
		t.Error("the outcome is lost")
	}
}

// BenchmarkLogObserver is what a request that reads and saves tells it.
func BenchmarkLogObserver(b *testing.B) {
	for _, tt := range []struct {
		name  string
		level slog.Level
		cfg   session.LogConfig
	}{
		{"off", slog.LevelError + 1, session.LogConfig{}},
		{"info", slog.LevelInfo, session.LogConfig{}},
		{"debug", slog.LevelDebug, session.LogConfig{Calls: true}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			o := newLogObserver(b, io.Discard, tt.level, tt.cfg)
			b.ReportAllocs()
			for b.Loop() {
				for _, op := range []session.Op{session.OpLoad, session.OpSave} {
					if _, done := o.Call(ctx, op); done != nil {
						done(nil)
					}
				}
				o.Event(ctx, session.Event{Kind: session.SessionSaved, N: 700})
			}
		})
	}
}

// A log of what went wrong, and at level Debug of all there is.
func ExampleNewLogObserver() {
	// Only for the sake of an example: what differs from run to run is left out.
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" {
			return slog.Attr{}
		}
		return a
	}}
	observer, err := session.NewLogObserver(slog.New(slog.NewTextHandler(os.Stdout, options)), session.LogConfig{
		Calls:  true,
		Levels: map[session.EventKind]slog.Level{session.SessionDestroyed: slog.LevelInfo},
	})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(&memory.Backend{}, session.Config{Observer: observer})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	s := manager.Start()
	_ = s.Set("x", 1)
	_ = manager.Save(ctx, s)
	_, _ = manager.Open(ctx, "not-a-token")
	_ = manager.Destroy(ctx, s)
	// Output:
	// level=DEBUG msg="session: store call" op=Save
	// level=DEBUG msg="session: created" event=SessionCreated bytes=4
	// level=INFO msg="session: the token of a request is malformed" event=TokenMalformed
	// level=DEBUG msg="session: store call" op=Delete
	// level=INFO msg="session: destroyed" event=SessionDestroyed
}

// Observers tells several: here one that logs, and one of the program's own.
func ExampleObservers() {
	logs, err := session.NewLogObserver(slog.Default(), session.LogConfig{Slow: 200 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := session.New(&memory.Backend{}, session.Config{
		Observer: session.Observers{printer{}, logs},
	})
	if err != nil {
		log.Fatal(err)
	}
	s := manager.Start()
	_ = s.Set("x", 1)
	_ = manager.Save(context.Background(), s)
	// Output:
	// Save <nil>
	// SessionCreated
}
