package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

// estimate is the estimate of sessionctl cost for a month.
type estimate struct {
	Estimate struct {
		Calls []struct {
			Call     string  `json:"call"`
			Requests float64 `json:"requests"`
		} `json:"calls"`
		Requests   float64 `json:"requests"`
		ReadUnits  float64 `json:"read_units"`
		WriteUnits float64 `json:"write_units"`
	} `json:"estimate"`
	ByRequest []struct {
		Request    string  `json:"request"`
		Requests   float64 `json:"requests"`
		ReadUnits  float64 `json:"read_units"`
		WriteUnits float64 `json:"write_units"`
	} `json:"by_request"`
}

// shopping is a workload as a script: for each size, two sessions that live
// twice, once before a login and once after it, and are then logged out.
type shopping struct {
	mode, safeMode session.Mode
	eventually     bool
	gone           bool // some requests come with dead tokens
	listed         bool // there is an index of owners
	// random is the number of requests in random order, in place of the script,
	// with sessions of one size.
	random, size int
}

const (
	shoppingWrites = 18 // of each record, so that its version is full in the end
	shoppingUser   = "ann"
)

// shoppingSizes are those of encoded sessions. With two of them the item
// outgrows 1 KB, or 4 KB, as its version grows, and sooner under a lock.
var shoppingSizes = []int{850, 3962, 9000}

var (
	shoppingPad   = session.Key[string]{Name: "pad"}
	shoppingCount = session.Key[int]{Name: "n"}
)

// callCounter counts the calls of a backend.
type callCounter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *callCounter) Call(ctx context.Context, op observe.Op) (context.Context, func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[op.String()]++
	return ctx, nil
}

func (c *callCounter) Event(context.Context, observe.Event) {}

// shopper is one session of the script.
type shopper struct {
	t      *testing.T
	size   int
	token  string
	kinds  map[string]int
	listed bool
}

// pad fills the session up to its size.
func (s *shopper) pad(user string) string {
	s.t.Helper()
	values := map[string]any{shoppingCount.Name: 1000}
	if user != "" {
		values["_session.user"] = user
		if s.listed {
			values["_session.listed"] = fmt.Sprintf(`{"h":"%022d"}`, 0)
			values["_session.until"] = time.Now().Unix()
		}
	}
	for n := s.size; ; n-- {
		values[shoppingPad.Name] = strings.Repeat("x", n)
		encoded := map[string][]byte{}
		for name, v := range values {
			data, err := codec.MessagePack{}.Marshal(v)
			if err != nil {
				s.t.Fatal(err)
			}
			encoded[name] = data
		}
		data, err := codec.MessagePack{}.Join(encoded)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(data) == s.size {
			return strings.Repeat("x", n)
		}
	}
}

func (s *shopper) begin(m *session.Manager) {
	s.t.Helper()
	s.kinds["new"]++
	fresh := m.Start()
	err := errors.Join(shoppingCount.Set(fresh, 1000), shoppingPad.Set(fresh, s.pad("")))
	if err := errors.Join(err, fresh.Save(s.t.Context()), fresh.Close(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
	s.token = fresh.Token().Reveal()
}

// request opens the session, calls f with it, and saves it.
func (s *shopper) request(kind string, m *session.Manager, f func(*session.Session) error) {
	s.t.Helper()
	s.kinds[kind]++
	opened, err := m.Open(s.t.Context(), s.token)
	if err != nil {
		s.t.Fatalf("%s: %v", kind, err)
	}
	if err := errors.Join(f(opened), opened.Save(s.t.Context()), opened.Close(s.t.Context())); err != nil {
		s.t.Fatalf("%s: %v", kind, err)
	}
	s.token = opened.Token().Reveal()
}

func look(s *session.Session) error {
	_, err := shoppingPad.Get(s)
	return err
}

func buy(s *session.Session) error {
	return errOf(shoppingCount.Update(s, func(n int) int { return n + 1 }))
}

// run runs the script and returns the number of requests of each kind.
func (w shopping) run(t *testing.T, b session.Backend, calls *callCounter) map[string]int {
	t.Helper()
	kinds := map[string]int{}
	config := session.Config{
		Mode: w.mode, IdleTimeout: time.Hour, TouchInterval: 30 * time.Minute, Observer: calls, Owners: session.OwnersConfig{Index: w.listed},
	}
	plain, err := session.New(b, config)
	if err != nil {
		t.Fatal(err)
	}
	// A request that wants a later deadline: its reads touch.
	config.IdleTimeout = 3 * time.Hour
	later, err := session.New(b, config)
	if err != nil {
		t.Fatal(err)
	}
	view := func(m *session.Manager, mode session.Mode) *session.Manager {
		v, err := m.With(session.Route{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	reads, touches, locked := view(plain, w.safeMode), view(later, w.safeMode), view(plain, session.Exclusive)
	if w.random > 0 {
		w.draw(t, plain, reads, locked, kinds)
		return kinds
	}
	for _, size := range shoppingSizes {
		for parity := range 2 {
			s := &shopper{t: t, size: size, kinds: kinds, listed: w.listed}
			s.begin(plain)
			for life := range 2 {
				if life > 0 {
					s.request("login", plain, func(opened *session.Session) error {
						return errors.Join(opened.Login(shoppingUser), shoppingPad.Set(opened, s.pad(shoppingUser)))
					})
				}
				for write := 1; write <= shoppingWrites; write++ {
					switch {
					case write == 1: // it was begun
					case write%2 == parity:
						s.request("locked-write", locked, buy)
					default:
						s.request("write", plain, buy)
					}
					s.request("read", reads, look)
					if write%2 == parity {
						s.request("locked-read", locked, look)
					}
					s.request("read", touches, look)
				}
			}
			opened, err := plain.Open(t.Context(), s.token)
			if err != nil {
				t.Fatal(err)
			}
			s.kinds["logout"]++
			if err := opened.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if w.gone {
				s.kinds["gone"]++
				if _, err := plain.Open(t.Context(), s.token); !errors.Is(err, session.ErrNotFound) {
					t.Fatal(err)
				}
			}
		}
	}
	return kinds
}

// draw has requests for random sessions. None touches.
func (w shopping) draw(t *testing.T, plain, reads, locked *session.Manager, kinds map[string]int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed(t), 0))
	var alive []*shopper
	for range w.random {
		if len(alive) == 0 || r.IntN(100) < 4 {
			s := &shopper{t: t, size: w.size, kinds: kinds}
			s.begin(plain)
			alive = append(alive, s)
			continue
		}
		i := r.IntN(len(alive))
		s := alive[i]
		switch k := r.IntN(100); {
		case k < 60:
			s.request("read", reads, look)
		case k < 66:
			s.request("locked-read", locked, look)
		case k < 86:
			s.request("write", plain, buy)
		case k < 94:
			s.request("locked-write", locked, buy)
		case k < 97:
			s.request("login", plain, func(opened *session.Session) error {
				return errors.Join(opened.Login(shoppingUser), shoppingPad.Set(opened, s.pad(shoppingUser)))
			})
		default:
			opened, err := plain.Open(t.Context(), s.token)
			if err != nil {
				t.Fatal(err)
			}
			kinds["logout"]++
			if err := opened.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
			alive = slices.Delete(alive, i, i+1)
		}
	}
}

// flags describe the script to sessionctl cost.
func (w shopping) flags(kinds map[string]int) []string {
	requests := 0
	var mix, sizes []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		requests += kinds[kind]
		mix = append(mix, fmt.Sprintf("%s=%d", kind, kinds[kind]))
	}
	for _, size := range shoppingSizes {
		sizes = append(sizes, fmt.Sprintf("%d=1", size))
	}
	names := map[session.Mode]string{session.Merge: "merge", session.LastWrite: "last-write", session.Exclusive: "exclusive", session.ReadOnly: "read-only"}
	flags := []string{
		"cost", "--json", "--requests", strconv.Itoa(requests), "--mix", strings.Join(mix, ","), "--size", strings.Join(sizes, ","),
		"--mode", names[w.mode], "--safe-mode", names[w.safeMode], "--touch-share", "0.5",
	}
	if w.random > 0 {
		flags = append(flags, "--touch-share", "0", "--size", strconv.Itoa(w.size))
	} else {
		flags = append(flags, "--writes", strconv.Itoa(shoppingWrites))
	}
	if w.eventually {
		flags = append(flags, "--eventually-consistent")
	}
	if w.listed {
		flags = append(flags, "--owners", "1")
	}
	return flags
}

// TestCostAgrees compares the estimate of sessionctl cost with the requests and
// units of the same workload, counted on the wire.
func TestCostAgrees(t *testing.T) {
	t.Parallel()
	ctl := buildSessionctl(t)
	tests := []struct {
		name string
		shopping
	}{
		{"Merge", shopping{mode: session.Merge, safeMode: session.Merge, gone: true}},
		{"Merge, with an index of owners", shopping{mode: session.Merge, safeMode: session.Merge, gone: true, listed: true}},
		{"LastWrite, SafeMode ReadOnly, eventually consistent", shopping{mode: session.LastWrite, safeMode: session.ReadOnly, eventually: true, gone: true}},
		{"Exclusive", shopping{mode: session.Exclusive, safeMode: session.Exclusive}},
		{"Exclusive, SafeMode Merge", shopping{mode: session.Exclusive, safeMode: session.Merge}},
		// Far from the borders, where the number of writes before a request
		// matters. The size leaves room in the first KB for the bytes that each
		// further login of a session adds, which the estimate does not include.
		{"at random", shopping{mode: session.Merge, safeMode: session.Merge, random: 600, size: 500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, p := connect(t, newTable(t, dynamodb.Config{EventuallyConsistentReads: tt.eventually}))
			calls := &callCounter{calls: map[string]int{}}
			kinds := tt.run(t, b, calls)
			got := p.Counts()

			var want estimate
			if err := json.Unmarshal([]byte(ctl.run(t, 0, "", "", tt.flags(kinds)...)), &want); err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", kinds)
			agree := func(what string, estimated, counted float64) {
				t.Helper()
				off := 0.0
				if counted != estimated {
					off = math.Abs(estimated-counted) / max(counted, 1)
				}
				t.Logf("%-22s estimated %8.1f, counted %8.1f, off by %.2f %%", what, estimated, counted, 100*off)
				if off > 0.01 {
					t.Errorf("%s: off by %.2f %%", what, 100*off)
				}
			}
			var requests, units float64
			for _, c := range got {
				requests += float64(c.Requests)
				units += c.Capacity
			}
			agree("requests", want.Estimate.Requests, requests)
			agree("units", want.Estimate.ReadUnits+want.Estimate.WriteUnits, units)
			for _, r := range want.ByRequest {
				agree(r.Request, r.Requests, float64(got[r.Request].Requests))
				agree(r.Request+" units", r.ReadUnits+r.WriteUnits, got[r.Request].Capacity)
				delete(got, r.Request)
			}
			if len(got) > 0 {
				t.Errorf("unexpected requests: %+v", got)
			}
			if tt.eventually {
				calls.calls["Load"] += kinds["gone"] // these need two requests
			}
			for _, c := range want.Estimate.Calls {
				agree("call "+c.Call, c.Requests, float64(calls.calls[c.Call]))
				delete(calls.calls, c.Call)
			}
			if len(calls.calls) > 0 {
				t.Errorf("unexpected calls: %v", calls.calls)
			}
		})
	}
}
