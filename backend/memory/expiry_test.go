//go:build go1.25

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		v := save(t, &b, "k", record("1", time.Minute))

		time.Sleep(time.Minute - time.Nanosecond)
		if _, err := b.Load(ctx, "k"); err != nil {
			t.Fatalf("a nanosecond early: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := b.Load(ctx, "k"); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Load of an expired record: %v", err)
		}
		if err := b.Touch(ctx, "k", time.Now().Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("Touch of an expired record: %v", err)
		}
		rec := record("2", time.Hour)
		rec.Version = v
		_, err := b.Save(ctx, "k", rec)
		var conflict *session.ConflictError
		if !errors.As(err, &conflict) || !conflict.Gone || conflict.Current != nil {
			t.Errorf("Save of an expired record: %#v", err)
		}
	})
}

// Writes to other keys reclaim expired records, even if their deadline was
// moved.
func TestReclaimedAsItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var b memory.Backend
		const n = 2000
		for i := range n {
			save(t, &b, fmt.Sprint("old", i), record("", time.Minute))
		}
		for i := range n / 2 {
			if err := b.Touch(ctx, fmt.Sprint("old", i), time.Now().Add(2*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		for round, want := range []int{n + n/2, 2 * n} {
			time.Sleep(time.Minute + time.Second)
			for i := range n {
				save(t, &b, fmt.Sprint("new", round, "/", i), record("", time.Hour))
			}
			// A shard with few of these keys may have some left.
			if got := b.Len(); got < want || got > want+n/20 {
				t.Errorf("after %d minutes: %d records, want %d", round+1, got, want)
			}
			for i := range 10 * n {
				if err := b.Touch(ctx, fmt.Sprint("new", round, "/", i%n), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.Len(); got != want {
				t.Errorf("after %d minutes: %d records, want %d", round+1, got, want)
			}
		}
	})
}

func TestDeadOnArrivalTakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, memory.Config{MaxRecords: 1})
		v := save(t, b, "a", record("", time.Hour))
		dead := record("", 0)
		dead.Version = v
		save(t, b, "a", dead)
		save(t, b, "b", record("", 0))
		if n := b.Len(); n != 0 {
			t.Errorf("Len is %d, want 0", n)
		}
	})
}

func TestFullReclaimsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b := newBackend(t, memory.Config{MaxRecords: 100})
		for i := range 99 {
			save(t, b, fmt.Sprint(i), record("", time.Hour))
		}
		save(t, b, "short", record("", time.Minute))
		if _, err := b.Save(ctx, "one more", record("", time.Hour)); !errors.Is(err, memory.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
		time.Sleep(time.Minute + time.Second)
		save(t, b, "one more", record("", time.Hour))
		if _, err := b.Save(ctx, "and another", record("", time.Hour)); !errors.Is(err, memory.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}

		// Shortened, a record is reclaimed at its new deadline.
		rec, err := b.Load(ctx, "7")
		if err != nil {
			t.Fatal(err)
		}
		rec.Expires = time.Now().Add(time.Minute)
		save(t, b, "7", rec)
		time.Sleep(time.Minute + time.Second)
		save(t, b, "and another", record("", time.Hour))

		// The reclaiming clock cannot name this deadline; nothing may spin.
		b = newBackend(t, memory.Config{MaxRecords: 1})
		save(t, b, "far", session.Record{Expires: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)})
		time.Sleep(time.Until(time.Date(2107, 1, 1, 0, 0, 0, 0, time.UTC)))
		if _, err := b.Save(ctx, "near", record("", time.Hour)); !errors.Is(err, memory.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
	})
}

// A Save with KeepLater leaves the later deadline, even if its own has passed.
func TestKeepLater(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given time.Duration
		keeps bool
		want  time.Duration // 0: the record is gone
	}{
		{"later", 2 * time.Hour, true, 2 * time.Hour},
		{"earlier", time.Minute, true, time.Hour},
		{"past", -time.Minute, true, time.Hour},
		{"now", 0, true, time.Hour},
		{"earlier, and it means to", time.Minute, false, time.Minute},
		{"past, and it means to", -time.Minute, false, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			var b memory.Backend
			v := save(t, &b, "k", record("1", time.Hour))
			start := time.Now()
			rec := record("2", tt.given)
			rec.Version, rec.KeepLater = v, tt.keeps
			save(t, &b, "k", rec)
			got, err := b.Load(ctx, "k")
			switch {
			case tt.want == 0:
				if !errors.Is(err, session.ErrNotFound) {
					t.Errorf("%s: %v", tt.name, err)
				}
			case err != nil || !got.Expires.Equal(start.Add(tt.want)) || string(got.Data) != "2":
				t.Errorf("%s: %+v, %v", tt.name, got, err)
			}
			// A Save that creates has no deadline to keep.
			rec = record("", -time.Minute)
			rec.KeepLater = true
			save(t, &b, "new", rec)
			if _, err := b.Load(ctx, "new"); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
	}
}
