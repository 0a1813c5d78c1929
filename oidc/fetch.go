package backchannel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	fetchInterval = 10 * time.Second
	fetchTimeout  = 5 * time.Second
	fetchedFresh  = time.Hour
	fetchedKept   = 24 * time.Hour
)

// FetchedKeys returns Keys that call fetch for the JWK Set of a provider, when a
// token arrives, and remember it. It is called again when the set is an hour old,
// or when a token names no key, or one that is not in the set, because the provider
// may have a new one. It is called at most once in 10 seconds, whatever tokens
// arrive, and by one request at a time; others wait for it until their own context
// ends. It has 5 seconds, even if the client of its request hangs up.
//
// If it fails, keys that were fetched in the last 24 hours still serve, and other
// tokens get status 503.
//
// fetch must end with its context, and should limit what it reads from the
// network. More than 1 MiB is an error, as is a set that [FixedKeys] does not take.
func FetchedKeys(fetch func(ctx context.Context) ([]byte, error)) (Keys, error) {
	if fetch == nil {
		return nil, errors.New("backchannel: FetchedKeys needs a function")
	}
	f := &fetched{fetch: fetch, turn: make(chan struct{}, 1)}
	return f.get, nil
}

type fetched struct {
	fetch func(ctx context.Context) ([]byte, error)
	turn  chan struct{} // held by the request that fetches

	mu    sync.Mutex
	keys  []Key
	at    time.Time // when keys were fetched
	tried time.Time // when fetch was last called
	err   error     // of that call
}

func (f *fetched) get(ctx context.Context, keyID string) ([]Key, error) {
	if keys := f.known(keyID, freshFor(keyID)); len(keys) > 0 {
		return keys, nil
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.due(keyID) {
		f.refresh(ctx)
	}
	if keys := f.known(keyID, fetchedKept); len(keys) > 0 {
		return keys, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.err
}

// freshFor returns for how long the set serves a token that names a key. If it names
// none, the set does not tell whether the provider has a new key.
func freshFor(keyID string) time.Duration {
	if keyID == "" {
		return fetchInterval
	}
	return fetchedFresh
}

// known returns the keys that keyID can mean, if they are not too old.
func (f *fetched) known(keyID string, age time.Duration) []Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) >= age {
		return nil
	}
	return withID(f.keys, keyID)
}

// due reports whether fetch may be called now, and still has to: another request
// may have done it while this one waited for its turn.
func (f *fetched) due(keyID string) bool {
	if len(f.known(keyID, freshFor(keyID))) > 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tried.IsZero() || time.Since(f.tried) >= fetchInterval
}

// refresh calls fetch. It does not end with the client's request: a client that
// sends requests and hangs up would otherwise keep the new keys out.
func (f *fetched) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	tried := time.Now()
	var keys []Key
	jwks, err := f.fetch(ctx)
	if err == nil {
		keys, err = parseKeys(jwks)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried, f.err = tried, nil
	if err != nil {
		f.err = fmt.Errorf("fetch the JWK Set: %w", err)
		return
	}
	f.keys, f.at = keys, tried
}
