package session_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/sessiontest"
)

// TestTasksAreShort counts the lines of code of the tasks, and their error
// checks. It does not count the parts that only show them (the imports, the
// Example and its browser), blank lines and comments.
func TestTasksAreShort(t *testing.T) {
	const name = "example_tasks_test.go"
	src, err := os.ReadFile(name)
	check(t, err)
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	check(t, err)
	lines := make(map[int]bool) // with a token on them
	var scan scanner.Scanner
	scan.Init(fset.AddFile(name, -1, len(src)), src, nil, 0)
	for {
		pos, tok, text := scan.Scan()
		if tok == token.EOF {
			break
		}
		if tok != token.SEMICOLON || text == ";" { // else it is a line break
			lines[fset.Position(pos).Line] = true
		}
	}
	n, errs := 0, 0
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.GenDecl:
			if decl.Tok == token.IMPORT {
				continue
			}
		case *ast.FuncDecl:
			if decl.Name.Name == "Example_tasks" || decl.Name.Name == "newBrowser" {
				continue
			}
		}
		from, to := fset.Position(decl.Pos()), fset.Position(decl.End())
		errs += strings.Count(string(src[from.Offset:to.Offset]), " != nil")
		for line := from.Line; line <= to.Line; line++ {
			if lines[line] {
				n++
			}
		}
	}
	t.Logf("the six tasks take %d lines, and ask for an error %d times", n, errs)
	if n == 0 || n > 145 || errs == 0 || errs > 17 {
		t.Error("want 145 and 17 at most")
	}
}

// nineteen is a cart with room for one more.
func nineteen(s *session.Session) error {
	return cart.Set(s, slices.Repeat([]string{"tea"}, 19))
}

// cartOf returns the cart that is stored for the client of r.
func cartOf(t testing.TB, m *session.Manager, r *http.Request) []string {
	t.Helper()
	items, err := cart.Get(sessiontest.Stored(t, m, r, nil))
	check(t, err)
	return items
}

// two sends two requests of r's client to h at once, and returns the number of
// each status.
func two(r *http.Request, h http.Handler) map[int]int {
	var wg sync.WaitGroup
	codes := make(chan int, 2)
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.Clone(ctx))
			codes <- w.Code
		}()
	}
	wg.Wait()
	close(codes)
	got := make(map[int]int)
	for code := range codes {
		got[code]++
	}
	return got
}

// TestCartAtTheLimit has two requests that add an item when there is room for
// one.
func TestCartAtTheLimit(t *testing.T) {
	added, full := http.StatusSeeOther, http.StatusConflict
	for _, tt := range []struct {
		mode   session.Mode
		met    bool // both have read the session before one adds
		want   map[int]int
		stored int
	}{
		{session.Merge, true, map[int]int{added: 1, full: 1}, 20},
		{session.Merge, false, map[int]int{added: 1, full: 1}, 20},
		{session.Exclusive, false, map[int]int{added: 1, full: 1}, 20},
		// The later request replaces the data that the earlier one stored.
		{session.LastWrite, true, map[int]int{added: 2}, 20},
		{session.ReadOnly, true, map[int]int{http.StatusInternalServerError: 2}, 19},
	} {
		t.Run(fmt.Sprintf("%v, met %v", tt.mode, tt.met), func(t *testing.T) {
			for range 20 {
				var store sessiontest.Store
				m := newManager(t, &store, session.Config{Mode: tt.mode, ErrorHandler: shopError})
				r := sessiontest.NewRequest(t, m, "POST", "/cart", nil, nineteen)
				var met sync.WaitGroup
				met.Add(2)
				got := two(r, m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
					if tt.met {
						met.Done()
						met.Wait()
					}
					return addToCart(w, r, s)
				}))
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("told %v, want %v", got, tt.want)
				}
				if n := len(cartOf(t, m, r)); n != tt.stored {
					t.Errorf("%d items are stored, want %d", n, tt.stored)
				}
			}
		})
	}
}

// TestRefusalAfterOtherChanges checks that a merge repeats the changes that a
// request made before its TryUpdate, and that they may make it refuse.
func TestRefusalAfterOtherChanges(t *testing.T) {
	resolving := session.Key[[]string]{
		Name:    cart.Name,
		Resolve: func(_, _, theirs []string) []string { return theirs },
	}
	same := func(items []string) []string { return items }
	for name, tt := range map[string]struct {
		first   func(s *session.Session) error
		refuses bool
	}{
		"nothing":           {func(*session.Session) error { return nil }, true},
		"Update":            {func(s *session.Session) error { return errOf(cart.Update(s, same)) }, true},
		"Set of another":    {func(s *session.Session) error { return note.Set(s, "mine") }, true},
		"Update of another": {func(s *session.Session) error { return errOf(counter.Update(s, inc)) }, true},
		"Resolve": {func(s *session.Session) error {
			return resolving.Set(s, slices.Repeat([]string{"coffee"}, 19))
		}, true},
		// These do not depend on data that others store.
		"Set": {func(s *session.Session) error {
			return cart.Set(s, slices.Repeat([]string{"coffee"}, 19))
		}, false},
		"Clear": {func(s *session.Session) error { return s.Clear() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var store sessiontest.Store
			var got error
			m := newManager(t, &store, session.Config{ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
				got = err
				shopError(w, r, err)
			}})
			r := sessiontest.NewRequest(t, m, "POST", "/cart", nil, nineteen)
			w := httptest.NewRecorder()
			m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
				check(t, tt.first(s))
				other := httptest.NewRecorder() // the second tab is faster
				m.HandlerFunc(addToCart).ServeHTTP(other, r.Clone(ctx))
				if other.Code != http.StatusSeeOther {
					t.Fatalf("the first was told %d", other.Code)
				}
				return addToCart(w, r, s)
			}).ServeHTTP(w, r)
			s := sessiontest.Stored(t, m, r, w.Result())
			items, err := cart.Get(s)
			check(t, err)
			switch {
			case !tt.refuses:
				if got != nil || w.Code != http.StatusSeeOther {
					t.Errorf("told %d, %v", w.Code, got)
				}
			case got != errFull || w.Code != http.StatusConflict:
				t.Errorf("told %d, %v", w.Code, got)
			case len(items) != 20 || s.Has("note") || s.Has("counter"):
				t.Errorf("stored are %d items and %v", len(items), s.Names())
			}
		})
	}
}

// TestUsableAfterARefusal checks that changes that cannot be saved can be
// dropped.
func TestUsableAfterARefusal(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.Exclusive} {
		t.Run(mode.String(), func(t *testing.T) {
			var store sessiontest.Store
			m := newManager(t, &store, session.Config{})
			view, err := m.With(session.Route{Mode: mode})
			check(t, err)
			r := sessiontest.NewRequest(t, m, "POST", "/cart", nil, nineteen)
			token := sessiontest.Stored(t, m, r, nil).Token().Reveal()
			add := func(s *session.Session) error {
				return errOf(cart.TryUpdate(s, func(items []string) ([]string, error) {
					if len(items) >= 20 {
						return nil, errFull
					}
					return append(items, "cake"), nil
				}))
			}
			late, fast := open(t, m, token), open(t, m, token)
			check(t, errors.Join(add(fast), finish(m, fast)))
			if mode == session.Exclusive { // the refusal is that of the call
				check(t, late.Close(ctx))
				late = open(t, view, token)
				if err := add(late); err != errFull {
					t.Fatalf("got %v", err)
				}
			} else {
				check(t, add(late))
				for range 2 { // it is still pending
					if err := late.Save(ctx); err != errFull {
						t.Fatalf("got %v", err)
					}
				}
				late.Discard()
			}
			check(t, errors.Join(note.Set(late, "after"), finish(m, late)))
			wantValue(t, m, token, "note", "after")
			if n := len(cartOf(t, m, r)); n != 20 {
				t.Errorf("%d items are stored, want 20", n)
			}
		})
	}
}
