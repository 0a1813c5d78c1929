package conformance

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

// failureRules are about a store that fails.
var failureRules = []backendRule{
	{name: "StoreFailure", run: ruleStoreFailure, quotes: []string{
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package; above all it is never ErrNotFound.",
	}, needs: canFail, own: true},
}

func canFail(b Backend) bool { return b.Fail != nil }

// sentinels are the errors that a backend must not return when its store fails.
var sentinels = []error{
	session.ErrNotFound, session.ErrConflict, session.ErrTooLarge, session.ErrEncode, session.ErrDecode, session.ErrReadOnly,
	session.ErrClosed, session.ErrLocked, session.ErrLockTimeout, session.ErrLockLost, session.ErrTooLate,
}

func isSentinel(err error) bool {
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

func ruleStoreFailure(p *probe) {
	there, absent := p.key("there"), p.key("absent")
	v := p.save(there, p.record("1"))
	before := p.load(there)
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{
			{"Load", func() error { _, err := p.b.Load(ctx, there); return err }},
			{"Load at an absent key", func() error { _, err := p.b.Load(ctx, absent); return err }},
			{"Save that creates a record", func() error { _, err := p.b.Save(ctx, absent, p.record("2")); return err }},
			{"Save that replaces a record", func() error { _, err := p.b.Save(ctx, there, replacing(p.record("2"), v)); return err }},
			{"Touch", func() error { return p.b.Touch(ctx, there, before.Expires.Add(time.Hour)) }},
			{"Delete", func() error { return p.b.Delete(ctx, there) }},
			{"Delete at an absent key", func() error { return p.b.Delete(ctx, absent) }},
		}
	})
}

type namedCall struct {
	name string
	call func() error
}

// failures makes calls while the store fails, and reports an error unless each
// fails with an error that is no sentinel.
func (s *scene) failures(calls func(ctx context.Context) []namedCall) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	restore := s.fail()
	list := calls(ctx)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Add(1)
		go func() { defer wg.Done(); errs[i] = c.call() }()
	}
	wg.Wait()
	restore()
	for i, err := range errs {
		if err == nil {
			s.Errorf("%s while the store fails: got no error, want one", list[i].name)
		}
		for _, sentinel := range sentinels {
			if errors.Is(err, sentinel) {
				s.Errorf("%s while the store fails: got error %v, which is the sentinel %q; want an error that is none", list[i].name, err, sentinel)
			}
		}
	}
}
