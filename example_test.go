package session_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// A complete program: a page that counts its visits.
func Example() {
	manager, err := session.New(&memory.Backend{}, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	visits := session.Key[int]{Name: "visits"}

	handler := manager.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		n, err := visits.Update(s, func(n int) int { return n + 1 })
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "visit %d", n)
		return nil
	})

	server := httptest.NewTLSServer(handler)
	defer server.Close()
	client := server.Client()
	client.Jar, _ = cookiejar.New(nil)
	for range 3 {
		response, err := client.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		page := make([]byte, 100)
		n, _ := response.Body.Read(page)
		_ = response.Body.Close()
		fmt.Printf("%s\n", page[:n])
	}
	// Output:
	// visit 1
	// visit 2
	// visit 3
}

func ExampleNew() {
	_, err := session.New(&memory.Backend{}, session.Config{
		IdleTimeout:     30 * time.Minute,
		AbsoluteTimeout: 8 * time.Hour,
		Cookie:          session.Cookie{Name: "__Host-shop", Persistent: true},
		Codec:           codec.JSON{},
	})
	fmt.Println(err)

	// New reports all mistakes at once.
	_, err = session.New(&memory.Backend{}, session.Config{
		IdleTimeout: time.Millisecond,
		Cookie:      session.Cookie{Name: "__Host-shop", Domain: "example.com"},
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// session: IdleTimeout is 1ms; it must be at least 1s, or Never
	// session: Cookie: the name "__Host-shop" needs Path "/" and no Domain
}

// An error that the handler returns goes to the ErrorHandler, as do errors of
// getting and saving the session. The changes of the handler are dropped.
func ExampleManager_HandlerFunc() {
	errTeapot := errors.New("no coffee here")
	manager, err := session.New(&memory.Backend{}, session.Config{
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status := session.Status(err)
			if errors.Is(err, errTeapot) {
				status = http.StatusTeapot
			}
			http.Error(w, err.Error(), status)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	orders := session.Key[int]{Name: "orders"}
	order := manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		n, err := orders.Update(s, func(n int) int { return n + 1 })
		switch {
		case err != nil:
			return err
		case r.FormValue("what") == "coffee":
			return errTeapot
		}
		fmt.Fprintln(w, "order", n)
		return nil
	})
	for _, url := range []string{"/?what=tea", "/?what=coffee"} {
		w := httptest.NewRecorder()
		order.ServeHTTP(w, httptest.NewRequest("POST", url, nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	// Output:
	// 200 order 1
	// 418 no coffee here
}

// Outside net/http, open a session with its token, and save and close it.
func ExampleManager_Open() {
	ctx := context.Background()
	manager, err := session.New(&memory.Backend{}, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	name := session.Key[string]{Name: "name"}

	s := manager.Start()
	_ = name.Set(s, "Gopher")
	if err := s.Save(ctx); err != nil {
		log.Fatal(err)
	}
	token := s.Token().Reveal() // goes to the client

	s, err = manager.Open(ctx, token)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close(ctx) // drops unsaved changes
	fmt.Println(name.Get(s))
	fmt.Println(s.Token()) // a token is never printed by accident
	// Output:
	// Gopher <nil>
	// [session token]
}

// Login binds the session to a user and gives it a new ID. The visitor's cart
// stays.
func ExampleSession_Login() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	http.Handle("POST /login", manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		// Check the password first.
		if err := s.Login(r.FormValue("user")); err != nil {
			return err
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}))
}

// Destroy deletes the session at once, and returns an error if it could not.
func ExampleSession_Destroy() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	http.Handle("POST /logout", manager.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if err := s.Destroy(r.Context()); err != nil {
			return err
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}))
}

// With makes routes with other settings. They may be nested in the Handler of
// the whole site.
func ExampleManager_With() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	readOnly, err := manager.With(session.Route{Mode: session.ReadOnly})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/report", readOnly.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Println(s.Set("x", 1))
		return nil
	}))
	manager.Handler(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/report", nil))
	// Output: session: set "x": read-only
}

// Two requests read the same session and change the same value. Update loses
// neither change, without a lock.
func ExampleKey_Update() {
	ctx := context.Background()
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	cart := session.Key[[]string]{Name: "cart"}
	add := func(s *session.Session, item string) {
		_, _ = cart.Update(s, func(items []string) []string { return append(items, item) })
	}
	s := manager.Start()
	add(s, "tea")
	_ = s.Save(ctx)
	token := s.Token().Reveal()

	tab1, _ := manager.Open(ctx, token)
	tab2, _ := manager.Open(ctx, token)
	add(tab1, "milk")
	add(tab2, "cake")
	fmt.Println(tab1.Save(ctx), tab2.Save(ctx))

	s, _ = manager.Open(ctx, token)
	fmt.Println(cart.Get(s))
	// Output:
	// <nil> <nil>
	// [tea milk cake] <nil>
}

// Two requests of one client add a guest at once, and there is room for one.
// Saving the second request calls its function again; it refuses, and Save fails
// with its error.
func ExampleKey_TryUpdate() {
	ctx := context.Background()
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	errNoRoom := errors.New("the table has room for two")
	guests := session.Key[[]string]{Name: "guests"}
	invite := func(s *session.Session, name string) error {
		_, err := guests.TryUpdate(s, func(names []string) ([]string, error) {
			if len(names) == 2 {
				return nil, errNoRoom
			}
			return append(names, name), nil
		})
		return err
	}
	s := manager.Start()
	_ = invite(s, "ann")
	_ = s.Save(ctx)
	token := s.Token().Reveal()

	tab1, _ := manager.Open(ctx, token)
	tab2, _ := manager.Open(ctx, token)
	fmt.Println(invite(tab1, "ben"), invite(tab2, "cid"))
	fmt.Println(tab1.Save(ctx))
	fmt.Println(tab2.Save(ctx))

	s, _ = manager.Open(ctx, token)
	fmt.Println(guests.Get(s))
	// Output:
	// <nil> <nil>
	// <nil>
	// the table has room for two
	// [ann ben] <nil>
}

// Resolve decides about a value that was Set by two requests at once.
func ExampleKey_resolve() {
	ctx := context.Background()
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	best := session.Key[int]{
		Name:    "best",
		Resolve: func(_, mine, theirs int) int { return max(mine, theirs) },
	}
	s := manager.Start()
	_ = best.Set(s, 10)
	_ = s.Save(ctx)

	first, _ := manager.Open(ctx, s.Token().Reveal())
	second, _ := manager.Open(ctx, s.Token().Reveal())
	_ = best.Set(first, 99)
	_ = best.Set(second, 50)
	_ = first.Save(ctx)
	_ = second.Save(ctx)

	s, _ = manager.Open(ctx, s.Token().Reveal())
	fmt.Println(best.Get(s))
	// Output: 99 <nil>
}

// Take is for messages that are shown once.
func ExampleKey_Take() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	flash := session.Key[string]{Name: "flash"}
	s := manager.Start()
	_ = flash.Set(s, "Saved.")
	fmt.Println(flash.Take(s))
	fmt.Println(flash.Take(s))
	// Output:
	// Saved. true <nil>
	//  false <nil>
}

// A route locks the session if it does something outside the session that must
// not happen twice at once. Its GET requests do not lock.
func ExampleManager_With_exclusive() {
	manager, _ := session.New(&memory.Backend{}, session.Config{})
	locking, err := manager.With(session.Route{Mode: session.Exclusive, SafeMode: session.Merge})
	if err != nil {
		log.Fatal(err) // the backend cannot lock
	}
	paid := session.Key[bool]{Name: "paid"}
	// It waits for the lock. If it times out, the answer is 503 with Retry-After.
	http.Handle("/checkout", locking.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		done, err := paid.Get(s)
		if err != nil {
			return err
		}
		if done {
			fmt.Fprintln(w, "You have paid already.")
			return nil
		}
		// Pay, with r.Context(), which ends if the lock is lost.
		if err := paid.Set(s, true); err != nil {
			return err
		}
		fmt.Fprintln(w, "Thank you.") // saves, and frees the lock
		return nil
	}))
}
