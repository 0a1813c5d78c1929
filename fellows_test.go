package session

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestDomainsOf: the domains for which a host can set cookies.
func TestDomainsOf(t *testing.T) {
	for _, tt := range []struct{ host, want string }{
		{"", ""},
		{"localhost", ""},
		{"localhost:8080", ""},
		{"com", ""},
		{"com.", ""},
		{"127.0.0.1", ""},
		{"127.0.0.1:80", ""},
		{"[::1]", ""},
		{"[::1]:443", ""},
		{"[fe80::1%25eth0]:443", ""},
		{"example.com", "example.com"},
		{"Example.COM.:443", "example.com"},
		{"shop.example.com", "example.com shop.example.com"},
		{"a.b.example.com", "example.com b.example.com a.b.example.com"},
		{"a.b.c.example.com", "example.com c.example.com b.c.example.com a.b.c.example.com"},
		{"a.b.c.d.example.com", "example.com d.example.com c.d.example.com a.b.c.d.example.com"},
		{"a.b.c.d.e.f.example.com", "example.com f.example.com e.f.example.com a.b.c.d.e.f.example.com"},
	} {
		if got := domainsOf(tt.host); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q: %q, want %q", tt.host, got, tt.want)
		}
	}
}

// TestCookieFellows: the lines that a logout adds to the one that deletes our
// cookie, as "Domain Path", with a "p" if they are for a partitioned cookie.
func TestCookieFellows(t *testing.T) {
	const host = "Shop.Example.com:443"
	for _, tt := range []struct {
		name   string
		cookie Cookie
		host   string
		want   []string
	}{
		{"the default", Cookie{}, host, nil},
		{"a __Host- name of your own", Cookie{Name: "__host-SID"}, host, nil},
		{"a __Host- name, partitioned", Cookie{Partitioned: true}, host, []string{" /"}},
		{"a name", Cookie{Name: "sid"}, host, []string{"example.com /", "shop.example.com /"}},
		{"a Domain", Cookie{Domain: "example.com"}, host, []string{" /", "shop.example.com /"}},
		{"a Domain in another spelling", Cookie{Domain: ".Example.com"}, host, []string{" /", "shop.example.com /"}},
		{"a Domain of another host", Cookie{Domain: "example.net"}, host, []string{" /", "example.com /", "shop.example.com /"}},
		{"a Path", Cookie{Path: "/app"}, host, []string{" /", "example.com /", "shop.example.com /", "example.com /app", "shop.example.com /app"}},
		{"a Path and a Domain", Cookie{Path: "/app", Domain: "shop.example.com"}, host, []string{" /", "shop.example.com /", "example.com /", " /app", "example.com /app"}},
		{"partitioned", Cookie{Name: "sid", Partitioned: true}, host, []string{" /", "example.com /", "shop.example.com /", "example.com / p", "shop.example.com / p"}},
		{"without HTTPS", Cookie{InsecureHTTP: true}, "localhost:8080", nil},
		{"an address", Cookie{Name: "sid", Path: "/app"}, "127.0.0.1:8080", []string{" /"}},
		{"a host that is none", Cookie{Name: "sid"}, "a b.example com\r\nX: y.z", nil},
		{"no host", Cookie{Name: "sid"}, "", nil},
	} {
		c, err := tt.cookie.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, line := range c.fellows(tt.host) {
			cookie, err := http.ParseSetCookie(line)
			if err != nil {
				t.Fatalf("%s: %q: %v", tt.name, line, err)
			}
			what := cookie.Domain + " " + cookie.Path
			if cookie.Partitioned {
				what += " p"
			}
			got = append(got, what)
			if cookie.Name != c.Name || cookie.Value != "" || cookie.MaxAge >= 0 || cookie.Secure == c.InsecureHTTP || !cookie.HttpOnly {
				t.Errorf("%s: %q", tt.name, line)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestCookieFellowsAreBounded: a response has room for few of them.
func TestCookieFellowsAreBounded(t *testing.T) {
	c, err := Cookie{Name: "sid", Path: "/app", Domain: "example.net", Partitioned: true}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	lines := c.fellows(strings.Repeat("a.", 100) + "example.com")
	if len(lines) != maxFellows {
		t.Errorf("%d lines", len(lines))
	}
}
