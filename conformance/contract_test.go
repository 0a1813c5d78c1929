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

// The comments in package session are the specification. A rule checks each MUST in
// them, and each rule quotes the sentences that it checks.
func TestEveryMustHasARule(t *testing.T) {
	backendQuotes := func(r backendRule) (string, []string) { return r.name, r.quotes }
	backend := contract(t, "../backend.go", "")
	for _, c := range []struct {
		name     string
		text     string
		also     string // another text that rules may quote, without having to check all of it
		rules    map[string][]string
		untested map[string]string
		musts    int // the least number of MUSTs in text
	}{
		{"Backend", backend, "", quotesOf(slices.Concat(backendRules, textRules, lockedTextRules, []backendRule{wantsText}), backendQuotes), untested, 21},
		{
			"LockingBackend", contract(t, "../locking.go", "LockingBackend"), backend,
			quotesOf(slices.Concat(lockingBackendRules, []backendRule{wantsLocking}), backendQuotes), untestedLocking, 15,
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
		t.Run(c.name, func(t *testing.T) { testQuotes(t, c.text, c.also, c.rules, c.untested, c.musts) })
	}
}

// testQuotes reports an error unless the rules quote parts of text, or of also, and
// each MUST in text is quoted by a rule or untested.
func testQuotes(t *testing.T, text, also string, rules map[string][]string, untested map[string]string, leastMusts int) {
	t.Helper()
	covered := make([]bool, len(text))
	cover := func(who, quote string) {
		at := strings.Index(text, quote)
		if at < 0 {
			if !strings.Contains(also, quote) {
				t.Errorf("%s quotes %q, which is not in the contract", who, quote)
			}
			return
		}
		for i := range quote {
			covered[at+i] = true
		}
	}
	for name, quotes := range rules {
		if len(quotes) == 0 {
			t.Errorf("rule %s quotes nothing", name)
		}
		for _, quote := range quotes {
			cover("rule "+name, quote)
		}
	}
	for quote := range untested {
		cover("the list of untested sentences", quote)
	}
	musts := regexp.MustCompile(`\bMUST\b`).FindAllStringIndex(text, -1)
	if len(musts) < leastMusts {
		t.Errorf("found %d MUSTs, want at least %d", len(musts), leastMusts)
	}
	for _, must := range musts {
		if !covered[must[0]] {
			t.Errorf("no rule quotes ...%s...", text[max(0, must[0]-80):min(len(text), must[1]+80)])
		}
	}
}

// untested are sentences that no rule can test, each with the reason.
var untested = map[string]string{
	"Package conformance has a test for every MUST below":                                                            "it is about the rules",
	"A retry inside the backend after a lost response MUST NOT report the caller's own first attempt as a conflict.": "it needs a fault between the backend and its store; see the package comment",
}

var untestedLocking = map[string]string{
	"A retry inside the backend after a lost response MUST NOT report the caller's own lock as another holder's.": "it needs a fault between the backend and its store; see the package comment",
}

var untestedSweeper = map[string]string{
	"It MUST refuse an option that it cannot follow":                               "only the store can tell whether a sweep keeps to its budget",
	"and, unless opts.Foreign is set, the records that the backend did not write.": "only the backend knows how to write a foreign record",
}

func quotesOf[R any](rules []R, f func(R) (string, []string)) map[string][]string {
	quotes := map[string][]string{}
	for _, rule := range rules {
		name, q := f(rule)
		quotes[name] = q
	}
	return quotes
}

// contract returns the text of all comments in a file, or of those on one type and
// in it, without line breaks and the brackets of links.
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
