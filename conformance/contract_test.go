package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// The comments in package session are the specification: each MUST in them is
// in a sentence that some rule checks, and no rule checks what they do not say.
func TestEveryMustHasARule(t *testing.T) {
	for _, c := range []struct {
		file     string
		rules    map[string][]string
		untested map[string]string
	}{
		{"../backend.go", quotesOf(backendRules, func(r backendRule) (string, []string) { return r.name, r.quotes }), untested},
		{"../codec.go", quotesOf(codecRules, func(r codecRule) (string, []string) { return r.name, r.quotes }), nil},
	} {
		text := contract(t, c.file)
		covered := make([]bool, len(text))
		cover := func(who, quote string) {
			at := strings.Index(text, quote)
			if at < 0 {
				t.Errorf("%s: %s quotes what is not there: %q", c.file, who, quote)
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
		if len(musts) < 10 {
			t.Errorf("%s: found only %d MUSTs", c.file, len(musts))
		}
		for _, must := range musts {
			if !covered[must[0]] {
				t.Errorf("%s: no rule for ...%s...", c.file, text[max(0, must[0]-80):min(len(text), must[1]+80)])
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

// contract returns the text of all comments in a file, without line breaks
// and the brackets of links.
func contract(t *testing.T, name string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, group := range file.Comments {
		words = append(words, strings.Fields((&ast.CommentGroup{List: group.List}).Text())...)
	}
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(words, " "))
}
