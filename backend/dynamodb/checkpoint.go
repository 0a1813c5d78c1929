package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

const (
	checkpointVersion = 1
	maxSegments       = 1_000_000 // of DynamoDB
)

// checkpoint is the content of admin.Report.Checkpoint, as JSON: the task of a
// sweep, and its progress.
type checkpoint struct {
	Version int           `json:"version"`
	Table   string        `json:"table"`
	Key     string        `json:"key_attribute"`
	Cutoff  int64         `json:"cutoff"` // epoch seconds; records that expired by then are deleted
	Grace   time.Duration `json:"grace"`
	Prefix  string        `json:"key_prefix,omitempty"`
	Foreign bool          `json:"foreign,omitempty"`
	DryRun  bool          `json:"dry_run,omitempty"`
	// Segments has all segments of the table, in order.
	Segments []progress   `json:"segments"`
	Tally    admin.Report `json:"tally"`
}

// progress says how far a segment is done.
type progress struct {
	After string `json:"after,omitempty"` // key of the last item that is done; "" if none is
	Done  bool   `json:"done,omitempty"`
}

// add adds the counts of u to those of r.
func add(r *admin.Report, u admin.Report) {
	r.Scanned += u.Scanned
	r.Expired += u.Expired
	r.Deleted += u.Deleted
	r.Kept += u.Kept
	r.Skipped += u.Skipped
	r.Failed += u.Failed
	r.Foreign += u.Foreign
	r.Retried += u.Retried
	r.ReadUnits += u.ReadUnits
	r.WriteUnits += u.WriteUnits
}

func (c *checkpoint) encode() []byte {
	text, err := json.Marshal(c)
	if err != nil {
		return nil // cannot happen: JSON can hold all of its types
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

// ErrResume matches the error of a [Backend.Sweep] that cannot go on from its
// Resume, because that is not a checkpoint, or is one of another sweep. Nothing
// was sent.
var ErrResume = errors.New("dynamodb: the sweep cannot be resumed")

// resumeError matches [ErrResume] without having it in its text.
type resumeError struct{ error }

func (e *resumeError) Is(target error) bool { return target == ErrResume }

func (e *resumeError) Unwrap() error { return e.error }

// decodeCheckpoint accepts only what report can have made, because a checkpoint
// decides what is deleted.
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

// begin returns the checkpoint of the sweep that opts asks for: of a new one, or
// of the one that opts.Resume continues.
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

// continues returns an error unless c is of the sweep that fresh would begin now.
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
