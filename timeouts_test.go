package session

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var someDay = time.Date(2026, 11, 22, 22, 22, 0, 123456789, time.UTC)

// aged returns the record of a session that is so old, and has so much left, on
// someDay.
func aged(age, left time.Duration) Record {
	return Record{Created: someDay.Add(-age), Expires: someDay.Add(left)}
}

func TestDeadline(t *testing.T) {
	const h = time.Hour
	for _, tt := range []struct {
		name           string
		idle, absolute time.Duration
		age, want      time.Duration
	}{
		{"new", 2 * h, 24 * h, 0, 2 * h},
		{"old", 2 * h, 24 * h, 21 * h, 2 * h},
		{"just before the absolute one takes over", 2 * h, 24 * h, 22*h - 1, 2 * h},
		{"both", 2 * h, 24 * h, 22 * h, 2 * h},
		{"the absolute one is near", 2 * h, 24 * h, 23 * h, h},
		{"it has come", 2 * h, 24 * h, 24 * h, 0},
		{"it has passed", 2 * h, 24 * h, 25 * h, -h},
		{"made by a clock ahead", 2 * h, 24 * h, -h, 2 * h},
		{"as long as each other", 24 * h, 24 * h, 0, 24 * h},
		{"as long as each other, later", 24 * h, 24 * h, h, 23 * h},
		{"idle off", Never, 24 * h, h, 23 * h},
		{"idle off, over", Never, 24 * h, 25 * h, -h},
		{"absolute off", 2 * h, Never, 1000 * h, 2 * h},
	} {
		if got := (timeouts{idle: tt.idle, absolute: tt.absolute}).deadline(someDay, someDay.Add(-tt.age)).Sub(someDay); got != tt.want {
			t.Errorf("%s: in %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestExpired(t *testing.T) {
	const h = time.Hour
	for _, tt := range []struct {
		name          string
		absolute      time.Duration
		age, left     time.Duration
		expired, over bool
	}{
		{"alive", 24 * h, h, h, false, false},
		{"a moment before", 24 * h, h, 1, false, false},
		{"now", 24 * h, h, 0, true, false},
		{"a moment after", 24 * h, h, -1, true, false},
		{"before the absolute timeout", 24 * h, 24*h - 1, h, false, false},
		{"at the absolute timeout", 24 * h, 24 * h, h, true, true}, // which was longer
		{"after it", 24 * h, 25 * h, h, true, true},
		{"both", 24 * h, 25 * h, -h, true, true},
		{"made by a clock ahead", 24 * h, -h, h, false, false},
		{"absolute off", Never, 1000 * h, h, false, false},
		{"absolute off, idle over", Never, 1000 * h, 0, true, false},
	} {
		times, rec := timeouts{idle: 2 * h, absolute: tt.absolute}, aged(tt.age, tt.left)
		if expired, over := times.expired(rec, someDay), times.over(rec, someDay); expired != tt.expired || over != tt.over {
			t.Errorf("%s: expired %v, over %v", tt.name, expired, over)
		}
	}
}

// TestMadeBy: which timeout has made a deadline, and when the session ends by
// today's.
func TestMadeBy(t *testing.T) {
	const sec, m, h = time.Second, time.Minute, time.Hour
	for _, tt := range []struct {
		name      string
		idle      time.Duration // today's
		used      time.Duration // as it is stored
		age, left time.Duration
		madeBy    time.Duration
		due       time.Duration
	}{
		// It is stored.
		{"the same", 30 * m, 30 * m, 10 * h, 20 * m, 30 * m, 20 * m},
		{"a longer one", 30 * m, 12 * h, 13 * h, 11*h + 50*m, 12 * h, 20 * m},
		{"a longer one, too long ago", 30 * m, 12 * h, 13 * h, 11 * h, 12 * h, -30 * m},
		{"a shorter one", 12 * h, 30 * m, 10 * h, 20 * m, 30 * m, 20 * m},
		{"a little longer", 30 * m, 31 * m, 10 * h, 29 * m, 31 * m, 28 * m},
		{"a second longer", 30 * m, 30*m + sec, 10 * h, 30 * m, 30*m + sec, 30*m - sec},
		{"the absolute one was nearer", 30 * m, 10 * m, 23*h + 55*m, 5 * m, 10 * m, 5 * m},
		{"the default, stored all the same", 30 * m, 2 * h, 10 * h, h + 50*m, 2 * h, 20 * m},
		{"idle off today", Never, 12 * h, 10 * h, 5 * h, 12 * h, 5 * h},
		{"idle was off", 30 * m, 24 * h, m, 24*h - m, 24 * h, 29 * m},

		// It is not: the default, or an hour.
		{"the default, as today", 2 * h, 0, 10 * h, 90 * m, 0, 90 * m},
		{"the default, just used", 30 * m, 0, 10 * h, 2 * h, 2 * h, 30 * m},
		{"the default, 20 minutes ago", 30 * m, 0, 10 * h, 100 * m, 2 * h, 10 * m},
		{"the default, 40 minutes ago", 30 * m, 0, 10 * h, 80 * m, 2 * h, -10 * m},
		{"the default, just before it looks like an hour", 30 * m, 0, 10 * h, 65*m + 1, 2 * h, -25*m + 1},
		{"the default or an hour, just used", 30 * m, 0, 10 * h, 65 * m, h, 35 * m}, // it gets an hour more
		{"an hour, just used", 30 * m, 0, 10 * h, h, h, 30 * m},
		{"an hour, 20 minutes ago", 30 * m, 0, 10 * h, 40 * m, h, 10 * m},
		{"as it may be of today by a clock ahead", 30 * m, 0, 10 * h, 35 * m, 0, 35 * m},
		{"today's", 30 * m, 0, 10 * h, 20 * m, 0, 20 * m},
		{"an hour, as today", h, 0, 10 * h, 50 * m, 0, 50 * m},
		{"the default, to an hour", h, 0, 10 * h, 90 * m, 2 * h, 30 * m},
		{"an hour, to two", 2 * h, 0, 10 * h, 50 * m, 0, 50 * m},
		{"the default, by a clock ahead", 30 * m, 0, 10 * h, 125 * m, 2 * h, 35 * m},
		{"the default, to a second", sec, 0, 10 * h, 2 * h, 2 * h, sec},

		// One that was never used since it began, or so it seems.
		{"the default, never used", 30 * m, 0, 70 * m, 50 * m, 2 * h, -40 * m},
		{"the default, rounded", 30 * m, 0, 70 * m, 50*m + sec, 2 * h, -40*m + sec},
		{"rounded by more", 30 * m, 0, 70 * m, 50*m + sec + 1, h, 20*m + sec + 1},
		{"not as long as the default", 30 * m, 0, 70 * m, 50*m - 1, h, 20*m - 1},
		{"or used with today's, by a clock ahead", 30 * m, 0, 88 * m, 32 * m, 2 * h, -58 * m},
		{"or used with today's", 30 * m, 0, 90 * m, 30 * m, 0, 30 * m},
		{"or used with today's, rounded", 30 * m, 0, 90 * m, 30*m + sec, 0, 30*m + sec},
		{"or used with today's, and rounded by more", 30 * m, 0, 90*m - 1, 30*m + sec + 1, 2 * h, -60*m + sec + 1},
		{"the default, as today, never used", 2 * h, 0, 100 * m, 20 * m, 0, 20 * m},
		{"the default, to an hour, never used", h, 0, 50 * m, 70 * m, 2 * h, 10 * m},

		// Of a version that stored none.
		{"long", 30 * m, 0, 0, 12 * h, 0, 12 * h},
		{"more than the default and a clock ahead", 30 * m, 0, 10 * h, 125*m + 1, 0, 125*m + 1},
		{"idle off today, not known", Never, 0, 10 * h, 5 * h, 0, 5 * h},
		{"idle off today, the default", Never, 0, 10 * h, 90 * m, 2 * h, 90 * m},
	} {
		times, rec := timeouts{idle: tt.idle, absolute: 24 * h}, aged(tt.age, tt.left)
		if got := times.madeBy(rec, tt.used, someDay); got != tt.madeBy {
			t.Errorf("%s: made by %v, want %v", tt.name, got, tt.madeBy)
		}
		if got := times.due(rec, tt.used, someDay).Sub(someDay); got != tt.due {
			t.Errorf("%s: due in %v, want %v", tt.name, got, tt.due)
		}
	}
}

// TestDueByTheAbsoluteTimeout: one that is shorter than it was applies at once,
// and with no idle timeout it is all there is.
func TestDueByTheAbsoluteTimeout(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, tt := range []struct {
		name            string
		idle, absolute  time.Duration
		used, age, left time.Duration
		due             time.Duration
	}{
		{"far", 2 * h, 24 * h, 0, h, h, h},
		{"lowered", 2 * h, 10 * h, 0, 9*h + 30*m, h, 30 * m},
		{"lowered, and over", 2 * h, 10 * h, 0, 11 * h, h, -h},
		{"lowered, and idle too", h, 10 * h, 3 * h, 9*h + 30*m, 2*h + 10*m, 10 * m},
		{"lowered, and idle by less", h, 10 * h, 3 * h, 9*h + 55*m, 2*h + 10*m, 5 * m},
		{"raised", 2 * h, 48 * h, h, 23 * h, h, h}, // what is stored is not late
		{"off", 2 * h, Never, 0, 1000 * h, h, h},
		{"idle off", Never, 24 * h, 12 * h, h, 23 * h, 23 * h},
		{"idle off, lowered", Never, 10 * h, 23 * h, h, 23 * h, 9 * h},
	} {
		times, rec := timeouts{idle: tt.idle, absolute: tt.absolute}, aged(tt.age, tt.left)
		if got := times.due(rec, tt.used, someDay).Sub(someDay); got != tt.due {
			t.Errorf("%s: due in %v, want %v", tt.name, got, tt.due)
		}
	}
}

// TestBehind: where a use moves the deadline.
func TestBehind(t *testing.T) {
	const sec, m, h = time.Second, time.Minute, time.Hour
	for _, tt := range []struct {
		name           string
		idle, absolute time.Duration
		used           time.Duration
		age, left      time.Duration
		expires, by    time.Duration
	}{
		{"just written", 2 * h, 24 * h, 0, 10 * h, 2 * h, 2 * h, 0},
		{"a while ago", 2 * h, 24 * h, 0, 10 * h, 2*h - 6*m, 2 * h, 6 * m},
		{"about to expire", 2 * h, 24 * h, 0, 10 * h, 1, 2 * h, 2*h - 1},
		{"expired", 2 * h, 24 * h, 0, 10 * h, 0, 0, 0},
		{"over", 2 * h, 24 * h, 0, 24 * h, h, 0, 0},
		{"the absolute deadline", 2 * h, 24 * h, 0, 23 * h, h, h, 0},
		{"near it", 2 * h, 24 * h, 0, 23 * h, 50 * m, h, 10 * m},

		{"rounded up by the store", 2 * h, 24 * h, 2 * h, 10 * h, 2*h + sec, 2 * h, 0},
		{"rounded up, and of a longer timeout", 30 * m, 24 * h, 31 * m, 10 * h, 30*m + sec, 30 * m, 0},
		{"more than rounded", 30 * m, 24 * h, 31 * m, 10 * h, 30*m + sec + 1, 30 * m, -sec - 1},
		{"by a clock ahead", 30 * m, 24 * h, 30 * m, 10 * h, 35 * m, 30 * m, 0},
		{"by a clock further ahead", 30 * m, 24 * h, 30 * m, 10 * h, 35*m + 1, 30 * m, -5*m - 1},
		{"by a clock ahead, the default", 2 * h, 24 * h, 0, 10 * h, 2*h + 5*m, 2 * h, 0},
		{"by a clock ahead, not known", 30 * m, 24 * h, 0, 10 * h, 35 * m, 30 * m, 0},

		{"raised", 2 * h, 24 * h, 30 * m, 10 * h, 20 * m, 2 * h, 100 * m},
		{"raised, just written", 2 * h, 24 * h, h, 10 * h, h, 2 * h, h},
		{"lowered", 30 * m, 24 * h, 12 * h, 10 * h, 12 * h, 30 * m, -12*h + 30*m},
		{"lowered by little", 30 * m, 24 * h, 33 * m, 10 * h, 33 * m, 30 * m, -3 * m},
		{"lowered, long ago", 30 * m, 24 * h, 12 * h, 10 * h, 25 * m, 30 * m, 5 * m},
		{"lowered from the default", 30 * m, 24 * h, 0, 10 * h, 100 * m, 30 * m, -70 * m},
		{"lowered from an hour", 30 * m, 24 * h, 0, 10 * h, 50 * m, 30 * m, -20 * m},
		{"lowered from what is not known", 30 * m, 24 * h, 0, 10 * h, 12 * h, 30 * m, -12*h + 30*m},
		{"absolute lowered", 2 * h, 12 * h, 0, 11 * h, 2 * h, h, -h},
		{"absolute lowered by little", 2 * h, 12 * h, 0, 10*h + 4*m, 2 * h, 2*h - 4*m, 0}, // which due takes into account
		{"absolute raised", 2 * h, 48 * h, h, 23 * h, h, 2 * h, h},

		{"idle off", Never, 24 * h, 23 * h, h, 23 * h, 23 * h, 0},
		{"idle turned off", Never, 24 * h, 2 * h, h, 2 * h, 23 * h, 21 * h},
		{"idle turned on", 2 * h, 24 * h, 24 * h, h, 23 * h, 2 * h, -21 * h},
		{"absolute off", 2 * h, Never, 0, 1000 * h, h, 2 * h, h},
		{"absolute turned off", 2 * h, Never, 0, 23 * h, h, 2 * h, h},
	} {
		expires, by := timeouts{idle: tt.idle, absolute: tt.absolute}.behind(aged(tt.age, tt.left), tt.used, someDay)
		left := expires.Sub(someDay)
		if expires.IsZero() {
			left = 0
		}
		if left != tt.expires || by != tt.by {
			t.Errorf("%s: %v, behind by %v; want %v, %v", tt.name, left, by, tt.expires, tt.by)
		}
	}
}

func TestStale(t *testing.T) {
	const m, h = time.Minute, time.Hour
	for _, tt := range []struct {
		interval, by time.Duration
		want         bool
	}{
		{12 * m, 0, false}, {12 * m, 1, false}, {12*m + 1, 12 * m, false}, {12 * m, 12 * m, true}, {12 * m, h, true},
		{12 * m, -1, true}, {12 * m, -h, true},
		{0, 0, false}, {0, 1, true}, {0, -1, true}, // there is no interval without an idle timeout
	} {
		if got := (timeouts{touchInterval: tt.interval}).stale(tt.by); got != tt.want {
			t.Errorf("behind by %v, interval %v: %v", tt.by, tt.interval, got)
		}
	}
}

func TestStamp(t *testing.T) {
	const sec, h = time.Second, time.Hour
	for idle, want := range map[time.Duration]time.Duration{
		2 * h: 2 * h, sec: sec, 2500 * time.Millisecond: 2 * sec, sec - 1: 0, Never: 0,
	} {
		if got := (timeouts{idle: idle}).stamp(); got != want {
			t.Errorf("of %v: %v", idle, got)
		}
	}
}

func TestEarlier(t *testing.T) {
	a, b := someDay, someDay.Add(1)
	if !earlier(a, b).Equal(a) || !earlier(b, a).Equal(a) || !earlier(a, a).Equal(a) {
		t.Error("it is the later one")
	}
}

// A timeoutDraw makes timeouts, and the sessions of them.
type timeoutDraw struct{ *rand.Rand }

// timeouts are such that New accepts, of whole seconds.
func (d timeoutDraw) timeouts() timeouts {
	const sec, m, h = time.Second, time.Minute, time.Hour
	some := []time.Duration{sec, m, 30 * m, h, 2 * h, 3 * h, 12 * h, 24 * h}
	t := timeouts{absolute: some[d.IntN(len(some))]}
	switch d.IntN(6) {
	case 0:
		return timeouts{idle: Never, absolute: t.absolute}
	case 1:
		t.absolute = Never
	}
	if t.idle = some[d.IntN(len(some))]; d.IntN(2) == 0 {
		t.idle = sec + time.Duration(d.IntN(24*3600))*sec
	}
	if t.absolute > 0 {
		t.idle = min(t.idle, t.absolute)
	}
	t.touchInterval = time.Duration(d.Int64N(int64(t.idle)))
	return t
}

// upTo returns a duration, which is often short.
func (d timeoutDraw) upTo(most time.Duration) time.Duration {
	const m = time.Minute
	if d.IntN(2) == 0 {
		most = min(most, m)
	}
	return time.Duration(d.Int64N(int64(most) + 1))
}

// stored returns the record of a session of t that was used at the given time,
// and what is read of how long that was before its deadline.
func (d timeoutDraw) stored(t timeouts, used time.Time) (Record, time.Duration) {
	const h = time.Hour
	age := d.upTo(48 * h)
	if t.absolute > 0 {
		age = min(age, t.absolute-1)
	}
	rec := Record{Created: used.Add(-age)}
	rec.Expires = t.deadline(used, rec.Created)
	stamp := rec.Expires.Sub(used).Truncate(time.Second)
	if stamp == defaultIdle || stamp == hourIdle {
		stamp = 0
	}
	return rec, stamp
}

// TestTimeoutRules holds what the timeouts say of sessions that are drawn at
// random against what is to be true of all of them.
func TestTimeoutRules(t *testing.T) {
	const m, h = time.Minute, time.Hour
	d := timeoutDraw{rand.New(rand.NewPCG(3, 4))}
	for range 50_000 {
		was, is := d.timeouts(), d.timeouts()
		rec, used := d.stored(was, someDay)
		if d.IntN(4) == 0 {
			used = d.upTo(30 * h) // whatever
		}
		now := someDay.Add(d.upTo(30*h) - 5*m) // or by a clock behind
		about := func() string {
			return fmt.Sprintf("was %v, is %v, age %v, left %v, used %v, now %v", was, is, someDay.Sub(rec.Created), rec.Expires.Sub(someDay), used, now.Sub(someDay))
		}

		due, madeBy := is.due(rec, used, now), is.madeBy(rec, used, now)
		switch {
		case due.After(rec.Expires):
			t.Errorf("due later than what is stored: %s", about())
		case is.absolute > 0 && due.After(rec.Created.Add(is.absolute)):
			t.Errorf("due later than the absolute timeout: %s", about())
		case used > 0 && is.idle > 0 && due.After(rec.Expires.Add(max(is.idle, used)-used)):
			t.Errorf("due later than the idle timeout after the last use: %s", about())
		case used > 0 && madeBy != used, madeBy != used && madeBy != 0 && madeBy != defaultIdle && madeBy != hourIdle:
			t.Errorf("made by %v: %s", madeBy, about())
		}
		if !rec.Expired(now) && is.over(rec, now) != (is.expired(rec, now)) || is.over(rec, now) && !is.expired(rec, now) || rec.Expired(now) && !is.expired(rec, now) {
			t.Errorf("expired %v: %s", is.expired(rec, now), about())
		}

		expires, by := is.behind(rec, used, now)
		switch {
		case is.expired(rec, now):
			if !expires.IsZero() || by != 0 {
				t.Errorf("expired, and behind by %v: %s", by, about())
			}
		case !expires.Equal(is.deadline(now, rec.Created)):
			t.Errorf("a use moves the deadline to %v: %s", expires.Sub(now), about())
		case by != 0 && by != expires.Sub(rec.Expires):
			t.Errorf("behind by %v: %s", by, about())
		case by == 0 && expires.After(rec.Expires):
			t.Errorf("behind by nothing: %s", about())
		case by == 0 && rec.Expires.Sub(expires) > skew:
			t.Errorf("too late by %v, and stays: %s", rec.Expires.Sub(expires), about())
		}
		if t.Failed() {
			return
		}
	}
}

// TestUseRules: a session of timeouts that do not change.
func TestUseRules(t *testing.T) {
	d := timeoutDraw{rand.New(rand.NewPCG(5, 6))}
	for range 50_000 {
		times := d.timeouts()
		rec, used := d.stored(times, someDay)
		about := func() string { return fmt.Sprintf("%v, age %v, used %v", times, someDay.Sub(rec.Created), used) }
		if times.expired(rec, someDay) {
			t.Errorf("expired when it was stored: %s", about())
		}
		if left := rec.Expires.Sub(someDay); times.idle > 0 && left > times.idle || times.absolute > 0 && rec.Expires.After(rec.Created.Add(times.absolute)) {
			t.Errorf("it has %v: %s", left, about())
		}
		if expires, by := times.behind(rec, used, someDay); by != 0 || !expires.Equal(rec.Expires) {
			t.Errorf("behind by %v when it was stored: %s", by, about())
		}
		rounded := rec
		rounded.Expires = rec.Expires.Add(d.upTo(rounding)) // by the store
		if _, by := times.behind(rounded, used, someDay); by != 0 {
			t.Errorf("behind by %v when rounded by %v: %s", by, rounded.Expires.Sub(rec.Expires), about())
		}
		if due := times.due(rec, used, someDay); !due.Equal(rec.Expires) {
			t.Errorf("due in %v when it was stored: %s", due.Sub(someDay), about())
		}

		later := d.upTo(rec.Expires.Sub(someDay))
		now := someDay.Add(later)
		if due := times.due(rec, used, now); !due.Equal(rec.Expires) {
			t.Errorf("due %v after the deadline: %s", due.Sub(rec.Expires), about())
		}
		if _, by := times.behind(rec, used, now); by < 0 || by > later {
			t.Errorf("behind by %v after %v: %s", by, later, about())
		}
		if now.Before(rec.Expires) && times.deadline(now, rec.Created).Before(rec.Expires) {
			t.Errorf("a use after %v brings the deadline forward: %s", later, about())
		}
		// As seen by a machine whose clock is behind.
		earlier := someDay.Add(-d.upTo(skew))
		if _, by := times.behind(rec, used, earlier); by != 0 && times.idle > 0 && earlier.After(rec.Created) && d.tells(times, rec, used) {
			t.Errorf("behind by %v, %v ago: %s", by, someDay.Sub(earlier), about())
		}
		if t.Failed() {
			return
		}
	}
}

// TestLoweredRules: an idle timeout that is lowered counts from the last use, and
// ends no session before.
func TestLoweredRules(t *testing.T) {
	const h = time.Hour
	d := timeoutDraw{rand.New(rand.NewPCG(7, 8))}
	for range 50_000 {
		was, is := d.timeouts(), d.timeouts()
		is.absolute = was.absolute
		rec, used := d.stored(was, someDay)
		if is.idle <= 0 || was.idle > 0 && is.idle > was.idle || !d.tells(was, rec, used) {
			continue
		}
		now := someDay.Add(d.upTo(rec.Expires.Sub(someDay)))
		want, due := is.deadline(someDay, rec.Created), is.due(rec, used, now)
		last := want.Add(time.Second) // whole seconds are stored
		if used == 0 {                // which of two is told by the time that is left
			last = want.Add(h)
			if whole := now.Add(is.idle + skew); whole.After(last) {
				last = whole
			}
		}
		if due.Before(want) || due.After(last) {
			t.Fatalf("due %v, want %v to %v: was %v, is %v, age %v, left %v, used %v, now %v",
				due.Sub(someDay), want.Sub(someDay), last.Sub(someDay), was, is, someDay.Sub(rec.Created), rec.Expires.Sub(someDay), used, now.Sub(someDay))
		}
	}
}

// tells reports whether the deadline of rec, just made by t, tells which timeout
// has made it, where used does not. One that lies 2 hours after the session began
// looks as if the default had made it then.
func (d timeoutDraw) tells(t timeouts, rec Record, used time.Duration) bool {
	whole := rec.Expires.Sub(rec.Created)
	return used > 0 || t.idle == defaultIdle || whole < defaultIdle || whole > defaultIdle+rounding
}
