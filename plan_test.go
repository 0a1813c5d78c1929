package session

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// planTimes are the timeouts, and the deadline of a session that is used now, in
// the tests of plans.
var (
	planTimes = timeouts{idle: 2 * time.Hour, absolute: 24 * time.Hour, touchInterval: 12 * time.Minute}
	planUntil = time.Unix(1_800_000_000, 0)
)

// flags are the names of the booleans of a situation.
func (s *situation) flags() map[string]*bool {
	return map[string]*bool{
		"moving": &s.moving, "changed": &s.changed, "held": &s.held, "apart": &s.apart, "fresh": &s.fresh,
		"response": &s.response, "closed": &s.closed, "started": &s.started, "failed": &s.failed, "quiet": &s.quiet, "resting": &s.resting,
		"aged": &s.aged,
	}
}

// situations yields every combination of the booleans, for each by.
func situations(yield func(situation) bool) {
	var names []string
	for name := range new(situation).flags() {
		names = append(names, name)
	}
	interval := planTimes.touchInterval
	for _, by := range []time.Duration{-24 * time.Hour, -1, 0, 1, interval - 1, interval, interval + 1, 24 * time.Hour} {
		for bits := range 1 << len(names) {
			s := situation{by: by, expires: planUntil}
			flags := s.flags()
			for i, name := range names {
				*flags[name] = bits>>i&1 == 1
			}
			if !yield(s) {
				return
			}
		}
	}
}

// TestPlanRules holds every plan against what is to be true of all of them.
func TestPlanRules(t *testing.T) {
	implies := func(a, b bool) bool { return !a || b }
	for _, times := range []timeouts{planTimes, {idle: Never, absolute: time.Hour}} {
		later := func(s situation) bool { return s.by > 0 && s.by >= times.touchInterval } // there is a later deadline, and it is time
		sooner := func(s situation) bool { return s.by < 0 && !s.apart }                   // there is an earlier one
		frees := func(p plan) bool { return slices.Contains([]step{doWrite, doRenew, doRestamp, doRelease}, p.step) }
		asSave := func(s situation) plan { s.response = false; return times.plan(s) }

		rules := map[string]func(s situation, p plan) bool{
			"a closed response does nothing": func(s situation, p plan) bool {
				return implies(s.response && s.closed, p == plan{})
			},
			"nothing is written where nothing changed": func(s situation, p plan) bool {
				return implies(p.step == doWrite, s.changed)
			},
			"what changed is written, or a rotation is settled first": func(s situation, p plan) bool {
				return implies(s.changed && (!s.response || !s.closed), p.step == doWrite || p.step == doSettle)
			},
			"a response leaves settling to the save of what changed": func(s situation, p plan) bool {
				return implies(s.response && s.changed && !s.closed, p.step == doWrite)
			},
			"a Save settles a rotation before anything else": func(s situation, p plan) bool {
				return implies(!s.response && s.moving, p.step == doSettle)
			},
			"a response settles one as long as it can send the token, also after a failure": func(s situation, p plan) bool {
				return implies(s.response && s.moving && !s.changed && !s.closed, (p.step == doSettle) == !s.started)
			},
			"only a rotation whose outcome is not known is settled": func(s situation, p plan) bool {
				return implies(p.step == doSettle, s.moving)
			},
			"a lock that is held is freed by every Save, when it has settled": func(s situation, p plan) bool {
				return implies(!s.response && s.held, frees(p) || p.step == doSettle)
			},
			"it is freed by every response, unless that is closed or has failed": func(s situation, p plan) bool {
				return implies(s.response && s.held && !s.closed && !s.failed, frees(p) || p.step == doSettle)
			},
			"a lock that is not held is not freed": func(s situation, p plan) bool {
				return implies(p.step == doRelease, s.held)
			},
			"a response that has failed does nothing more for a session that did not change": func(s situation, p plan) bool {
				return implies(s.response && s.failed && !s.changed && (!s.moving || s.started), p == plan{})
			},
			"a response that is quiet, resting or has failed makes no call for a deadline alone": func(s situation, p plan) bool {
				return implies(s.response && (s.quiet || s.resting || s.failed), p.step != doTouch && implies(p.step == doRestamp, s.held))
			},
			"it moves one with a lock that it frees, if at all": func(s situation, p plan) bool {
				return implies(s.response && (s.quiet || s.resting || s.failed) && !p.expires.IsZero(), s.held)
			},
			"a deadline that is not stale is not moved": func(s situation, p plan) bool {
				return implies(!p.expires.IsZero(), s.by < 0 || later(s))
			},
			"a deadline that is moved is that of a use now": func(_ situation, p plan) bool {
				return p.expires.IsZero() || p.expires.Equal(planUntil)
			},
			"a deadline is moved by a restamp, a touch or a release, and the first two do nothing else": func(_ situation, p plan) bool {
				alone := p.step == doRestamp || p.step == doTouch
				return implies(alone, !p.expires.IsZero()) && implies(!p.expires.IsZero(), alone || p.step == doRelease)
			},
			"a Save without changes moves a deadline that is stale": func(s situation, p plan) bool {
				return implies(!s.response && !s.moving && !s.changed && (later(s) || sooner(s)), !p.expires.IsZero())
			},
			"so does a response that waits for it": func(s situation, p plan) bool {
				waits := s.response && !s.closed && !s.failed && (s.held || !s.quiet && !s.resting) && (!s.moving || s.started)
				return implies(waits && !s.changed && (later(s) || sooner(s)) && p.step != doRenew, !p.expires.IsZero())
			},
			"a deadline is brought forward by a restamp, and by nothing else": func(s situation, p plan) bool {
				return implies(p.step == doRestamp, s.by < 0) && implies(!p.expires.IsZero() && sooner(s), p.step == doRestamp)
			},
			"values that are not those of the record are not written with its deadline": func(s situation, p plan) bool {
				return implies(p.step == doRestamp, !s.apart)
			},
			"a touch is spared exactly when the interval alone does, and nobody was told": func(s situation, p plan) bool {
				other := s.changed || s.held || s.moving && (!s.response || !s.started) || p.step == doRenew
				left := s.response && (s.closed || s.failed || s.quiet)
				return p.spared == (!other && !left && !s.fresh && s.by > 0 && s.by < times.touchInterval)
			},
			"one that is spared does nothing": func(_ situation, p plan) bool {
				return implies(p.spared, p.step == doNothing && p.expires.IsZero())
			},
			"fresh is for what the observer is told": func(s situation, p plan) bool {
				s.fresh = !s.fresh
				other := times.plan(s)
				other.spared, p.spared = false, false
				return other == p
			},
			"what is said of a response is nothing to a Save": func(s situation, p plan) bool {
				s.closed, s.started, s.failed, s.quiet, s.resting = false, false, false, false, false
				return s.response || times.plan(s) == p
			},
			"the Save that a response asks for does what the response wants": func(s situation, p plan) bool {
				save := asSave(s)
				return implies(s.response && p.step != doNothing && p.step != doRenew, save.step == p.step || save.step == doSettle && s.moving)
			},
			"an ID is renewed by a response that can send the token and waits for it": func(s situation, p plan) bool {
				can := s.response && s.aged && !s.closed && !s.started && !s.moving && !s.failed && !s.quiet && !s.resting
				return (p.renew || p.step == doRenew) == (can && (s.changed || !s.apart))
			},
			"it is renewed with the changes, or alone if there are none": func(s situation, p plan) bool {
				return implies(p.renew, p.step == doWrite) && implies(p.step == doRenew, !s.changed && p == plan{step: doRenew})
			},
			"the age of an ID is nothing to a Save": func(s situation, p plan) bool {
				s.aged = false
				return s.response || times.plan(s) == p
			},
		}
		n := 0
		for s := range situations {
			n++
			p := times.plan(s)
			for rule, holds := range rules {
				if !holds(s, p) {
					t.Errorf("not true that %s: %s -> %s", rule, describe(s), outcome(p))
				}
			}
			if t.Failed() {
				return
			}
		}
		if n != 8<<12 {
			t.Errorf("%d situations", n)
		}
	}
}

// The words of testdata/plan.txt for by, and for a plan.
var (
	byWords = map[string]time.Duration{
		"too late": -time.Hour, "behind": planTimes.touchInterval - 1, "stale": planTimes.touchInterval,
	}
	stepWords = map[step]string{
		doNothing: "nothing", doSettle: "settle", doWrite: "write", doRestamp: "restamp", doRelease: "release", doTouch: "touch",
		doRenew: "renew",
	}
)

// describe returns the words for s.
func describe(s situation) string {
	var words []string
	for name, flag := range s.flags() {
		if *flag {
			words = append(words, name)
		}
	}
	slices.Sort(words)
	return fmt.Sprintf("%v, behind by %v", words, s.by)
}

// outcome returns the words for p.
func outcome(p plan) string {
	words := stepWords[p.step]
	if !p.expires.IsZero() {
		words += ", deadline"
	}
	if p.spared {
		words += ", spared"
	}
	if p.renew {
		words += ", new ID"
	}
	return words
}

// parseSituation is the reverse of the left side of testdata/plan.txt.
func parseSituation(words string) (situation, error) {
	s := situation{expires: planUntil}
	flags := s.flags()
	for word := range strings.SplitSeq(words, ",") {
		word = strings.TrimSpace(word)
		flag, ok := flags[word]
		by, timed := byWords[word]
		switch {
		case ok && !*flag:
			*flag = true
		case timed && s.by == 0:
			s.by = by
		case word != "save": // which is what is no response
			return s, fmt.Errorf("unknown, or twice: %q", word)
		}
	}
	if s.response == strings.Contains(words, "save") {
		return s, fmt.Errorf("neither a save nor a response, or both: %q", words)
	}
	return s, nil
}

// TestPlanTranscript reads testdata/plan.txt, which says what is done when.
func TestPlanTranscript(t *testing.T) {
	file, err := os.ReadFile("testdata/plan.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen, steps, words := make(map[situation]bool), make(map[step]bool), make(map[string]bool)
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		left, want, _ := strings.Cut(line, "->")
		s, err := parseSituation(left)
		if err != nil {
			t.Fatal(err)
		}
		p := planTimes.plan(s)
		if got := outcome(p); got != strings.TrimSpace(want) {
			t.Errorf("%s -> %s, want %s", strings.TrimSpace(left), got, strings.TrimSpace(want))
		}
		if seen[s] {
			t.Errorf("twice: %s", line)
		}
		seen[s], steps[p.step] = true, true
		for name, flag := range s.flags() {
			words[name] = words[name] || *flag
		}
	}
	for name, there := range words {
		if !there {
			t.Errorf("there is no line with %q", name)
		}
	}
	for s, word := range stepWords {
		if !steps[s] {
			t.Errorf("there is no line with %q", word)
		}
	}
}

// TestSituation: what of a session goes into a plan.
func TestSituation(t *testing.T) {
	now := time.Now()
	stored := func(ago time.Duration) Record {
		return Record{Version: "1", Created: now.Add(-ago), Expires: now.Add(planTimes.idle - ago)}
	}
	for _, tt := range []struct {
		name string
		do   func(s *Session)
		want situation
		by   time.Duration // about
	}{
		{"new", func(*Session) {}, situation{}, 0},
		{"new and changed", func(s *Session) { s.changes.Put("a", changes.Edit{Data: []byte("1")}) }, situation{changed: true}, 0},
		{"just stored", func(s *Session) { s.stored.rec, s.stored.fresh = stored(0), true }, situation{fresh: true}, 0},
		{"used again", func(s *Session) { s.stored.rec = stored(time.Hour) }, situation{}, time.Hour},
		{"read only", func(s *Session) { s.stored.rec = stored(time.Hour); s.mode.set(ReadOnly) }, situation{}, 0},
		{"expired", func(s *Session) { s.stored.rec = stored(3 * time.Hour) }, situation{}, 0},
		{"of a longer timeout", func(s *Session) {
			s.stored.rec, s.stored.used = stored(0), 4*time.Hour
			s.stored.rec.Expires = now.Add(4 * time.Hour)
		}, situation{}, -2 * time.Hour},
		{"to be renewed", func(s *Session) { s.stored.rec, s.renewal = stored(time.Hour), newID }, situation{changed: true}, 0}, // by how much does not matter then
		{"moving", func(s *Session) { s.saving.moving = &move{} }, situation{moving: true}, 0},
		{"locked", func(s *Session) { s.hold = &hold{} }, situation{held: true}, 0},
		{"overtaken", func(s *Session) { s.stored.rec, s.stored.apart = stored(time.Hour), true }, situation{apart: true}, time.Hour},
	} {
		s := &Session{m: newCore(nil, Config{IdleTimeout: planTimes.idle, AbsoluteTimeout: planTimes.absolute})}
		s.mode.set(Merge)
		tt.do(s)
		got := s.situation()
		left := time.Until(got.expires) // the deadline of a use now
		if got.by.Round(time.Minute) != tt.by || got.expires.IsZero() != (s.stored.rec.Version == "" || tt.name == "read only" || tt.name == "expired" || tt.want.changed) ||
			!got.expires.IsZero() && left.Round(time.Minute) != planTimes.idle {
			t.Errorf("%s: behind by %v, want %v; a use now has %v", tt.name, got.by, tt.by, left)
		}
		if got.by, got.expires = 0, (time.Time{}); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, describe(got), describe(tt.want))
		}
	}
}
