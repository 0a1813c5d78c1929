package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

// checkpoint is the file of --resume. It belongs to one table.
type checkpoint struct {
	Format     int       `json:"format"`
	Table      string    `json:"table"`
	TableID    string    `json:"table_id,omitempty"`
	Region     string    `json:"region"`
	Endpoint   string    `json:"endpoint,omitempty"`
	Saved      time.Time `json:"saved"`
	Scanned    int64     `json:"scanned"`
	Deleted    int64     `json:"deleted"`
	Checkpoint []byte    `json:"checkpoint"`

	path string // "" for none
}

const checkpointFormat = 1

// maxCheckpoint is some times what a sweep of the most segments notes.
const maxCheckpoint = 256 << 20

// loadCheckpoint reads the file at path. One that is not there is that of a
// sweep which begins. It fails early if the file could not be written.
func loadCheckpoint(ctx context.Context, path string, s *dynamoStore) (*checkpoint, error) {
	begin := &checkpoint{Format: checkpointFormat, Table: s.table, TableID: s.id, Region: s.region, Endpoint: s.endpoint, path: path}
	if path == "" {
		return begin, nil
	}
	if err := errors.Join(ordinary(path), tryFolder(path)); err != nil {
		return nil, usageError("--resume: %w", err)
	}
	data, err := readFile(ctx, path, maxCheckpoint)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return begin, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, usageError("--resume: %w", err)
	}
	var c checkpoint
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields() // a later version may mean something by them
	if err := d.Decode(&c); err != nil || d.More() || c.Format != checkpointFormat || len(c.Checkpoint) == 0 {
		return nil, usageError("--resume: sweep did not write %s: name another file, or remove it to begin anew", path)
	}
	if c.Table != s.table || c.Region != s.region || c.Endpoint != s.endpoint {
		of := dynamoStore{table: c.Table, region: c.Region, endpoint: c.Endpoint}
		return nil, usageError("--resume: %s is of a sweep of %s, and this one is of %s: name another file, or remove it to begin anew",
			path, of.where(), s.where())
	}
	if c.TableID != "" && s.id != "" && c.TableID != s.id { // some parts would not be looked at
		return nil, usageError("--resume: %s is of a sweep of another %s, in another account or deleted since: name another file, or remove it to begin anew",
			path, s.where())
	}
	c.Saved = time.Time{} // by a clock that may have been ahead
	c.path = path
	return &c, nil
}

// tryFolder finds out whether a file beside path can be written.
func tryFolder(path string) error {
	try, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	return errors.Join(try.Close(), os.Remove(try.Name()))
}

// save replaces the file, so that there is always a whole one.
func (c *checkpoint) save(r admin.Report) error {
	c.Saved = time.Now()
	if c.path == "" || r.Checkpoint == nil {
		return nil
	}
	c.Scanned, c.Deleted, c.Checkpoint = r.Scanned, r.Deleted, r.Checkpoint
	if err := ordinary(c.path); err != nil {
		return err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", c.path, err), os.Remove(f.Name()))
	}
	return nil
}

// remove removes the file of a sweep that has come to its end.
func (c *checkpoint) remove() error {
	if c.path == "" {
		return nil
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
