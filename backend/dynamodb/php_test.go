package dynamodb

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// updateLegacy is an UpdateItem of PHP's handler, which uses no expressions.
func (f *fake) updateLegacy(in *dynamodb.UpdateItemInput, out *dynamodb.UpdateItemOutput) error {
	key := f.keyOf(in.Key)
	it := maps.Clone(f.items[key])
	if it == nil {
		it = maps.Clone(in.Key)
	}
	for name, expected := range in.Expected {
		if *expected.Exists != (it[name] != nil) {
			return sdkError("UpdateItem", 400, &types.ConditionalCheckFailedException{})
		}
	}
	for name, update := range in.AttributeUpdates {
		switch update.Action {
		case types.AttributeActionPut:
			it[name] = copied(update.Value)
		case types.AttributeActionDelete:
			delete(it, name)
		default:
			panic("an Action that PHP does not send")
		}
	}
	f.items[key] = it
	if in.ReturnValues == types.ReturnValueAllNew {
		out.Attributes = copiedItem(it)
	}
	return nil
}

// handler sends what the session handler of the AWS SDK for PHP sends, as it was
// recorded in testdata.
type handler struct {
	t        testing.TB
	client   Client
	requests map[string]json.RawMessage
	life     time.Duration
	now      func() time.Time
}

func newHandler(t testing.TB, client Client) *handler {
	t.Helper()
	h := &handler{t: t, client: client, requests: map[string]json.RawMessage{}, life: 24 * time.Minute, now: time.Now}
	var recorded []struct {
		Step string          `json:"step"`
		Req  json.RawMessage `json:"req"`
	}
	readJSON(t, "testdata/php_requests.json", &recorded)
	for _, r := range recorded {
		h.requests[r.Step] = r.Req
	}
	return h
}

func readJSON(t testing.TB, file string, v any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// value is an attribute in JSON, as DynamoDB has it.
type value struct {
	S, N, B *string
}

func (v *value) attribute() types.AttributeValue {
	switch {
	case v == nil:
		return nil
	case v.S != nil:
		return &types.AttributeValueMemberS{Value: *v.S}
	case v.N != nil:
		return &types.AttributeValueMemberN{Value: *v.N}
	}
	b, err := base64.StdEncoding.DecodeString(*v.B)
	if err != nil {
		panic(err)
	}
	return &types.AttributeValueMemberB{Value: b}
}

func (h *handler) expires() types.AttributeValue { return number(h.now().Add(h.life).Unix()) }

// update sends a recorded UpdateItem for key, with the present time, and with data
// if that is not nil.
func (h *handler) update(step string, data types.AttributeValue) (item, error) {
	h.t.Helper()
	var r struct {
		Expected         map[string]types.ExpectedAttributeValue
		ReturnValues     types.ReturnValue
		AttributeUpdates map[string]struct {
			Action types.AttributeAction
			Value  *value
		}
	}
	if err := json.Unmarshal(h.requests[step], &r); err != nil || len(r.AttributeUpdates) == 0 {
		h.t.Fatalf("%s: %v", step, err)
	}
	in := &dynamodb.UpdateItemInput{
		Key: item{"id": text(key)}, Expected: r.Expected, ReturnValues: r.ReturnValues,
		AttributeUpdates: map[string]types.AttributeValueUpdate{},
	}
	for name, u := range r.AttributeUpdates {
		v := u.Value.attribute()
		switch {
		case name == "expires":
			v = h.expires()
		case name == "data" && v != nil && data != nil:
			v = data
		}
		if u.Action == "" {
			u.Action = types.AttributeActionPut
		}
		in.AttributeUpdates[name] = types.AttributeValueUpdate{Action: u.Action, Value: v}
	}
	out, err := h.client.UpdateItem(h.t.Context(), in)
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

func (h *handler) must(step string, data types.AttributeValue) item {
	h.t.Helper()
	it, err := h.update(step, data)
	if err != nil {
		h.t.Fatalf("%s: %v", step, err)
	}
	return it
}

func (h *handler) write(data string)   { h.t.Helper(); h.must("write (changed)", text(data)) }
func (h *handler) touch()              { h.t.Helper(); h.must("write (unchanged)", nil) }
func (h *handler) empty()              { h.t.Helper(); h.must("write (emptied)", nil) }
func (h *handler) lock() (item, error) { h.t.Helper(); return h.update("locking read (hit)", nil) }

func (h *handler) destroy() {
	h.t.Helper()
	if _, err := h.client.DeleteItem(h.t.Context(), &dynamodb.DeleteItemInput{Key: item{"id": text(key)}}); err != nil {
		h.t.Fatal(err)
	}
}

// sees returns the data that PHP finds, "" if there is none.
func (h *handler) sees() string {
	h.t.Helper()
	consistent := true
	out, err := h.client.GetItem(h.t.Context(), &dynamodb.GetItemInput{Key: item{"id": text(key)}, ConsistentRead: &consistent})
	if err != nil {
		h.t.Fatal(err)
	}
	switch d := out.Item["data"].(type) {
	case *types.AttributeValueMemberS:
		return d.Value
	case *types.AttributeValueMemberB:
		return string(d.Value)
	}
	return ""
}

// besidePHP are the tables beside PHP.
var besidePHP = map[string]PHPConfig{
	"versioned":      {Connection: VersionedConnection},
	"stock":          {Connection: StockLocking},
	"stock unlocked": {Connection: StockUnlocked, AcceptLoss: true},
}

// serializes is a codec of package codec/php, for what a Backend looks at.
type serializes struct {
	codec.JSON
	handler string
}

func (s serializes) SerializeHandler() string { return s.handler }

// What New and With refuse because of the table.
func TestCheckConfig(t *testing.T) {
	const life = 24 * time.Minute
	good := func(change func(*session.Config)) session.Config {
		c := session.Config{
			Codec: serializes{handler: "php"}, Tokens: PHPTokens(), StoreKey: PHPStoreKey("PHPSESSID"),
			Cookie: session.Cookie{Name: "PHPSESSID"}, IdleTimeout: life,
		}
		if change != nil {
			change(&c)
		}
		return c
	}
	versioned, stock := PHPConfig{Connection: VersionedConnection}, PHPConfig{Connection: StockLocking}
	stockWithLoss := stock
	stockWithLoss.AcceptLoss = true
	named := PHPConfig{Connection: VersionedConnection, SessionName: "shop", SerializeHandler: "php_serialize", SessionLifetime: time.Hour}
	for _, tt := range []struct {
		name string
		php  PHPConfig
		cfg  session.Config
		want string // in the error; "" if there is none
	}{
		{"versioned", versioned, good(nil), ""},
		{"stock", stock, good(nil), ""},
		{"unlocked", besidePHP["stock unlocked"], good(nil), ""},
		{"another codec", versioned, good(func(c *session.Config) { c.Codec = codec.MessagePack{} }), "codec codec.MessagePack beside PHP"},
		{"the default codec", stock, good(func(c *session.Config) { c.Codec = nil }), "codec codec.MessagePack beside PHP"},
		{"another handler", versioned, good(func(c *session.Config) { c.Codec = serializes{handler: "php_binary"} }), `"php_binary", and Config.PHP has "php"`},
		{"the default keys", versioned, good(func(c *session.Config) { c.StoreKey = nil }), `use PHPStoreKey("PHPSESSID")`},
		{"keys of another name", versioned, good(func(c *session.Config) { c.StoreKey = PHPStoreKey("shop") }), "other keys"},
		{"the default tokens", versioned, good(func(c *session.Config) { c.Tokens = session.Tokens{} }), "use PHPTokens"},
		{"tokens with _ at an end", versioned, good(func(c *session.Config) { c.Tokens.Valid = func(string) bool { return true } }), "use PHPTokens"},
		{"the default cookie", versioned, good(func(c *session.Config) { c.Cookie = session.Cookie{} }), "and that of PHP"},
		{"a header", versioned, good(func(c *session.Config) { c.Cookie, c.Header = session.Cookie{}, "X-Session" }), ""},
		{"the default timeout", versioned, good(func(c *session.Config) { c.IdleTimeout = 0 }), "IdleTimeout is 2h0m0s"},
		{"no idle timeout", versioned, good(func(c *session.Config) { c.IdleTimeout = session.Never }), "IdleTimeout"},
		{"a longer timeout of a session", versioned, good(func(c *session.Config) { c.MaxIdleTimeout = time.Hour }), "MaxIdleTimeout is 1h0m0s"},
		{"other settings of PHP", named, good(nil), "php_serialize"},
		{"other settings of both", named, good(func(c *session.Config) {
			c.Codec, c.StoreKey, c.Cookie.Name, c.IdleTimeout = serializes{handler: "php_serialize"}, PHPStoreKey("shop"), "shop", time.Hour
		}), ""},
		{"Exclusive, versioned", versioned, good(func(c *session.Config) { c.Mode = session.Exclusive }), ""},
		{"Exclusive, stock", stock, good(func(c *session.Config) { c.Mode = session.Exclusive }), "mode Exclusive"},
		{"Exclusive for safe methods, stock", stock, good(func(c *session.Config) { c.SafeMode = session.Exclusive }), "mode Exclusive"},
		{"Exclusive, stock, loss accepted", stockWithLoss, good(func(c *session.Config) { c.Mode = session.Exclusive }), ""},
		{"often touched, stock", stock, good(func(c *session.Config) { c.TouchInterval = time.Minute }), "TouchInterval is 1m0s"},
		{"often touched, versioned", versioned, good(func(c *session.Config) { c.TouchInterval = time.Minute }), ""},

		{"an ordinary table", PHPConfig{}, session.Config{}, ""},
		{"an ordinary table, a codec for PHP", PHPConfig{}, session.Config{Codec: serializes{handler: "php"}}, "Config.PHP is not set"},
		{"an ordinary table, PHP's keys", PHPConfig{}, session.Config{Tokens: PHPTokens(), StoreKey: PHPStoreKey("PHPSESSID")}, "Config.PHP is not set"},
		{"an ordinary table, keys of its own", PHPConfig{}, session.Config{Tokens: PHPTokens(), StoreKey: func(t string) string { return "web_" + t }}, ""},
	} {
		b := newBackend(t, newFake(), Config{PHP: tt.php})
		if b.Shared() != (tt.php != PHPConfig{}) {
			t.Errorf("%s: Shared is %v", tt.name, b.Shared())
		}
		_, err := session.New(b, tt.cfg)
		if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}

	m, err := session.New(newBackend(t, newFake(), Config{PHP: stock}), good(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range []session.Route{{Mode: session.Exclusive}, {SafeMode: session.Exclusive}} {
		if _, err := m.With(rt); err == nil || !strings.Contains(err.Error(), "mode Exclusive") {
			t.Errorf("With(%+v): %v", rt, err)
		}
	}
	if _, err := m.With(session.Route{Mode: session.ReadOnly}); err != nil {
		t.Error(err)
	}
	if err := (&Backend{}).CheckConfig(session.Config{}); err == nil {
		t.Error("a Config without its defaults is accepted")
	}
}

// What PHPTokens draws and accepts.
func TestPHPTokens(t *testing.T) {
	tokens := PHPTokens()
	for range 100 {
		if token := tokens.New(); len(token) != 32 || strings.Trim(token, "0123456789abcdefghijklmnopqrstuv") != "" || !tokens.Valid(token) {
			t.Fatalf("drew %q", token)
		}
	}
	for token, want := range map[string]bool{
		"0123456789abcdefghijklmnop": true, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-": true,
		"0123456789abcdefghijklmno_": false, "0123456789abcdefghijklmno,": false, "0123456789abcdefghijklmnoé": false,
	} {
		if tokens.Valid(token) != want {
			t.Errorf("%q: want %v", token, want)
		}
	}
}

// The number of sightings is bounded, and an unlocked row costs no lock of them.
func TestSightings(t *testing.T) {
	var s sightings
	now := time.Unix(1_700_000_000, 0)
	for i := range 3 * maxSightings {
		now = now.Add(time.Millisecond)
		s.since(strconv.Itoa(i), 1, now, time.Minute)
		if len(s.seen) > maxSightings {
			t.Fatalf("%d are kept", len(s.seen))
		}
	}
	now = now.Add(3 * time.Minute)
	if got := s.since("a", 1, now, time.Minute); !got.Equal(now) || len(s.seen) > maxSightings {
		t.Errorf("seen at %v, %d kept", got, len(s.seen))
	}
	if got := s.since("a", 1, now.Add(time.Second), time.Minute); !got.Equal(now) {
		t.Errorf("the same lock: %v", got)
	}
	if got := s.since("a", 2, now.Add(time.Second), time.Minute); !got.Equal(now.Add(time.Second)) {
		t.Errorf("another lock: %v", got)
	}
	s.forget("a")
	if _, there := s.seen["a"]; there || int(s.count.Load()) != len(s.seen) {
		t.Errorf("%d are counted, and %d there", s.count.Load(), len(s.seen))
	}
}

// The packed form of a version is its own, and a changed one is none.
func TestPackedVersion(t *testing.T) {
	versions := map[session.Version]base{}
	for _, h := range []history{"", "12345678", history(strings.Repeat("abcdefgh", tokens))} {
		for _, data := range []types.AttributeValue{nil, text(""), text("a"), bytesOf(""), bytesOf("a"), text("a\x00"), text(strings.Repeat("x", 300<<10))} {
			s := base{history: h, whole: true, data: data}
			v := s.version()
			if other, there := versions[v]; there {
				t.Errorf("%v and %v are one version", s, other)
			}
			versions[v] = s
			got, ok := unpack(v)
			if !ok || got.version() != v || got.history != h {
				t.Errorf("%q is %v, %v", v, got, ok)
			}
			if history(v).valid() {
				t.Errorf("%q could be a history", v)
			}
			if len(v) > 1000 {
				continue
			}
			for i := range len(v) {
				changed := []byte(v)
				changed[i] ^= 1
				if _, ok := unpack(session.Version(changed)); ok {
					t.Errorf("%q with another byte %d is a version", v, i)
				}
				if _, ok := unpack(v[:i]); ok {
					t.Errorf("%q is a version", v[:i])
				}
			}
			l := lock{id: "0123456789abcdef"}
			held := l.held(session.Record{Version: v, Expires: time.Unix(1_700_000_000, 0)})
			if holding, rest := split(held.Version); holding.id != l.id || session.Version(rest) != v {
				t.Errorf("%q held is %q, %q", v, holding.id, rest)
			}
		}
	}
}

// Any item beside PHP is a session, none, or an error. What is a session can be replaced
// in the state that it has.
func FuzzDecodeShared(f *testing.F) {
	f.Add("1700000000", "", []byte("a|i:1;"), []byte(nil), []byte(nil), byte(0))
	f.Add("1700000000", "1700000000000", []byte("a|i:1;"), []byte("12345678"), []byte("0123456789abcdef"), byte(1))
	f.Add("", "1", []byte(nil), []byte("1"), []byte("1"), byte(2))
	f.Add("-1", "x", []byte{0xff}, []byte("12345678"), []byte("1"), byte(7))
	var backends []*Backend
	for _, php := range besidePHP {
		backends = append(backends, newBackend(f, newFake(), Config{PHP: php}))
	}
	f.Fuzz(func(t *testing.T, expires, created string, data, version, id []byte, kinds byte) {
		it := item{}
		set := func(name string, v types.AttributeValue, there bool) {
			if there {
				it[name] = v
			}
		}
		set("expires", &types.AttributeValueMemberN{Value: expires}, expires != "")
		set("created", &types.AttributeValueMemberN{Value: created}, created != "")
		set("version", &types.AttributeValueMemberB{Value: version}, version != nil)
		set("data", &types.AttributeValueMemberB{Value: data}, data != nil && kinds&4 == 0)
		set("data", &types.AttributeValueMemberS{Value: string(data)}, data != nil && kinds&4 != 0)
		set("private", &types.AttributeValueMemberB{Value: data}, kinds&1 != 0)
		set("lock", &types.AttributeValueMemberB{Value: id}, id != nil && kinds&2 == 0)
		set("lock", &types.AttributeValueMemberN{Value: "1"}, id != nil && kinds&2 != 0)
		set("lock_until", &types.AttributeValueMemberN{Value: created}, created != "")
		for _, b := range backends {
			now := time.UnixMilli(1_700_000_000_000)
			rec, l, err := b.decode("k", it, now)
			if err != nil {
				if !errors.Is(err, session.ErrDecode) && !errors.Is(err, session.ErrNotFound) {
					t.Fatal(err)
				}
				continue
			}
			if rec.Version == "" || rec.Created.IsZero() || rec.LockedUntil.IsZero() == l.live(now) {
				t.Fatalf("%+v, lock %+v", rec, l)
			}
			held, was := b.was(rec.Version)
			if held.id != "" || was.version() != rec.Version {
				t.Fatalf("version %q is held by %q, of %+v", rec.Version, held.id, was)
			}
			names, values := b.names("#v", "#d", "#p"), item{}
			if condition := b.same(was, values); !holds(condition, names, values, it) {
				t.Fatalf("%s with %v does not hold for %v", condition, values, it)
			}
			if l.id != "" {
				if held, now := b.was(l.held(rec).Version); held.id != l.id || now.version() != rec.Version {
					t.Fatalf("version %q held by %q is %+v", rec.Version, held.id, now)
				}
			}
		}
	})
}

func packed(v session.Version) bool {
	_, ok := unpack(v)
	return ok
}
