package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// The values of a session.
var (
	visits  = session.Key[int]{Name: "visits"}
	cart    = session.Key[map[string]int]{Name: "cart"} // how many, by the tea's ID
	message = session.Key[string]{Name: "message"}      // for the next page, once
)

// demoPassword is the password of every user. A real shop keeps a salted hash for
// each user.
const demoPassword = "tea"

// storeTimeout bounds the time that a visitor waits for the store.
const storeTimeout = 5 * time.Second

//go:embed templates style.css live.js
var files embed.FS

type shop struct {
	sessions *session.Manager
	pages    map[string]*template.Template
	site     site
	log      *slog.Logger
	closing  <-chan struct{} // closed when the streams are to end
}

// site is what the shop has around it.
type site struct {
	store string   // where sessions are kept, in words
	php   *url.URL // a server with pages in PHP, nil if there is none
}

// newShop returns the whole application over backend. Its streams end when closing
// is closed, because a server waits for them.
func newShop(backend session.Backend, site site, log *slog.Logger, closing <-chan struct{}) (http.Handler, error) {
	sh := &shop{site: site, log: log, closing: closing, pages: make(map[string]*template.Template)}
	for _, name := range []string{"catalogue", "cart", "account", "confirm", "login", "error"} {
		t, err := template.ParseFS(files, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		sh.pages[name] = t
	}
	cfg := session.Config{
		// The demo uses plain HTTP on this machine. With HTTPS, leave Cookie out:
		// then the cookie is sent over HTTPS only.
		Cookie:       session.Cookie{InsecureHTTP: true},
		Owners:       session.OwnersConfig{Index: true}, // members see where they are logged in
		ErrorHandler: sh.sessionError,
		Observer:     observer{log},
	}
	if site.php != nil {
		cfg = besidePHP(cfg)
	}
	var err error
	sh.sessions, err = session.New(backend, cfg)
	if err != nil {
		return nil, err
	}

	readOnly, err := sh.sessions.With(session.Route{Mode: session.ReadOnly})
	if err != nil {
		return nil, err
	}
	fresh, err := sh.sessions.With(session.Route{FreshWithin: freshWithin})
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /style.css", file) // never gets its session, so it costs no store call
	mux.HandleFunc("GET /live.js", file)
	mux.Handle("GET "+eventsPath, readOnly.HandlerFunc(sh.events))
	mux.Handle("GET /login", sh.sessions.HandlerFunc(sh.loginPage))
	mux.Handle("POST /login", sh.sessions.HandlerFunc(sh.login))
	mux.Handle("POST /logout", sh.sessions.HandlerFunc(sh.logout))
	mux.Handle("GET /{$}", sh.sessions.HandlerFunc(members(sh.catalogue)))
	mux.Handle("GET /cart", sh.sessions.HandlerFunc(members(sh.showCart)))
	mux.Handle("POST /cart", sh.sessions.HandlerFunc(members(sh.changeCart)))
	mux.Handle("GET /account", sh.sessions.HandlerFunc(members(sh.account)))
	mux.Handle("POST /account", sh.sessions.HandlerFunc(members(sh.endSession)))
	mux.Handle("POST /account/others", fresh.HandlerFunc(members(sh.endOthers)))
	mux.Handle("GET /confirm", sh.sessions.HandlerFunc(members(sh.confirmPage)))
	mux.Handle("POST /confirm", sh.sessions.HandlerFunc(members(sh.confirm)))
	if site.php != nil {
		mux.Handle(phpPath, phpPages(site.php))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { sh.errorPage(w, r, http.StatusNotFound) })

	csrf := http.NewCrossOriginProtection()
	csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sh.errorPage(w, r, http.StatusForbidden)
	}))
	return sh.outer(csrf.Handler(sh.sessions.Handler(mux))), nil
}

// outer handles every request first.
func (sh *shop) outer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx := r.Context()
		if r.URL.Path != eventsPath {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, storeTimeout)
			defer cancel()
		}
		ctx, spent := withCost(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r.WithContext(ctx))
		sh.log.InfoContext(ctx, "request", "method", r.Method, "path", r.URL.Path, "cost", spent.String(), "took", time.Since(began).Round(time.Microsecond))
	})
}

// A handler answers a request that has a session. Its error goes to
// sessionError.
type handler func(w http.ResponseWriter, r *http.Request, s *session.Session) error

// members sends visitors who are not logged in to the login page.
func members(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		user, err := s.User()
		if err != nil {
			return err
		}
		if user == "" {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return nil
		}
		return h(w, r, s)
	}
}

const wrongPassword = "That is not the password."

// loginForm has the contents of the login page.
type loginForm struct {
	Name, Problem string
	LoggedOut     bool
}

func (sh *shop) loginPage(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err != nil {
		return err
	}
	if user != "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	return sh.render(w, r, s, "login", page{Title: "Log in", Data: loginForm{LoggedOut: r.URL.Query().Has("bye")}})
}

func (sh *shop) login(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	form := loginForm{Name: strings.TrimSpace(r.PostFormValue("name"))}
	switch {
	case form.Name == "" || utf8.RuneCountInString(form.Name) > 40:
		form.Problem = "Please give a name of at most 40 characters."
	case !isPassword(r.PostFormValue("password")):
		form.Problem = wrongPassword
	}
	if form.Problem != "" {
		return sh.render(w, r, s, "login", page{Title: "Log in", Status: http.StatusUnprocessableEntity, Data: form})
	}
	// Login gives the session a new ID, so that an attacker who planted or saw
	// the old one cannot use it.
	if err := s.LoginWith(session.Login{User: form.Name, Methods: []string{"pwd"}, Note: note(r)}); err != nil {
		return err
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func (sh *shop) logout(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	if err := s.Destroy(r.Context()); err != nil {
		return err
	}
	// A message would need a new session. The query costs nothing.
	http.Redirect(w, r, "/login?bye", http.StatusSeeOther)
	return nil
}

func (sh *shop) catalogue(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	n, err := visits.Update(s, func(n int) int { return n + 1 })
	if err != nil {
		return err
	}
	text, _, err := message.Take(s)
	if err != nil {
		return err
	}
	data := struct {
		Visits int
		Teas   []tea
	}{n, teas}
	return sh.render(w, r, s, "catalogue", page{Title: "Our teas", Message: text, Data: data})
}

// line is a line of the cart.
type line struct {
	Tea      tea
	Quantity int
	Total    money
}

func (sh *shop) showCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	text, _, err := message.Take(s)
	if err != nil {
		return err
	}
	quantities, err := cart.Get(s)
	if err != nil {
		return err
	}
	var data struct {
		Lines []line
		Total money
	}
	for _, t := range teas {
		if n := quantities[t.ID]; n > 0 {
			l := line{Tea: t, Quantity: n, Total: t.Price * money(n)}
			data.Lines = append(data.Lines, l)
			data.Total += l.Total
		}
	}
	return sh.render(w, r, s, "cart", page{Title: "Your cart", Message: text, Data: data})
}

func (sh *shop) changeCart(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	t, ok := findTea(r.PostFormValue("tea"))
	if !ok {
		sh.errorPage(w, r, http.StatusNotFound)
		return nil
	}
	back, text := "/cart", ""
	var change func(n int) int
	switch r.PostFormValue("do") {
	case "add":
		change = func(n int) int { return min(n+1, 99) }
		back, text = "/#"+t.ID, t.Name+" is in your cart."
	case "more":
		change = func(n int) int { return min(n+1, 99) }
	case "fewer":
		change = func(n int) int { return n - 1 }
	case "remove":
		change = func(int) int { return 0 }
		text = t.Name + " is no longer in your cart."
	default:
		sh.errorPage(w, r, http.StatusBadRequest)
		return nil
	}
	// Update, and not Get and Set: if another tab changes the cart at the
	// same time, this change is applied again to the cart that the tab stored.
	_, err := cart.Update(s, func(quantities map[string]int) map[string]int {
		if quantities == nil {
			quantities = make(map[string]int)
		}
		quantities[t.ID] = change(quantities[t.ID])
		if quantities[t.ID] <= 0 {
			delete(quantities, t.ID)
		}
		return quantities
	})
	if err == nil && text != "" {
		err = message.Set(s, text)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}

// account shows the session itself, and the others of its user.
func (sh *shop) account(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	text, _, err := message.Take(s)
	if err != nil {
		return err
	}
	user, err := s.User()
	if err != nil {
		return err
	}
	all, err := sh.memberSessions(r, user)
	if err != nil {
		return err
	}
	data := struct {
		Created, Expires time.Time
		Names            []string
		Sessions         []session.Entry
	}{s.Created().UTC(), s.Expires().UTC(), s.Names(), all}
	return sh.render(w, r, s, "account", page{Title: "Your session", Message: text, Data: data})
}

// page has the contents of the layout around the Data of a page.
type page struct {
	Status  int // default 200
	Title   string
	User    string // "": not logged in, and no navigation
	InCart  int
	Message string
	Store   string
	Cost    *cost
	Data    any
}

// render answers with a page. The Handler would save the session when the page is
// sent; saving it now lets the page show the cost.
func (sh *shop) render(w http.ResponseWriter, r *http.Request, s *session.Session, name string, p page) error {
	if err := s.Save(r.Context()); err != nil {
		return err
	}
	var err error
	if p.User, err = s.User(); err != nil {
		return err
	}
	quantities, err := cart.Get(s)
	if err != nil {
		return err
	}
	for _, n := range quantities {
		p.InCart += n
	}
	sh.write(w, r, name, p)
	return nil
}

func (sh *shop) write(w http.ResponseWriter, r *http.Request, name string, p page) {
	p.Store = sh.site.store
	p.Cost, _ = r.Context().Value(costKey{}).(*cost)
	var buf bytes.Buffer // so that a template that fails does not send half a page
	if err := sh.pages[name].ExecuteTemplate(&buf, "layout", p); err != nil {
		sh.log.ErrorContext(r.Context(), "template", "page", name, "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Status != 0 {
		w.WriteHeader(p.Status)
	}
	if _, err := buf.WriteTo(w); err != nil {
		sh.log.DebugContext(r.Context(), "page not sent", "err", err)
	}
}

// sessionError is the ErrorHandler of the sessions. It has no session to show.
func (sh *shop) sessionError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, session.ErrNotFresh) {
		http.Redirect(w, r, "/confirm", http.StatusSeeOther) // from where members leads those who are not logged in
		return
	}
	sh.log.ErrorContext(r.Context(), "session", "err", err)
	sh.errorPage(w, r, session.Status(err))
}

func (sh *shop) errorPage(w http.ResponseWriter, r *http.Request, status int) {
	title, text := "Something went wrong", "That was our fault. The shop's keeper has been told."
	switch status {
	case http.StatusBadRequest:
		title, text = "We did not understand", "The form that was sent is not one of ours."
	case http.StatusForbidden:
		title, text = "Not from here", "That request came from another site, so we did not follow it."
	case http.StatusNotFound:
		title, text = "Nothing on this shelf", "There is no such page in the shop."
	case http.StatusConflict:
		title, text = "That crossed with something else", "Your session changed or ended while we were busy with it. Please look again before you repeat what you did."
	case http.StatusServiceUnavailable:
		title, text = "Back in a moment", "We cannot reach our records right now. What is in your cart stays there. Please try again shortly."
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("Cache-Control", "no-store")
	sh.write(w, r, "error", page{Title: title, Status: status, Data: text})
}

// file answers with the file that the path names.
func file(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=600")
	http.ServeFileFS(w, r, files, r.URL.Path[1:])
}
