package scsstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	scsstore "github.com/seed-a7bee19b/session/adapter/scs"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// A SessionManager of scs calls the Store as this handler does. With scs:
//
//	m := scs.New()
//	m.Store = store
//	http.ListenAndServe(addr, store.Handler(m.LoadAndSave(mux)))
func Example() {
	store, err := scsstore.New(&memory.Backend{}, scsstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	expiry := time.Now().Add(24 * time.Hour)
	h := store.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		old, found, err := store.FindCtx(r.Context(), "token")
		fmt.Printf("%q %t %v\n", old, found, err)
		if err := store.CommitCtx(r.Context(), "token", append(old, 'x'), expiry); err != nil {
			fmt.Println(err)
		}
	}))
	for range 2 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
	// Output:
	// "" false <nil>
	// "x" true <nil>
}

// textOnly stores text only.
type textOnly struct{ session.Backend }

func (textOnly) TextOnly() bool { return true }

// textCodec writes JSON.
type textCodec struct{}

func (textCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	return json.Marshal([]any{deadline, values})
}

func (textCodec) Decode(b []byte) (deadline time.Time, values map[string]any, err error) {
	return deadline, values, json.Unmarshal(b, &[]any{&deadline, &values})
}

func TestNew(t *testing.T) {
	b := &memory.Backend{}
	tests := []struct {
		name string
		b    session.Backend
		c    scsstore.Config
		ok   bool
	}{
		{"defaults", b, scsstore.Config{}, true},
		{"no Backend", nil, scsstore.Config{}, false},
		{"timeout", b, scsstore.Config{Timeout: -1}, false},
		{"text", textOnly{b}, scsstore.Config{Codec: textCodec{}}, true},
		{"text, gob", textOnly{b}, scsstore.Config{}, false},
	}
	for _, tt := range tests {
		if _, err := scsstore.New(tt.b, tt.c); err == nil != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestScopes: a Handler in a Handler is one scope, and two Stores have two.
func TestScopes(t *testing.T) {
	b := &memory.Backend{}
	store, err := scsstore.New(b, scsstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := scsstore.New(b, scsstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	expiry := time.Now().Add(time.Hour)
	outer := store.Context(t.Context())
	if err := store.CommitCtx(outer, "t", []byte("1"), expiry); err != nil {
		t.Fatal(err)
	}
	if err := store.CommitCtx(store.Context(outer), "t", []byte("2"), expiry); err != nil {
		t.Errorf("in a scope of the scope: %v", err)
	}
	if err := other.CommitCtx(outer, "t", []byte("3"), expiry); err == nil {
		t.Error("another Store has the scope")
	}
	if err := other.CommitCtx(other.Context(outer), "t", []byte("3"), expiry); !errors.Is(err, session.ErrConflict) {
		t.Errorf("without having read it: %v", err)
	}
	// Work that is no request ends with its context.
	ended, cancel := context.WithCancel(outer)
	cancel()
	if err := store.CommitCtx(ended, "t", []byte("4"), expiry); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if err := store.DeleteCtx(ended, "t"); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if got, found, err := store.Find("t"); string(got) != "2" || !found || err != nil {
		t.Errorf("%q, %t, %v", got, found, err)
	}
}

// TestCodec: with the Codec of the manager, a Commit of the values that were read is
// none of a change.
func TestCodec(t *testing.T) {
	store, err := scsstore.New(&memory.Backend{}, scsstore.Config{Codec: textCodec{}})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Hour).UTC()
	encode := func(values map[string]any) []byte {
		b, err := textCodec{}.Encode(deadline, values)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	commit := func(ctx context.Context, b []byte) error { return store.CommitCtx(ctx, "t", b, deadline) }
	if err := commit(store.Context(t.Context()), encode(map[string]any{"a": 1})); err != nil {
		t.Fatal(err)
	}
	slow, quick := store.Context(t.Context()), store.Context(t.Context())
	for _, ctx := range []context.Context{slow, quick} {
		if _, _, err := store.FindCtx(ctx, "t"); err != nil {
			t.Fatal(err)
		}
	}
	if err := commit(quick, encode(map[string]any{"a": 2})); err != nil {
		t.Fatal(err)
	}
	if err := commit(slow, append(encode(map[string]any{"a": 1}), ' ')); err != nil {
		t.Errorf("the same values: %v", err)
	}
	if err := commit(slow, encode(map[string]any{"a": 3})); !errors.Is(err, session.ErrConflict) {
		t.Errorf("other values: %v", err)
	}
}
