// Package sessionslog logs the calls and events of a session.Manager with
// log/slog.
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

// Config configures an [Observer]. The zero value is a good default.
type Config struct {
	// Slow is the duration after which a call of the store, one of its
	// requests, or the wait for a lock is logged at level Warn. Default
	// 1 second; [session.Never] turns that off. A Sweep is never slow.
	Slow time.Duration

	// Calls logs every call of the store and every request at level Debug,
	// even if it did not fail and was not slow. Default off.
	Calls bool

	// Levels sets the level of the events that it contains, for every cause.
	// For example, SessionRotated and SessionDestroyed at Info make a trail of
	// logins and logouts. See [Observer] for the defaults.
	Levels map[observe.EventKind]slog.Level
}

// Observer is an [observe.Observer] that writes to a log. Its lines have the
// names of operations, sizes, durations and the texts of errors, but no ID, no key
// and no data of a session. The text of an error is quoted if it contains line
// ends or other unprintable characters.
//
//   - Error: a call of the store failed, except with [session.ErrNotFound],
//     [session.ErrConflict] or [session.ErrLocked], or because the caller was
//     gone; Undecodable; LockLost; CommitFailed and LateFailed because of the
//     store, the codec or the code.
//   - Warn: a request failed and may be sent again; a call or a lock was slow;
//     TouchFailed; CommitFailed because of a lock or too many conflicts;
//     LateFailed for any other cause; LockFailed.
//   - Info: TokenMalformed; TokenDuplicate; CommitFailed because the session
//     ended during the request, or the client was gone.
//   - Debug: everything else, and LockFailed because there was no session or the
//     caller was gone.
//
// Cost: a level that the logger discards costs no allocation, except one for each
// call, to measure it; if the logger discards errors too, not even that.
type Observer struct {
	log *slog.Logger
	cfg Config
}

// New returns an [Observer] that writes to l.
func New(l *slog.Logger, cfg Config) (*Observer, error) {
	switch {
	case l == nil:
		return nil, errors.New("sessionslog: New needs a Logger")
	case cfg.Slow < 0 && cfg.Slow != session.Never:
		return nil, fmt.Errorf("sessionslog: Config.Slow is %v; it must be session.Never or not negative", cfg.Slow)
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

// Call implements [observe.Observer].
func (o *Observer) Call(ctx context.Context, op observe.Op) (_ context.Context, done func(error)) {
	if !o.log.Enabled(ctx, slog.LevelError) { // then no level is
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

// Request logs a request of the backend. It is for the Config of a backend that
// takes a function for requests, such as dynamodb.Config.OnRequest.
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

// The texts for a failure, for a slow call or request, and for any other.
var (
	callTexts    = [...]string{"session: store call failed", "session: store call was slow", "session: store call"}
	requestTexts = [...]string{"session: store request failed", "session: store request was slow", "session: store request"}
)

// judge returns the level and text for a call or a request, or no text if it is
// not logged.
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

// eventTexts has the text of each kind, and the name of its N.
var eventTexts = [...]struct{ text, n string }{
	observe.EventTokenMalformed:   {"session: the token of a request is malformed", ""},
	observe.EventTokenUnknown:     {"session: a token has no session", ""},
	observe.EventTokenMoved:       {"session: a token's session got a new ID a moment ago", ""},
	observe.EventSessionExpired:   {"session: expired", ""},
	observe.EventUndecodable:      {"session: stored session does not decode", ""},
	observe.EventSessionCreated:   {"session: created", "bytes"},
	observe.EventSessionSaved:     {"session: saved", "bytes"},
	observe.EventSessionRotated:   {"session: got a new ID", "bytes"},
	observe.EventSessionDestroyed: {"session: destroyed", ""},
	observe.EventMerged:           {"session: merged", "conflicts"},
	observe.EventTouchSkipped:     {"session: deadline need not be moved yet", ""},
	observe.EventTouchFailed:      {"session: deadline could not be moved", ""},
	observe.EventCommitFailed:     {"session: could not be saved, and the client got an error", ""},
	observe.EventLateFailed:       {"session: changes made after the response started could not be saved", ""},
	observe.EventLockAcquired:     {"session: locked", ""},
	observe.EventLockFailed:       {"session: lock could not be acquired", ""},
	observe.EventLockLost:         {"session: lost its lock", ""},
	observe.EventTokenDuplicate:   {"session: a request has several tokens", "tokens"},
	observe.EventSessionsRevoked:  {"session: revoked", "sessions"},
	observe.EventTokenRenewed:     {"session: a request goes on under a renewed ID", ""},
	observe.EventRenewFailed:      {"session: ID could not be renewed", ""},
	observe.EventLoginJoined:      {"session: a login, or a new authentication, joined the session of another one", ""},
}

func known(k observe.EventKind) bool { return k > 0 && int(k) < len(eventTexts) }

// Event implements [observe.Observer].
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
	case observe.EventTouchFailed, observe.EventRenewFailed:
		return slog.LevelWarn
	case observe.EventUndecodable, observe.EventLockLost:
		return slog.LevelError
	case observe.EventCommitFailed:
		return failureLevel(e.Err)
	case observe.EventLateFailed: // the client has been told that it was saved
		return max(slog.LevelWarn, failureLevel(e.Err))
	case observe.EventLockFailed:
		if isAny(e.Err, session.ErrNotFound, context.Canceled) { // no session to lock, or no caller waiting any more
			return slog.LevelDebug
		}
		return slog.LevelWarn // a failure of the store is logged with its call
	case observe.EventLockAcquired:
		if o.slow(e.Wait) {
			return slog.LevelWarn
		}
	}
	return slog.LevelDebug
}

// failureLevel returns the level of an error that ended a request.
func failureLevel(err error) slog.Level {
	switch {
	case isAny(err, session.ErrLockTimeout, session.ErrLockLost): // with any other cause too
		return slog.LevelWarn
	case isAny(err, session.ErrNotFound, context.Canceled):
		return slog.LevelInfo
	case isAny(err, session.ErrConflict, session.ErrLocked):
		return slog.LevelWarn
	}
	return slog.LevelError
}

// withError adds the text of err, and not err itself: the log's handler may
// print all fields of a value, and errors can hold records.
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
