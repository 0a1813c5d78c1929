package session

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzRequestToken: whatever a client sends, what comes out is a token of ours
// or none, and a cookie that we made comes back as it was.
func FuzzRequestToken(f *testing.F) {
	token := newToken()
	for _, s := range []string{
		"", token, "__Host-session=" + token, `__Host-session="` + token + `"`, "a=b; __Host-session=" + token + "; c=d",
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
			got, malformed := tt.cfg.requestToken(http.Header{tt.header: {sent}})
			switch {
			case got != "" && (malformed || !validToken(got) || !strings.Contains(sent, got)):
				t.Errorf("%q in %s gave %q, %v", sent, tt.header, got, malformed)
			case got == "" && malformed && sent == "":
				t.Error("nothing is malformed")
			}
		}
		if !validToken(sent) {
			return
		}
		w := httptest.NewRecorder()
		byCookie.sendToken(w.Header(), sent, time.Time{})
		r := http.Header{}
		for _, c := range w.Result().Cookies() {
			r.Add("Cookie", c.Name+"="+c.Value)
		}
		if got, malformed := byCookie.requestToken(r); got != sent || malformed {
			t.Errorf("sent %q, got %q back", sent, got)
		}
	})
}
