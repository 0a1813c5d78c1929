//go:build go1.25

package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-a7bee19b/session"
)

// faults are what can happen to the call at of a process, whose context cancel
// ends.
var faults = map[string]func(p *process, at int, cancel func()){
	"fails": func(p *process, at int, _ func()) { p.hooks(failAt(at, errStore), nil) },
	"answer lost": func(p *process, at int, _ func()) {
		p.hooks(nil, failAt(at, errStore))
	},
	"late": func(p *process, at int, _ func()) { p.hooks(failAt(at, errLate), nil) },
	"cancelled before": func(p *process, at int, cancel func()) {
		p.hooks(func(n int, _, _ string) error {
			if n == at {
				cancel()
			}
			return nil
		}, nil)
	},
	"cancelled after": func(p *process, at int, cancel func()) {
		p.hooks(nil, func(n int, _, _ string) error {
			if n == at {
				cancel()
			}
			return nil
		})
	},
	"dies before": func(p *process, at int, _ func()) { p.hooks(failFrom(at), nil) },
	"dies after":  func(p *process, at int, _ func()) { p.hooks(failFrom(at+1), failAt(at, errStore)) },
	"late, and dies": func(p *process, at int, _ func()) {
		p.hooks(func(n int, op, key string) error {
			return errors.Join(failAt(at, errLate)(n, op, key), failFrom(at+1)(n, op, key))
		}, nil)
	},
}

func failAt(at int, err error) func(int, string, string) error {
	return func(n int, _, _ string) error {
		if n == at {
			return err
		}
		return nil
	}
}

func failFrom(at int) func(int, string, string) error {
	return func(n int, _, _ string) error {
		if n >= at {
			return errStore
		}
		return nil
	}
}

// TestOperationsWithFaults lets each call of each operation fail in each way.
func TestOperationsWithFaults(t *testing.T) {
	for _, mode := range []session.Mode{session.Merge, session.LastWrite, session.Exclusive} {
		sizes := []int{0, 29} // the next login fills the head, and the first sessions are in a page
		if testing.Short() || mode != session.Merge {
			sizes = sizes[:1]
		}
		for _, more := range sizes {
			v := newVillage(t, mode, more)
			for name, fault := range faults {
				late := []bool{false}
				if strings.HasPrefix(name, "late") {
					late = []bool{false, true}
				}
				for _, op := range operations() {
					retry := []bool{false}
					if op.saves {
						retry = []bool{false, true}
					}
					t.Run(fmt.Sprintf("%v, %s, %s, %d", mode, name, op.name, more), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							for _, retry := range retry {
								for _, soon := range late {
									for at := 1; withFault(t, v.again(t), op, fault, more, at, retry, soon); at++ {
										if t.Failed() {
											t.Fatalf("call %d, retry %v, soon %v", at, retry, soon)
										}
									}
								}
							}
						})
					})
				}
			}
		}
	}
}

// withFault runs op with a fault of the call at, and tries to save again after it.
// A call that is late arrives soon after, or when all is over. withFault reports
// whether there was such a call.
func withFault(t *testing.T, v *village, op operation, fault func(*process, int, func()), more, at int, retry, soon bool) (reached bool) {
	limit := map[bool]int{true: 2 + more}
	p, m := v.process(t, limit[op.limit])
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	fault(p, at, cancel)
	if retry {
		v.retry = func() { p.hooks(nil, nil) }
	}
	s, err := op.run(life, v, m)
	p.hooks(nil, nil)
	if p.calls < at {
		return false
	}
	arrive := func() {
		for _, f := range p.late {
			f()
		}
		p.late = nil
	}
	if soon {
		arrive()
	}
	var made []*session.Session
	if s != nil {
		made = append(made, s)
	}
	v.everyLiveOneIsListed(t, made...)
	if op.covers != nil && err != nil {
		_, err = op.run(ctx, v, v.m)
		check(t, err)
	}
	var covered []*session.Session
	if op.covers != nil {
		covered = op.covers(v)
		for _, s := range covered {
			if user, _ := v.live(t, s.Token().Reveal()); user != "" {
				t.Errorf("%s has left a session", op.name)
			}
		}
	}
	if s != nil && err == nil && op.login != nil {
		if user, _ := v.live(t, s.Token().Reveal()); user != "ann" {
			t.Errorf("after the login the user is %q", user)
		}
	}
	for _, s := range append([]*session.Session{v.other, v.bob}, v.more...) {
		if user, _ := v.live(t, s.Token().Reveal()); user == "" && !slices.Contains(covered, s) && !op.limit {
			t.Error("a session ended that nothing covers")
		}
	}
	made = append(made, login(t, v.m, session.Login{User: "ann", Owners: []session.Owner{laptop}}))
	v.everyLiveOneIsListed(t, made...)
	v.everyOneCanBeEnded(t, made...)
	arrive()
	v.allHaveEnded(t, made...)
	return true
}
