//go:build unix

// Package filestore keeps each session in a file. It is an example of a
// session.Backend, written from the documentation with the standard library
// alone.
package filestore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-a7bee19b/session"
)

// Store is a session.Backend in a directory, which several processes of one
// machine may share.
type Store struct{ dir string }

// Open returns the Store in an existing directory.
func Open(dir string) (*Store, error) {
	s := &Store{dir}
	lock, err := os.OpenFile(s.lockPath(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return s, lock.Close()
}

// Load implements session.Backend.
func (s *Store) Load(ctx context.Context, key string) (rec session.Record, err error) {
	if err := ctx.Err(); err != nil {
		return rec, err
	}
	file, err := os.ReadFile(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		// If the disk is missing, so are all files: that is not "no session".
		if _, err := os.Stat(s.lockPath()); err != nil {
			return rec, err
		}
		return rec, session.ErrNotFound
	}
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(file, &rec); err != nil {
		return rec, fmt.Errorf("filestore: %w: %w", session.ErrDecode, err)
	}
	return rec, nil
}

// Save implements session.Backend. A conflict carries the current record.
func (s *Store) Save(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
	if rec.Expires.IsZero() {
		return "", errors.New("filestore: the record has no Expires")
	}
	err = s.locked(ctx, func() error {
		current, err := s.Load(ctx, key)
		gone := errors.Is(err, session.ErrNotFound) || err == nil && current.Expired(time.Now())
		switch {
		case err != nil && !gone:
			return err
		case gone && rec.Version != "":
			return &session.ConflictError{Gone: true}
		case !gone && rec.Version != current.Version:
			return &session.ConflictError{Current: &current}
		}
		if !gone && rec.KeepLater && current.Expires.After(rec.Expires) {
			rec.Expires = current.Expires
		}
		v = session.Version(rand.Text())
		rec.Version, rec.KeepLater = v, false
		return s.write(key, rec)
	})
	return v, err
}

// Touch implements session.Backend.
func (s *Store) Touch(ctx context.Context, key string, expires time.Time) error {
	return s.locked(ctx, func() error {
		rec, err := s.Load(ctx, key)
		switch {
		case err != nil:
			return err
		case rec.Expired(time.Now()):
			return session.ErrNotFound
		case !expires.After(rec.Expires):
			return nil
		}
		rec.Expires = expires
		return s.write(key, rec)
	})
}

// Delete implements session.Backend.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.locked(ctx, func() error {
		err := os.Remove(s.path(key))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, s.sync())
	})
}

// path hashes the key, because file systems fold case and "../" leaves the
// directory.
func (s *Store) path(key string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%x.json", sha256.Sum256([]byte(key))))
}

func (s *Store) lockPath() string { return filepath.Join(s.dir, "lock") }

// locked calls f while no other process or goroutine changes the store.
func (s *Store) locked(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lock, err := os.Open(s.lockPath())
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // unlocks
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f()
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// write replaces the file in one step, so that Load needs no lock, and a crash
// leaves the old record or the new one.
func (s *Store) write(key string, rec session.Record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // fails after the rename
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), s.path(key)); err != nil {
		return err
	}
	return s.sync()
}

// sync makes a rename or removal durable.
func (s *Store) sync() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
