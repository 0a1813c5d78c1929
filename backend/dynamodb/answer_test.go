package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// A proxy answers in place of DynamoDB. No call takes that for an answer.
func TestImpostors(t *testing.T) {
	says := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil // or it would be guessed
			if contentType != "" {
				w.Header().Set("Content-Type", contentType)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // nothing of a 204
		}
	}
	const (
		ours    = "application/x-amz-json-1.0"
		nothing = "an object without members" // to which some calls expect more
	)
	impostors := []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"204", says(204, "", "")},
		{"204 of the right type", says(204, ours, "")},
		{"202", says(202, ours, "{}")},
		{"empty", says(200, "", "")},
		{"empty, of the right type", says(200, ours, "")},
		{"empty page", says(200, "text/html", "")},
		{"page", says(200, "text/html; charset=utf-8", "<html><body>Sign in</body></html>")},
		{"page of the right type", says(200, ours, "<html><body>Sign in</body></html>")},
		{"text", says(200, "text/plain", "OK")},
		{"JSON without a type", says(200, "", "{}")},
		{"JSON of the wrong type", says(200, "application/json", "{}")},
		{"JSON of something else", says(200, "application/json", `{"status":"ok"}`)},
		{"JSON of something else, of the right type", says(200, ours, `{"status":"ok","items":[1,{"Item":2}]}`)},
		{"an error that says that it is none", says(200, ours, `{"__type":"InternalServerError","message":"no"}`)},
		{"null", says(200, ours, "null")},
		{"array", says(200, ours, "[]")},
		{"string", says(200, ours, `"Item"`)},
		{"number", says(200, ours, "0")},
		{"space", says(200, ours, " \r\n")},
		{"half an object", says(200, ours, "{")},
		{"half a member", says(200, ours, `{"status":`)},
		{nothing, says(200, ours, "{}")},
	}
	calls := []struct {
		name   string
		writes bool
		once   bool // it is not sent again
		do     func(ctx context.Context, b *Backend) error
	}{
		{"Load", false, false, func(ctx context.Context, b *Backend) error { _, err := b.Load(ctx, key); return err }},
		{"Save that creates", true, true, func(ctx context.Context, b *Backend) error { _, err := b.Save(ctx, key, record("1")); return err }},
		{"Save", true, false, func(ctx context.Context, b *Backend) error {
			_, err := b.Save(ctx, key, replaced(record(""), "12345678", "1"))
			return err
		}},
		{"Save that ends", true, false, func(ctx context.Context, b *Backend) error {
			_, err := b.Save(ctx, key, session.Record{Expires: time.Unix(0, 0), Version: "12345678"})
			return err
		}},
		{"Touch", true, false, func(ctx context.Context, b *Backend) error { return b.Touch(ctx, key, time.Now()) }},
		{"Delete", true, false, func(ctx context.Context, b *Backend) error { return b.Delete(ctx, key) }},
		{"Acquire", true, false, func(ctx context.Context, b *Backend) error { _, err := b.Acquire(ctx, key, time.Hour); return err }},
		{"Extend", true, false, func(ctx context.Context, b *Backend) error { return b.Extend(ctx, key, someHolder, time.Hour) }},
		{"Release", true, false, func(ctx context.Context, b *Backend) error { return b.Release(ctx, key, someHolder, time.Time{}) }},
		{"CheckTable", false, false, func(ctx context.Context, b *Backend) error { return b.CheckTable(ctx) }},
		{"CreateTable", false, false, func(ctx context.Context, b *Backend) error { return b.CreateTable(ctx, TableOptions{}) }},
		{"List", false, false, func(ctx context.Context, b *Backend) error {
			_, err := b.List(ctx, admin.ListOptions{}, func(admin.Entry) error { return nil })
			return err
		}},
		{"Sweep", false, false, func(ctx context.Context, b *Backend) error {
			_, err := b.Sweep(ctx, admin.SweepOptions{})
			return err
		}},
	}
	for _, impostor := range impostors {
		for _, call := range calls {
			if impostor.name == nothing && !slices.Contains([]string{"Acquire", "CheckTable", "CreateTable", "List", "Sweep"}, call.name) {
				continue
			}
			t.Run(impostor.name+"/"+call.name, func(t *testing.T) {
				t.Parallel()
				cfg, n := answers(t, impostor.answer)
				b, err := New(cfg, quick(Config{MaxAttempts: 2}))
				if err != nil {
					t.Fatal(err)
				}
				err = call.do(t.Context(), b)
				if err == nil {
					t.Fatal("it succeeds")
				}
				for _, sentinel := range []error{
					session.ErrNotFound, session.ErrConflict, session.ErrLocked, session.ErrTooLarge, session.ErrEncode, session.ErrDecode,
				} {
					if errors.Is(err, sentinel) {
						t.Errorf("the error is %v", sentinel)
					}
				}
				var missing *TableError
				if errors.As(err, &missing) {
					t.Errorf("it says something about the table: %v", err)
				}
				if got := strings.Contains(err.Error(), "not known whether it was applied"); got != call.writes {
					t.Errorf("may have been applied: want %v in %v", call.writes, err)
				}
				if (n.Load() == 1) != call.once {
					t.Errorf("%d requests", n.Load())
				}
			})
		}
	}
}

// An answer of DynamoDB after that of an impostor counts.
func TestAfterImpostor(t *testing.T) {
	empty := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	item := answer(200, "", fmt.Sprintf(`{"ConsumedCapacity":{"TableName":"t","CapacityUnits":1},"Item":{
		"id":{"S":"k"},"data":{"B":"eA=="},"version":{"B":"MTIzNDU2Nzg="},"created":{"N":"1"},"expires":{"N":"%d"}}}`, time.Now().Add(time.Hour).Unix()))
	cfg, _ := answers(t, empty, item)
	b, err := New(cfg, quick(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := b.Load(t.Context(), key); err != nil || string(rec.Data) != "x" {
		t.Errorf("%q, %v", rec.Data, err)
	}
	cfg, _ = answers(t, empty, ok)
	if b, err = New(cfg, quick(Config{})); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Load(t.Context(), key); !errors.Is(err, session.ErrNotFound) {
		t.Error(err)
	}
	cfg, _ = answers(t, answer(200, "", `{"NewMember":{"Item":[]},"Attributes":{}}`))
	if b, err = New(cfg, quick(Config{MaxAttempts: 1})); err != nil {
		t.Fatal(err)
	}
	if err := b.Touch(t.Context(), key, time.Now()); err != nil {
		t.Errorf("a member that is not known yet: %v", err)
	}
}
