package migrate

import (
	"context"

	"github.com/seed-a7bee19b/session"
)

// FromConfig has the settings of [From].
type FromConfig struct {
	// Key returns the key in the old store of a key in the new one. The index of
	// owners and the records of old IDs contain keys as the old Manager made them:
	// to keep these, keep Config.StoreKey, and leave Key nil. Default nil: both
	// stores have the same keys.
	Key func(key string) string
}

// From returns the sessions of another backend, such as those in Redis for a site
// that goes to DynamoDB, or the other way. Both Managers need the same codec. If
// the old one is a [session.LockingBackend], a session that is locked there moves
// when its lock is free.
func From(old session.Backend, cfg FromConfig) Source {
	f := &fromBackend{backend: old, key: cfg.Key, mapped: cfg.Key != nil}
	if f.key == nil {
		f.key = func(key string) string { return key }
	}
	return f
}

type fromBackend struct {
	backend session.Backend
	key     func(string) string
	mapped  bool
}

// Load implements [Source].
func (f *fromBackend) Load(ctx context.Context, key string) (session.Record, error) {
	rec, err := f.backend.Load(ctx, f.key(key))
	if err != nil {
		return session.Record{}, err
	}
	r, err := read(rec)
	switch {
	case err != nil:
		return session.Record{}, err
	case r.kind != plain:
		return session.Record{}, session.ErrNotFound
	}
	return rec, nil
}

// Remove implements [Source].
func (f *fromBackend) Remove(ctx context.Context, key string, loaded session.Record) error {
	loaded.Data, loaded.KeepLater, loaded.Private = movedData(""), true, true
	_, err := f.backend.Save(ctx, f.key(key), loaded)
	return err
}
