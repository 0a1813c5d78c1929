package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// fakeTable is a table of sessions behind a fakeDynamoDB.
type fakeTable struct {
	*fakeDynamoDB
	mu      sync.Mutex
	rows    map[string]object
	refuse  map[string]bool // keys that cannot be written
	scanned int             // items read by Scan
}

func newFakeTable(t *testing.T) *fakeTable {
	f := &fakeTable{rows: map[string]object{}, refuse: map[string]bool{}}
	does := goodTable()
	does["Scan"], does["GetItem"], does["DeleteItem"] = f.scan, f.get, f.remove
	does["UpdateItem"] = f.update
	f.fakeDynamoDB = newFakeDynamoDB(t, does)
	return f
}

// deny makes the row with a key one that cannot be written, or can again.
func (f *fakeTable) deny(key string, denied bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse[key] = denied
}

// count is the number of rows.
func (f *fakeTable) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rows)
}

func keyOf(v any) string {
	all, _ := v.(object) // nil of a request that was cut
	id, _ := all["id"].(object)
	k, _ := id["S"].(string)
	return k
}

func (f *fakeTable) scan(body map[string]any) (int, any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limit, after := 1000, ""
	if n, ok := body["Limit"].(float64); ok {
		limit = int(n)
	}
	if k, ok := body["ExclusiveStartKey"]; ok {
		after = keyOf(k)
	}
	segment, total := 0, 1
	if n, ok := body["TotalSegments"].(float64); ok {
		total, segment = int(n), int(body["Segment"].(float64))
	}
	prefix := ""
	if values, ok := body["ExpressionAttributeValues"].(object); ok {
		if v, ok := values[":prefix"].(object); ok {
			prefix, _ = v["S"].(string)
		}
	}
	var items []object
	reply := object{}
	looked := 0
	for _, key := range slices.Sorted(maps.Keys(f.rows)) {
		h := fnv.New32()
		_, _ = h.Write([]byte(key))
		if key <= after || int(h.Sum32())%total != segment {
			continue
		}
		looked++
		if strings.HasPrefix(key, prefix) {
			items = append(items, f.rows[key])
		}
		if looked == limit {
			reply["LastEvaluatedKey"] = object{"id": object{"S": key}}
			break
		}
	}
	f.scanned += looked
	maps.Copy(reply, object{"Items": items, "Count": len(items), "ScannedCount": looked, "ConsumedCapacity": object{"CapacityUnits": float64(looked) / 2}})
	return http.StatusOK, reply
}

func (f *fakeTable) get(body map[string]any) (int, any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if row, ok := f.rows[keyOf(body["Key"])]; ok {
		return http.StatusOK, object{"Item": row}
	}
	return http.StatusOK, object{}
}

// remove looks at the version if the condition names one.
func (f *fakeTable) remove(body map[string]any) (int, any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := keyOf(body["Key"])
	if f.refuse[key] {
		return refuses(400, "AccessDeniedException", "no")(body)
	}
	values, _ := body["ExpressionAttributeValues"].(object)
	if old := values[":old"]; old != nil && fmt.Sprint(old) != fmt.Sprint(f.rows[key]["version"]) {
		return refuses(400, "ConditionalCheckFailedException", "The conditional request failed")(body)
	}
	delete(f.rows, key)
	return http.StatusOK, object{}
}

// update ends, replaces or creates a row, as Save does, and refuses everything
// else.
func (f *fakeTable) update(body map[string]any) (int, any) {
	values, _ := body["ExpressionAttributeValues"].(object)
	text := func(v any, of string) string {
		o, _ := v.(object)
		s, _ := o[of].(string)
		return s
	}
	n, err := strconv.ParseInt(text(values[":e"], "N"), 10, 64)
	if err == nil && n <= time.Now().Unix() {
		return f.remove(body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := keyOf(body["Key"])
	row, old := f.rows[key], text(values[":old"], "B")
	if f.refuse[key] {
		return refuses(400, "AccessDeniedException", "no")(body)
	}
	if err != nil || values[":d"] == nil || text(row["version"], "B") != old {
		return refuses(400, "ConditionalCheckFailedException", "The conditional request failed")(body)
	}
	f.rows[key] = object{"id": object{"S": key}, "data": values[":d"], "expires": values[":e"], "created": values[":c"], "version": values[":v"]}
	return http.StatusOK, object{}
}

// put adds a row. A negative left is for one that has expired.
func (f *fakeTable) put(key string, data []byte, age, left, locked time.Duration) {
	now := time.Now()
	binary := func(b []byte) object { return object{"B": base64.StdEncoding.EncodeToString(b)} }
	number := func(n int64) object { return object{"N": strconv.FormatInt(n, 10)} }
	row := object{
		"id": object{"S": key}, "data": binary(data), "expires": number(now.Add(left).Unix()),
		"created": number(now.Add(-age).UnixMilli()), "version": binary([]byte("8 bytes.8 bytes.")),
	}
	if locked != 0 {
		row["lock"], row["lock_until"] = binary([]byte("16 bytes of lock")), number(now.Add(locked).UnixMilli())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows[key] = row
}

// encoded is a session with these values.
func encoded(t *testing.T, c session.Codec, values map[string]any) []byte {
	t.Helper()
	all := map[string][]byte{}
	for name, v := range values {
		data, err := c.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = data
	}
	data, err := c.Join(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// shopTable has a session of each sort.
func shopTable(t *testing.T) *fakeTable {
	f := newFakeTable(t)
	c := codec.MessagePack{}
	f.put("ann-1", encoded(t, c, map[string]any{userValue: "ann", "cart": []string{"tea"}}), time.Hour, time.Hour, 0)
	f.put("ann-2", encoded(t, c, map[string]any{userValue: "ann", "pad": strings.Repeat("x", 3000)}), 2*time.Hour, 10*time.Minute, time.Minute)
	f.put("bob-1", encoded(t, c, map[string]any{userValue: "bob"}), time.Minute, 2*time.Hour, -time.Minute)
	f.put("guest", encoded(t, c, map[string]any{"n": 1}), time.Second, 2*time.Hour, 0)
	f.put("moved", encoded(t, c, map[string]any{movedValue: "ann-1"}), 2*time.Minute, 8*time.Minute, 0)
	f.put("old-ann", encoded(t, c, map[string]any{userValue: "ann"}), 30*time.Hour, -5*time.Hour, 0)
	f.put("older", encoded(t, c, map[string]any{"n": 1}), 300*time.Hour, -200*time.Hour, 0)
	f.rows["PHPSESSID_x"] = object{"id": object{"S": "PHPSESSID_x"}, "expires": object{"N": "1"}, "data": object{"S": "user|s:3"}}
	return f
}

// with runs the program on the table, with a standard input.
func (f *fakeTable) ctl(ctx context.Context, stdin string, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(ctx, append(args, "--endpoint", f.URL), strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

func TestList(t *testing.T) {
	f := shopTable(t)
	tests := []struct {
		args string
		want string // keys
		note string
	}{
		{"", "PHPSESSID_x ann-1 ann-2 bob-1 guest moved old-ann older", "8 of 8 records, 4 read units used."},
		{"--limit 2", "PHPSESSID_x ann-1", "These are the first 2, 1 read units used."},
		{"--live", "ann-1 ann-2 bob-1 guest", "4 of 8 records"},
		{"--expired", "old-ann older", "2 of 8"},
		{"--locked", "ann-2", "1 of 8"},
		{"--foreign", "PHPSESSID_x", "1 of 8"},
		{"--locked --expired", "ann-2 old-ann older", "3 of 8"},
		{"--expired --limit 1", "old-ann", "first 1"},
		{"--key-prefix ann", "ann-1 ann-2", "2 of 8"},
		{"--key-prefix none", "", "There are none among the 8 records"},
		{"--sort size --limit 1", "ann-2", "1 of 8"},
		{"--sort created --live", "ann-2 ann-1 bob-1 guest", "4 of 8"},
		{"--moved", "moved", "1 of 8"},
		{"--moved --live --sort created", "ann-2 ann-1 moved bob-1 guest", "5 of 8"},
		{"--sort expires --limit 2", "PHPSESSID_x older", "2 of 8"},
		{"--sort key -n 3", "PHPSESSID_x ann-1 ann-2", "3 of 8"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := f.ctl(t.Context(), "", append(strings.Fields("list --json "+tt.args), "--timeout=1m")...)
			var keys []string
			d := json.NewDecoder(strings.NewReader(got.stdout))
			for d.More() {
				var l listed
				if err := d.Decode(&l); err != nil {
					t.Fatal(err)
				}
				if l.Size == 0 || l.State == "" || l.Expires == nil {
					t.Errorf("got %+v", l)
				}
				keys = append(keys, l.Key)
			}
			if got.code != codeDone || strings.Join(keys, " ") != tt.want || !strings.Contains(got.stderr, tt.note) {
				t.Errorf("got %v, %+v", keys, got)
			}
			text := f.ctl(t.Context(), "", strings.Fields("list "+tt.args)...)
			if lines := strings.Count(text.stdout, "\n"); lines != len(keys)+min(1, len(keys)) {
				t.Errorf("got %d lines:\n%s", lines, text.stdout)
			}
		})
	}
}

func TestListText(t *testing.T) {
	f := newFakeTable(t)
	f.put("a", []byte("x"), 90*time.Minute+time.Second, 3*24*time.Hour+time.Minute, 0)
	f.put("b\x1b[2J", []byte("x"), time.Minute+time.Second, 30*time.Minute+2*time.Second, time.Hour)
	got := f.ctl(t.Context(), "", "list")
	want := `KEY                               SIZE       BEGAN           ENDS            STATE
a                                 N B        90 min ago      in 3 days       live
"b\x1b[2J"                        N B        1 min ago       in 30 min       locked for 1 h 0 min
`
	// DynamoDB leaves trailing zeros out, so sizes change with the time.
	text := regexp.MustCompile(`\d+ B {6,8}`).ReplaceAllString(got.stdout, "N B        ")
	if text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestListStops reads no further than it has to.
func TestListStops(t *testing.T) {
	f := newFakeTable(t)
	for i := range 5000 {
		f.put(fmt.Sprint("k", i), []byte("x"), time.Hour, time.Hour, 0)
	}
	if got := f.ctl(t.Context(), "", "list", "--limit=10"); got.code != 0 || f.scanned != 10 {
		t.Errorf("it read %d, %+v", f.scanned, got)
	}
	f.scanned = 0
	if got := f.ctl(t.Context(), "", "list", "--live", "--limit=10"); got.code != 0 || f.scanned != 1000 {
		t.Errorf("with a filter it read %d, %+v", f.scanned, got)
	}
	if got := f.ctl(t.Context(), "", "list", "--limit=0", "--json"); strings.Count(got.stdout, "\n") != 5000 {
		t.Errorf("got %d lines", strings.Count(got.stdout, "\n"))
	}
}

func TestListWarns(t *testing.T) {
	f := newFakeTable(t) // which says it has 3 GB
	if got := f.ctl(t.Context(), "", "list", "--expired"); !strings.Contains(got.stderr, "about 1,234,567 records, 3.0 GB, 393,216 read units") {
		t.Errorf("got %+v", got)
	}
	if got := f.ctl(t.Context(), "", "list", "--limit=5"); strings.Contains(got.stderr, "read units. --read-units") {
		t.Errorf("got %+v", got)
	}
}
