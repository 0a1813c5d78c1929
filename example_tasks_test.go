package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
)

// 1. Count the visits of a visitor.

var visits = session.Key[int]{Name: "visits"}

func countVisit(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
	n, err := visits.Update(s, func(n int) int { return n + 1 })
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "visit %d\n", n)
	return nil
}

// 2. Log in and out, and keep others off a page.

func logIn(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user := r.PostFormValue("user")
	if !checkPassword(user, r.PostFormValue("password")) {
		http.Error(w, "That is not the password.", http.StatusUnauthorized)
		return nil
	}
	if err := s.Login(user); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func logOut(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.Destroy(r.Context()); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func requireLogin(m *session.Manager, next http.Handler) http.Handler {
	return m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user, err := s.User()
		switch {
		case err != nil:
			return err
		case user == "":
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			next.ServeHTTP(w, r)
		}
		return nil
	})
}

// 3. Show a message once, on the next page.

var message = session.Key[string]{Name: "message"}

func saveForm(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := message.Set(s, "Saved."); err != nil {
		return err
	}
	http.Redirect(w, r, "/form", http.StatusSeeOther)
	return nil
}

func showForm(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
	text, _, err := message.Take(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "form", text)
	return nil
}

// 4. Fill a cart that takes 20 items, even if two requests add one at once.

var cart = session.Key[[]string]{Name: "cart"}

var errFull = errors.New("the cart is full")

func addToCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	_, err := cart.TryUpdate(s, func(items []string) ([]string, error) {
		if len(items) >= 20 {
			return nil, errFull
		}
		return append(items, r.PostFormValue("item")), nil
	})
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/cart", http.StatusSeeOther)
	return nil
}

// shopError is the ErrorHandler of the site.
func shopError(w http.ResponseWriter, _ *http.Request, err error) {
	if errors.Is(err, errFull) {
		http.Error(w, "The cart is full.", http.StatusConflict)
		return
	}
	http.Error(w, "Please try again later.", session.Status(err))
}

// 5. Serve a JSON API, whose clients send the token in a header.

func newAPI() (http.Handler, error) {
	m, err := session.New(&memory.Backend{}, session.Config{Header: "Authorization", ErrorHandler: apiError})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /login", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		var in struct{ User, Password string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil
		}
		if !checkPassword(in.User, in.Password) {
			w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		if err := s.Login(in.User); err != nil {
			return err
		}
		if err := s.Save(r.Context()); err != nil { // now, because saving makes the token
			return err
		}
		return json.NewEncoder(w).Encode(map[string]string{"token": s.Token().Reveal()})
	}))
	mux.Handle("GET /me", m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		user, err := s.User()
		if err != nil {
			return err
		}
		if user == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return nil
		}
		return json.NewEncoder(w).Encode(map[string]string{"user": user})
	}))
	return mux, nil
}

func apiError(w http.ResponseWriter, _ *http.Request, err error) {
	w.WriteHeader(session.Status(err))
	_ = json.NewEncoder(w).Encode(map[string]string{"error": http.StatusText(session.Status(err))})
}

// 6. Pay for the cart once, even if the button is pressed twice: the second
// request waits for the lock, and finds an empty cart.

func newCheckout(m *session.Manager) (http.Handler, error) {
	locked, err := m.With(session.Route{Mode: session.Exclusive})
	if err != nil {
		return nil, err
	}
	return locked.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		items, _, err := cart.Take(s)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			fmt.Fprintln(w, "Your cart is empty.")
			return nil
		}
		if err := pay(r.Context(), items); err != nil {
			return err // and the cart stays as it is
		}
		fmt.Fprintln(w, "Thank you.")
		return nil
	}), nil
}

// Stand-ins for the rest of the application.

func checkPassword(_, password string) bool   { return password == "tea" }
func pay(_ context.Context, _ []string) error { return nil }

// Six everyday tasks: count visits, log in and out, show a message once, fill
// a cart, serve an API, and pay. No handler loads or saves its session, and an
// error that it returns goes to the ErrorHandler.
func Example_tasks() {
	m, err := session.New(&memory.Backend{}, session.Config{ErrorHandler: shopError})
	if err != nil {
		log.Fatal(err)
	}
	checkout, err := newCheckout(m)
	if err != nil {
		log.Fatal(err)
	}
	api, err := newAPI()
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /visits", m.HandlerFunc(countVisit))
	mux.Handle("POST /login", m.HandlerFunc(logIn))
	mux.Handle("POST /logout", m.HandlerFunc(logOut))
	mux.Handle("GET /form", requireLogin(m, m.HandlerFunc(showForm)))
	mux.Handle("POST /form", requireLogin(m, m.HandlerFunc(saveForm)))
	mux.Handle("POST /cart", m.HandlerFunc(addToCart))
	mux.Handle("POST /checkout", checkout)
	mux.Handle("/api/", http.StripPrefix("/api", api))

	browse := newBrowser(mux)
	browse("GET", "/visits", "")
	browse("GET", "/visits", "")
	browse("GET", "/form", "")
	browse("POST", "/login", "user=ann&password=milk")
	browse("POST", "/login", "user=ann&password=tea")
	browse("POST", "/form", "")
	browse("GET", "/form", "")
	browse("GET", "/form", "")
	browse("POST", "/cart", "item=tea")
	browse("POST", "/checkout", "")
	browse("POST", "/checkout", "")
	browse("POST", "/logout", "")
	browse("GET", "/form", "")
	browse("GET", "/api/me", "")
	// Output:
	// GET /visits 200 visit 1
	// GET /visits 200 visit 2
	// GET /form 303 to /login
	// POST /login 401 That is not the password.
	// POST /login 303 to /
	// POST /form 303 to /form
	// GET /form 200 form Saved.
	// GET /form 200 form
	// POST /cart 303 to /cart
	// POST /checkout 200 Thank you.
	// POST /checkout 200 Your cart is empty.
	// POST /logout 303 to /
	// GET /form 303 to /login
	// GET /api/me 401
}

// newBrowser returns a function that sends requests to h like a browser, and
// prints the responses.
func newBrowser(h http.Handler) func(method, path, form string) {
	server := httptest.NewTLSServer(h) // the cookie is sent over HTTPS only
	client := server.Client()
	client.Jar, _ = cookiejar.New(nil)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(method, path, form string) {
		r, err := http.NewRequest(method, server.URL+path, strings.NewReader(form))
		if err != nil {
			log.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(r)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		line := fmt.Sprint(method, " ", path, " ", resp.StatusCode, " ", strings.TrimSpace(string(body)))
		if to := resp.Header.Get("Location"); to != "" {
			line = fmt.Sprint(method, " ", path, " ", resp.StatusCode, " to ", to)
		}
		fmt.Println(strings.TrimSpace(line))
	}
}
