package conformance

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// lateMutants are clients that go wrong after a request without an answer.
var lateMutants = []mutant{
	{"create is sent again", "LateCreate"},
	{"save without an answer is a conflict", "LateSave"},
	{"touch without an answer is not found", "LateTouch"},
	{"the sender's clock decides", "LateSaveAfterEnd"},
	{"the sender's clock decides", "LateTouchAfterEnd"},
	{"the sender's clock decides", "LateAfterGoneSave"},
	{"the sender's clock decides", "LateAfterGoneTouch"},
	{"only an end is for ever", "LateAfterGoneSave"},
	{"only an end is for ever", "LateAfterGoneTouch"},
	{"locked after no answer", "LateLocked"},
	{"acquire finds its own lock", "LateAcquire"},
}

func TestLateMutants(t *testing.T) {
	t.Parallel()
	for _, m := range lateMutants {
		t.Run(m.rule, func(t *testing.T) {
			t.Parallel()
			testHooked(t, lateBackend(m.bug), m)
		})
	}
}

// A backend may end records for good, and still revive one after a call has said
// that it is gone.
func TestLateGoneIsNotEnd(t *testing.T) {
	t.Parallel()
	for _, rule := range lateRules {
		if strings.HasSuffix(rule.name, "AfterEnd") {
			backend := lateBackend("only an end is for ever")
			if ok, log := run(t, func(t testing.TB) {
				rule.test(t, backend, backend.clients(t, backend.New(t)), patience, new(results))
			}); !ok {
				t.Errorf("rule %s fails as well:\n%s", rule.name, log)
			}
		}
	}
}

// A client without a fault passes.
func TestLate(t *testing.T) {
	t.Parallel()
	TestBackend(t, lateBackend(""))
}

var errNoAnswer = errors.New("model: no answer")

// A postman keeps back a request of a client.
type postman struct {
	mu      sync.Mutex
	armed   bool
	pending func()
}

// post sends a request, or keeps it back until it is delivered. It reports whether
// there was an answer.
func (p *postman) post(request func()) (answered bool) {
	p.mu.Lock()
	held := p.armed
	if p.armed = false; held {
		p.pending = request
	}
	p.mu.Unlock()
	if !held {
		request()
	}
	return !held
}

func (p *postman) hold() (deliver func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
	return func() {
		p.mu.Lock()
		request := p.pending
		p.armed, p.pending = false, nil
		p.mu.Unlock()
		if request != nil {
			request()
		}
	}
}

func lateBackend(bug string) Backend {
	var postmen sync.Map // client to postman
	decides := bug == "the sender's clock decides" || bug == "only an end is for ever"
	backend := hookedBackend(func(h *hooked) {
		p := new(postman)
		postmen.Store(h, p)
		save, touch, lock := h.save, h.touch, h.lock
		h.save = func(ctx context.Context, key string, rec session.Record) (v session.Version, err error) {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			sent := h.now()
			if p.post(func() {
				switch past := !rec.Expires.After(h.now()); {
				case bug == "only an end is for ever" && past:
					h.reviving(key, time.Time{}, func(r *leased) {
						if r.rec.Version == rec.Version {
							delete(h.records, key)
						}
					})
				case decides:
					h.reviving(key, sent, func(r *leased) {
						if r.rec.Version == rec.Version {
							r.rec.Data, r.rec.Expires = rec.Data, rec.Expires
						}
					})
				}
				v, err = save(context.WithoutCancel(ctx), key, rec)
			}) {
				return v, err
			}
			switch {
			case rec.Version == "" && bug != "create is sent again":
				return "", errNoAnswer
			case bug == "save without an answer is a conflict":
				return "", &session.ConflictError{}
			}
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
				return "", errNoAnswer // no time for a second attempt
			}
			v2, err2 := save(ctx, key, rec)
			if errors.Is(err2, session.ErrLocked) && bug != "locked after no answer" {
				err2 = errNoAnswer
			}
			return v2, err2
		}
		h.touch = func(ctx context.Context, key string, e time.Time) (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			sent := h.now()
			if p.post(func() {
				if decides {
					h.reviving(key, sent, func(r *leased) { r.rec.Expires = e })
				}
				err = touch(context.WithoutCancel(ctx), key, e)
			}) {
				return err
			}
			if bug == "touch without an answer is not found" {
				return session.ErrNotFound
			}
			return errNoAnswer
		}
		h.lock = func(ctx context.Context, key string, ttl time.Duration) (rec session.Record, err error) {
			if err := ctx.Err(); err != nil {
				return session.Record{}, err
			}
			if p.post(func() { rec, err = lock(context.WithoutCancel(ctx), key, ttl) }) {
				return rec, err
			}
			if bug == "acquire finds its own lock" {
				return session.Record{}, &session.LockedError{}
			}
			return lock(ctx, key, ttl)
		}
	})
	backend.Hold = func(_ testing.TB, b session.Backend) func() {
		p, _ := postmen.Load(b)
		return p.(*postman).hold()
	}
	return backend
}

// reviving changes the record at key if it had not expired at sent.
func (h *hooked) reviving(key string, sent time.Time, change func(r *leased)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.records[key]; r != nil && !r.rec.Expired(sent) {
		change(r)
	}
}
