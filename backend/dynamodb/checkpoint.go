package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

const checkpointVersion = 1

// checkpoint is what admin.SweepReport.Checkpoint holds, as JSON: what the
// sweep was asked to do, and how far it is.
type checkpoint struct {
	Version int           `json:"version"`
	Table   string        `json:"table"`
	Key     string        `json:"key_attribute"`
	Cutoff  int64         `json:"cutoff"` // epoch seconds; what has expired by then goes
	Grace   time.Duration `json:"grace"`
	Prefix  string        `json:"key_prefix,omitempty"`
	Foreign bool          `json:"foreign,omitempty"`
	DryRun  bool          `json:"dry_run,omitempty"`
	// Segments are all of the table's, in order.
	Segments []progress `json:"segments"`
	Tally    tally      `json:"tally"`
}

// progress is how far a segment is done.
type progress struct {
	After string `json:"after,omitempty"` // key of the last item that is; "" if none is
	Done  bool   `json:"done,omitempty"`
}

// tally has the counters of a admin.SweepReport.
type tally struct {
	Scanned    int64   `json:"scanned"`
	Expired    int64   `json:"expired"`
	Deleted    int64   `json:"deleted"`
	Kept       int64   `json:"kept"`
	Skipped    int64   `json:"skipped"`
	Failed     int64   `json:"failed"`
	Foreign    int64   `json:"foreign"`
	Retried    int64   `json:"retried"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`
}

func (t *tally) add(u tally) {
	t.Scanned += u.Scanned
	t.Expired += u.Expired
	t.Deleted += u.Deleted
	t.Kept += u.Kept
	t.Skipped += u.Skipped
	t.Failed += u.Failed
	t.Foreign += u.Foreign
	t.Retried += u.Retried
	t.ReadUnits += u.ReadUnits
	t.WriteUnits += u.WriteUnits
}

func (t *tally) report() admin.SweepReport {
	return admin.SweepReport{
		Scanned: t.Scanned, Expired: t.Expired, Deleted: t.Deleted, Kept: t.Kept, Skipped: t.Skipped, Failed: t.Failed,
		Foreign: t.Foreign, Retried: t.Retried, ReadUnits: t.ReadUnits, WriteUnits: t.WriteUnits,
	}
}

func (c *checkpoint) encode() []byte {
	text, err := json.Marshal(c)
	if err != nil {
		return nil // it has no type that JSON cannot hold
	}
	return text
}

func (c *checkpoint) finished() bool {
	for _, s := range c.Segments {
		if !s.Done {
			return false
		}
	}
	return true
}

// ErrResume is in the errors of a [Backend.Sweep] that cannot go on from its
// Resume: it is no checkpoint, or that of another sweep. Nothing was sent.
var ErrResume = errors.New("dynamodb: the sweep cannot be resumed")

// resumeError has an [ErrResume] that is not in its text.
type resumeError struct{ error }

func (e *resumeError) Is(target error) bool { return target == ErrResume }

func (e *resumeError) Unwrap() error { return e.error }

// decodeCheckpoint accepts what report can have made, and nothing else: what
// it says decides what is deleted.
func decodeCheckpoint(text []byte) (*checkpoint, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, fmt.Errorf("dynamodb: SweepOptions.Resume is not a checkpoint: %w", err)
	}
	if version.Version != checkpointVersion {
		return nil, fmt.Errorf("dynamodb: SweepOptions.Resume is not a checkpoint that this version of the package can read: its version is %d, not %d",
			version.Version, checkpointVersion)
	}
	c := &checkpoint{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(c) // nothing follows, or there would have been an error above
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, fmt.Errorf("dynamodb: SweepOptions.Resume is not a checkpoint: %w", err)
	}
	return c, nil
}

// mostCounted leaves a sweep room to go on counting.
const mostCounted = 1 << 53

func (c *checkpoint) check() error {
	t := c.Tally
	switch {
	case len(c.Segments) == 0 || len(c.Segments) > maxSegments:
		return fmt.Errorf("it has %d segments", len(c.Segments))
	case c.Cutoff < minSeconds || c.Cutoff > maxSeconds:
		return errors.New("its cutoff is no time")
	case c.Grace <= 0:
		return errors.New("its grace is not positive")
	case min(t.Scanned, t.Expired, t.Deleted, t.Kept, t.Skipped, t.Failed, t.Foreign, t.Retried) < 0 || min(t.ReadUnits, t.WriteUnits) < 0:
		return errors.New("a counter is negative")
	case max(t.Scanned, t.Expired, t.Deleted, t.Kept, t.Skipped, t.Failed, t.Foreign, t.Retried) > mostCounted ||
		max(t.ReadUnits, t.WriteUnits) > mostCounted: // the next checkpoint could not be written
		return errors.New("a counter is larger than any sweep can make it")
	}
	const longestKey = 2048 // of DynamoDB
	for i, s := range c.Segments {
		if len(s.After) > longestKey || s.Done && s.After != "" {
			return fmt.Errorf("segment %d contradicts itself", i)
		}
	}
	if c.finished() { // it would look at nothing, and call that a sweep
		return errors.New("nothing is left to do in it: begin a new sweep")
	}
	return nil
}

// begin returns the checkpoint of a sweep that is to do what opts says, and
// has done nothing yet or what opts.Resume says.
func (b *Backend) begin(opts admin.SweepOptions) (*checkpoint, error) {
	now := b.now()
	fresh := &checkpoint{
		Version: checkpointVersion, Table: b.c.Table, Key: b.c.KeyAttribute,
		Cutoff: now.Add(-opts.Grace).Unix(), Grace: opts.Grace,
		Prefix: opts.KeyPrefix, Foreign: opts.Foreign, DryRun: opts.DryRun,
		Segments: make([]progress, opts.Segments),
	}
	if opts.Resume == nil {
		return fresh, nil
	}
	c, err := decodeCheckpoint(opts.Resume)
	if err == nil {
		err = c.continues(fresh, now)
	}
	if err != nil {
		return nil, &resumeError{err}
	}
	return c, nil
}

// continues reports whether c is of the sweep that fresh would begin now.
func (c *checkpoint) continues(fresh *checkpoint, now time.Time) error {
	differs := func(what string, was, is any) error {
		return fmt.Errorf("dynamodb: the sweep to be resumed was begun with %s %v, and not with %v: give the same, or begin a new sweep", what, was, is)
	}
	switch {
	case c.Table != fresh.Table:
		return differs("Config.Table", c.Table, fresh.Table)
	case c.Key != fresh.Key:
		return differs("Config.KeyAttribute", c.Key, fresh.Key)
	case c.Prefix != fresh.Prefix:
		return errors.New("dynamodb: the sweep to be resumed was begun with another SweepOptions.KeyPrefix: give the same, or begin a new sweep")
	case c.Foreign != fresh.Foreign:
		return differs("SweepOptions.Foreign", c.Foreign, fresh.Foreign)
	case c.DryRun != fresh.DryRun:
		return differs("SweepOptions.DryRun", c.DryRun, fresh.DryRun)
	case c.Grace != fresh.Grace && fresh.Grace != admin.DefaultSweepGrace: // which may be there because none was given
		return differs("SweepOptions.Grace", c.Grace, fresh.Grace)
	case time.Unix(c.Cutoff, 0).Add(c.Grace).After(now): // what is within its grace would go
		return errors.New("dynamodb: the sweep to be resumed was begun in the future, by the clock of this machine")
	}
	return nil
}
