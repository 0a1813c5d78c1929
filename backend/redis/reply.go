package redisstore

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session"
)

// reply is a parsed reply about one key. A field that the reply does not have
// is zero.
type reply struct {
	status status

	// left is the rest of the lease by the clock of the server: 0 if no lock is
	// live, negative if the lock never ends.
	left time.Duration
	// leased is set if the last lock was not ended. Only the clock of the
	// server tells whether its lease still runs.
	leased bool

	data             string
	created, expires time.Time
	version          session.Version // of the last write
	// flaw says what is wrong with the first field that is not as Save writes
	// it, or that is missing. It is "" if the reply has a whole record.
	flaw string

	covered bool // the version still has all tokens of the last minute

	// These are for List.
	size, dataSize int64
	found          string // the data that contains the text asked for

	// These come from the call, not from the server.
	retry bool      // the server may have applied an earlier attempt
	sent  time.Time // not later than the first attempt
}

// status is the first field of each reply to a script.
type status string

const (
	statusOK       status = "ok"
	statusNone     status = "none"     // there is no record, or it has expired
	statusLocked   status = "locked"   // another lock is live
	statusConflict status = "conflict" // the version or the lock is not the stored one
	statusForeign  status = "foreign"  // this package did not write the hash
	statusEnded    status = "ended"    // the lock was taken and ended before
	statusLost     status = "lost"     // the lock of a Locker belongs to nobody, or to another holder
)

// A field reads one field of a reply into r. It reports whether v has a type
// that the server sends for that field.
type field func(r *reply, v any) bool

// layout is the order of the fields after the status.
type layout []field

// replies has the layout of each reply to a script, by status. A command has
// one layout and no status.
type replies map[status]layout

var (
	noFields       = layout{}
	leftField      = layout{readLeft}
	recordFields   = layout{readLeft, readData, readCreated, readExpires, readVersion}
	decisionFields = layout{readLeft, readData, readCreated, readExpires, readVersion, readCovered}
	entryFields    = layout{readLeft, readData, readCreated, readExpires, readVersion, readSize, readDataSize, readFound}
	hashFields     = layout{readUntil, readData, readCreated, readExpires, readVersion}
)

// errNotOurs is the error for a reply that a proxy made, say.
var errNotOurs = errors.New("the reply does not match the command")

// parse parses a reply to s. It fails if s cannot have made it.
func (s *script) parse(fields []any) (*reply, error) {
	r := new(reply)
	n := len(fields)
	if s.command == "" && n > 0 {
		text, _ := fields[0].(string)
		r.status, fields = status(text), fields[1:]
	}
	layout, known := s.replies[r.status]
	if !known || n == 0 || len(fields) != len(layout) {
		return nil, fmt.Errorf("a reply of %d fields: %w", n, errNotOurs)
	}
	for i, read := range layout {
		if !read(r, fields[i]) {
			return nil, fmt.Errorf("a reply with a %T as field %d: %w", fields[i], n-len(layout)+i, errNotOurs)
		}
	}
	return r, nil
}

func readLeft(r *reply, v any) bool {
	ms, ok := v.(int64)
	r.left = time.Duration(min(ms, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
	return ok
}

// The fields of a hash that are missing are nil.

func readUntil(r *reply, v any) bool {
	text, ok := v.(string)
	r.leased = ok && text != "0"
	return ok || v == nil
}

func readData(r *reply, v any) bool {
	text, ok := v.(string)
	r.data = text
	if !ok {
		r.flawed(`field "data" is missing`)
	}
	return ok || v == nil
}

func readCreated(r *reply, v any) bool {
	return r.readTime(&r.created, v, `field "created" is not a time in epoch milliseconds`)
}

func readExpires(r *reply, v any) bool {
	return r.readTime(&r.expires, v, `field "expires" is not a time in epoch milliseconds`)
}

func (r *reply) readTime(t *time.Time, v any, flaw string) bool {
	text, ok := v.(string)
	if ms, err := strconv.ParseInt(text, 10, 64); err != nil || ms < minMillis || ms > maxMillis {
		r.flawed(flaw)
	} else {
		*t = time.UnixMilli(ms).UTC()
	}
	return ok || v == nil
}

func readVersion(r *reply, v any) bool {
	text, ok := v.(string)
	r.version = session.Version(text[:min(len(text), tokenSize)])
	if len(r.version) != tokenSize {
		r.flawed(`field "version" has no token of 8 bytes`)
	}
	return ok || v == nil
}

func readCovered(r *reply, v any) bool {
	n, ok := v.(int64)
	r.covered = n == 1
	return ok
}

func readSize(r *reply, v any) (ok bool) {
	r.size, ok = v.(int64)
	return ok
}

func readDataSize(r *reply, v any) (ok bool) {
	r.dataSize, ok = v.(int64)
	return ok
}

func readFound(r *reply, v any) (ok bool) {
	r.found, ok = v.(string)
	return ok
}

// flawed keeps the first flaw.
func (r *reply) flawed(flaw string) {
	if r.flaw == "" {
		r.flaw = flaw
	}
}

// record returns the record of a reply that arrived at now. It fails if Save
// did not write it.
func (r *reply) record(now time.Time) (session.Record, error) {
	if r.flaw != "" {
		return session.Record{}, fmt.Errorf("redisstore: the hash was not written by this package: %s: %w", r.flaw, session.ErrDecode)
	}
	return session.Record{
		Data: []byte(r.data), Created: r.created, Expires: r.expires, Version: r.version, LockedUntil: r.lockedUntil(now),
	}, nil
}

// lockedUntil returns the end of the lease of a live lock, by the clock of this
// machine, for a reply that arrived at now. It is zero if no lock is live.
func (r *reply) lockedUntil(now time.Time) time.Time {
	if r.left <= 0 {
		return time.Time{}
	}
	return now.Add(r.left)
}

// locked returns the error for a lock that was live when the reply arrived, at
// now.
func (r *reply) locked(now time.Time) error {
	if r.left < 0 {
		return &session.LockedError{}
	}
	return &session.LockedError{Until: now.Add(r.left)}
}

// conflict returns the error for a record that arrived at now in place of the
// expected one.
func (r *reply) conflict(now time.Time) error {
	current, err := r.record(now)
	if err != nil {
		return &session.ConflictError{} // the hash is foreign
	}
	return &session.ConflictError{Current: &current}
}

// saveError returns the error of a Save that replaces the version old, nil if
// it succeeded. The reply arrived at now.
func (r *reply) saveError(old session.Version, now time.Time) error {
	switch {
	case r.status == statusOK:
		return nil
	case r.status == statusNone:
		return &session.ConflictError{Gone: true}
	case r.retry && r.status == statusLocked && r.version == old:
		// The first attempt may still arrive, after the lock was freed.
		return errors.New("redisstore: Save: it is not known whether it was applied: " +
			"a response was lost, and the record is unchanged and locked")
	case r.retry && !r.settles(now):
		return errors.New("redisstore: Save: it is not known whether it was applied: " +
			"a response was lost, and the retry came after too many other writes, or too late")
	case r.status == statusLocked:
		return r.locked(now)
	}
	return r.conflict(now)
}

// settles reports whether a refused retry proves that no earlier attempt was
// applied, because the version would still have its token. The scripts keep
// all tokens for a minute; ten seconds of it allow for clocks and networks.
func (r *reply) settles(now time.Time) bool {
	return r.covered && now.Sub(r.sent) < 50*time.Second
}

// releasedBefore reports whether an earlier attempt of Release may have freed
// the lock of version old, and moved Expires to expires, before the retry that
// r answers.
func (r *reply) releasedBefore(old session.Version, expires time.Time) bool {
	return r.retry && r.status == statusConflict && !r.expires.IsZero() &&
		(r.version != old || !r.expires.Before(expires))
}
