package dynamodb

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/admin"
)

func TestCheckpointFormat(t *testing.T) {
	c := &checkpoint{
		Version: 1, Table: "sessions", Key: "id", Cutoff: 1_700_000_000, Grace: time.Minute, Prefix: "ä-", Foreign: true, DryRun: true,
		Segments: []progress{{After: "<k>"}, {Done: true}, {}},
		Tally:    admin.Report{Scanned: 1, Expired: 2, Deleted: 3, Kept: 4, Skipped: 5, Failed: 6, Foreign: 7, Retried: 8, ReadUnits: 9.5, WriteUnits: 10},
	}
	// What was saved must be read by later versions.
	const want = `{"version":1,"table":"sessions","key_attribute":"id","cutoff":1700000000,"grace":60000000000,` +
		`"key_prefix":"ä-","foreign":true,"dry_run":true,"segments":[{"after":"\u003ck\u003e"},{"done":true},{}],` +
		`"tally":{"scanned":1,"expired":2,"deleted":3,"kept":4,"skipped":5,"failed":6,"foreign":7,"retried":8,"read_units":9.5,"write_units":10}}`
	if got := string(c.encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got, err := decodeCheckpoint([]byte(want))
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestResumeRefuses(t *testing.T) {
	f := expiredItems(30)
	b := newBackend(t, f, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := b.Sweep(ctx, admin.SweepOptions{
		Grace: time.Minute, Segments: 2,
		BeforeBatch: func(ctx context.Context, _ int) error { cancel(); return ctx.Err() },
	})
	if !errors.Is(err, context.Canceled) || r.Checkpoint == nil {
		t.Fatalf("%v, %+v", err, r)
	}
	edit := func(path string, value any) []byte {
		var m map[string]any
		if err := json.Unmarshal(r.Checkpoint, &m); err != nil {
			t.Fatal(err)
		}
		switch value {
		case nil:
			delete(m, path)
		default:
			m[path] = value
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := f.count()
	for _, tt := range []struct {
		name  string
		c     Config
		opts  admin.SweepOptions
		words string
	}{
		{name: "table", c: Config{Table: "other"}, words: `Config.Table sessions, and not with other`},
		{name: "key", c: Config{KeyAttribute: "sid"}, words: "Config.KeyAttribute id, and not with sid"},
		{name: "prefix", opts: admin.SweepOptions{KeyPrefix: "secret"}, words: "another SweepOptions.KeyPrefix"},
		{name: "foreign", opts: admin.SweepOptions{Foreign: true}, words: "SweepOptions.Foreign false, and not with true"},
		{name: "dry run", opts: admin.SweepOptions{DryRun: true}, words: "SweepOptions.DryRun false, and not with true"},
		{name: "grace", opts: admin.SweepOptions{Grace: time.Hour}, words: "SweepOptions.Grace 1m0s, and not with 1h0m0s"},
		{name: "future", opts: admin.SweepOptions{Resume: edit("cutoff", time.Now().Add(time.Minute).Unix())}, words: "in the future"},
		{name: "version", opts: admin.SweepOptions{Resume: edit("version", 2)}, words: "version is 2, not 1"},
		{name: "no version", opts: admin.SweepOptions{Resume: edit("version", nil)}, words: "version is 0, not 1"},
		{name: "unknown field", opts: admin.SweepOptions{Resume: edit("more", 1)}, words: `unknown field "more"`},
		{name: "cutoff", opts: admin.SweepOptions{Resume: edit("cutoff", 1e15)}, words: "cutoff"},
		{name: "no grace", opts: admin.SweepOptions{Resume: edit("grace", nil)}, words: "grace"},
		{name: "no segments", opts: admin.SweepOptions{Resume: edit("segments", nil)}, words: "0 segments"},
		{name: "segment", opts: admin.SweepOptions{Resume: edit("segments", []progress{{After: "k", Done: true}})}, words: "segment 0"},
		{name: "long key", opts: admin.SweepOptions{Resume: edit("segments", []progress{{}, {After: strings.Repeat("k", 2049)}})}, words: "segment 1"},
		{name: "done", opts: admin.SweepOptions{Resume: edit("segments", []progress{{Done: true}, {Done: true}})}, words: "nothing is left to do"},
		{name: "one done", opts: admin.SweepOptions{Resume: edit("segments", []progress{{Done: true}})}, words: "nothing is left to do"},
		{name: "within its grace", opts: admin.SweepOptions{Resume: edit("cutoff", time.Now().Unix())}, words: "in the future"},
		{name: "counter that ends", opts: admin.SweepOptions{Resume: edit("tally", admin.Report{Scanned: 1 << 62})}, words: "larger than any"},
		{name: "units that end", opts: admin.SweepOptions{Resume: edit("tally", admin.Report{WriteUnits: 1.7e308})}, words: "larger than any"},
		{name: "counter", opts: admin.SweepOptions{Resume: edit("tally", admin.Report{Kept: -1})}, words: "negative"},
		{name: "units", opts: admin.SweepOptions{Resume: edit("tally", admin.Report{ReadUnits: -1})}, words: "negative"},
		{name: "half", opts: admin.SweepOptions{Resume: r.Checkpoint[:len(r.Checkpoint)-1]}, words: "not a checkpoint"},
		{name: "twice", opts: admin.SweepOptions{Resume: append(r.Checkpoint[:len(r.Checkpoint):len(r.Checkpoint)], r.Checkpoint...)}, words: "not a checkpoint"},
		{name: "text", opts: admin.SweepOptions{Resume: []byte("Resume me")}, words: "not a checkpoint"},
		{name: "null", opts: admin.SweepOptions{Resume: []byte("null")}, words: "version is 0"},
	} {
		if tt.opts.Resume == nil {
			tt.opts.Resume = r.Checkpoint
		}
		_, err := newBackend(t, f, tt.c).Sweep(t.Context(), tt.opts)
		if !errors.Is(err, ErrResume) || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if f.count() != before {
		t.Error("something was sent")
	}

	// Through admin.Sweep, which fills in the defaults.
	r, err = admin.Sweep(t.Context(), b, admin.SweepOptions{Resume: r.Checkpoint})
	if err != nil || r.Checkpoint != nil || len(f.items) > 0 {
		t.Errorf("%v, %+v", err, r)
	}
}

// Whatever is taken for a checkpoint can be written again, and means the same.
func FuzzCheckpoint(f *testing.F) {
	b := newBackend(f, newFake(), Config{})
	fresh, err := b.begin(admin.SweepOptions{Grace: time.Minute, Segments: 3, Foreign: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fresh.encode())
	fresh.Segments[1] = progress{After: "key"}
	fresh.Segments[2] = progress{Done: true}
	fresh.Tally = admin.Report{Scanned: 1, Expired: 2, Deleted: 3, Kept: 4, Skipped: 5, Failed: 6, Foreign: 7, Retried: 8, ReadUnits: 9.5, WriteUnits: 1e15}
	f.Add(fresh.encode())
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := decodeCheckpoint(text)
		if err != nil {
			if c != nil || !strings.Contains(err.Error(), "SweepOptions.Resume") {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		again, err := decodeCheckpoint(c.encode())
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%+v became %+v: %v", c, again, err)
		}
		// One from the future must not decide what expires.
		resumed, err := b.begin(admin.SweepOptions{
			Grace: c.Grace, KeyPrefix: c.Prefix, Foreign: c.Foreign, DryRun: c.DryRun, Resume: text,
		})
		if err != nil {
			if !errors.Is(err, ErrResume) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if resumed.Cutoff > time.Now().Add(-resumed.Grace).Unix() || resumed.Table != "sessions" || resumed.finished() {
			t.Fatalf("goes on with %+v", resumed)
		}
		// What it counts can be counted on, and noted.
		add(&resumed.Tally, admin.Report{Scanned: 1e15, Expired: 1e15, Deleted: 1e15, Kept: 1e15, Skipped: 1e15, Failed: 1e15, Foreign: 1e15, Retried: 1e15, ReadUnits: 1e15, WriteUnits: 1e15})
		if r := resumed.Tally; resumed.encode() == nil || r.Scanned < 0 || r.Retried < 0 {
			t.Fatalf("cannot note %+v", resumed)
		}
	})
}
