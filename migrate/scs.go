package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// SCSStore is what [SCS] needs of a store of scs. If the store has FindCtx and
// DeleteCtx, as a CtxStore does, these are used; the others cannot be interrupted.
type SCSStore interface {
	Find(token string) (b []byte, found bool, err error)
	Delete(token string) error
}

// SCSConfig has the settings of [SCS].
type SCSConfig struct {
	// Pack makes a record of the values of a session, with session.Pack. It is
	// required. If it fails, the session cannot be opened, and stays where it is.
	Pack func(values map[string]any, deadline time.Time) (session.Record, error)
	// HashTokens is HashTokenInStore of the SessionManager of scs. Default false.
	HashTokens bool
	// Decode decodes what the store has. Default: as GobCodec of scs does. Types
	// of values must be registered with package gob, as for scs.
	Decode func(data []byte) (deadline time.Time, values map[string]any, err error)
}

// SCS returns the sessions of a store of scs, version 2. Their keys are tokens, so
// [Config.TokenKeys] must be set, and session.Config.Tokens must allow the 43
// characters of a token of scs; see [SCSToken].
//
// Such a store has no conditions: Remove compares and deletes in two requests. So stop
// all servers that use it before the first one moves. What they write between these
// two requests is lost, and a logout there, in the moment of a move, may not count.
//
// Cost: 1 Find for Load, 1 Find and 1 Delete for Remove.
func SCS(store SCSStore, cfg SCSConfig) (Source, error) {
	switch {
	case store == nil:
		return nil, errors.New("migrate: SCS needs a store")
	case cfg.Pack == nil:
		return nil, errors.New("migrate: SCSConfig.Pack is missing")
	}
	if cfg.Decode == nil {
		cfg.Decode = decodeGob
	}
	s := &scs{cfg: cfg}
	s.find = func(_ context.Context, token string) ([]byte, bool, error) { return store.Find(token) }
	s.delete = func(_ context.Context, token string) error { return store.Delete(token) }
	if c, ok := store.(interface {
		FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	}); ok {
		s.find = c.FindCtx
	}
	if c, ok := store.(interface {
		DeleteCtx(ctx context.Context, token string) error
	}); ok {
		s.delete = c.DeleteCtx
	}
	return s, nil
}

// SCSToken reports whether token has the form of those of scs, for [StoreKey].
func SCSToken(token string) bool {
	b, err := base64.RawURLEncoding.DecodeString(token)
	return err == nil && len(b) == 32
}

type scs struct {
	cfg    SCSConfig
	find   func(ctx context.Context, token string) ([]byte, bool, error)
	delete func(ctx context.Context, token string) error
}

func (s *scs) key(token string) string {
	if !s.cfg.HashTokens {
		return token
	}
	h := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// read returns what the store has, and a version made of it.
func (s *scs) read(ctx context.Context, token string) ([]byte, session.Version, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	data, ok, err := s.find(ctx, s.key(token))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("migrate: scs: %w", err)
	case !ok:
		return nil, "", session.ErrNotFound
	}
	h := sha256.Sum256(data)
	return data, session.Version(hex.EncodeToString(h[:16])), nil
}

// Load implements [Source].
func (s *scs) Load(ctx context.Context, token string) (session.Record, error) {
	data, v, err := s.read(ctx, token)
	if err != nil {
		return session.Record{}, err
	}
	deadline, values, err := s.cfg.Decode(data)
	if err != nil {
		return session.Record{}, fmt.Errorf("migrate: scs: %w: %w", session.ErrDecode, err)
	}
	rec, err := s.cfg.Pack(values, deadline)
	if err != nil {
		return session.Record{}, err
	}
	rec.Version = v
	return rec, nil
}

// Remove implements [Source].
func (s *scs) Remove(ctx context.Context, token string, loaded session.Record) error {
	_, v, err := s.read(ctx, token)
	switch {
	case err != nil:
		return err
	case v != loaded.Version:
		return &session.ConflictError{}
	}
	if err := s.delete(ctx, s.key(token)); err != nil {
		return fmt.Errorf("migrate: scs: %w", err)
	}
	return nil
}

func decodeGob(data []byte) (time.Time, map[string]any, error) {
	var s struct {
		Deadline time.Time
		Values   map[string]any
	}
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&s); err != nil {
		return time.Time{}, nil, err
	}
	return s.Deadline, s.Values, nil
}
