package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The comments in package session are the specification: each MUST in them is
// in a sentence that some rule checks, and no rule checks what they do not say.
func TestEveryMustHasARule(t *testing.T) {
	backendQuotes := func(r backendRule) (string, []string) { return r.name, r.quotes }
	backend := contract(t, "../backend.go", "")
	for _, c := range []struct {
		name     string
		text     string
		also     string // what the text refers to, of which a rule need not check all
		rules    map[string][]string
		untested map[string]string
		musts    int // at least
	}{
		{"Backend", backend, "", quotesOf(allBackendRules, backendQuotes), untested, 20},
		{
			"LockingBackend", contract(t, "../locking.go", "LockingBackend"), backend,
			quotesOf(append(allLeaserRules, wantsLeaser), backendQuotes), untestedLeaser, 15,
		},
		{
			"Sweeper", contract(t, "../admin/sweep.go", "") + " " + contract(t, "../admin/report.go", ""), backend,
			quotesOf(slices.Concat(sweeperRules, sweptLockRules, []backendRule{wantsSweeper}), backendQuotes), untestedSweeper, 8,
		},
		{
			"Lister", contract(t, "../admin/list.go", "") + " " + contract(t, "../admin/report.go", ""), backend,
			quotesOf(slices.Concat(listerRules, listedLockRules, []backendRule{wantsLister}), backendQuotes), untestedLister, 11,
		},
		{
			"Locker", contract(t, "../locking.go", "Locker") + " " + contract(t, "../locking.go", "Lease"), backend,
			quotesOf(lockerRules, func(r lockerRule) (string, []string) { return r.name, r.quotes }), nil, 8,
		},
		{
			"Codec", contract(t, "../codec.go", ""), "",
			quotesOf(codecRules, func(r codecRule) (string, []string) { return r.name, r.quotes }), nil, 10,
		},
	} {
		text := c.text
		covered := make([]bool, len(text))
		cover := func(who, quote string) {
			at := strings.Index(text, quote)
			if at < 0 {
				if !strings.Contains(c.also, quote) {
					t.Errorf("%s: %s quotes what is not there: %q", c.name, who, quote)
				}
				return
			}
			for i := range quote {
				covered[at+i] = true
			}
		}
		for name, quotes := range c.rules {
			if len(quotes) == 0 {
				t.Errorf("rule %s quotes nothing", name)
			}
			for _, quote := range quotes {
				cover("rule "+name, quote)
			}
		}
		for quote := range c.untested {
			cover("the list of what is untested", quote)
		}
		musts := regexp.MustCompile(`\bMUST\b`).FindAllStringIndex(text, -1)
		if len(musts) < c.musts {
			t.Errorf("%s: found only %d MUSTs", c.name, len(musts))
		}
		for _, must := range musts {
			if !covered[must[0]] {
				t.Errorf("%s: no rule for ...%s...", c.name, text[max(0, must[0]-80):min(len(text), must[1]+80)])
			}
		}
	}
}

func quotesOf[R any](rules []R, f func(R) (string, []string)) map[string][]string {
	quotes := map[string][]string{}
	for _, rule := range rules {
		name, q := f(rule)
		quotes[name] = q
	}
	return quotes
}

// contract returns the text of all comments in a file, or of those on and in
// one type of it, without line breaks and the brackets of links.
func contract(t *testing.T, name, typ string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	from, to := file.FileStart, file.FileEnd
	if typ != "" {
		i := slices.IndexFunc(file.Decls, func(d ast.Decl) bool {
			decl, ok := d.(*ast.GenDecl)
			return ok && decl.Tok == token.TYPE && decl.Specs[0].(*ast.TypeSpec).Name.Name == typ
		})
		if i < 0 {
			t.Fatalf("%s: no type %s", name, typ)
		}
		from, to = file.Decls[i].(*ast.GenDecl).Doc.Pos(), file.Decls[i].End()
	}
	var words []string
	for _, group := range file.Comments {
		if from <= group.Pos() && group.End() <= to {
			words = append(words, strings.Fields((&ast.CommentGroup{List: group.List}).Text())...)
		}
	}
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(words, " "))
}
