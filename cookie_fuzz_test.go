package session

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// FuzzRequestToken checks that any cookie header gives one of our tokens or
// none, and that a cookie that we made is read back unchanged.
func FuzzRequestToken(f *testing.F) {
	token := newToken()
	for _, s := range []string{
		"", token, "__Host-session=" + token, `__Host-session="` + token + `"`, "a=b; __Host-session=" + token + "; c=d",
		"__Host-session=" + newToken() + "; __Host-session=" + token, strings.Repeat("__Host-session="+token+"; ", 9),
		"__Host-session=x; __Host-session=" + token, "__Host-session=" + strings.Repeat("A", 33), "Bearer " + token, "bearer\t" + token,
		"__Host-session=\x00; =; ;;", "=" + token, strings.Repeat("a=b;", 100),
	} {
		f.Add(s)
	}
	byCookie, err := Config{}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	byHeader, err := Config{Header: "Authorization"}.withDefaults()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		for _, tt := range []struct {
			cfg    Config
			header string
		}{{byCookie, "Cookie"}, {byHeader, "Authorization"}} {
			got := tt.cfg.carried(http.Header{tt.header: {sent}}, nil)
			for i, token := range got.tokens {
				if got.malformed || !validToken(token) || !strings.Contains(sent, token) || i >= maxTokens || slices.Contains(got.tokens[:i], token) {
					t.Errorf("%q in %s gave %+v", sent, tt.header, got)
				}
			}
			switch {
			case len(got.tokens) > 1 && got.values < len(got.tokens):
				t.Errorf("%q in %s: duplicates are not counted: %+v", sent, tt.header, got)
			case len(got.tokens) == 0 && got.malformed && sent == "":
				t.Error("nothing is malformed")
			}
		}
		if !validToken(sent) {
			return
		}
		w := httptest.NewRecorder()
		byCookie.sendToken(w.Header(), sent, 0)
		r := http.Header{}
		for _, c := range w.Result().Cookies() {
			r.Add("Cookie", c.Name+"="+c.Value)
		}
		if got := byCookie.carried(r, nil); len(got.tokens) != 1 || got.tokens[0] != sent || got.malformed || got.values != 0 {
			t.Errorf("sent %q, got %+v back", sent, got)
		}
	})
}
