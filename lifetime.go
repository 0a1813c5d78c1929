package session

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// A Lifetime says how long one session lives, where that differs from the
// [Config]: longer for a user who wants to be remembered, shorter for one on a
// shared computer. The zero value is the lifetime of the Config, and so is a zero
// Idle or Absolute. See [Session.SetLifetime] and [Login].
//
// It is kept with the session, to the second: a fraction is dropped. Every process
// counts by it, also if the session was touched, merged or given a new ID
// meanwhile. [Config.MaxIdleTimeout] and [Config.MaxAbsoluteTimeout] are the
// ceilings: a Lifetime above them is an error, and one that was stored when they
// were higher counts as if it were just at them.
type Lifetime struct {
	// Idle ends the session if it was not used for this long, in place of
	// [Config.IdleTimeout]. The touch interval grows or shrinks with it: with the
	// defaults, a session with an Idle of 30 days that is only read is written once
	// in 3 days. At least 1 second; [Never] turns it off. Default 0:
	// Config.IdleTimeout, or Absolute if that is shorter.
	Idle time.Duration

	// Absolute ends the session this long after it began or after its last Login,
	// in place of [Config.AbsoluteTimeout]. At least 1 second; [Never] turns it
	// off. Default 0: Config.AbsoluteTimeout.
	Absolute time.Duration

	// Persistent lets the cookie outlive the browser, as [Cookie.Persistent] does
	// for all sessions. It cannot undo Cookie.Persistent.
	Persistent bool
}

// lifetimes tell the timeouts of a session by its Lifetime.
type lifetimes struct {
	usual timeouts // of a session without one
	most  timeouts // the ceilings
}

func newLifetimes(cfg Config) lifetimes {
	return lifetimes{
		usual: timeouts{idle: cfg.IdleTimeout, absolute: cfg.AbsoluteTimeout, touchInterval: cfg.TouchInterval, notBefore: cfg.NotBefore},
		most:  timeouts{idle: cfg.MaxIdleTimeout, absolute: cfg.MaxAbsoluteTimeout, notBefore: cfg.NotBefore},
	}
}

// terms are what a session has of its own.
type terms struct {
	life  *Lifetime // nil if it has none
	until time.Time // when it is over because it is listed, see timeouts; zero: never
}

// by returns the timeouts of a session with terms of its own.
func (ls lifetimes) by(own terms) timeouts {
	t := ls.of(own.life)
	t.until = own.until
	return t
}

// of returns the timeouts of a session with the lifetime l, nil if it has none of
// its own.
func (ls lifetimes) of(l *Lifetime) timeouts {
	if l == nil || l.Idle == 0 && l.Absolute == 0 {
		return ls.usual
	}
	t := timeouts{
		idle:     atMost(ls.most.idle, cmp.Or(l.Idle, ls.usual.idle)),
		absolute: atMost(ls.most.absolute, cmp.Or(l.Absolute, ls.usual.absolute)),

		notBefore: ls.usual.notBefore,
	}
	if t.idle < 0 && t.absolute < 0 { // the Config was another one when l was set
		return ls.usual
	}
	if t.idle > 0 && t.absolute > 0 {
		t.idle = min(t.idle, t.absolute)
	}
	switch {
	case t.idle < 0:
	case ls.usual.idle > 0:
		high, low := bits.Mul64(uint64(t.idle), uint64(ls.usual.touchInterval))
		n, _ := bits.Div64(high, low, uint64(ls.usual.idle)) // less than t.idle
		t.touchInterval = time.Duration(n)
	default:
		t.touchInterval = t.idle / 10
	}
	return t
}

// atMost returns the shorter of two timeouts, which may be off.
func atMost(ceiling, d time.Duration) time.Duration {
	if ceiling > 0 && (d < 0 || d > ceiling) {
		return ceiling
	}
	return d
}

// check returns an error if l cannot be the lifetime of a session.
func (ls lifetimes) check(l Lifetime) error {
	for _, d := range []struct {
		name      string
		is, limit time.Duration
	}{{"Idle", l.Idle, ls.most.idle}, {"Absolute", l.Absolute, ls.most.absolute}} {
		switch {
		case d.is == 0:
		case d.is != Never && d.is < time.Second:
			return fmt.Errorf("%s is %v; it must be at least 1s, or Never", d.name, d.is)
		case d.is == Never && d.limit > 0:
			return fmt.Errorf("%s is Never, and Config.Max%sTimeout is %v", d.name, d.name, d.limit)
		case d.limit > 0 && d.is > d.limit:
			return fmt.Errorf("%s is %v, longer than Config.Max%sTimeout, which is %v", d.name, d.is, d.name, d.limit)
		}
	}
	absolute := cmp.Or(l.Absolute, ls.usual.absolute)
	switch {
	case cmp.Or(l.Idle, ls.usual.idle) < 0 && absolute < 0:
		return errors.New("a session must end, and Idle and Absolute are both Never")
	case absolute > 0 && l.Idle > absolute:
		return fmt.Errorf("the Idle of %v is longer than Absolute, which is %v and would always come first", l.Idle, absolute)
	}
	return nil
}

// persistently ends the text of a lifetime with a persistent cookie.
const persistently = " persistent"

// text is the stored form of l: Idle and Absolute in seconds, 0 for that of the
// Config and -1 for Never.
func (l Lifetime) text() string {
	seconds := func(d time.Duration) string {
		if d < 0 {
			return "-1"
		}
		return strconv.FormatInt(int64(d/time.Second), 10)
	}
	text := seconds(l.Idle) + " " + seconds(l.Absolute)
	if l.Persistent {
		text += persistently
	}
	return text
}

// parseLifetime is the reverse. It refuses what text cannot have made, and a
// session that would not end.
func parseLifetime(text string) (Lifetime, error) {
	times, persistent := strings.CutSuffix(text, persistently)
	l := Lifetime{Persistent: persistent}
	idle, absolute, _ := strings.Cut(times, " ")
	seconds := func(text string) time.Duration {
		switch n, err := strconv.ParseInt(text, 10, 64); {
		case err != nil || n > math.MaxInt64/int64(time.Second):
			return 0 // which is another text
		case n < 0:
			return Never
		default:
			return time.Duration(n) * time.Second
		}
	}
	l.Idle, l.Absolute = seconds(idle), seconds(absolute)
	if l.text() != text || l.Idle < 0 && l.Absolute < 0 {
		return Lifetime{}, errors.New("it is no lifetime")
	}
	return l, nil
}
