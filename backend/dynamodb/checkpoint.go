package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

const checkpointVersion = 1

// checkpoint is what session.SweepReport.Checkpoint holds, as JSON: what the
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

// tally has the counters of a session.SweepReport.
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

func (t *tally) report() session.SweepReport {
	return session.SweepReport{
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

// decodeCheckpoint accepts what encode can have made, and nothing else: what
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
	}
	const longestKey = 2048 // of DynamoDB
	for i, s := range c.Segments {
		if len(s.After) > longestKey || s.Done && s.After != "" {
			return fmt.Errorf("segment %d contradicts itself", i)
		}
	}
	return nil
}

// begin returns the checkpoint of a sweep that is to do what opts says, and
// has done nothing yet or what opts.Resume says.
func (b *Backend) begin(opts session.SweepOptions) (*checkpoint, error) {
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
	if err != nil {
		return nil, err
	}
	differs := func(what string, was, is any) error {
		return fmt.Errorf("dynamodb: the sweep to be resumed was begun with %s %v, and not with %v: give the same, or begin a new sweep", what, was, is)
	}
	switch {
	case c.Table != fresh.Table:
		return nil, differs("Config.Table", c.Table, fresh.Table)
	case c.Key != fresh.Key:
		return nil, differs("Config.KeyAttribute", c.Key, fresh.Key)
	case c.Prefix != fresh.Prefix:
		return nil, errors.New("dynamodb: the sweep to be resumed was begun with another SweepOptions.KeyPrefix: give the same, or begin a new sweep")
	case c.Foreign != fresh.Foreign:
		return nil, differs("SweepOptions.Foreign", c.Foreign, fresh.Foreign)
	case c.DryRun != fresh.DryRun:
		return nil, differs("SweepOptions.DryRun", c.DryRun, fresh.DryRun)
	case c.Grace != fresh.Grace && fresh.Grace != session.DefaultSweepGrace: // which may be there because none was given
		return nil, differs("SweepOptions.Grace", c.Grace, fresh.Grace)
	case c.Cutoff > now.Unix(): // live sessions would go
		return nil, errors.New("dynamodb: the sweep to be resumed was begun in the future, by the clock of this machine")
	}
	return c, nil
}
