package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// Server-sent events that end with the session. Browsers repeat the request when the
// stream ends. So the route is read-only: otherwise an open page would keep its
// session alive. And without a user the status is 204, after which they do not try
// again.
func ExampleSession_Watch() {
	manager, err := session.New(&memory.Backend{}, session.Config{})
	if err != nil {
		log.Fatal(err)
	}
	readOnly, err := manager.With(session.Route{Mode: session.ReadOnly})
	if err != nil {
		log.Fatal(err)
	}
	news := make(chan string, 1)

	mux := http.NewServeMux()
	mux.Handle("GET /events", readOnly.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user, err := s.User()
		if err != nil {
			return err
		}
		if user == "" {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		ctx, stop, err := s.Watch(r.Context(), session.Watch{})
		if err != nil {
			return err
		}
		defer stop()
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case text := <-news:
				fmt.Fprintf(w, "data: %s\n\n", text)
			case <-ctx.Done():
				if errors.Is(context.Cause(ctx), session.ErrNotFound) {
					fmt.Fprint(w, "event: ended\ndata:\n\n")
				}
				return nil
			}
			if http.NewResponseController(w).Flush() != nil {
				return nil // the client has left
			}
		}
	}))
	mux.Handle("POST /login", manager.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
		return s.Login("ann")
	}))
	mux.Handle("POST /logout", manager.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Destroy(r.Context())
	}))

	server := httptest.NewTLSServer(mux)
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)
	send := func(method, path string) *http.Response {
		r, _ := http.NewRequestWithContext(context.Background(), method, server.URL+path, nil)
		response, err := browser.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		return response
	}
	_ = send("POST", "/login").Body.Close()
	news <- "The tea is ready."
	stream := send("GET", "/events")
	_ = send("POST", "/logout").Body.Close() // from another tab
	text, err := io.ReadAll(stream.Body)
	fmt.Printf("%s%v\n", text, err)
	_ = stream.Body.Close()
	fmt.Println(send("GET", "/events").Status)
	// Output:
	// data: The tea is ready.
	//
	// event: ended
	// data:
	//
	// <nil>
	// 204 No Content
}
