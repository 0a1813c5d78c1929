package session_test

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func alphanumeric(s string) bool {
	return strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" &&
		!strings.ContainsAny(s, "-_=")
}

// A library whose tokens are accepted.
type library struct {
	tokens session.Tokens
	token  func() string
}

var libraries = map[string]library{
	"32 bytes in base64url": {session.Tokens{MaxLength: 43}, func() string { return base64.RawURLEncoding.EncodeToString(randomBytes(32)) }},
	"a signed value": {session.Tokens{
		MaxLength: 4000,
		Valid:     func(s string) bool { return strings.Trim(strings.TrimRight(s, "="), base64url) == "" },
	}, func() string { return base64.URLEncoding.EncodeToString(randomBytes(2999)) }},
	"26 of 0-9a-v": {
		session.Tokens{New: rand.Text, Valid: alphanumeric, MinLength: 26},
		func() string { return strings.ToLower(base32hex.EncodeToString(randomBytes(17))[:26]) },
	},
	"32 digits in hex, at a site without '_'": {
		session.Tokens{New: func() string { return hex.EncodeToString(randomBytes(16)) }, Valid: alphanumeric},
		func() string { return hex.EncodeToString(randomBytes(16)) },
	},
	"32 digits in hex": {session.Tokens{}, func() string { return hex.EncodeToString(randomBytes(16)) }},
	"a UUID": {session.Tokens{MaxLength: 36}, func() string {
		x := hex.EncodeToString(randomBytes(16))
		return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
	}},
	"an encoded and signed ID": {
		session.Tokens{MaxLength: 128, Valid: func(s string) bool { return strings.Trim(s, base64url+"%!~:") == "" }},
		func() string { return "s%3A" + rand.Text() + "!~" + strings.Repeat("x", 40) },
	},
	"tokens that are all signed": {
		session.Tokens{New: func() string { return sign(rand.Text()) }, Valid: signed, MaxLength: 64},
		func() string { return sign(rand.Text()) },
	},
}

var base32hex = base32.HexEncoding.WithPadding(base32.NoPadding)

const base64url = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"

// sign stands for a signature: the token backwards.
func sign(id string) string {
	b := []byte(id)
	slices.Reverse(b)
	return id + "|" + string(b)
}

func signed(s string) bool { id, _, ok := strings.Cut(s, "|"); return ok && s == sign(id) }

// packed stores a session of another library under token.
func packed(t testing.TB, b session.Backend, key string) {
	t.Helper()
	rec, err := session.Pack(codec.MessagePack{}, session.Foreign{
		Values: map[string]any{"note": "from elsewhere"}, Created: time.Now().Add(-time.Minute), Expires: time.Now().Add(2 * time.Hour),
	})
	check(t, err)
	_, err = b.Save(ctx, key, rec)
	check(t, err)
}

// eachLibrary runs f for each of them, with the token in a cookie and in a header,
// and with keys that are digests and keys that are the tokens, where these fit.
func eachLibrary(t *testing.T, f func(t *testing.T, l library, cfg session.Config)) {
	for name, l := range libraries {
		for _, header := range []string{"", "Authorization", "X-Session"} {
			for how, key := range map[string]func(string) string{"digest": nil, "plain": func(token string) string { return token }} {
				if how == "plain" && l.tokens.MaxLength > 512 {
					continue
				}
				l := l
				if how == "plain" && l.tokens.New == nil { // a digest and a token must not look alike
					l.tokens.New = rand.Text
					l.tokens.MinLength = 26
				}
				t.Run(fmt.Sprintf("%s, %q, %s", name, header, how), func(t *testing.T) {
					f(t, l, session.Config{Tokens: l.tokens, Header: header, StoreKey: key})
				})
			}
		}
	}
}

// withToken returns a request with token where m looks for it.
func withToken(m *session.Manager, token string) *http.Request {
	r := httptest.NewRequest("POST", "/", nil)
	switch cfg := m.Config(); {
	case cfg.Header == "Authorization":
		r.Header.Set(cfg.Header, "Bearer "+token)
	case cfg.Header != "":
		r.Header.Set(cfg.Header, token)
	default:
		r.Header.Set("Cookie", cfg.Cookie.Name+"="+token)
	}
	return r
}

// handedOut returns the token that a response hands out, "" if it says nothing of
// tokens.
func handedOut(m *session.Manager, w *httptest.ResponseRecorder) string {
	if name := m.Config().Header; name != "" {
		return strings.TrimPrefix(w.Header().Get(name), "Bearer ")
	}
	line := w.Header().Get("Set-Cookie")
	if c, err := http.ParseSetCookie(line); err == nil {
		return c.Value
	}
	return line
}

// TestForeignToken: the session of a token that another library has handed out is
// read and written under that token, and the response hands out none.
func TestForeignToken(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, cfg session.Config) {
		var b memory.Backend
		cfg.Cookie.Persistent = cfg.Header == ""
		m := newManager(t, &b, cfg)
		token := l.token()
		packed(t, &b, m.Config().StoreKey(token))
		for i, want := range []string{"from elsewhere", "ours", "ours"} {
			w := do(m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
				got, err := note.Get(s)
				if got != want || s.IsNew() || s.Token().Reveal() != token {
					t.Errorf("request %d: %q, new: %v", i, got, s.IsNew())
				}
				return errors.Join(err, note.Set(s, "ours"))
			}), withToken(m, token))
			if w.Code != http.StatusOK || w.Header().Get("Set-Cookie") != "" || handedOut(m, w) != "" {
				t.Errorf("request %d: status %d, headers %v", i, w.Code, w.Header())
			}
		}
		if b.Len() != 1 {
			t.Errorf("%d records, want 1", b.Len())
		}
		wantValue(t, m, token, "note", "ours")

		// A login gives the session a token of our own, and a logout ends it.
		w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return s.Login("ann") }), withToken(m, token))
		own := handedOut(m, w)
		if own == "" || own == token || !m.Config().Tokens.Valid(own) {
			t.Errorf("the login hands out %q", own)
		}
		if _, err := m.Open(ctx, token); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the token from before the login: %v", err)
		}
		wantValue(t, m, own, "note", "ours")
		do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error { return s.Destroy(ctx) }), withToken(m, own))
		if _, err := m.Open(ctx, own); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("after the logout: %v", err)
		}
	})
}

// TestPlantedForeignToken: a token that has no session is not adopted, whatever its
// form.
func TestPlantedForeignToken(t *testing.T) {
	eachLibrary(t, func(t *testing.T, l library, cfg session.Config) {
		var b memory.Backend
		m := newManager(t, &b, cfg)
		planted := l.token()
		for _, change := range []func(s *session.Session) error{
			func(s *session.Session) error { return note.Set(s, "x") },
			func(s *session.Session) error { return s.Login("ann") },
		} {
			w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				if !s.IsNew() {
					t.Error("the planted token has a session")
				}
				return change(s)
			}), withToken(m, planted))
			if got := handedOut(m, w); got == planted || !m.Config().Tokens.Valid(got) || w.Code != http.StatusOK {
				t.Errorf("status %d, token %q", w.Code, got)
			}
		}
		if _, err := b.Load(ctx, m.Config().StoreKey(planted)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("the planted token has a record: %v", err)
		}
	})
}

// TestMalformedForeignToken: what cannot be a token costs no request, and reaches
// neither Valid nor StoreKey if its length or its characters are not those of one.
func TestMalformedForeignToken(t *testing.T) {
	var b store
	var seen events
	asked := map[string]bool{}
	m := newManager(t, &b, session.Config{
		Header:   "X-Session",
		Observer: &seen,
		Tokens: session.Tokens{MinLength: 26, MaxLength: 40, New: rand.Text, Valid: func(s string) bool {
			asked[s] = true
			return !strings.Contains(s, "!")
		}},
		StoreKey: func(token string) string {
			asked["key of "+token] = true
			return session.DefaultStoreKey(token)
		},
	})
	clear(asked)
	valid := strings.Repeat("A", 26)
	for _, bad := range []string{
		valid[1:], strings.Repeat("A", 41), strings.Repeat("A", 1<<20), valid + " ", " " + valid, valid + "\t", valid + "\x00", valid + "é",
		valid + "\x7f", valid + `"`, `"` + valid + `"`, valid + ",", valid + ";", valid + `\`, "owner." + valid, valid + ".", "\xff" + valid,
	} {
		if _, err := m.Open(ctx, bad); !errors.Is(err, session.ErrNotFound) || len(asked) > 0 {
			t.Errorf("%.50q: %v; asked for %d", bad, err, len(asked))
		}
		clear(asked)
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["X-Session"] = []string{bad}
		do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if !s.IsNew() {
				t.Errorf("%.50q has a session", bad)
			}
			return nil
		}), r)
		if len(asked) > 0 {
			t.Errorf("%.50q in a request: asked for %d", bad, len(asked))
		}
	}
	if _, err := m.Open(ctx, valid+"!"); !errors.Is(err, session.ErrNotFound) || !maps.Equal(asked, map[string]bool{valid + "!": true}) {
		t.Errorf("what Valid refuses: %v, asked for %v", err, asked)
	}
	if !seen.saw(observe.EventTokenMalformed) || seen.saw(observe.EventTokenUnknown) {
		t.Error("the events are not those of malformed tokens")
	}
	b.wantCalls(t)
	if _, err := m.Open(ctx, valid); !errors.Is(err, session.ErrNotFound) || !seen.saw(observe.EventTokenUnknown) {
		t.Errorf("a valid one: %v", err)
	}
	b.wantCalls(t, "Load")
}

// TestValidIsAskedOfFew: a request with many values has Valid asked of no more than
// it needs.
func TestValidIsAskedOfFew(t *testing.T) {
	n := 0
	m := newManager(t, &memory.Backend{}, session.Config{Tokens: session.Tokens{Valid: func(string) bool { n++; return true }}})
	n = 0
	r := httptest.NewRequest("GET", "/", nil)
	for range 1000 {
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: base64.RawURLEncoding.EncodeToString(randomBytes(24))})
	}
	do(m.HandlerFunc(func(http.ResponseWriter, *http.Request, *session.Session) error { return nil }), r)
	if n > 8 { // in the header, and when each is opened
		t.Errorf("Valid was asked of %d texts", n)
	}
}

// TestNewThatFails: a token that is not valid is handed out to nobody.
func TestNewThatFails(t *testing.T) {
	for what, bad := range map[string]string{"short": "x", "refused": strings.Repeat("!", 32), "a dot": strings.Repeat("a.", 16)} {
		var broken atomic.Bool
		var b memory.Backend
		m := newManager(t, &b, session.Config{Tokens: session.Tokens{
			New: func() string {
				if broken.Load() {
					return bad
				}
				return hex.EncodeToString(randomBytes(16))
			},
			Valid: func(s string) bool { return !strings.Contains(s, "!") },
		}})
		token := begin(t, m, map[string]any{"note": "kept"})
		broken.Store(true)
		for change, token := range map[string]string{"a first value": "", "a login": token} {
			w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
				return errors.Join(note.Set(s, "lost"), map[bool]func() error{true: func() error { return nil }, false: func() error { return s.Login("ann") }}[token == ""]())
			}), withToken(m, token))
			if w.Code != http.StatusInternalServerError || handedOut(m, w) != "" || strings.Contains(w.Body.String(), bad) {
				t.Errorf("%s, %s: status %d, headers %v", what, change, w.Code, w.Header())
			}
		}
		if b.Len() != 1 {
			t.Errorf("%s: %d records, want 1", what, b.Len())
		}
		wantValue(t, m, token, "note", "kept")
	}
}

func TestTokensAreChecked(t *testing.T) {
	text := func(s string) func() string { return func() string { return s } }
	drawn := func(n int, chars string) func() string {
		return func() string {
			b := randomBytes(n)
			for i := range b {
				b[i] = chars[int(b[i])%len(chars)]
			}
			return string(b)
		}
	}
	tests := map[string]struct {
		cfg  session.Config
		want string // in the error; "" for none
	}{
		"zero":                         {session.Config{}, ""},
		"longer ones":                  {session.Config{Tokens: session.Tokens{MaxLength: 43}}, ""},
		"the longest":                  {session.Config{Tokens: session.Tokens{MaxLength: 4096}}, ""},
		"shorter ones":                 {session.Config{Tokens: session.Tokens{MinLength: 16}}, ""},
		"ours, and shorter ones":       {session.Config{Tokens: session.Tokens{MinLength: 26, MaxLength: 32}}, ""},
		"letters and digits":           {session.Config{Tokens: session.Tokens{New: rand.Text, MinLength: 26}}, ""},
		"hex":                          {session.Config{Tokens: session.Tokens{New: drawn(32, "0123456789abcdef")}}, ""},
		"with a fixed part":            {session.Config{Tokens: session.Tokens{New: func() string { return "v1-" + rand.Text() }, MinLength: 29}}, ""},
		"in the Header":                {session.Config{Header: "Authorization", Tokens: session.Tokens{New: rand.Text, MinLength: 26}}, ""},
		"with an index":                {session.Config{Owners: session.OwnersConfig{Index: true}, Tokens: session.Tokens{New: rand.Text, MinLength: 26}}, ""},
		"MinLength 15":                 {session.Config{Tokens: session.Tokens{MinLength: 15}}, "MinLength is 15"},
		"a negative MinLength":         {session.Config{Tokens: session.Tokens{MinLength: -1}}, "MinLength is -1"},
		"MaxLength 4097":               {session.Config{Tokens: session.Tokens{MaxLength: 4097}}, "between 16 and 4096"},
		"a negative MaxLength":         {session.Config{Tokens: session.Tokens{MaxLength: -1}}, "MaxLength is -1"},
		"MaxLength below MinLength":    {session.Config{Tokens: session.Tokens{MinLength: 40, MaxLength: 36}}, "MinLength is 40, and MaxLength is 36"},
		"New is shorter":               {session.Config{Tokens: session.Tokens{New: rand.Text}}, "26 bytes; MinLength is 32"},
		"New is longer":                {session.Config{Tokens: session.Tokens{MinLength: 16, MaxLength: 31}}, "32 bytes; MinLength is 16, and MaxLength is 31"},
		"New draws nothing":            {session.Config{Tokens: session.Tokens{New: text("")}}, "0 bytes"},
		"New draws one":                {session.Config{Tokens: session.Tokens{New: text(strings.Repeat("x", 32))}}, "twice"},
		"New draws two":                {session.Config{Tokens: session.Tokens{New: drawnOf(drawn(32, base64url), 2)}}, "twice"},
		"Valid refuses what New draws": {session.Config{Tokens: session.Tokens{Valid: func(s string) bool { return len(s) == 43 }, MaxLength: 43}}, "that Valid refuses"},
		"Valid refuses some of them":   {session.Config{Tokens: session.Tokens{Valid: func(s string) bool { return !strings.ContainsAny(s, "ab") }}}, "that Valid refuses"},
		"few random characters":        {session.Config{Tokens: session.Tokens{New: func() string { return strings.Repeat("x", 20) + rand.Text()[:12] }}}, "60 random bits"},
		"few different characters":     {session.Config{Tokens: session.Tokens{New: drawn(32, "0123456789")}}, "106 random bits"},
		"22 digits in hex":             {session.Config{Tokens: session.Tokens{New: drawn(22, "0123456789abcdef"), MinLength: 22}}, "88 random bits"},
		"a counter":                    {session.Config{Tokens: session.Tokens{New: inTurn()}}, "random bits"},
		"a space":                      {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+" "), Valid: anyText}}, "no token may have"},
		"a comma":                      {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+","), Valid: anyText}}, "no token may have"},
		"a quote":                      {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+`"`), Valid: anyText}}, "no token may have"},
		"a line end":                   {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+"\n"), Valid: anyText}}, "no token may have"},
		"a dot":                        {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+"."), Valid: anyText}}, "no token may have"},
		"no ASCII":                     {session.Config{Tokens: session.Tokens{New: drawn(32, "\xc3\xa9"), Valid: anyText}}, "no token may have"},
		"other characters":             {session.Config{Tokens: session.Tokens{New: drawn(32, base64url+"!#$%&'()*+/:<=>?@[]^`{|}~"), Valid: anyText}}, ""},

		"a long name and a long token": {session.Config{
			Cookie: session.Cookie{Name: strings.Repeat("n", 4096-100)}, Tokens: session.Tokens{New: drawn(100, base64url), MaxLength: 100},
		}, ""},
		"a name too long for the token": {session.Config{
			Cookie: session.Cookie{Name: strings.Repeat("n", 4096-99)}, Tokens: session.Tokens{New: drawn(100, base64url), MaxLength: 100},
		}, "4097 with a token"},
		"a long name, and long tokens of others": {session.Config{
			Cookie: session.Cookie{Name: strings.Repeat("n", 4096-32)}, Tokens: session.Tokens{MaxLength: 4096},
		}, ""},
		"keys that are tokens":                        {session.Config{StoreKey: func(token string) string { return token }, Tokens: session.Tokens{New: rand.Text, MinLength: 26, MaxLength: 512}}, ""},
		"keys that are tokens, and look like digests": {session.Config{StoreKey: func(token string) string { return token }, Tokens: session.Tokens{MaxLength: 43}}, "looks like the digest"},
		"the same with a prefix":                      {session.Config{StoreKey: func(token string) string { return "s/" + token }, Tokens: session.Tokens{MaxLength: 43}}, ""},
		"keys that become too long":                   {session.Config{StoreKey: func(token string) string { return token }, Tokens: session.Tokens{MaxLength: 513, New: rand.Text, MinLength: 26}}, "key of 513 bytes"},
		"digests of long tokens":                      {session.Config{StoreKey: func(token string) string { return "s/" + session.DefaultStoreKey(token) }, Tokens: session.Tokens{MaxLength: 4096}}, ""},
		"one key for two tokens of New": {session.Config{
			StoreKey: func(token string) string { return token[:5] }, Tokens: session.Tokens{New: func() string { return "part-" + rand.Text() }, MinLength: 31},
		}, "same key"},
	}
	for name, tt := range tests {
		m, err := session.New(&memory.Backend{}, tt.cfg)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: error %v does not name %q", name, err, tt.want)
		case err == nil: // the Config that it returns makes the same Manager
			again := newManager(t, &memory.Backend{}, m.Config()).Config().Tokens
			if now := m.Config().Tokens; again.MinLength != now.MinLength || again.MaxLength != now.MaxLength {
				t.Errorf("%s: from %d to %d, and then from %d to %d", name, now.MinLength, now.MaxLength, again.MinLength, again.MaxLength)
			}
		}
	}
}

func anyText(string) bool { return true }

// drawnOf returns a function that draws n tokens in turn.
func drawnOf(f func() string, n int) func() string {
	var all []string
	for range n {
		all = append(all, f())
	}
	return func() string {
		all = append(all[1:], all[0])
		return all[0]
	}
}

func inTurn() func() string {
	n := 0
	return func() string { n++; return fmt.Sprintf("%032d", n) }
}

// TestDefaultTokens: without a Config of their own, tokens are as they always were.
func TestDefaultTokens(t *testing.T) {
	m := newManager(t, &memory.Backend{}, session.Config{})
	tk := m.Config().Tokens
	if tk.MinLength != 32 || tk.MaxLength != 32 || len(tk.New()) != 32 || !tk.Valid(tk.New()) || tk.Valid(strings.Repeat("=", 32)) {
		t.Errorf("from %d to %d, such as %q", tk.MinLength, tk.MaxLength, tk.New())
	}
	if b, err := base64.RawURLEncoding.DecodeString(begin(t, m, map[string]any{"note": "x"})); len(b) != 24 || err != nil {
		t.Errorf("a token of %d bytes, %v", len(b), err)
	}
}

// FuzzForeignToken: whatever a client sends, only a token of the right form reaches
// the functions of the Config, and a request never fails because of it.
func FuzzForeignToken(f *testing.F) {
	for _, l := range libraries {
		f.Add("__Host-session=" + l.token())
	}
	f.Add(`__Host-session="` + rand.Text() + `"; __Host-session=` + strings.Repeat("%", 5000))
	f.Add("__Host-session=owner." + rand.Text())
	wrong := ""
	look := func(s string) {
		if len(s) < 26 || len(s) > 4096 || strings.ContainsAny(s, `"\,;.`) || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			wrong = s
		}
	}
	b := &memory.Backend{}
	m, err := session.New(b, session.Config{
		Tokens: session.Tokens{New: rand.Text, MinLength: 26, MaxLength: 4096, Valid: func(s string) bool { look(s); return true }},
		StoreKey: func(s string) string {
			if len(s) < 4096 { // New tries it with that
				look(s)
			}
			return session.DefaultStoreKey(s)
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, cookies string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("Cookie", cookies)
		w := do(m.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request, s *session.Session) error {
			if !s.IsNew() {
				t.Error("it has a session")
			}
			return note.Set(s, "x")
		}), r)
		if got := handedOut(m, w); w.Code != http.StatusOK || len(got) != 26 || strings.Contains(cookies, got) {
			t.Errorf("status %d, token %q", w.Code, got)
		}
		if wrong != "" {
			t.Errorf("%q is taken for a token", wrong)
		}
		check(t, b.Delete(ctx, session.DefaultStoreKey(handedOut(m, w))))
	})
}
