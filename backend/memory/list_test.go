package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

func TestList(t *testing.T) {
	b := &Backend{}
	const n = 40 * sweepHold // several pages in a shard
	now := time.Now()
	for i := range n {
		rec := session.Record{Data: []byte("data"), Created: now, Expires: now.Add(time.Hour)}
		if _, err := b.Save(t.Context(), fmt.Sprint("key", i), rec); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	report, err := b.List(t.Context(), admin.ListOptions{}, func(e admin.Entry) error {
		if seen[e.Key] || e.Size != recordSize+len(e.Key)+4 {
			t.Fatalf("visit of %+v, %v", e, seen[e.Key])
		}
		seen[e.Key] = true
		return nil
	})
	if err != nil || len(seen) != n || report.Scanned != n {
		t.Errorf("%d visits, %+v, %v", len(seen), report, err)
	}
	if _, err := b.List(t.Context(), admin.ListOptions{ReadUnits: 1}, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("budget: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	visits := 0
	_, err = b.List(ctx, admin.ListOptions{}, func(admin.Entry) error {
		if visits++; visits == 10 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || visits != 10 {
		t.Errorf("cancelled at 10: %d visits, %v", visits, err)
	}
	if _, err := (&Backend{}).List(ctx, admin.ListOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("empty, with a done context: %v", err)
	}
}

// Records come and go while a list is between two pages.
func TestListBesideWrites(t *testing.T) {
	b := &Backend{}
	save := func(key string) {
		rec := session.Record{Created: time.Now(), Expires: time.Now().Add(time.Hour)}
		if _, err := b.Save(t.Context(), key, rec); err != nil && !errors.Is(err, session.ErrConflict) {
			t.Error(err)
		}
	}
	const n = 20 * sweepHold
	for i := range n {
		save(fmt.Sprint("stays", i))
	}
	end := make(chan struct{})
	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			key := fmt.Sprint("goes", i%1000)
			save(key)
			if err := b.Delete(t.Context(), key); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 4 {
		seen := map[string]bool{}
		_, err := b.List(t.Context(), admin.ListOptions{KeyPrefix: "stays"}, func(e admin.Entry) error {
			seen[e.Key] = true
			return nil
		})
		if err != nil || len(seen) != n {
			t.Errorf("%d of %d records were visited, %v", len(seen), n, err)
		}
	}
	close(end)
	writer.Wait()
}
