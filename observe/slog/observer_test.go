package sessionslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionslog "github.com/seed-a7bee19b/session/observe/slog"
)

var (
	ctx      = context.Background()
	errStore = errors.New("store is down")
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newLogObserver(t testing.TB, w io.Writer, level slog.Level, cfg sessionslog.Config) *sessionslog.Observer {
	t.Helper()
	o, err := sessionslog.New(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), cfg)
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

func TestConfigIsChecked(t *testing.T) {
	l := slog.New(slog.DiscardHandler)
	tests := []struct {
		name string
		log  *slog.Logger
		cfg  sessionslog.Config
		want string // in the error; "": none
	}{
		{"zero", l, sessionslog.Config{}, ""},
		{"never slow", l, sessionslog.Config{Slow: session.Never}, ""},
		{"levels", l, sessionslog.Config{Levels: map[observe.EventKind]slog.Level{observe.EventLockLost: slog.LevelWarn}}, ""},
		{"no logger", nil, sessionslog.Config{}, "Logger"},
		{"negative", l, sessionslog.Config{Slow: -2}, "Slow"},
		{"unknown event", l, sessionslog.Config{Levels: map[observe.EventKind]slog.Level{99: slog.LevelWarn}}, "EventKind 99"},
		{"no event", l, sessionslog.Config{Levels: map[observe.EventKind]slog.Level{0: slog.LevelWarn}}, "EventKind 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := sessionslog.New(tt.log, tt.cfg)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || (o == nil) != (err != nil) {
				t.Errorf("got %v, %v", o, err)
			}
		})
	}
}

// kinds are all kinds of events.
func kinds() []observe.EventKind {
	var all []observe.EventKind
	for k := observe.EventKind(1); !strings.HasPrefix(k.String(), "EventKind("); k++ {
		all = append(all, k)
	}
	return all
}

func TestEventsAreLogged(t *testing.T) {
	gone := &session.ConflictError{Gone: true}
	noLock := fmt.Errorf("%w: %w", session.ErrLockTimeout, session.ErrLocked)
	tests := []struct {
		event observe.Event
		want  string
	}{
		{observe.Event{Kind: observe.EventTokenMalformed}, "INFO"},
		{observe.Event{Kind: observe.EventTokenDuplicate, N: 2}, "INFO"},
		{observe.Event{Kind: observe.EventSessionsRevoked, N: 2}, "DEBUG"},
		{observe.Event{Kind: observe.EventTokenUnknown}, "DEBUG"},
		{observe.Event{Kind: observe.EventTokenMoved}, "DEBUG"},
		{observe.Event{Kind: observe.EventSessionExpired}, "DEBUG"},
		{observe.Event{Kind: observe.EventUndecodable, Err: session.ErrDecode}, "ERROR"},
		{observe.Event{Kind: observe.EventSessionCreated, N: 5}, "DEBUG"},
		{observe.Event{Kind: observe.EventSessionSaved, N: 5}, "DEBUG"},
		{observe.Event{Kind: observe.EventSessionRotated, N: 5}, "DEBUG"},
		{observe.Event{Kind: observe.EventSessionDestroyed}, "DEBUG"},
		{observe.Event{Kind: observe.EventMerged, N: 2}, "DEBUG"},
		{observe.Event{Kind: observe.EventTouchSkipped}, "DEBUG"},
		{observe.Event{Kind: observe.EventTouchFailed, Err: errStore}, "WARN"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: errStore}, "ERROR"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: session.ErrTooLarge}, "ERROR"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: context.DeadlineExceeded}, "ERROR"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: gone}, "INFO"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: fmt.Errorf("the client is gone: %w", context.Canceled)}, "INFO"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: session.ErrConflict}, "WARN"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: noLock}, "WARN"},
		{observe.Event{Kind: observe.EventCommitFailed, Err: fmt.Errorf("%w: %w", session.ErrLockLost, gone)}, "WARN"},
		{observe.Event{Kind: observe.EventLateFailed, Err: gone}, "WARN"},
		{observe.Event{Kind: observe.EventLateFailed, Err: errStore}, "ERROR"},
		{observe.Event{Kind: observe.EventLockAcquired, Wait: time.Second}, "DEBUG"},
		{observe.Event{Kind: observe.EventLockAcquired, Wait: time.Second + 1}, "WARN"},
		{observe.Event{Kind: observe.EventLockFailed, Err: noLock, Wait: time.Minute}, "WARN"},
		{observe.Event{Kind: observe.EventLockFailed, Err: errStore}, "WARN"},
		{observe.Event{Kind: observe.EventLockFailed, Err: session.ErrNotFound}, "DEBUG"},
		{observe.Event{Kind: observe.EventLockLost, Err: session.ErrLockLost}, "ERROR"},
		{observe.Event{Kind: observe.EventTokenRenewed}, "DEBUG"},
		{observe.Event{Kind: observe.EventRenewFailed, Err: errStore}, "WARN"},
		{observe.Event{Kind: observe.EventLoginJoined}, "DEBUG"},
		{observe.Event{Kind: 99, N: 3}, "DEBUG"}, // of a later version
	}
	seen := map[observe.EventKind]bool{}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.event.Kind, " ", tt.event.Err), func(t *testing.T) {
			var b bytes.Buffer
			o := newLogObserver(t, &b, slog.LevelDebug, sessionslog.Config{})
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

			o = newLogObserver(t, &b, slog.LevelDebug, sessionslog.Config{Slow: session.Never,
				Levels: map[observe.EventKind]slog.Level{observe.EventLockAcquired: slog.LevelInfo}})
			o.Event(ctx, observe.Event{Kind: observe.EventLockAcquired, Wait: time.Hour})
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
		op   observe.Op
		err  error
		cfg  sessionslog.Config
		want string // level and message; "": nothing
	}{
		{"success", observe.OpLoad, nil, sessionslog.Config{}, ""},
		{"every call", observe.OpLoad, nil, sessionslog.Config{Calls: true}, "DEBUG session: store call"},
		{"absent", observe.OpLoad, session.ErrNotFound, sessionslog.Config{}, ""},
		{"conflict", observe.OpSave, &session.ConflictError{}, sessionslog.Config{Calls: true}, "DEBUG session: store call"},
		{"locked", observe.OpAcquire, &session.LockedError{}, sessionslog.Config{}, ""},
		{"caller gone", observe.OpLoad, fmt.Errorf("load: %w", context.Canceled), sessionslog.Config{}, ""},
		{"too late", observe.OpLoad, context.DeadlineExceeded, sessionslog.Config{}, "ERROR session: store call failed"},
		{"failure", observe.OpSave, errStore, sessionslog.Config{}, "ERROR session: store call failed"},
		{"slow", observe.OpSave, nil, sessionslog.Config{Slow: 1}, "WARN session: store call was slow"},
		{"slow failure", observe.OpSave, errStore, sessionslog.Config{Slow: 1}, "ERROR session: store call failed"},
		{"sweeping", observe.OpSweep, nil, sessionslog.Config{Slow: 1}, ""},
		{"never slow", observe.OpSave, nil, sessionslog.Config{Slow: session.Never}, ""},
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
		request observe.Request
		cfg     sessionslog.Config
		want    string
	}{
		{"success", observe.Request{Duration: time.Second}, sessionslog.Config{}, ""},
		{"every request", observe.Request{}, sessionslog.Config{Calls: true}, "DEBUG session: store request"},
		{"refused", observe.Request{Err: errStore, Refused: true}, sessionslog.Config{}, ""},
		{"caller gone", observe.Request{Err: context.Canceled}, sessionslog.Config{}, ""},
		{"failure", observe.Request{Err: errStore}, sessionslog.Config{}, "WARN session: store request failed"},
		{"slow", observe.Request{Duration: time.Second + 1}, sessionslog.Config{}, "WARN session: store request was slow"},
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

// TestWhatIsNotLoggedCostsNothing checks that levels that the logger discards
// cost nothing.
func TestWhatIsNotLoggedCostsNothing(t *testing.T) {
	off := newLogObserver(t, io.Discard, slog.LevelError+1, sessionslog.Config{Calls: true})
	info := newLogObserver(t, io.Discard, slog.LevelInfo, sessionslog.Config{Calls: true})
	tests := []struct {
		name string
		most float64
		f    func()
	}{
		{"call", 0, func() {
			if _, done := off.Call(ctx, observe.OpLoad); done != nil {
				t.Error("wants to know the outcome")
			}
		}},
		{"call that may fail", 1, func() { _, done := info.Call(ctx, observe.OpLoad); done(nil) }},
		{"event", 0, func() { info.Event(ctx, observe.Event{Kind: observe.EventSessionSaved, N: 100}) }},
		{"failure", 0, func() { off.Event(ctx, observe.Event{Kind: observe.EventLockLost, Err: errStore}) }},
		{"request", 0, func() { info.Request(ctx, observe.Request{Name: "GetItem", ReadUnits: 1}) }},
		{"failed request", 0, func() { off.Request(ctx, observe.Request{Name: "GetItem", Err: errStore}) }},
		{"none to tell", 0, func() { observe.Observers{off, nil, off}.Call(ctx, observe.OpLoad) }},
	}
	for _, tt := range tests {
		if got := testing.AllocsPerRun(100, tt.f); got > tt.most {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.most)
		}
	}
}

// BenchmarkObserver measures the calls for a request that reads and saves.
func BenchmarkObserver(b *testing.B) {
	for _, tt := range []struct {
		name  string
		level slog.Level
		cfg   sessionslog.Config
	}{
		{"off", slog.LevelError + 1, sessionslog.Config{}},
		{"info", slog.LevelInfo, sessionslog.Config{}},
		{"debug", slog.LevelDebug, sessionslog.Config{Calls: true}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			o := newLogObserver(b, io.Discard, tt.level, tt.cfg)
			b.ReportAllocs()
			for b.Loop() {
				for _, op := range []observe.Op{observe.OpLoad, observe.OpSave} {
					if _, done := o.Call(ctx, op); done != nil {
						done(nil)
					}
				}
				o.Event(ctx, observe.Event{Kind: observe.EventSessionSaved, N: 700})
			}
		})
	}
}

// A log of failures, and at level Debug of everything.
func ExampleNew() {
	// Only for this example: attributes that differ from run to run are left
	// out.
	options := &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" {
			return slog.Attr{}
		}
		return a
	}}
	observer, err := sessionslog.New(slog.New(slog.NewTextHandler(os.Stdout, options)), sessionslog.Config{
		Calls:  true,
		Levels: map[observe.EventKind]slog.Level{observe.EventSessionDestroyed: slog.LevelInfo},
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
	_ = s.Save(ctx)
	_, _ = manager.Open(ctx, "not-a-token")
	_ = s.Destroy(ctx)
	// Output:
	// level=DEBUG msg="session: store call" op=Save
	// level=DEBUG msg="session: created" event=SessionCreated bytes=4
	// level=INFO msg="session: the token of a request is malformed" event=TokenMalformed
	// level=DEBUG msg="session: store call" op=Delete
	// level=INFO msg="session: destroyed" event=SessionDestroyed
}
