package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// The name of a rule tells which one failed, so no two rules have the same.
func TestRuleNames(t *testing.T) {
	var names []string
	for _, rule := range slices.Concat(
		backendRules, lockingBackendRules, sweeperRules, sweptLockRules, textRules, lockedTextRules, []backendRule{wantsLocking, wantsSweeper, wantsText},
	) {
		names = append(names, rule.name)
	}
	slices.Sort(names)
	for i := range names {
		if i > 0 && names[i] == names[i-1] {
			t.Errorf("two rules are called %s", names[i])
		}
	}
}

// A rule that leaves itself out is a failure if no other rule fails.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	backend := hookedBackend(func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			if strings.HasSuffix(key, "sound") {
				return session.Record{}, errors.New("model: broken where nobody looks")
			}
			return load(ctx, key)
		}
	})
	failed := failures(t, backend, mutant{bug: "left out", rule: "left out"})
	if log := failed["left out"]; len(failed) != 1 || !strings.Contains(log, "RaceSave: the backend fails already") {
		t.Errorf("got failures %v, want one that lists the rules that were left out", failed)
	}
}

// A call that hangs ends the rule, and is named.
func TestHangs(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	backend := hookedBackend(func(h *hooked) {
		touch := h.touch
		h.touch = func(ctx context.Context, key string, e time.Time) error {
			if calls.Add(1) > 2 {
				<-h.ended
			}
			return touch(ctx, key, e)
		}
	})
	rules := rulesFor(backend, backend.New(t))
	i := slices.IndexFunc(rules, func(r backendRule) bool { return r.name == "TouchEarlier" })
	res := new(results)
	ok, log := run(t, func(t testing.TB) {
		rules[i].test(t, backend, backend.clients(t, backend.New(t)), 10*time.Millisecond, res)
	})
	if ok || !res.hung.Load() || !strings.Contains(log, "Touch has not returned after") {
		t.Errorf("passed: %v, hung: %v, log: %s", ok, res.hung.Load(), log)
	}
}

// A slow store passes: no rule depends on what second it is.
func TestSlow(t *testing.T) {
	t.Parallel()
	var loads atomic.Int64
	backend := hookedBackend(func(h *hooked) {
		load := h.load
		h.load = func(ctx context.Context, key string) (session.Record, error) {
			if strings.HasSuffix(key, "sound lock") && loads.Add(1) == 3 {
				time.Sleep(1100 * time.Millisecond)
			}
			return load(ctx, key)
		}
	})
	i := slices.IndexFunc(lockingRaceRules, func(r backendRule) bool { return r.name == "RaceLockTouch" })
	res := &results{spell: spell}
	ok, log := run(t, func(t testing.TB) {
		lockingRaceRules[i].test(t, backend, backend.clients(t, backend.New(t)), patience, res)
	})
	if why := res.unexplained(); !ok || why != "" || loads.Load() < 3 {
		t.Errorf("passed: %v, %s%s", ok, why, log)
	}
}
