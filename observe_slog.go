package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// LogConfig configures a [LogObserver]. The zero value is a good default.
type LogConfig struct {
	// Slow is how long a call of the store, one of its requests, or the wait
	// for a lock may take before it is logged at level Warn. Default 1 second;
	// [Never] turns that off. A Sweep is never slow.
	Slow time.Duration

	// Calls logs every call of the store and every request at level Debug, and
	// not only those that failed or were slow. Default off.
	Calls bool

	// Levels replaces the level of the events that are in it, whatever their
	// cause: SessionRotated and SessionDestroyed at Info make a trail of who
	// came and went. See [LogObserver] for the defaults.
	Levels map[EventKind]slog.Level
}

// LogObserver is an [Observer] that writes to a log. What it writes has the
// names of operations, sizes, durations and the texts of errors: no ID, no key
// and nothing of what is in a session. The text of an error is quoted if it has
// line ends, or anything else that is not printed.
//
//   - Error: a call of the store failed, other than with [ErrNotFound],
//     [ErrConflict] or [ErrLocked] or because the caller was gone; Undecodable;
//     LockLost; CommitFailed and LateFailed because of the store, the codec or
//     the code.
//   - Warn: a request failed that may be sent again; a call or a lock was slow;
//     TouchFailed; CommitFailed because of a lock or too many conflicts;
//     LateFailed, whatever the cause; LockFailed.
//   - Info: TokenMalformed; TokenDuplicate; CommitFailed as the session ended during the
//     request, or the client was gone.
//   - Debug: everything else.
//
// What the logger does not take costs no allocation; a call has one, to know
// how it ends, unless the logger does not take errors either.
type LogObserver struct {
	log *slog.Logger
	cfg LogConfig
}

// NewLogObserver returns a [LogObserver] that writes to l.
func NewLogObserver(l *slog.Logger, cfg LogConfig) (*LogObserver, error) {
	switch {
	case l == nil:
		return nil, errors.New("session: NewLogObserver needs a Logger")
	case cfg.Slow < 0 && cfg.Slow != Never:
		return nil, fmt.Errorf("session: LogConfig.Slow is %v; it must not be negative, other than Never", cfg.Slow)
	case cfg.Slow == 0:
		cfg.Slow = time.Second
	}
	for kind := range cfg.Levels {
		if !kind.known() {
			return nil, fmt.Errorf("session: LogConfig.Levels has an unknown EventKind %d", int(kind))
		}
	}
	cfg.Levels = maps.Clone(cfg.Levels)
	return &LogObserver{log: l, cfg: cfg}, nil
}

// Call implements [Observer].
func (o *LogObserver) Call(ctx context.Context, op Op) (_ context.Context, done func(error)) {
	if !o.log.Enabled(ctx, slog.LevelError) { // nor is any other
		return ctx, nil
	}
	began := time.Now()
	return ctx, func(err error) {
		took := time.Since(began)
		failed := err != nil && !isAny(err, ErrNotFound, ErrConflict, ErrLocked, context.Canceled)
		level, text := o.judge(failed, slog.LevelError, op != OpSweep && o.slow(took), &callTexts)
		if text == "" || !o.log.Enabled(ctx, level) {
			return
		}
		attrs := make([]slog.Attr, 0, 3)
		attrs = append(attrs, slog.String("op", op.String()), slog.Duration("duration", took))
		o.log.LogAttrs(ctx, level, text, withError(attrs, err)...)
	}
}

// Request logs a request of the backend. It is for Configs that take a
// function for them, such as that of the DynamoDB backend.
func (o *LogObserver) Request(ctx context.Context, r Request) {
	failed := r.Err != nil && !r.Refused && !errors.Is(r.Err, context.Canceled)
	level, text := o.judge(failed, slog.LevelWarn, o.slow(r.Duration), &requestTexts)
	if text == "" || !o.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 7)
	attrs = append(attrs, slog.String("name", r.Name), slog.Int("attempt", r.Attempt), slog.Duration("duration", r.Duration))
	if r.Table != "" {
		attrs = append(attrs, slog.String("table", r.Table))
	}
	if r.ReadUnits != 0 {
		attrs = append(attrs, slog.Float64("read_units", r.ReadUnits))
	}
	if r.WriteUnits != 0 {
		attrs = append(attrs, slog.Float64("write_units", r.WriteUnits))
	}
	o.log.LogAttrs(ctx, level, text, withError(attrs, r.Err)...)
}

func (o *LogObserver) slow(d time.Duration) bool { return o.cfg.Slow != Never && d > o.cfg.Slow }

// callTexts and requestTexts are for what failed, was slow, and was neither.
var (
	callTexts    = [...]string{"session: store call failed", "session: store call was slow", "session: store call"}
	requestTexts = [...]string{"session: store request failed", "session: store request was slow", "session: store request"}
)

// judge returns how to log a call or a request; no text: not at all.
func (o *LogObserver) judge(failed bool, failure slog.Level, slow bool, texts *[3]string) (slog.Level, string) {
	switch {
	case failed:
		return failure, texts[0]
	case slow:
		return slog.LevelWarn, texts[1]
	case o.cfg.Calls:
		return slog.LevelDebug, texts[2]
	}
	return 0, ""
}

// eventTexts has what is logged for each kind, and what its N is called.
var eventTexts = [...]struct{ text, n string }{
	TokenMalformed:   {"session: the token of a request is malformed", ""},
	TokenUnknown:     {"session: a token has no session", ""},
	TokenMoved:       {"session: a token's session got a new ID a moment ago", ""},
	SessionExpired:   {"session: expired", ""},
	Undecodable:      {"session: what is stored does not decode", ""},
	SessionCreated:   {"session: created", "bytes"},
	SessionSaved:     {"session: saved", "bytes"},
	SessionRotated:   {"session: got a new ID", "bytes"},
	SessionDestroyed: {"session: destroyed", ""},
	Merged:           {"session: merged", "conflicts"},
	TouchSaved:       {"session: its deadline need not be moved yet", ""},
	TouchFailed:      {"session: its deadline could not be moved", ""},
	CommitFailed:     {"session: could not be saved, and the client got an error", ""},
	LateFailed:       {"session: what changed after the response had started is not saved", ""},
	LockAcquired:     {"session: locked", ""},
	LockFailed:       {"session: no lock", ""},
	LockLost:         {"session: lost its lock", ""},
	TokenDuplicate:   {"session: a request has several tokens", "tokens"},
}

func (k EventKind) known() bool { return k > 0 && int(k) < len(eventTexts) }

// Event implements [Observer].
func (o *LogObserver) Event(ctx context.Context, e Event) {
	level, ok := o.cfg.Levels[e.Kind]
	if !ok {
		level = o.level(e)
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 4)
	attrs = append(attrs, slog.String("event", e.Kind.String()))
	text := "session: " + e.Kind.String()
	if e.Kind.known() {
		t := eventTexts[e.Kind]
		text = t.text
		if t.n != "" {
			attrs = append(attrs, slog.Int(t.n, e.N))
		}
	}
	if e.Kind == LockAcquired || e.Kind == LockFailed {
		attrs = append(attrs, slog.Duration("wait", e.Wait))
	}
	o.log.LogAttrs(ctx, level, text, withError(attrs, e.Err)...)
}

func (o *LogObserver) level(e Event) slog.Level {
	switch e.Kind {
	case TokenMalformed, TokenDuplicate:
		return slog.LevelInfo
	case TouchFailed:
		return slog.LevelWarn
	case Undecodable, LockLost:
		return slog.LevelError
	case CommitFailed:
		return failureLevel(e.Err)
	case LateFailed: // the client believes that it is saved
		return max(slog.LevelWarn, failureLevel(e.Err))
	case LockFailed:
		if isAny(e.Err, ErrNotFound, context.Canceled) { // there is nothing to lock, or nobody to lock it for
			return slog.LevelDebug
		}
		return slog.LevelWarn // if the store failed, its call says so
	case LockAcquired:
		if o.slow(e.Wait) {
			return slog.LevelWarn
		}
	}
	return slog.LevelDebug
}

// failureLevel is the level of an error that a request ended with.
func failureLevel(err error) slog.Level {
	switch {
	case isAny(err, ErrLockTimeout, ErrLockLost): // whatever came of it
		return slog.LevelWarn
	case isAny(err, ErrNotFound, context.Canceled):
		return slog.LevelInfo
	case isAny(err, ErrConflict, ErrLocked):
		return slog.LevelWarn
	}
	return slog.LevelError
}

// withError adds the text of err. Not err itself: a handler of the log may
// print all that is in a value, and errors can hold records.
func withError(attrs []slog.Attr, err error) []slog.Attr {
	if err == nil {
		return attrs
	}
	return append(attrs, slog.String("error", printable(err.Error())))
}

// printable returns s, quoted if it has what a log must not take from others:
// line ends, and whatever changes how the rest is shown.
func printable(s string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if utf8.ValidString(s) && !strings.ContainsFunc(s, hidden) {
		return s
	}
	return strconv.Quote(s)
}
