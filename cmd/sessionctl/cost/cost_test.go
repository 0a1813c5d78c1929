package cost_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
	"github.com/seed-a7bee19b/session/codec"
)

// price has numbers that are easy to reckon with.
var price = cost.Price{ReadMillion: 1, WriteMillion: 10, ReadUnitHour: 0.001, WriteUnitHour: 0.01, StorageMonth: 0.5}

func compute(t *testing.T, w cost.Workload, s cost.Settings) cost.Estimate {
	t.Helper()
	e, err := cost.Compute(w, s, price)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestItemSize(t *testing.T) {
	names := len(dynamodb.DefaultKeyAttribute + dynamodb.DefaultDataAttribute + dynamodb.DefaultExpiresAttribute +
		dynamodb.DefaultCreatedAttribute + dynamodb.DefaultVersionAttribute)
	lockNames := len(dynamodb.DefaultLockAttribute + dynamodb.DefaultLockUntilAttribute)
	if names != cost.DefaultNames || lockNames != cost.DefaultLockNames {
		t.Errorf("the names have %d and %d bytes", names, lockNames)
	}
	tests := []struct {
		data, writes int
		locked       bool
		want         int
	}{
		{0, 0, false, 27 + 32 + 14 + 8},
		{0, 1, false, 27 + 32 + 14 + 8},
		{700, 1, false, 781},
		{700, 16, false, 901},
		{700, 1000, false, 901},
		{700, 16, true, 901 + 14 + 24},
	}
	for _, tt := range tests {
		if got := (cost.Item{}).Size(tt.data, tt.writes, tt.locked); got != tt.want {
			t.Errorf("%d bytes, %d writes, locked %t: got %d, want %d", tt.data, tt.writes, tt.locked, got, tt.want)
		}
	}
}

func TestUnits(t *testing.T) {
	tests := []struct {
		size        int
		read, write float64
	}{
		{0, 1, 1}, {1, 1, 1}, {1024, 1, 1}, {1025, 1, 2}, {4096, 1, 4}, {4097, 2, 5}, {400 << 10, 100, 400},
	}
	for _, tt := range tests {
		if r, w := cost.ReadUnits(tt.size), cost.WriteUnits(tt.size); r != tt.read || w != tt.write {
			t.Errorf("%d bytes: got %v and %v, want %v and %v", tt.size, r, w, tt.read, tt.write)
		}
	}
}

// TestCompute holds the estimate against the table of requests in README.md,
// which others hold against the wire.
func TestCompute(t *testing.T) {
	type sums struct{ get, update, remove, read, write float64 }
	exclusive := cost.Settings{Mode: session.Exclusive}
	never := 0.0
	always := 1.0
	tests := []struct {
		name string
		w    cost.Workload
		s    cost.Settings
		want sums // of one request
	}{
		{"new", cost.Workload{Mix: cost.Mix{New: 1}}, cost.Settings{}, sums{update: 1, write: 1}},
		{"read", cost.Workload{Mix: cost.Mix{Read: 1}, Touches: &never}, cost.Settings{}, sums{get: 1, read: 1}},
		{"read, eventually consistent", cost.Workload{Mix: cost.Mix{Read: 1}, Touches: &never}, cost.Settings{EventuallyConsistentReads: true}, sums{get: 1, read: 0.5}},
		{"read and touch", cost.Workload{Mix: cost.Mix{Read: 1}, Touches: &always}, cost.Settings{}, sums{get: 1, update: 1, read: 1, write: 1}},
		{"write", cost.Workload{Mix: cost.Mix{Write: 1}}, cost.Settings{}, sums{get: 1, update: 1, read: 1, write: 1}},
		{"write with a conflict", cost.Workload{Mix: cost.Mix{Write: 1}, Conflicts: 1}, cost.Settings{}, sums{get: 1, update: 2, read: 1, write: 2}},
		{"locked write", cost.Workload{Mix: cost.Mix{LockedWrite: 1}}, cost.Settings{}, sums{update: 2, write: 2}},
		{"locked read", cost.Workload{Mix: cost.Mix{LockedRead: 1}}, cost.Settings{}, sums{update: 2, write: 2}},
		{"write in mode Exclusive", cost.Workload{Mix: cost.Mix{Write: 1}}, exclusive, sums{update: 2, write: 2}},
		{"read in mode Exclusive", cost.Workload{Mix: cost.Mix{Read: 1}}, exclusive, sums{update: 2, write: 2}},
		{"wait for a lock", cost.Workload{Mix: cost.Mix{LockedWrite: 1}, Waits: 1, Looks: 3}, cost.Settings{}, sums{get: 3, update: 3, read: 3, write: 3}},
		{"log in", cost.Workload{Mix: cost.Mix{Login: 1}}, cost.Settings{}, sums{get: 1, update: 2, read: 1, write: 2}},
		{"log in, mode Exclusive", cost.Workload{Mix: cost.Mix{Login: 1}}, exclusive, sums{update: 3, write: 3}},
		{"log in, listed", cost.Workload{Mix: cost.Mix{Login: 1}}, cost.Settings{Owners: 1}, sums{get: 2, update: 3, read: 2, write: 3}},
		{"log in, listed twice", cost.Workload{Mix: cost.Mix{Login: 1}}, cost.Settings{Owners: 2}, sums{get: 3, update: 4, read: 3, write: 4}},
		{"log out, listed", cost.Workload{Mix: cost.Mix{Logout: 1}}, cost.Settings{Owners: 1}, sums{get: 1, remove: 1, read: 1, write: 1}},
		{"log out", cost.Workload{Mix: cost.Mix{Logout: 1}}, cost.Settings{}, sums{get: 1, remove: 1, read: 1, write: 1}},
		{"gone", cost.Workload{Mix: cost.Mix{Gone: 1}}, cost.Settings{}, sums{get: 1, read: 1}},
		{"gone, eventually consistent", cost.Workload{Mix: cost.Mix{Gone: 1}}, cost.Settings{EventuallyConsistentReads: true}, sums{get: 2, read: 1.5}},
		{"5 KB", cost.Workload{Mix: cost.Mix{Write: 1}, Sizes: []cost.SizeClass{{Data: 5000, Weight: 1}}}, cost.Settings{}, sums{get: 1, update: 1, read: 2, write: 6}},
		// 850 bytes of data are up to 1 KB until the twelfth write.
		{"full version", cost.Workload{Mix: cost.Mix{Write: 1}, Sizes: []cost.SizeClass{{Data: 850, Weight: 1}}}, cost.Settings{}, sums{get: 1, update: 1, read: 1, write: 2}},
		{"two writes", cost.Workload{Mix: cost.Mix{Write: 1}, Writes: 2, Sizes: []cost.SizeClass{{Data: 850, Weight: 1}}}, cost.Settings{}, sums{get: 1, update: 1, read: 1, write: 1}},
		{"13 writes", cost.Workload{Mix: cost.Mix{Write: 1}, Writes: 13, Sizes: []cost.SizeClass{{Data: 850, Weight: 1}}}, cost.Settings{}, sums{get: 1, update: 1, read: 1, write: 1 + 1.0/12}},
		{"two sizes", cost.Workload{Mix: cost.Mix{New: 1}, Sizes: []cost.SizeClass{{Data: 500, Weight: 3}, {Data: 1500, Weight: 1}}}, cost.Settings{}, sums{update: 1, write: 1.25}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const n = 1000
			tt.w.Requests = n
			e := compute(t, tt.w, tt.s)
			got := sums{read: e.ReadUnits / n, write: e.WriteUnits / n}
			for _, c := range e.ByRequest() {
				switch c.Request {
				case "GetItem":
					got.get = c.Requests / n
				case "UpdateItem":
					got.update = c.Requests / n
				case "DeleteItem":
					got.remove = c.Requests / n
				default:
					t.Errorf("%+v", c)
				}
			}
			for _, d := range []float64{got.get - tt.want.get, got.update - tt.want.update, got.remove - tt.want.remove, got.read - tt.want.read, got.write - tt.want.write} {
				if math.Abs(d) > 1e-9 {
					t.Fatalf("got %+v, want %+v", got, tt.want)
				}
			}
			if want := e.ReadUnits/1e6 + e.WriteUnits*10/1e6 + e.StorageGB*0.5; math.Abs(e.Money.Total-want) > 1e-9 {
				t.Errorf("got %+v, want %v in all", e.Money, want)
			}
		})
	}
}

func TestTouches(t *testing.T) {
	reads := cost.Mix{Read: 1}
	tests := []struct {
		name string
		w    cost.Workload
		s    cost.Settings
		want float64
	}{
		{"one in 13", cost.Workload{Mix: reads}, cost.Settings{}, 1.0 / 13},
		{"halved", cost.Workload{Mix: reads}, cost.Settings{TouchInterval: 6 * time.Minute}, 1.0 / 7},
		{"rarely used", cost.Workload{Mix: reads, Gap: 12 * time.Minute}, cost.Settings{}, 0.5},
		{"never idle", cost.Workload{Mix: reads}, cost.Settings{IdleTimeout: session.Never}, 0},
		{"read-only", cost.Workload{Mix: reads}, cost.Settings{SafeMode: session.ReadOnly}, 0},
		{"locked", cost.Workload{Mix: reads}, cost.Settings{Mode: session.Exclusive}, 0},
		{"writes are touches too", cost.Workload{Mix: cost.Mix{Read: 1, Write: 1}, Gap: 12 * time.Minute}, cost.Settings{}, 1 / (1 + math.Expm1(0.5)/0.5)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.w.Requests = 1
			if got := compute(t, tt.w, tt.s).Touches; math.Abs(got-tt.want) > 1e-9 {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestTouchesAtRandom holds the formula against requests that are drawn.
func TestTouchesAtRandom(t *testing.T) {
	const interval, share, n = 5.0, 0.1, 400_000
	state := uint64(1)
	random := func() float64 { // the same each time
		state = state*6364136223846793005 + 1442695040888963407
		return float64(state>>11) / (1 << 53)
	}
	var now, fresh, reads, touches float64
	for range n {
		now += -math.Log(1 - random())
		if random() < share {
			fresh = now
			continue
		}
		reads++
		if now-fresh >= interval {
			fresh = now
			touches++
		}
	}
	got := compute(t, cost.Workload{Requests: 1, Mix: cost.Mix{Read: 1 - share, Write: share}}, cost.Settings{TouchInterval: 5 * time.Minute}).Touches
	if drawn := touches / reads; math.Abs(got-drawn) > 0.01*drawn {
		t.Errorf("got %v, and %v when drawn", got, drawn)
	}
}

func TestRows(t *testing.T) {
	// A session an hour that is used once, and stays for 2 hours and 2 days.
	e := compute(t, cost.Workload{Requests: 730, Mix: cost.Mix{New: 1}}, cost.Settings{})
	if e.Rows < 50 || e.Rows > 50.1 {
		t.Errorf("got %v rows, want 50", e.Rows)
	}
	if want := e.Rows * (781 + 100) / (1 << 30); math.Abs(e.StorageGB-want) > 1e-12 {
		t.Errorf("got %v GB, want %v", e.StorageGB, want)
	}
	// A sweep each day: half a day late, and each row is read on average twice.
	e = compute(t, cost.Workload{Requests: 730, Mix: cost.Mix{New: 1}}, cost.Settings{SweepEvery: 24 * time.Hour})
	if e.Rows < 14 || e.Rows > 14.2 {
		t.Errorf("got %v rows, want 14", e.Rows)
	}
	var scan, deletions cost.Call
	for _, c := range e.Calls {
		switch c.Request {
		case "Scan":
			scan = c
		case "DeleteItem":
			deletions = c
		}
	}
	if scan.ReadUnits < 1 || deletions.Requests != 730 || deletions.WriteUnits != 730 {
		t.Errorf("got %+v, %+v", scan, deletions)
	}
	// The old ID of a login is there as long as the session would have been.
	e = compute(t, cost.Workload{Requests: 2 * 730, Mix: cost.Mix{New: 1, Login: 1}}, cost.Settings{})
	if e.Rows < 100 || e.Rows > 100.2 {
		t.Errorf("got %v rows, want 100", e.Rows)
	}
	// A number of rows that is given is taken.
	e = compute(t, cost.Workload{Requests: 730, Mix: cost.Mix{New: 1}, Rows: 10e6}, cost.Settings{SweepEvery: 24 * time.Hour})
	if want := 10e6 * 881 / (1 << 30); math.Abs(e.StorageGB-want) > 1e-3 {
		t.Errorf("got %v GB, want %v", e.StorageGB, want)
	}
	if want := 10e6 * 781 / 8192 * 730 / 24; math.Abs(e.ReadUnits-want) > want/1000 {
		t.Errorf("got %v units, want %v", e.ReadUnits, want)
	}
}

func TestProvisioned(t *testing.T) {
	// 10 reads a second.
	never := 0.0
	w := cost.Workload{Requests: 10 * cost.Month.Seconds(), Mix: cost.Mix{Read: 1}, Touches: &never}
	e := compute(t, w, cost.Settings{Provisioned: true, Peak: 3})
	if e.ReadCapacity != 30 || e.WriteCapacity != 1 {
		t.Errorf("got %v and %v", e.ReadCapacity, e.WriteCapacity)
	}
	if want := 30*730*0.001 + 730*0.01; math.Abs(e.Money.Reads+e.Money.Writes-want) > 1e-9 {
		t.Errorf("got %+v, want %v", e.Money, want)
	}
}

func TestRefused(t *testing.T) {
	bad := -0.5
	tests := []struct {
		want string
		w    cost.Workload
		s    cost.Settings
	}{
		{"Requests", cost.Workload{Requests: -1}, cost.Settings{}},
		{"Requests", cost.Workload{Requests: math.NaN()}, cost.Settings{}},
		{"Requests", cost.Workload{Requests: math.Inf(1)}, cost.Settings{}},
		{"weight of read", cost.Workload{Mix: cost.Mix{Read: -1}}, cost.Settings{}},
		{"weights must add up", cost.Workload{Sizes: []cost.SizeClass{{Data: 1}}}, cost.Settings{}},
		{"size is -1", cost.Workload{Sizes: []cost.SizeClass{{Data: -1, Weight: 1}}}, cost.Settings{}},
		{"Touches", cost.Workload{Touches: &bad}, cost.Settings{}},
		{"Conflicts", cost.Workload{Conflicts: 2}, cost.Settings{}},
		{"Waits", cost.Workload{Waits: -1}, cost.Settings{}},
		{"Writes", cost.Workload{Writes: -1}, cost.Settings{}},
		{"Gap", cost.Workload{Gap: -1}, cost.Settings{}},
		{"ReadOnly", cost.Workload{}, cost.Settings{Mode: session.ReadOnly}},
		{"unknown Mode", cost.Workload{}, cost.Settings{SafeMode: 99}},
		{"both Never", cost.Workload{}, cost.Settings{IdleTimeout: session.Never, AbsoluteTimeout: session.Never}},
		{"IdleTimeout", cost.Workload{}, cost.Settings{IdleTimeout: -5}},
		{"TouchInterval", cost.Workload{}, cost.Settings{TouchInterval: 3 * time.Hour}},
		{"Peak", cost.Workload{}, cost.Settings{Peak: 0.5}},
		{"SweepEvery", cost.Workload{}, cost.Settings{SweepEvery: -1}},
		{"Owners", cost.Workload{}, cost.Settings{Owners: -1}},
		{"Owners", cost.Workload{}, cost.Settings{Owners: 10}},
		{"negative size", cost.Workload{}, cost.Settings{Item: cost.Item{Key: -1}}},
	}
	for _, tt := range tests {
		if _, err := cost.Compute(tt.w, tt.s, price); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error about %q", err, tt.want)
		}
		if _, err := cost.Changes(tt.w, tt.s, price); err == nil {
			t.Errorf("%s: Changes took it", tt.want)
		}
	}
}

func TestChanges(t *testing.T) {
	w := cost.Workload{Requests: 1e6}
	changes, err := cost.Changes(w, cost.Settings{}, price)
	if err != nil {
		t.Fatal(err)
	}
	now := compute(t, w, cost.Settings{})
	find := func(prefix string) cost.Change {
		t.Helper()
		for _, c := range changes {
			if strings.HasPrefix(c.What, prefix) {
				return c
			}
		}
		t.Fatalf("there is no %q in %+v", prefix, changes)
		return cost.Change{}
	}
	// Those that find nothing are made twice.
	const gone = 10_000
	if c := find("EventuallyConsistentReads"); math.Abs(c.ReadUnits+now.ReadUnits/2-gone) > 1e-3 || c.Requests != gone || c.Money >= 0 || c.WriteUnits != 0 {
		t.Errorf("got %+v", c)
	}
	if c := find("Mode Exclusive for every"); c.ReadUnits != -now.ReadUnits || c.Money <= 0 {
		t.Errorf("got %+v", c)
	}
	all, safe := find("Mode Exclusive for every"), find("Mode Exclusive, SafeMode")
	if safe.Money >= all.Money {
		t.Errorf("got %+v and %+v", safe, all)
	}
	if half, double := find("TouchInterval halved: 6m"), find("TouchInterval doubled: 24m"); half.Money <= 0 || double.Money >= 0 {
		t.Errorf("got %+v and %+v", half, double)
	}
	if half, double := find("sessions half"), find("sessions twice"); half.StorageGB >= 0 || double.WriteUnits != now.WriteUnits {
		t.Errorf("got %+v and %+v", half, double)
	}
	if c := find("a daily sweep"); c.Requests <= 0 || c.StorageGB >= 0 {
		t.Errorf("got %+v", c)
	}
	for _, c := range changes {
		if c.What == "Mode Merge for every request" {
			t.Errorf("what it is already is no change: %+v", c)
		}
		if math.Abs(c.Share*now.Money.Total-c.Money) > 1e-9 {
			t.Errorf("got %+v", c)
		}
	}
	changes, err = cost.Changes(w, cost.Settings{
		Mode: session.Exclusive, EventuallyConsistentReads: true, SweepEvery: time.Hour, Provisioned: true, IdleTimeout: session.Never,
	}, price)
	if err != nil {
		t.Fatal(err)
	}
	find("consistent reads")
	find("Mode Merge for every request")
	find("TTL in place")
	find("on demand")
}

func TestOperations(t *testing.T) {
	all, err := cost.Operations(700, cost.Settings{}, price)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]float64{
		"read": {1, 0}, "locking read": {0, 1}, "write, after a read": {0, 1}, "destroy, after a read": {0, 1},
		"collect: sweep, each row deleted": {0, 1}, "collect: TTL": {0, 0},
	}
	for _, o := range all {
		if units, ok := want[o.What]; ok {
			if o.ReadUnits != units[0] || o.WriteUnits != units[1] || math.Abs(o.Million-(units[0]+10*units[1])) > 1e-9 {
				t.Errorf("got %+v", o)
			}
			delete(want, o.What)
		}
	}
	if len(want) > 0 {
		t.Errorf("there is no %v in %+v", want, all)
	}
	if _, err := cost.Operations(-1, cost.Settings{}, price); err == nil {
		t.Error("it took a negative size")
	}
}

// TestJSONSize holds the share that codec.JSON adds against a session as
// applications have them.
func TestJSONSize(t *testing.T) {
	type item struct {
		SKU      string
		Title    string
		Quantity int
		Price    float64
	}
	values := map[string]any{
		"_session.user": "ann@example.org",
		"cart":          []item{{"tea-001", "Oolong, loose", 2, 12.5}, {"tea-117", "Sencha", 1, 9.25}, {"pot-3", "Iron pot, 0.8 l", 1, 54}},
		"csrf":          []byte("0123456789abcdef0123456789abcdef"),
		"flash":         "Your cart was saved.",
		"locale":        "en-GB",
		"seen":          time.Date(2026, 11, 23, 1, 2, 3, 456789000, time.UTC),
		"visits":        1234,
		"recent":        []int{100231, 100777, 104242, 109999, 100001},
	}
	size := func(c session.Codec) float64 {
		encoded := map[string][]byte{}
		for name, v := range values {
			data, err := c.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			encoded[name] = data
		}
		data, err := c.Join(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return float64(len(data))
	}
	ratio := size(codec.JSON{}) / size(codec.MessagePack{})
	if math.Abs(ratio-cost.JSONSize) > 0.1 {
		t.Errorf("JSON is %.2f times as large", ratio)
	}
}

func ExampleCompute() {
	prices, err := cost.DefaultPrices()
	if err != nil {
		fmt.Println(err)
		return
	}
	price, err := prices.For("us-east-1", "standard")
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := cost.Compute(cost.Workload{
		Requests: 100e6,
		Mix:      cost.Mix{Read: 80, Write: 15, New: 5},
	}, cost.Settings{}, price)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.0f million RCU, %.0f million WCU\n", e.ReadUnits/1e6, e.WriteUnits/1e6)
	// Output: 95 million RCU, 22 million WCU
}
