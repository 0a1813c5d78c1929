// Package sessionslog logs what a session.Manager does, with log/slog.
package sessionslog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/internal/printable"
	"github.com/seed-a7bee19b/session/observe"
)

// Config configures a [Observer]. The zero value is a good default.
type Config struct {
	// Slow is how long a call of the store, one of its requests, or the wait
	// for a lock may take before it is logged at level Warn. Default 1 second;
	// [Never] turns that off. A Sweep is never slow.
	Slow time.Duration

	// Calls logs every call of the store and every request at level Debug, and
	// not only those that failed or were slow. Default off.
	Calls bool

	// Levels replaces the level of the events that are in it, whatever their
	// cause: SessionRotated and SessionDestroyed at Info make a trail of who
	// came and went. See [Observer] for the defaults.
	Levels map[observe.EventKind]slog.Level
}

// Observer is an [Observer] that writes to a log. What it writes has the
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
type Observer struct {
	log *slog.Logger
	cfg Config
}

// New returns a [Observer] that writes to l.
func New(l *slog.Logger, cfg Config) (*Observer, error) {
	switch {
	case l == nil:
		return nil, errors.New("sessionslog: New needs a Logger")
	case cfg.Slow < 0 && cfg.Slow != session.Never:
		return nil, fmt.Errorf("sessionslog: Config.Slow is %v; it must not be negative, other than session.Never", cfg.Slow)
	case cfg.Slow == 0:
		cfg.Slow = time.Second
	}
	for kind := range cfg.Levels {
		if !known(kind) {
			return nil, fmt.Errorf("sessionslog: Config.Levels has an unknown observe.EventKind %d", int(kind))
		}
	}
	cfg.Levels = maps.Clone(cfg.Levels)
	return &Observer{log: l, cfg: cfg}, nil
}

// Call implements [Observer].
func (o *Observer) Call(ctx context.Context, op observe.Op) (_ context.Context, done func(error)) {
	if !o.log.Enabled(ctx, slog.LevelError) { // nor is any other
		return ctx, nil
	}
	began := time.Now()
	return ctx, func(err error) {
		took := time.Since(began)
		failed := err != nil && !isAny(err, session.ErrNotFound, session.ErrConflict, session.ErrLocked, context.Canceled)
		level, text := o.judge(failed, slog.LevelError, op != observe.OpSweep && o.slow(took), &callTexts)
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
func (o *Observer) Request(ctx context.Context, r observe.Request) {
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

func (o *Observer) slow(d time.Duration) bool { return o.cfg.Slow != session.Never && d > o.cfg.Slow }

// callTexts and requestTexts are for what failed, was slow, and was neither.
var (
	callTexts    = [...]string{"session: store call failed", "session: store call was slow", "session: store call"}
	requestTexts = [...]string{"session: store request failed", "session: store request was slow", "session: store request"}
)

// judge returns how to log a call or a request; no text: not at all.
func (o *Observer) judge(failed bool, failure slog.Level, slow bool, texts *[3]string) (slog.Level, string) {
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
	observe.EventTokenMalformed:   {"session: the token of a request is malformed", ""},
	observe.EventTokenUnknown:     {"session: a token has no session", ""},
	observe.EventTokenMoved:       {"session: a token's session got a new ID a moment ago", ""},
	observe.EventSessionExpired:   {"session: expired", ""},
	observe.EventUndecodable:      {"session: what is stored does not decode", ""},
	observe.EventSessionCreated:   {"session: created", "bytes"},
	observe.EventSessionSaved:     {"session: saved", "bytes"},
	observe.EventSessionRotated:   {"session: got a new ID", "bytes"},
	observe.EventSessionDestroyed: {"session: destroyed", ""},
	observe.EventMerged:           {"session: merged", "conflicts"},
	observe.EventTouchSkipped:     {"session: its deadline need not be moved yet", ""},
	observe.EventTouchFailed:      {"session: its deadline could not be moved", ""},
	observe.EventCommitFailed:     {"session: could not be saved, and the client got an error", ""},
	observe.EventLateFailed:       {"session: what changed after the response had started is not saved", ""},
	observe.EventLockAcquired:     {"session: locked", ""},
	observe.EventLockFailed:       {"session: no lock", ""},
	observe.EventLockLost:         {"session: lost its lock", ""},
	observe.EventTokenDuplicate:   {"session: a request has several tokens", "tokens"},
}

func known(k observe.EventKind) bool { return k > 0 && int(k) < len(eventTexts) }

// Event implements [Observer].
func (o *Observer) Event(ctx context.Context, e observe.Event) {
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
	if known(e.Kind) {
		t := eventTexts[e.Kind]
		text = t.text
		if t.n != "" {
			attrs = append(attrs, slog.Int(t.n, e.N))
		}
	}
	if e.Kind == observe.EventLockAcquired || e.Kind == observe.EventLockFailed {
		attrs = append(attrs, slog.Duration("wait", e.Wait))
	}
	o.log.LogAttrs(ctx, level, text, withError(attrs, e.Err)...)
}

func (o *Observer) level(e observe.Event) slog.Level {
	switch e.Kind {
	case observe.EventTokenMalformed, observe.EventTokenDuplicate:
		return slog.LevelInfo
	case observe.EventTouchFailed:
		return slog.LevelWarn
	case observe.EventUndecodable, observe.EventLockLost:
		return slog.LevelError
	case observe.EventCommitFailed:
		return failureLevel(e.Err)
	case observe.EventLateFailed: // the client believes that it is saved
		return max(slog.LevelWarn, failureLevel(e.Err))
	case observe.EventLockFailed:
		if isAny(e.Err, session.ErrNotFound, context.Canceled) { // there is nothing to lock, or nobody to lock it for
			return slog.LevelDebug
		}
		return slog.LevelWarn // if the store failed, its call says so
	case observe.EventLockAcquired:
		if o.slow(e.Wait) {
			return slog.LevelWarn
		}
	}
	return slog.LevelDebug
}

// failureLevel is the level of an error that a request ended with.
func failureLevel(err error) slog.Level {
	switch {
	case isAny(err, session.ErrLockTimeout, session.ErrLockLost): // whatever came of it
		return slog.LevelWarn
	case isAny(err, session.ErrNotFound, context.Canceled):
		return slog.LevelInfo
	case isAny(err, session.ErrConflict, session.ErrLocked):
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
	return append(attrs, slog.String("error", printable.Text(err.Error())))
}

// isAny reports whether err is one of the sentinels.
func isAny(err error, sentinels ...error) bool {
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}
