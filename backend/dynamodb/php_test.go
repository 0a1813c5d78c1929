package dynamodb

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
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

func packed(v session.Version) bool {
	_, ok := unpack(v)
	return ok
}
