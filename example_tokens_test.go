package session_test

import (
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// A site shares its cookie and its store with a program in PHP, whose session IDs
// have 26 letters and digits. Here 26 letters and digits are drawn as well, because
// that program would take '_' away from the ends of an ID. Keys are what it makes of
// an ID, so who reads the table can use what is there.
func ExampleTokens() {
	backend := &memory.Backend{}
	manager, err := session.New(backend, session.Config{
		Cookie: session.Cookie{Name: "PHPSESSID"},
		Tokens: session.Tokens{
			New:       rand.Text,
			Valid:     func(id string) bool { return !strings.ContainsFunc(id, notAlphanumeric) },
			MinLength: 26,
		},
		StoreKey: func(id string) string { return "PHPSESSID_" + id },
	})
	if err != nil {
		log.Fatal(err)
	}
	record, err := session.Pack(codec.MessagePack{}, session.Foreign{
		Values:  map[string]any{"name": "Ann"},
		Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := backend.Save(ctx, "PHPSESSID_0k5s1c7e9g2i4m6o8q3u0a5b7d", record); err != nil {
		log.Fatal(err)
	}

	name := session.Key[string]{Name: "name"}
	hello := manager.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		who, err := name.Get(s)
		fmt.Printf("hello %q, ", who)
		if err != nil || who != "" {
			return err
		}
		return name.Set(s, "stranger")
	})
	for _, id := range []string{"0k5s1c7e9g2i4m6o8q3u0a5b7d", "planted0000000000000000000"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "PHPSESSID="+id)
		w := httptest.NewRecorder()
		hello.ServeHTTP(w, r)
		fmt.Printf("cookies set: %d\n", len(w.Result().Cookies()))
	}
	// Output:
	// hello "Ann", cookies set: 0
	// hello "", cookies set: 1
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
