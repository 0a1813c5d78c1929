package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// quick has the default number of attempts, and shorter waits between them.
func quick() dynamodb.Config {
	return dynamodb.Config{BackoffBase: time.Millisecond, MaxBackoff: 10 * time.Millisecond}
}

// A call is a call of a backend, with its preparation and its effect.
type call struct {
	name   string
	op     string // of DynamoDB
	absent bool   // no record beforehand
	once   bool   // it is not sent again where it may have been applied
	do     func(ctx context.Context, b session.Backend, before session.Record) (session.Version, error)
	// check examines the stored record after do has succeeded and returned v.
	check func(t *testing.T, b session.Backend, before session.Record, v session.Version)
}

var calls = []call{
	{
		name: "Load", op: "GetItem",
		do: func(ctx context.Context, b session.Backend, before session.Record) (session.Version, error) {
			rec, err := b.Load(ctx, key)
			if err == nil && rec.Version != before.Version {
				err = fmt.Errorf("loaded %+v, want %+v", rec, before)
			}
			return rec.Version, err
		},
		check: unchanged,
	},
	{
		name: "Load of an absent record", op: "GetItem", absent: true,
		do: func(ctx context.Context, b session.Backend, _ session.Record) (session.Version, error) {
			_, err := b.Load(ctx, key)
			if errors.Is(err, session.ErrNotFound) {
				err = nil
			}
			return "", err
		},
		check: absent,
	},
	{
		name: "Save that creates", op: "UpdateItem", absent: true, once: true,
		do: func(ctx context.Context, b session.Backend, _ session.Record) (session.Version, error) {
			return b.Save(ctx, key, record("after"))
		},
		check: isSaved,
	},
	{
		name: "Save that replaces", op: "UpdateItem",
		do: func(ctx context.Context, b session.Backend, before session.Record) (session.Version, error) {
			return b.Save(ctx, key, replacing(record("after"), before.Version))
		},
		check: isSaved,
	},
	{
		name: "Touch", op: "UpdateItem",
		do: func(ctx context.Context, b session.Backend, before session.Record) (session.Version, error) {
			return "", b.Touch(ctx, key, before.Expires.Add(time.Hour))
		},
		check: func(t *testing.T, b session.Backend, before session.Record, _ session.Version) {
			t.Helper()
			before.Expires = before.Expires.Add(time.Hour)
			unchanged(t, b, before, "")
		},
	},
	{
		name: "Delete", op: "DeleteItem",
		do: func(ctx context.Context, b session.Backend, _ session.Record) (session.Version, error) {
			return "", b.Delete(ctx, key)
		},
		check: func(t *testing.T, b session.Backend, before session.Record, _ session.Version) {
			t.Helper()
			absent(t, b, before, "")
			if _, err := b.Save(t.Context(), key, before); !errors.Is(err, session.ErrConflict) {
				t.Errorf("a Save brought the record back: %v", err)
			}
		},
	},
}

func unchanged(t *testing.T, b session.Backend, before session.Record, _ session.Version) {
	t.Helper()
	got := load(t, b, key)
	if string(got.Data) != string(before.Data) || got.Version != before.Version || !got.Expires.Equal(before.Expires) {
		t.Errorf("stored is %+v, want %+v", got, before)
	}
}

func absent(t *testing.T, b session.Backend, _ session.Record, _ session.Version) {
	t.Helper()
	if rec, err := b.Load(t.Context(), key); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("got %+v, %v, want none", rec, err)
	}
}

// isSaved checks that the version that Save returned is the stored one, and that
// a Save can continue from it, so that the record changed once and no other
// write was lost.
func isSaved(t *testing.T, b session.Backend, before session.Record, v session.Version) {
	t.Helper()
	got := load(t, b, key)
	if string(got.Data) != "after" || got.Version != v || got.Version == before.Version {
		t.Errorf("stored is %q with version %x, want \"after\" with version %x", got.Data, got.Version, v)
	}
	save(t, b, key, replacing(record("next"), v))
}

// prepare returns the record that c starts with, loaded past the faults.
func (c call) prepare(t *testing.T, b session.Backend) session.Record {
	t.Helper()
	if c.absent {
		return session.Record{}
	}
	save(t, b, key, record("before"))
	return load(t, b, key)
}

// untouched checks that c had no effect.
func (c call) untouched(t *testing.T, b session.Backend, before session.Record) {
	t.Helper()
	if c.absent {
		absent(t, b, before, "")
	} else {
		unchanged(t, b, before, "")
	}
}

// TestOneFault checks that every call survives every transient fault: it
// succeeds, without a false conflict, and with the effect of one call. Only a
// Save that creates may fail because its outcome is not known.
func TestOneFault(t *testing.T) {
	faults := []struct {
		fault   proxy.Fault
		applied bool // the first attempt has reached the engine
	}{
		{proxy.DropRequest, false},
		{proxy.DropResponse, true},
		{proxy.Throttle, false},
		{proxy.InternalError, false},
		{proxy.Hang, false},
	}
	for _, f := range faults {
		for _, c := range calls {
			t.Run(f.fault.String()+"/"+c.name, func(t *testing.T) {
				config := quick()
				if f.fault == proxy.Hang {
					config.AttemptTimeout = 200 * time.Millisecond
					config.MaxAttempts = 20 // a slow machine may need more than one
				}
				b, p := connect(t, newTable(t, config))
				before := c.prepare(t, b)
				p.Reset()
				p.SetRule(proxy.Nth(c.op, 1, proxy.Action{Fault: f.fault}))
				v, err := c.do(t.Context(), b, before)
				p.SetRule(nil)
				if c.once && f.fault != proxy.Throttle {
					if err == nil || isSentinel(err) || p.Counts()[c.op].Requests != 1 {
						t.Errorf("got %v after %d requests", err, p.Counts()[c.op].Requests)
					}
					return
				}
				if err != nil {
					t.Fatalf("got error %v", err)
				}
				if n := p.Counts()[c.op].Requests; n < 2 || f.fault != proxy.Hang && n != 2 {
					t.Errorf("%d requests, want 2", n)
				}
				c.check(t, b, before, v)
			})
		}
	}
}

func isSentinel(err error) bool {
	for _, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// TestStoreDown checks that a permanent fault is an error that describes it, is
// no sentinel, and leaves the record unchanged.
func TestStoreDown(t *testing.T) {
	for _, fault := range []proxy.Fault{proxy.DropRequest, proxy.Throttle, proxy.InternalError} {
		for _, c := range calls {
			t.Run(fault.String()+"/"+c.name, func(t *testing.T) {
				b, p := connect(t, newTable(t, quick()))
				before := c.prepare(t, b)
				p.Reset()
				p.SetRule(proxy.Always(c.op, proxy.Action{Fault: fault}))
				_, err := c.do(t.Context(), b, before)
				p.SetRule(nil)
				if err == nil || isSentinel(err) {
					t.Errorf("got error %v", err)
				}
				want := dynamodb.DefaultMaxAttempts
				if c.once && fault != proxy.Throttle {
					want = 1
				}
				var throttled *types.ProvisionedThroughputExceededException
				if fault == proxy.Throttle && !errors.As(err, &throttled) {
					t.Errorf("the cause is not in the error: %v", err)
				}
				if got := p.Counts()[c.op]; got.Requests != want || got.Applied != 0 {
					t.Errorf("got %+v, want %d requests", got, want)
				}
				c.untouched(t, b, before)
			})
		}
	}
}

// TestHangEndsWithContext checks that every wait is bounded by the context of
// the caller, and that the error says so.
func TestHangEndsWithContext(t *testing.T) {
	for _, c := range calls {
		t.Run(c.name, func(t *testing.T) {
			b, p := connect(t, newTable(t, dynamodb.Config{AttemptTimeout: time.Hour}))
			before := c.prepare(t, b)

			p.SetRule(proxy.Always(c.op, proxy.Action{Fault: proxy.Hang}))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := c.do(ctx, b, before); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deadline: got error %v", err)
			}

			ctx, cancel = context.WithCancel(t.Context())
			defer cancel()
			p.SetRule(proxy.Always(c.op, proxy.Action{Fault: proxy.Hang, Before: cancel}))
			if _, err := c.do(ctx, b, before); !errors.Is(err, context.Canceled) {
				t.Errorf("cancel: got error %v", err)
			}

			p.SetRule(nil)
			c.untouched(t, b, before)
		})
	}
}

// TestSupersededAfterLostResponse lets another client write after a Save whose
// response was lost, before its retry arrives. The Save has been applied: if it
// were called a conflict, the caller would do it twice.
func TestSupersededAfterLostResponse(t *testing.T) {
	table := newTable(t, quick())
	b, p := connect(t, table)
	other, _ := connect(t, table)
	save(t, b, key, record("before"))
	rec := load(t, b, key)
	p.SetRule(proxy.Nth("UpdateItem", 1, proxy.Action{
		Fault: proxy.DropResponse,
		After: func() {
			got, err := other.Load(t.Context(), key)
			if err != nil || string(got.Data) != "ours" {
				t.Errorf("after our request: %q, %v", got.Data, err)
			}
			if _, err := other.Save(t.Context(), key, replacing(record("theirs"), got.Version)); err != nil {
				t.Errorf("the other Save: %v", err)
			}
		},
	}))
	v, err := b.Save(t.Context(), key, replacing(record("ours"), rec.Version))
	if err != nil {
		t.Fatalf("our Save: %v", err)
	}
	if got := load(t, b, key); string(got.Data) != "theirs" {
		t.Errorf("stored is %q, want what the other wrote", got.Data)
	}
	// Our version is that of an earlier state: no write can continue from it.
	if _, err := b.Save(t.Context(), key, replacing(record("ours again"), v)); !errors.Is(err, session.ErrConflict) {
		t.Errorf("the next Save: got error %v, want a conflict", err)
	}
}

// TestDeletedAfterLostResponse deletes the record between a Save that was
// applied and its retry. The retry must not bring it back.
func TestDeletedAfterLostResponse(t *testing.T) {
	table := newTable(t, quick())
	b, p := connect(t, table)
	other, _ := connect(t, table)
	save(t, b, key, record("before"))
	rec := load(t, b, key)
	p.SetRule(proxy.Nth("UpdateItem", 1, proxy.Action{
		Fault: proxy.DropResponse,
		After: func() {
			if err := other.Delete(t.Context(), key); err != nil {
				t.Errorf("the other Delete: %v", err)
			}
		},
	}))
	if _, err := b.Save(t.Context(), key, replacing(record("after"), rec.Version)); !errors.Is(err, session.ErrConflict) || !errors.Is(err, session.ErrNotFound) {
		t.Errorf("got error %v, want one that is ErrConflict and ErrNotFound", err)
	}
	absent(t, b, rec, "")
}

// TestCounterUnderFaults has clients add to one record, each with its own
// connection, while requests and responses are lost. Every addition is there
// once in the end. Additions have names, so that each answer can be checked: a
// Save that is refused as a conflict has not been applied.
func TestCounterUnderFaults(t *testing.T) {
	const clients, increments = 10, 20
	table := newTable(t, quick())
	b, _ := connect(t, table)
	save(t, b, key, record(""))

	var wg sync.WaitGroup
	for i := range clients {
		mine, p := connect(t, table)
		p.SetRule(proxy.Random(uint64(i), map[proxy.Fault]float64{
			proxy.DropRequest:  0.05,
			proxy.DropResponse: 0.05,
			proxy.Throttle:     0.05,
		}))
		wg.Go(func() {
			for n := range increments {
				if err := add(t, mine, fmt.Sprintf("%d.%d", i, n)); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()

	names := strings.Fields(string(load(t, b, key).Data))
	slices.Sort(names)
	if once := slices.Compact(slices.Clone(names)); len(names) != clients*increments || len(once) != len(names) {
		t.Errorf("counted to %d, %d of them different, want %d", len(names), len(once), clients*increments)
	}
}

// add appends name to the stored data, like an application: after a conflict it
// continues from the current record, and after an error with an unknown outcome
// it loads the record.
func add(t *testing.T, b session.Backend, name string) error {
	t.Helper()
	has := func(rec session.Record) bool { return slices.Contains(strings.Fields(string(rec.Data)), name) }
	var rec session.Record
	var err error
	current := false
	for range 1000 {
		if !current {
			if rec, err = b.Load(t.Context(), key); err != nil {
				continue
			}
			if has(rec) {
				return nil
			}
		}
		current = false
		var conflict *session.ConflictError
		_, err = b.Save(t.Context(), key, replacing(record(string(rec.Data)+" "+name), rec.Version))
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &conflict):
			t.Logf("outcome open: %v", err)
		case conflict.Gone:
			return err
		case conflict.Current != nil:
			rec, current = *conflict.Current, true
			if has(rec) {
				return fmt.Errorf("a false conflict: %w", err)
			}
		}
	}
	return fmt.Errorf("no luck in 1000 rounds, lastly: %w", err)
}
