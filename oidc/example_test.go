package backchannel_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	backchannel "github.com/seed-a7bee19b/session/oidc"
)

// An idToken has the claims of an ID token that the application's OpenID Connect
// library has verified.
type idToken struct{ Issuer, Subject, SID string }

// finishLogin exchanges the code in the request for an ID token, and verifies it.
func finishLogin(*http.Request) (idToken, error) { return idToken{}, errors.New("not in this example") }

// An application that logs its users in at an OpenID Provider, and out when they
// log out there.
func Example() {
	manager, err := session.New(&memory.Backend{}, session.Config{
		Owners: session.OwnersConfig{Index: true},
	})
	if err != nil {
		log.Fatal(err)
	}

	// The document is at the jwks_uri of the provider's configuration.
	client := &http.Client{Timeout: 5 * time.Second}
	keys, err := backchannel.FetchedKeys(func(ctx context.Context) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://op.example.com/jwks", nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s", r.URL, resp.Status)
		}
		return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	})
	if err != nil {
		log.Fatal(err)
	}
	logout, err := backchannel.New(backchannel.Config{
		Issuer:   "https://op.example.com",
		ClientID: "shop",
		Keys:     keys,
		Sessions: manager,
	})
	if err != nil {
		log.Fatal(err)
	}

	callback := func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		id, err := finishLogin(r)
		if err != nil {
			return err
		}
		err = s.LoginWith(session.Login{
			User:   id.Subject,
			Owners: backchannel.Owners(id.Issuer, id.Subject, id.SID),
		})
		if err != nil {
			return err
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}

	mux := http.NewServeMux()
	mux.Handle("GET /callback", manager.HandlerFunc(callback))
	mux.Handle("POST /backchannel-logout", logout) // registered as backchannel_logout_uri
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadTimeout: 10 * time.Second}
	log.Fatal(srv.ListenAndServe())
}

// An application that knows its users by IDs of its own lists their sessions
// under them anyway, and finds the ID of a subject in its database.
func ExampleConfig_owner() {
	var db *sql.DB
	manager, err := session.New(&memory.Backend{}, session.Config{
		Owners: session.OwnersConfig{Index: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	cfg := backchannel.Config{
		Issuer:   "https://op.example.com",
		ClientID: "shop",
		Sessions: manager,
		Owner: func(ctx context.Context, t backchannel.Token) (session.Owner, error) {
			if t.SID != "" {
				return t.Owner(), nil // LoginWith was given backchannel.SID
			}
			var id string
			err := db.QueryRowContext(ctx, "SELECT id FROM users WHERE issuer = ? AND subject = ?", t.Issuer, t.Subject).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				return t.Owner(), nil // has never logged in here
			}
			return session.User(id), err
		},
	}
	_ = cfg
}

// The keys of a provider in a file, for a machine that cannot reach it.
func ExampleFixedKeys() {
	keys, err := backchannel.FixedKeys([]byte(`{"keys": [{
		"kty": "OKP", "crv": "Ed25519", "kid": "2026-1", "use": "sig",
		"x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	}]}`))
	if err != nil {
		log.Fatal(err)
	}
	found, err := keys(context.Background(), "2026-1")
	fmt.Println(len(found), err)
	// Output: 1 <nil>
}

// Two settings for a provider that does not follow the specification to the
// letter. While you set a provider up, log every refusal.
func ExampleConfig_older() {
	cfg := backchannel.Config{
		Issuer:        "https://op.example.com",
		ClientID:      "shop",
		AllowUntyped:  true,
		AllowNoExpiry: true,
		OnError: func(_ *http.Request, status int, err error) {
			log.Printf("logout token: %d: %v", status, err)
		},
	}
	_ = cfg
}
