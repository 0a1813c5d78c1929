//go:build go1.25

package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// eachBesidePHP runs a test on an empty table of each kind, with the clock of
// synctest.
func eachBesidePHP(t *testing.T, test func(t *testing.T, f *fake, b *Backend, h *handler)) {
	t.Helper()
	for name, php := range besidePHP {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				test(t, f, newBackend(t, f, quick(Config{PHP: php})), newHandler(t, f))
			})
		})
	}
}

// Each row that PHP's handler has stored is a session, and PHP reads what is saved
// over it.
func TestPHPItems(t *testing.T) {
	var stored []struct {
		Case, Type, Handler string
		Item                map[string]*value
	}
	readJSON(t, "testdata/php_items.json", &stored)
	if len(stored) != 27 {
		t.Fatalf("%d items", len(stored))
	}
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
		for _, s := range stored {
			row := item{}
			for name, v := range s.Item {
				row[name] = v.attribute()
			}
			row["id"], row["expires"] = text(key), h.expires()
			f.items[key] = row
			rec := mustLoad(t, b)
			if got, want := string(rec.Data), h.sees(); got != want {
				t.Errorf("%+v: data %q, want %q", s, got, want)
			}
			if want := time.Now().Add(h.life).Truncate(time.Second); !rec.Expires.Equal(want) || !rec.Created.Equal(time.Now()) {
				t.Errorf("%+v: Expires %v, want %v; Created %v, want now", s, rec.Expires, want, rec.Created)
			}
			n := f.count()
			rec.Version = mustSave(t, b, replaced(rec, rec.Version, string(rec.Data)+"!"))
			if got := h.sees(); got != string(rec.Data)+"!" {
				t.Errorf("%+v: PHP sees %q after a Save of %q", s, got, string(rec.Data)+"!")
			}
			if got := f.count() - n; got != 2 { // with that of PHP
				t.Errorf("%d requests", got)
			}
			if again := mustLoad(t, b); again.Version != rec.Version {
				t.Errorf("%+v: the version is not that of the Save", s)
			}
			if s.Case == "empty" && s.Handler == "php" {
				mustSave(t, b, replaced(rec, rec.Version, ""))
				if _, there := f.items[key]["data"]; there {
					t.Error("an empty session has data")
				}
			}
		}
	})
}

// A Save over what PHP has changed meanwhile conflicts, and one over what PHP has
// only used does not.
func TestPHPWrites(t *testing.T) {
	own := func(t *testing.T, b *Backend, _ *handler) { mustSave(t, b, record("one")) }
	php := func(_ *testing.T, _ *Backend, h *handler) { h.write("one") }
	for _, tt := range []struct {
		name  string
		start func(*testing.T, *Backend, *handler)
		first func(*handler)
		want  int
		stock bool // other connections change the version
		ended int  // the outcome for a Save that ends, if it differs
	}{
		{"its own", php, func(*handler) {}, success, false, 0},
		{"its own, changed", php, func(h *handler) { h.write("two") }, conflicts, false, 0},
		{"its own, the type changed", php, func(h *handler) { h.must("write (binary type)", bytesOf("one")) }, conflicts, false, 0},
		{"its own, used", php, func(h *handler) { h.touch() }, success, false, 0},
		{"its own, emptied", php, func(h *handler) { h.empty() }, conflicts, false, 0},
		{"its own, destroyed", php, func(h *handler) { h.destroy() }, gone, false, 0},
		{"its own, locked and used", php, func(h *handler) { _, _ = h.lock(); h.must("locking write (unchanged)", nil) }, success, false, 0},
		{"its own, locked and closed", php, func(h *handler) { _, _ = h.lock(); h.must("locking close without a write: unlocks", nil) }, success, false, 0},
		{"its own, locked", php, func(h *handler) { _, _ = h.lock() }, locked, false, 0},
		{"its own, changed and locked", php, func(h *handler) { h.write("two"); _, _ = h.lock() }, locked, false, 0},
		{"ours", own, func(*handler) {}, success, false, 0},
		{"ours, used", own, func(h *handler) { h.touch() }, success, false, 0},
		{"ours, changed", own, func(h *handler) { h.write("two") }, conflicts, true, 0},
		{"ours, the type changed", own, func(h *handler) { h.write("one") }, conflicts, true, 0},
		{"ours, emptied", own, func(h *handler) { h.empty() }, conflicts, true, 0},
		{"ours, locked", own, func(h *handler) { _, _ = h.lock() }, locked, false, 0},
		{"ours, destroyed", own, func(h *handler) { h.destroy() }, gone, false, 0},
		{"ours, made anew", own, func(h *handler) { h.destroy(); h.write("one") }, gone, false, conflicts},
		{"ours, made anew and locked", own, func(h *handler) { h.destroy(); h.write("one"); _, _ = h.lock() }, gone, false, locked},
	} {
		eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
			if tt.stock && !b.stock() {
				return
			}
			b.returnsItems.Store(true)
			for _, ends := range []bool{false, true} {
				f.items = map[string]item{}
				tt.start(t, b, h)
				rec := mustLoad(t, b)
				tt.first(h)
				before, n := f.state(), f.count()
				rec = replaced(rec, rec.Version, "ours")
				if ends {
					rec.Expires = time.Unix(0, 0)
				}
				want := tt.want
				if ends && tt.ended != 0 {
					want = tt.ended
				}
				_, err := b.Save(t.Context(), key, rec)
				checkOutcome(t, fmt.Sprintf("%s, ends %v", tt.name, ends), err, want)
				if got := f.count() - n; got != 1 {
					t.Errorf("%s: %d requests", tt.name, got)
				}
				if want != success && f.state() != before {
					t.Errorf("%s: %s became %s", tt.name, before, f.state())
				}
				var conflict *session.ConflictError
				if want != conflicts || !errors.As(err, &conflict) || conflict.Current == nil {
					continue
				}
				rec.Version = conflict.Current.Version
				if _, err := b.Save(t.Context(), key, rec); err != nil {
					t.Errorf("%s: the next Save: %v", tt.name, err)
				}
			}
		})
	}
}

// A lock of PHP's is respected until this process has seen it unchanged for
// ForeignLease.
func TestPHPLock(t *testing.T) {
	ctx := context.Background()
	acquire := func(b *Backend) error { _, err := b.Acquire(ctx, key, time.Minute); return err }
	save := func(b *Backend) error {
		rec, err := b.Load(ctx, key)
		if err == nil {
			_, err = b.Save(ctx, key, replaced(rec, rec.Version, "ours"))
		}
		return err
	}
	end := func(b *Backend) error {
		rec, err := b.Load(ctx, key)
		if err == nil {
			_, err = b.Save(ctx, key, session.Record{Expires: time.Unix(0, 0), Version: rec.Version})
		}
		return err
	}
	create := func(b *Backend) error { _, err := b.Save(ctx, key, record("ours")); return err }
	for _, tt := range []struct {
		name    string
		remains bool // of a session that was not stored
		call    func(b *Backend) error
	}{{"Acquire", false, acquire}, {"Save", false, save}, {"Save that ends", false, end}, {"Save that creates", true, create}} {
		t.Run(tt.name, func(t *testing.T) {
			eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
				time.Sleep(300 * time.Millisecond)
				if !tt.remains {
					h.write("one")
				}
				if _, err := h.lock(); err != nil {
					t.Fatal(err)
				}
				barred := func() {
					t.Helper()
					err, until := tt.call(b), time.Now()
					var lock *session.LockedError
					switch {
					case tt.remains && errors.Is(err, session.ErrConflict):
					case tt.remains || !errors.As(err, &lock) || !lock.Until.After(until) || lock.Until.After(until.Add(time.Minute)):
						t.Fatalf("got %v", err)
					}
				}
				barred()
				time.Sleep(time.Minute - time.Millisecond)
				barred()
				if !tt.remains {
					if rec := mustLoad(t, b); !rec.LockedUntil.Equal(time.Now().Add(time.Millisecond)) {
						t.Errorf("LockedUntil %v, and it is %v", rec.LockedUntil, time.Now())
					}
					h.touch() // ends the lock
					if _, err := h.lock(); err != nil {
						t.Fatal(err)
					}
					barred()
					time.Sleep(time.Minute - time.Millisecond)
					barred()
				}
				time.Sleep(time.Millisecond)
				if other := newBackend(t, f, quick(b.c)); !tt.remains {
					if err := acquire(other); !errors.Is(err, session.ErrLocked) {
						t.Errorf("a process that has just seen it: %v", err)
					}
				}
				if err := tt.call(b); err != nil {
					t.Fatal(err)
				}
				if l, there := f.items[key]["lock"].(*types.AttributeValueMemberN); there {
					t.Errorf("the lock of PHP's is still there: %v", l.Value)
				}
			})
		})
	}
}

// A lock of ours keeps PHP out, if that locks.
func TestOurLockBesidePHP(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
		h.write("one")
		n := f.count()
		rec := mustAcquire(t, b, time.Minute)
		if _, err := h.lock(); err == nil {
			t.Error("PHP has the lock")
		}
		mustSave(t, b, replaced(rec, rec.Version, "two"))
		if got := f.count() - n; got != 3 {
			t.Errorf("a locked change takes %d requests", got-1)
		}
		if it, err := h.lock(); err != nil || string(it["data"].(*types.AttributeValueMemberB).Value) != "two" {
			t.Errorf("PHP got %v, %v", it, err)
		}
		h.must("locking write (changed)", text("three"))

		rec = mustAcquire(t, b, time.Minute)
		h.write("four") // without the lock
		_, err := b.Save(t.Context(), key, replaced(rec, rec.Version, "five"))
		checkOutcome(t, "a Save of the former holder", err, conflicts)
		checkOutcome(t, "Extend", b.Extend(t.Context(), key, rec.Version, time.Minute), conflicts)
		checkOutcome(t, "Release", b.Release(t.Context(), key, rec.Version, time.Time{}), conflicts)
		if h.sees() != "four" {
			t.Errorf("PHP sees %q", h.sees())
		}
		// PHP leaves lock_until, and a lock of its own beside it is live.
		if _, err := h.lock(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		_, err = b.Acquire(t.Context(), key, time.Minute)
		checkOutcome(t, "Acquire", err, locked)
	})
}

// PHP does not see a private record, and what it writes beside it does not count.
func TestPrivate(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
		h.write("session")
		rec := replaced(mustLoad(t, b), mustLoad(t, b).Version, "marker")
		rec.Private = true
		rec.Version = mustSave(t, b, rec)
		if h.sees() != "" {
			t.Errorf("PHP sees %q", h.sees())
		}
		for _, write := range []func(){func() {}, h.touch, func() { h.write("session") }, func() { _, _ = h.lock() }, h.empty} {
			write()
			got := mustLoad(t, b)
			if string(got.Data) != "marker" || got.Private || got.Version != rec.Version {
				t.Errorf("loaded %+v", got)
			}
		}
		h.write("session")
		rec.Data = []byte("another marker")
		rec.Version = mustSave(t, b, rec)
		if got := mustLoad(t, b); string(got.Data) != "another marker" || h.sees() != "" {
			t.Errorf("loaded %+v, and PHP sees %q", got, h.sees())
		}
		h.write("session")
		rec = replaced(rec, rec.Version, "public")
		rec.Private = false
		rec.Version = mustSave(t, b, rec)
		if got := mustLoad(t, b); string(got.Data) != "public" || h.sees() != "public" || f.items[key]["private"] != nil {
			t.Errorf("loaded %+v, and PHP sees %q", got, h.sees())
		}
	})
	// An ordinary table takes no notice.
	f := newFake()
	b := newBackend(t, f, Config{})
	rec := record("marker")
	rec.Private = true
	mustSave(t, b, rec)
	if f.items[key]["private"] != nil || string(mustLoad(t, b).Data) != "marker" {
		t.Errorf("stored %v", f.items[key])
	}
}

// A response was lost, and PHP wrote before the retry.
func TestLostBesidePHP(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   fault
		between func(*handler)
		want    int
	}{
		{"applied", fault{after: errReset}, func(*handler) {}, success},
		{"applied, used", fault{after: errReset}, func(h *handler) { h.touch() }, success},
		{"applied, changed", fault{after: errReset}, func(h *handler) { h.write("php") }, success},
		{"applied, locked", fault{after: errReset}, func(h *handler) { _, _ = h.lock() }, success},
		{"applied, destroyed", fault{after: errReset}, func(h *handler) { h.destroy() }, gone},
		{"applied, made anew", fault{after: errReset}, func(h *handler) { h.destroy(); h.write("php") }, gone},
		{"lost", fault{lost: errReset}, func(*handler) {}, success},
		{"lost, used", fault{lost: errReset}, func(h *handler) { h.touch() }, success},
		{"lost, changed", fault{lost: errReset}, func(h *handler) { h.write("php") }, unknown},
		{"lost, locked", fault{lost: errReset}, func(h *handler) { _, _ = h.lock() }, unknown},
		{"lost, destroyed", fault{lost: errReset}, func(h *handler) { h.destroy() }, gone},
		{"lost, made anew", fault{lost: errReset}, func(h *handler) { h.destroy(); h.write("php") }, gone},
	} {
		eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
			if !b.stock() && strings.HasSuffix(tt.name, "changed") {
				return
			}
			rec := record("one")
			rec.Version = mustSave(t, b, rec)
			ft := tt.fault
			ft.then = func() { tt.between(h) }
			f.fail(ft)
			v, err := b.Save(t.Context(), key, replaced(rec, rec.Version, "two"))
			checkOutcome(t, tt.name, err, tt.want)
			if tt.want != success {
				return
			}
			_, err = b.Save(t.Context(), key, replaced(rec, v, "three"))
			want := success
			switch {
			case strings.HasSuffix(tt.name, "changed"):
				want = conflicts
			case strings.HasSuffix(tt.name, "locked"):
				want = locked
			}
			checkOutcome(t, tt.name+", the next Save", err, want)
		})
	}
}

// What PHP leaves of a session that it has locked and not stored is no session.
func TestPHPRemains(t *testing.T) {
	ctx := context.Background()
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
		if _, err := h.update("locking read (no item)", nil); err != nil {
			t.Fatal(err)
		}
		before := f.state()
		_, err := b.Load(ctx, key)
		checkOutcome(t, "Load", err, notFound)
		_, err = b.Acquire(ctx, key, time.Minute)
		checkOutcome(t, "Acquire", err, notFound)
		checkOutcome(t, "Touch", b.Touch(ctx, key, time.Now().Add(time.Hour)), notFound)
		if f.state() != before {
			t.Errorf("%s became %s", before, f.state())
		}
		f.items[key] = item{"id": text(key)} // its lock was removed by hand
		_, err = b.Save(ctx, key, record("ours"))
		checkOutcome(t, "Save", err, success)
	})
}

// A row of 400 KB, and one that DynamoDB does not take.
func TestLargeBesidePHP(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, _ *fake, b *Backend, _ *handler) {
		most := MaxItemSize - b.fixed - len(key) - 12 - tokens*tokenSize
		rec := record(strings.Repeat("x", most))
		rec.Version = mustSave(t, b, rec)
		for range 3 {
			rec = mustLoad(t, b)
			rec.Version = mustSave(t, b, rec)
		}
		rec.Data = append(rec.Data, make([]byte, 200)...)
		_, err := b.Save(t.Context(), key, rec)
		if !errors.Is(err, session.ErrTooLarge) || len(mustLoad(t, b).Data) != most {
			t.Errorf("%v", err)
		}
	})
}

// With DataType String, what PHP has stored as binary is read, and data that is no
// text is refused.
func TestTextBesidePHP(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, h *handler) {
		b = newBackend(t, f, Config{DataType: String, PHP: b.c.PHP})
		h.must("write (binary type)", bytesOf("a|s:1:\"\xff\";"))
		rec := mustLoad(t, b)
		before := f.state()
		_, err := b.Save(t.Context(), key, rec)
		if !errors.Is(err, session.ErrEncode) || f.state() != before {
			t.Errorf("%v: %s became %s", err, before, f.state())
		}
		mustSave(t, b, replaced(rec, rec.Version, "a|s:1:\"x\";"))
		if _, isText := f.items[key]["data"].(*types.AttributeValueMemberS); !isText {
			t.Errorf("stored %v", f.items[key])
		}
	})
}

// A Sweep deletes PHP's sessions that have expired, and what its locks leave behind.
func TestSweepBesidePHP(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, _ *handler) {
		now := time.Now()
		old, soon := now.Add(-time.Hour), now.Add(time.Hour)
		remains := item{"id": text("PHPSESSID_remains"), "lock": number(1)}
		gone := []item{
			php("PHPSESSID_a", old),
			with(php("PHPSESSID_locked", old), "lock", number(1)),
			item{"id": text("PHPSESSID_empty"), "expires": number(old.Unix())},
			with(php("PHPSESSID_stale", old), "lock_until", number(soon.UnixMilli())),
			own("PHPSESSID_own", old),
			with(own("PHPSESSID_own locked by PHP", old), "lock", number(1)),
			with(own("PHPSESSID_private", old), "private", text("x")),
			lockedTo(own("PHPSESSID_lock is over", old), old),
		}
		stay := []item{
			php("PHPSESSID_live", soon), own("PHPSESSID_own live", soon), php("other", old),
			lockedTo(own("PHPSESSID_held", old), soon), with(php("PHPSESSID_for ever", old), "expires", number(0)),
			{"id": text("PHPSESSID_key alone")}, {"id": text("other lock"), "lock": number(1)},
			with(remains, "id", text("PHPSESSID_with data")),
		}
		stay[len(stay)-1]["data"] = text("a|i:1;")
		f.put(gone...)
		f.put(stay...)
		f.put(remains)
		sweep := func(want admin.Report) {
			t.Helper()
			got, err := b.Sweep(t.Context(), admin.SweepOptions{Segments: 1})
			got.ReadUnits, got.WriteUnits, got.Elapsed = 0, 0, 0
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v: %+v, want %+v", err, got, want)
			}
		}
		sweep(admin.Report{Scanned: 17, Expired: 10, Deleted: 9, Kept: 1, Foreign: 2})
		if len(f.items) != len(stay) {
			t.Errorf("left are %q", slices.Sorted(maps.Keys(f.items)))
		}

		// What is stored or unlocked between the scan and its deletion stays.
		for _, change := range []func(it item){
			func(it item) { it["expires"] = number(soon.Unix()) },
			func(it item) { delete(it, "lock") },
		} {
			f.items = map[string]item{"PHPSESSID_remains": maps.Clone(remains)}
			f.fail(fault{then: func() { change(f.items["PHPSESSID_remains"]) }})
			sweep(admin.Report{Scanned: 1, Expired: 1, Kept: 1})
		}
	})
}

// A List has PHP's sessions.
func TestListBesidePHP(t *testing.T) {
	eachBesidePHP(t, func(t *testing.T, f *fake, b *Backend, _ *handler) {
		now := time.Now()
		f.put(php("PHPSESSID_a", now), with(php("PHPSESSID_b", now), "lock", number(1)), own("PHPSESSID_c", now),
			php("other", now), item{"id": text("PHPSESSID_d"), "lock": number(1)}, with(own("PHPSESSID_e", now), "private", text("secret")))
		got := map[string]admin.Entry{}
		if _, err := b.List(t.Context(), admin.ListOptions{}, func(e admin.Entry) error { got[e.Key] = e; return nil }); err != nil {
			t.Fatal(err)
		}
		created := now.Add(-time.Hour).Truncate(time.Second).UTC()
		expires := now.Truncate(time.Second).UTC()
		for key, want := range map[string]admin.Entry{
			"PHPSESSID_a": {DataSize: 6, Expires: expires},
			"PHPSESSID_b": {DataSize: 6, Expires: expires, LockedUntil: now.Add(time.Minute).UTC()},
			"PHPSESSID_c": {DataSize: 4, Expires: expires, Created: created},
			"PHPSESSID_d": {Foreign: true},
			"PHPSESSID_e": {DataSize: 6, Expires: expires, Created: created},
			"other":       {DataSize: 6, Expires: expires, Foreign: true},
		} {
			e := got[key]
			want.Key, want.Size = key, e.Size
			if e != want {
				t.Errorf("%s: %+v, want %+v", key, e, want)
			}
		}
		if len(b.sightings.seen) != 0 {
			t.Error("a List counts as a sight")
		}
	})
}
