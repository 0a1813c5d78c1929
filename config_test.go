package session_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

func TestConfigIsChecked(t *testing.T) {
	tests := []struct {
		cfg  session.Config
		want string // part of the error; empty: none
	}{
		{session.Config{}, ""},
		{session.Config{IdleTimeout: time.Second, AbsoluteTimeout: time.Second}, ""},
		{session.Config{IdleTimeout: session.Never}, ""},
		{session.Config{AbsoluteTimeout: session.Never}, ""},
		{session.Config{Cookie: session.Cookie{Name: "sid", Domain: "example.com", SameSite: http.SameSiteNoneMode}}, ""},
		{session.Config{Cookie: session.Cookie{Path: "/app"}}, ""},
		{session.Config{Cookie: session.Cookie{InsecureHTTP: true}}, ""},
		{session.Config{Cookie: session.Cookie{Partitioned: true, Persistent: true, SameSite: http.SameSiteStrictMode}}, ""},
		{session.Config{Header: "Authorization"}, ""},
		{session.Config{Codec: codec.JSON{}, Mode: session.LastWrite, Undecodable: session.ReplaceUndecodable}, ""},

		{session.Config{RenewAfter: time.Minute}, ""},
		{session.Config{RenewAfter: 24*time.Hour - 1}, ""},
		{session.Config{RenewAfter: 48 * time.Hour, AbsoluteTimeout: session.Never}, ""},
		{session.Config{RenewOverlap: time.Second}, ""},
		{session.Config{RenewOverlap: 10 * time.Minute}, ""},
		{session.Config{RenewAfter: 10*time.Minute + 1, RenewOverlap: 10 * time.Minute}, ""},

		{session.Config{RenewAfter: time.Minute - 1}, "RenewAfter"},
		{session.Config{RenewAfter: session.Never}, "RenewAfter"},
		{session.Config{RenewAfter: 24 * time.Hour}, "AbsoluteTimeout"},
		{session.Config{RenewAfter: 2 * time.Minute, RenewOverlap: 2 * time.Minute}, "longer than RenewOverlap"},
		{session.Config{RenewOverlap: time.Second - 1}, "RenewOverlap"},
		{session.Config{RenewOverlap: -time.Minute}, "RenewOverlap"},
		{session.Config{RenewOverlap: 10*time.Minute + 1}, "RenewOverlap"},
		{session.Config{IdleTimeout: time.Second - 1}, "IdleTimeout"},
		{session.Config{IdleTimeout: -time.Hour}, "IdleTimeout"},
		{session.Config{AbsoluteTimeout: time.Millisecond}, "AbsoluteTimeout"},
		{session.Config{IdleTimeout: session.Never, AbsoluteTimeout: session.Never}, "must end"},
		{session.Config{IdleTimeout: session.Never, TouchInterval: time.Minute}, "nothing to touch"},
		{session.Config{TouchInterval: -1}, "TouchInterval"},
		{session.Config{IdleTimeout: time.Hour, TouchInterval: time.Hour}, "TouchInterval"},
		{session.Config{MaxIdleTimeout: 2 * time.Hour, MaxAbsoluteTimeout: 24 * time.Hour}, ""}, // as they are
		{session.Config{MaxIdleTimeout: 30 * 24 * time.Hour, MaxAbsoluteTimeout: 90 * 24 * time.Hour}, ""},
		{session.Config{MaxIdleTimeout: session.Never, MaxAbsoluteTimeout: session.Never}, ""},
		{session.Config{IdleTimeout: session.Never, MaxAbsoluteTimeout: 48 * time.Hour}, ""},
		{session.Config{MaxAbsoluteTimeout: 48 * time.Hour}, ""},
		{session.Config{AbsoluteTimeout: session.Never, MaxIdleTimeout: 30 * 24 * time.Hour}, ""},
		{session.Config{MaxIdleTimeout: 2*time.Hour - 1}, "MaxIdleTimeout"},
		{session.Config{MaxIdleTimeout: time.Second - 1}, "MaxIdleTimeout"},
		{session.Config{MaxIdleTimeout: -2}, "MaxIdleTimeout"},
		{session.Config{MaxAbsoluteTimeout: 24*time.Hour - 1}, "shorter than AbsoluteTimeout, which is 24h"},
		{session.Config{MaxAbsoluteTimeout: -time.Hour}, "MaxAbsoluteTimeout"},
		{session.Config{MaxIdleTimeout: 30 * 24 * time.Hour}, "longer than MaxAbsoluteTimeout, which is 24h"},
		{session.Config{IdleTimeout: session.Never, MaxIdleTimeout: 24 * time.Hour}, "MaxIdleTimeout is 24h0m0s, and IdleTimeout is Never"},
		{session.Config{AbsoluteTimeout: session.Never, MaxAbsoluteTimeout: 24 * time.Hour}, "MaxAbsoluteTimeout is 24h0m0s, and AbsoluteTimeout is Never"},
		{session.Config{Mode: 99}, "Mode 99"},
		{session.Config{Mode: -1}, "Mode -1"},
		{session.Config{MaxSize: -1}, "MaxSize"},
		{session.Config{Undecodable: 7}, "UndecodablePolicy 7"},
		{session.Config{CommitTimeout: -1}, "CommitTimeout"},
		{session.Config{MaxMerges: -1}, "MaxMerges"},
		{session.Config{StoreKey: func(string) string { return "same" }}, "same key"},
		{session.Config{StoreKey: func(string) string { return "" }}, "0 bytes"},
		{session.Config{StoreKey: func(t string) string { return strings.Repeat(t, 17) }}, "544 bytes"},
		{session.Config{IdleTimeout: 48 * time.Hour}, "AbsoluteTimeout"},
		{session.Config{Header: "vary"}, "Header"},
		{session.Config{Header: "X Token"}, "Header"},
		{session.Config{Header: "cookie"}, "Header"},
		{session.Config{Header: "X-Token", Cookie: session.Cookie{Name: "sid"}}, "one of them"},
		{session.Config{Cookie: session.Cookie{Name: "__Host-sid", Domain: "example.com"}}, "no Domain"},
		{session.Config{Cookie: session.Cookie{Name: "__host-sid", Path: "/app"}}, "Path"},
		{session.Config{Cookie: session.Cookie{Name: "__Host-sid", InsecureHTTP: true}}, "Secure"},
		{session.Config{Cookie: session.Cookie{Name: "__SECURE-sid", InsecureHTTP: true}}, "Secure"},
		{session.Config{Cookie: session.Cookie{SameSite: http.SameSiteNoneMode, InsecureHTTP: true}}, "SameSite=None"},
		{session.Config{Cookie: session.Cookie{Partitioned: true, InsecureHTTP: true}}, "Partitioned"},
		{session.Config{Cookie: session.Cookie{SameSite: 9}}, "SameSite 9"},
		{session.Config{Cookie: session.Cookie{Name: "a b"}}, "Cookie"},
		{session.Config{Cookie: session.Cookie{Path: "app"}}, "begin with"},
		{session.Config{Cookie: session.Cookie{Path: "/a;b"}}, "Cookie"},
		{session.Config{Cookie: session.Cookie{Domain: "not a domain"}}, "Cookie"},

		// Browsers store names of up to 4,096 bytes, the token of 32 included.
		{session.Config{Cookie: session.Cookie{Name: strings.Repeat("n", 4096-32)}}, ""},
		{session.Config{Cookie: session.Cookie{Name: strings.Repeat("n", 4096-31)}}, "browsers"},
		{session.Config{Cookie: session.Cookie{Name: strings.Repeat("n", 5000)}}, "browsers"},
		{session.Config{Cookie: session.Cookie{Path: "/" + strings.Repeat("p", 1023)}}, ""},
		{session.Config{Cookie: session.Cookie{Path: "/" + strings.Repeat("p", 1024)}}, "browsers"},
		{session.Config{Cookie: session.Cookie{Domain: strings.Repeat("d.", 600) + "example"}}, "browsers"},
		{session.Config{Cookie: session.Cookie{Name: "__Http-sid"}}, ""},
		{session.Config{Cookie: session.Cookie{Name: "__http-sid", InsecureHTTP: true}}, "Secure"},
		{session.Config{Header: strings.Repeat("X", 256)}, ""},
		{session.Config{Header: strings.Repeat("X", 5000)}, "256"},

		{session.Config{ClearSiteData: []string{}}, ""},
		{session.Config{ClearSiteData: []string{"cache", "clientHints", "cookies", "executionContexts", "prefetchCache", "prerenderCache", "storage"}}, ""},
		{session.Config{ClearSiteData: []string{"*"}, Header: "Authorization"}, ""},
		{session.Config{ClearSiteData: []string{"*", "cache"}}, `"*" and more`},
		{session.Config{ClearSiteData: []string{"cache", "*"}}, `"*" and more`},
		{session.Config{ClearSiteData: []string{"cache", "storage", "cache"}}, `"cache" twice`},
		{session.Config{ClearSiteData: []string{"Cache"}}, `"Cache"`},
		{session.Config{ClearSiteData: []string{`"cache"`}}, "no browser knows"},
		{session.Config{ClearSiteData: []string{"cache\r\nX: y"}}, "no browser knows"},
		{session.Config{ClearSiteData: []string{""}}, "no browser knows"},
	}
	for _, tt := range tests {
		m, err := session.New(&memory.Backend{}, tt.cfg)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%+v: %v", tt.cfg, err)
		case tt.want != "" && (err == nil || m != nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%+v: error %v does not name %q", tt.cfg, err, tt.want)
		}
	}
	if _, err := session.New(nil, session.Config{}); err == nil {
		t.Error("New took no backend")
	}
	_, err := session.New(&memory.Backend{}, session.Config{MaxSize: -1, MaxMerges: -1})
	if err == nil || !strings.Contains(err.Error(), "MaxSize") || !strings.Contains(err.Error(), "MaxMerges") {
		t.Errorf("not every mistake is named at once: %v", err)
	}
	m := newManager(t, &memory.Backend{}, session.Config{})
	if _, err := m.With(session.Route{Mode: 99}); err == nil {
		t.Error("With took an unknown Mode")
	}
}

type textBackend struct {
	memory.Backend
	text bool
}

func (b *textBackend) TextOnly() bool { return b.text }

func TestBinaryCodecOnATextBackendIsRefused(t *testing.T) {
	if _, err := session.New(&textBackend{text: true}, session.Config{}); err == nil {
		t.Error("New took MessagePack for a text attribute")
	}
	newManager(t, &textBackend{text: true}, session.Config{Codec: codec.JSON{}})
	newManager(t, &textBackend{}, session.Config{})
}

func TestCookieNames(t *testing.T) {
	for name, c := range map[string]session.Cookie{
		"__Host-session":   {},
		"__Secure-session": {Domain: "example.com"},
		"session":          {InsecureHTTP: true},
		"sid":              {Name: "sid"},
	} {
		m := newManager(t, &memory.Backend{}, session.Config{Cookie: c})
		w := serve(t, m, "", func(_ http.ResponseWriter, _ *http.Request, s *session.Session) { check(t, note.Set(s, "x")) })
		got := w.Result().Cookies()[0]
		if got.Name != name || got.Secure == c.InsecureHTTP || got.Domain != c.Domain {
			t.Errorf("cookie %v, want the name %s", got, name)
		}
	}
}
