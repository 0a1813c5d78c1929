package session

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// someLifetimes are those of a Config with the default timeouts, and ceilings above
// them.
func someLifetimes() lifetimes {
	const m, h = time.Minute, time.Hour
	return lifetimes{
		usual: timeouts{idle: 2 * h, absolute: 24 * h, touchInterval: 12 * m},
		most:  timeouts{idle: 720 * h, absolute: 2160 * h},
	}
}

// TestTimeoutsOfALifetime: what a stored lifetime means by the Config as it is now.
func TestTimeoutsOfALifetime(t *testing.T) {
	const sec, m, h = time.Second, time.Minute, time.Hour
	own := func(idle, absolute time.Duration) *Lifetime { return &Lifetime{Idle: idle, Absolute: absolute} }
	usual := timeouts{idle: 2 * h, absolute: 24 * h, touchInterval: 12 * m}
	for _, tt := range []struct {
		name        string
		usual, most timeouts
		of          *Lifetime
		want        timeouts
	}{
		{"none", usual, usual, nil, usual},
		{"a cookie only", usual, usual, &Lifetime{Persistent: true}, usual},
		{"shorter", usual, usual, own(30*m, h), timeouts{idle: 30 * m, absolute: h, touchInterval: 3 * m}},
		{"as usual", usual, usual, own(2*h, 24*h), usual},
		{"longer", usual, timeouts{idle: 720 * h, absolute: 2160 * h}, own(720*h, 2160*h), timeouts{idle: 720 * h, absolute: 2160 * h, touchInterval: 72 * h}},
		{"at the ceilings", usual, timeouts{idle: 720 * h, absolute: 2160 * h}, own(721*h, 2161*h), timeouts{idle: 720 * h, absolute: 2160 * h, touchInterval: 72 * h}},
		{"idle only", usual, timeouts{idle: 12 * h, absolute: 24 * h}, own(12*h, 0), timeouts{idle: 12 * h, absolute: 24 * h, touchInterval: 72 * m}},
		{"absolute only", usual, timeouts{idle: 2 * h, absolute: 48 * h}, own(0, 48*h), timeouts{idle: 2 * h, absolute: 48 * h, touchInterval: 12 * m}},
		{"an absolute one that is shorter than idle", usual, usual, own(0, h), timeouts{idle: h, absolute: h, touchInterval: 6 * m}},
		{"the shortest", usual, usual, own(sec, sec), timeouts{idle: sec, absolute: sec, touchInterval: 100 * time.Millisecond}},

		// The ceilings were higher when it was set.
		{"longer than the usual ones, which are the ceilings", usual, usual, own(720*h, 2160*h), usual},
		{"one of them", usual, timeouts{idle: 2 * h, absolute: 2160 * h}, own(720*h, 2160*h), timeouts{idle: 2 * h, absolute: 2160 * h, touchInterval: 12 * m}},
		{"idle is longer than the other ceiling", usual, timeouts{idle: 3 * h, absolute: 24 * h}, own(36*h, 48*h), timeouts{idle: 3 * h, absolute: 24 * h, touchInterval: 18 * m}},
		{"idle was off", usual, usual, own(Never, 12*h), timeouts{idle: 2 * h, absolute: 12 * h, touchInterval: 12 * m}},
		{"absolute was off", usual, usual, own(h, Never), timeouts{idle: h, absolute: 24 * h, touchInterval: 6 * m}},

		// Off.
		{"idle off", usual, timeouts{idle: Never, absolute: 24 * h}, own(Never, 0), timeouts{idle: Never, absolute: 24 * h}},
		{"absolute off", usual, timeouts{idle: 2 * h, absolute: Never}, own(0, Never), timeouts{idle: 2 * h, absolute: Never, touchInterval: 12 * m}},
		{"idle usually off", timeouts{idle: Never, absolute: 24 * h}, timeouts{idle: Never, absolute: 24 * h}, own(h, 0), timeouts{idle: h, absolute: 24 * h, touchInterval: 6 * m}},
		{"absolute usually off", timeouts{idle: 2 * h, absolute: Never, touchInterval: m}, timeouts{idle: 2 * h, absolute: Never}, own(h, 0), timeouts{idle: h, absolute: Never, touchInterval: m / 2}},
		{"no limit", usual, timeouts{idle: Never, absolute: Never}, own(1000*h, 100_000*h), timeouts{idle: 1000 * h, absolute: 100_000 * h, touchInterval: 100 * h}},
		{"one that would not end any more", timeouts{idle: 2 * h, absolute: Never, touchInterval: 12 * m}, timeouts{idle: Never, absolute: Never}, own(Never, 0), timeouts{idle: 2 * h, absolute: Never, touchInterval: 12 * m}},
		{"nor this one", timeouts{idle: Never, absolute: 24 * h}, timeouts{idle: Never, absolute: Never}, own(0, Never), timeouts{idle: Never, absolute: 24 * h}},

		{"a century", usual, timeouts{idle: Never, absolute: Never}, own(876_000*h, Never), timeouts{idle: 876_000 * h, absolute: Never, touchInterval: 87_600 * h}},
		{"all there is", usual, timeouts{idle: Never, absolute: Never}, own(math.MaxInt64, 0), timeouts{idle: 24 * h, absolute: 24 * h, touchInterval: 144 * m}},
		{"every use is written", timeouts{idle: 2 * h, absolute: 24 * h, touchInterval: 1}, usual, own(h, 0), timeouts{idle: h, absolute: 24 * h}},
		{"hardly any is", timeouts{idle: 2 * h, absolute: 24 * h, touchInterval: 2*h - 1}, usual, own(h, 0), timeouts{idle: h, absolute: 24 * h, touchInterval: h - 1}},
	} {
		if got := (lifetimes{tt.usual, tt.most}).of(tt.of); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// TestLifetimeIsChecked: the error names what is wrong.
func TestLifetimeIsChecked(t *testing.T) {
	const sec, h = time.Second, time.Hour
	unlimited, off, endless := someLifetimes(), someLifetimes(), someLifetimes()
	unlimited.most = timeouts{idle: Never, absolute: Never}
	off.usual, off.most.idle = timeouts{idle: Never, absolute: 24 * h}, Never
	endless.usual.absolute, endless.most = Never, unlimited.most
	for _, tt := range []struct {
		ls   lifetimes
		l    Lifetime
		want string
	}{
		{someLifetimes(), Lifetime{}, ""},
		{someLifetimes(), Lifetime{Persistent: true}, ""},
		{someLifetimes(), Lifetime{Idle: sec, Absolute: sec}, ""},
		{someLifetimes(), Lifetime{Idle: 720 * h, Absolute: 2160 * h}, ""},
		{someLifetimes(), Lifetime{Absolute: h}, ""}, // idle is as long
		{someLifetimes(), Lifetime{Idle: 24 * h}, ""},
		{unlimited, Lifetime{Idle: Never, Absolute: 9000 * h}, ""},
		{unlimited, Lifetime{Idle: 9000 * h, Absolute: Never}, ""},
		{unlimited, Lifetime{Idle: Never}, ""},
		{unlimited, Lifetime{Absolute: Never}, ""},
		{unlimited, Lifetime{Idle: math.MaxInt64, Absolute: math.MaxInt64}, ""},
		{off, Lifetime{Idle: h}, ""},
		{off, Lifetime{Idle: Never}, ""},
		{endless, Lifetime{Absolute: h}, ""},

		{someLifetimes(), Lifetime{Idle: sec - 1}, "Idle is 999.999999ms; it must be at least 1s, or Never"},
		{someLifetimes(), Lifetime{Absolute: 1}, "Absolute is 1ns; it must be at least 1s, or Never"},
		{unlimited, Lifetime{Idle: -2}, "Idle is -2ns; it must be at least 1s, or Never"},
		{unlimited, Lifetime{Absolute: math.MinInt64}, "Absolute is -2562047h47m16.854775808s; it must be at least 1s, or Never"},
		{someLifetimes(), Lifetime{Idle: 720*h + 1, Absolute: 2160 * h}, "Idle is 720h0m0.000000001s, longer than Config.MaxIdleTimeout, which is 720h0m0s"},
		{someLifetimes(), Lifetime{Absolute: 2161 * h}, "Absolute is 2161h0m0s, longer than Config.MaxAbsoluteTimeout, which is 2160h0m0s"},
		{someLifetimes(), Lifetime{Idle: Never}, "Idle is Never, and Config.MaxIdleTimeout is 720h0m0s"},
		{someLifetimes(), Lifetime{Absolute: Never}, "Absolute is Never, and Config.MaxAbsoluteTimeout is 2160h0m0s"},
		{someLifetimes(), Lifetime{Idle: 2 * h, Absolute: h}, "the Idle of 2h0m0s is longer than Absolute, which is 1h0m0s and would always come first"},
		{someLifetimes(), Lifetime{Idle: 25 * h}, "the Idle of 25h0m0s is longer than Absolute, which is 24h0m0s and would always come first"},
		{unlimited, Lifetime{Idle: Never, Absolute: Never}, "a session must end, and Idle and Absolute are both Never"},
		{off, Lifetime{Absolute: 2161 * h}, "Absolute is 2161h0m0s, longer than Config.MaxAbsoluteTimeout, which is 2160h0m0s"},
		{endless, Lifetime{Idle: Never}, "a session must end, and Idle and Absolute are both Never"},
	} {
		got := ""
		if err := tt.ls.check(tt.l); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.l, got, tt.want)
		}
	}
}

// TestLifetimeText: what is stored of a lifetime, and what is not one.
func TestLifetimeText(t *testing.T) {
	const h = time.Hour
	for text, l := range map[string]Lifetime{
		"0 0 persistent":             {Persistent: true},
		"0 0":                        {}, // which nobody stores
		"1 1":                        {Idle: time.Second, Absolute: time.Second},
		"2592000 7776000 persistent": {Idle: 720 * h, Absolute: 2160 * h, Persistent: true},
		"-1 3600":                    {Idle: Never, Absolute: h},
		"7200 -1 persistent":         {Idle: 2 * h, Absolute: Never, Persistent: true},
		"9223372036 0":               {Idle: 9223372036 * time.Second},
	} {
		if got := l.text(); got != text {
			t.Errorf("%+v is stored as %q, want %q", l, got, text)
		}
		if got, err := parseLifetime(text); err != nil || got != l {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
	}
	if got := (Lifetime{Idle: 2*time.Second - 1, Absolute: math.MaxInt64}).text(); got != "1 9223372036" {
		t.Errorf("with fractions of a second: %q", got)
	}
	for _, text := range []string{
		"", " ", "0", "0 ", " 0", "0  0", "0 0 ", " 0 0", "0 0 0", "0 0 Persistent", "0 0 persistent ", "0 0  persistent", "0 0 persistent persistent", "persistent",
		"-1 -1", "-1 -1 persistent", "-2 1", "1 -2", "-0 1", "+1 1", "01 1", "1.5 2", "1e3 1", "0x1 1", "1_0 1", "never 1", "1s 1", "1,1", "1\n1", "1\t1",
		"9223372037 0", "0 9223372037", "9223372036854775807 0", "9223372036854775808 0", "-9223372036854775809 1", "١ ١",
	} {
		if got, err := parseLifetime(text); err == nil || got != (Lifetime{}) {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

// TestLifetimeThatDoesNotDecode: the session cannot be read, as it might live too
// long without its lifetime.
func TestLifetimeThatDoesNotDecode(t *testing.T) {
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		for _, stored := range []any{nil, 7, true, 1.5, []string{"1 1"}, map[string]int{"Idle": 1}, "", "1", "30 days", "-1 -1", []byte("1 1")} {
			data, err := c.Join(encodedValues(t, c, map[string]any{"note": "x", lifetimeName: stored}))
			if err != nil {
				t.Fatal(err)
			}
			rec := Record{Data: data, Created: someDay, Expires: someDay.Add(time.Hour)}
			out, err := m.split(rec)
			if !errors.Is(err, ErrDecode) || asMoved(err) != nil || out.values != nil || out.own.life != nil {
				t.Errorf("%s: %v: %v, %v", name, stored, out, err)
			}
			if got := m.timeoutsOf(rec); got != m.lifetimes.most {
				t.Errorf("%s: %v: timeouts %v", name, stored, got)
			}
		}
	}
}

// TestLifetimeOfAMarker is one of the values that it keeps, and nothing to itself.
func TestLifetimeOfAMarker(t *testing.T) {
	m := codecCore(bothCodecs()["JSON"], 0)
	kept := encodedValues(t, m.cfg.Codec, map[string]any{"note": "x", lifetimeName: "1 1"})
	data, err := m.joinMarker("AAAA", "1", "", kept)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.split(Record{Data: data, Created: someDay})
	if to := asMoved(err); to == nil || !sameValues(to.kept, kept) {
		t.Errorf("%v", err)
	}
	if got := m.timeoutsOf(Record{Data: data}); got != m.lifetimes.most {
		t.Errorf("timeouts %v", got)
	}
}

// TestNoLifetimeTakesNoRoom: the zero lifetime is not stored.
func TestNoLifetimeTakesNoRoom(t *testing.T) {
	m := codecCore(bothCodecs()["MessagePack"], 0)
	if data, err := m.encodeLifetime(Lifetime{}); data != nil || err != nil {
		t.Errorf("stored as %q, %v", data, err)
	}
	if life, err := m.lifetime(nil); life != nil || err != nil {
		t.Errorf("none is read as %v, %v", life, err)
	}
}

// TestLifetimeRules holds lifetimes that are drawn at random against what is to be
// true of all of them.
func TestLifetimeRules(t *testing.T) {
	d := timeoutDraw{rand.New(rand.NewPCG(9, 10))}
	ceiling := func(usual time.Duration) time.Duration {
		switch d.IntN(3) {
		case 0:
			return usual
		case 1:
			return Never
		}
		if usual < 0 {
			return Never
		}
		return usual + d.upTo(1000*time.Hour)
	}
	draw := func() lifetimes {
		usual := d.timeouts()
		return lifetimes{usual, timeouts{idle: ceiling(usual.idle), absolute: ceiling(usual.absolute)}}
	}
	off := func(dur time.Duration) time.Duration { // to compare
		if dur < 0 {
			return math.MaxInt64
		}
		return dur
	}
	some := func() time.Duration {
		switch d.IntN(4) {
		case 0:
			return 0
		case 1:
			return Never
		}
		return (time.Second + d.upTo(1000*time.Hour)).Truncate(time.Second)
	}
	accepted := 0
	for range 50_000 {
		was, is := draw(), draw()
		l := Lifetime{Idle: some(), Absolute: some()}
		about := func() string { return fmt.Sprintf("was %v, is %v, lifetime %+v", was, is, l) }
		if was.check(l) == nil {
			accepted++
			got := was.of(&l)
			wantIdle, wantAbsolute := l.Idle, l.Absolute
			if wantIdle == 0 {
				wantIdle = was.usual.idle
			}
			if wantAbsolute == 0 {
				wantAbsolute = was.usual.absolute
			}
			if got.absolute != wantAbsolute || off(got.idle) != off(wantIdle) && (l.Idle != 0 || got.idle != got.absolute) {
				t.Fatalf("accepted, and then %v: %s", got, about())
			}
			if read, err := parseLifetime(l.text()); err != nil || read != l {
				t.Fatalf("read as %+v, %v: %s", read, err, about())
			}
		}
		// By another Config, whether it would accept it or not.
		switch got := is.of(&l); {
		case off(got.idle) > off(is.most.idle), off(got.absolute) > off(is.most.absolute):
			t.Fatalf("%v is above the ceiling: %s", got, about())
		case l.Idle > 0 && off(got.idle) > max(l.Idle, is.usual.idle), l.Absolute > 0 && off(got.absolute) > l.Absolute:
			t.Fatalf("%v is longer than what was set: %s", got, about())
		case got.idle < 0 && got.absolute < 0:
			t.Fatalf("%v does not end: %s", got, about())
		case got.idle > 0 && got.touchInterval >= got.idle, got.touchInterval < 0, got.idle < 0 && got.touchInterval != 0:
			t.Fatalf("%v is not touched in time: %s", got, about())
		case is.usual.idle > 0 && got.idle > 0:
			want := float64(got.idle) / float64(is.usual.idle) * float64(is.usual.touchInterval)
			if math.Abs(want-float64(got.touchInterval)) > 2 {
				t.Fatalf("the touch interval of %v is not that part of it: %s", got, about())
			}
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d were accepted", accepted)
	}
}
