package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// hold is the job of a process that acquires the lock, and saves or closes on
// command.
func (w *worker) hold() error {
	for {
		s, err := w.m.Open(w.ctx, w.Token)
		if err != nil {
			return err
		}
		n, err := visits.Get(s)
		names, nerr := tally.Get(s)
		err = errors.Join(err, nerr, visits.Set(s, n+1), tally.Set(s, append(names, w.Name)))
		if err != nil {
			return err
		}
		w.tell(event{Kind: "holding"})
		if w.hear() == "learn" { // when it notices that the lock is lost
			<-s.Context().Done()
		}
		err = s.Save(w.ctx)
		w.tell(failed("saved", w.Name, err))
		w.tell(failed("context", w.Name, context.Cause(s.Context())))
		if err := s.Close(w.ctx); err != nil && !errors.Is(err, session.ErrLockLost) {
			return err
		}
		w.hear()
	}
}

// write is the job of a process that writes without a lock on command.
func (w *worker) write() error {
	for {
		w.tell(event{Kind: "ready"})
		w.hear()
		s, err := w.m.Open(w.ctx, w.Token)
		if err != nil {
			return err
		}
		err = errors.Join(errOf(visits.Update(s, inc)), note.Set(s, w.Name),
			errOf(tally.Update(s, func(names []string) []string { return append(names, w.Name) })))
		if err != nil {
			return err
		}
		if err := s.Save(w.ctx); err != nil {
			return err
		}
		w.tell(event{Kind: "saved"})
	}
}

// stored returns the contents of a session, read directly from the store.
func stored(t *testing.T, a address, token string) (n int, names []string, by string) {
	t.Helper()
	s, err := a.manager(t, session.Config{}).Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	n, err = visits.Get(s)
	names, nerr := tally.Get(s)
	by, berr := note.Get(s)
	if err := errors.Join(err, nerr, berr); err != nil {
		t.Fatal(err)
	}
	return n, names, by
}

// TestNoWriterUnderALock checks writers without a lock while another process
// holds the lock for longer than its lease. None may write before the holder
// has: each reports that the store refused it, and only then is the holder told
// to save. The stored data must have the same order.
func TestNoWriterUnderALock(t *testing.T) {
	t.Parallel()
	const writers, rounds = 3, 2
	const ttl = 1500 * time.Millisecond
	for _, mode := range []session.Mode{session.Merge, session.LastWrite} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, a address) {
				token := a.begin(t)
				holder := start(t, job{Kind: "hold", Name: "holder", At: a, Token: token, Mode: int(session.Exclusive), TTL: ttl, MaxWait: time.Minute})
				var others []*process
				for i := range writers {
					p := start(t, job{Kind: "write", Name: fmt.Sprint("w", i), At: a, Token: token, Mode: int(mode), MaxWait: time.Minute})
					others = append(others, p)
					p.wait("ready")
				}
				for range rounds {
					holder.wait("holding")
					count, before, last := stored(t, a, token)
					for _, p := range others {
						p.say("write")
					}
					for _, p := range others {
						p.wait("refused") // and not "saved"
					}
					time.Sleep(ttl * 5 / 4) // it lives because it was renewed
					if n, names, by := stored(t, a, token); n != count || !slices.Equal(names, before) || by != last {
						t.Errorf("under the lock %d, %v, %q became %d, %v, %q", count, before, last, n, names, by)
					}
					holder.say("save")
					if e := holder.wait("saved"); e.Err != "" {
						t.Fatalf("the holder: %s", e.Err)
					}
					holder.wait("context")
					for _, p := range others {
						for e := range p.events {
							if e.Kind == "saved" {
								break
							}
							if e.Kind != "refused" { // as often as it likes
								t.Fatalf("%s: %+v", p.name, e)
							}
						}
						p.wait("ready")
					}
					n, names, by := stored(t, a, token)
					switch mode {
					case session.Merge:
						want := len(before) + 1 + writers
						if n != want || len(names) != want || names[len(before)] != "holder" {
							t.Errorf("counted to %d: %v, want the holder after %v, then the writers", n, names, before)
						}
					default: // the last one's whole session, as it was before the holder wrote
						if n != len(before)+1 || len(names) != n || names[n-1] != by {
							t.Errorf("counted to %d: %v by %s, want one writer after %v", n, names, by, before)
						}
					}
					holder.say("again")
				}
			})
		})
	}
}

// TestKilledHolder checks that the lock of a killed process is free after its
// lease has run out, and that none of its unsaved changes is stored.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	waiters := []struct {
		name string
		mode session.Mode
	}{{"the next holder", session.Exclusive}, {"a writer without a lock", session.Merge}}
	for _, tt := range waiters {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stores := stores
			if tt.mode == session.Exclusive {
				stores = append([]*store{apartStore}, stores...)
			}
			each(t, func(t *testing.T, a address) {
				token := a.begin(t)
				m := a.manager(t, session.Config{Mode: tt.mode, Lock: session.LockConfig{TTL: ttl, MaxWait: time.Minute}})
				p := start(t, job{Kind: "hold", Name: "holder", At: a, Token: token, Mode: int(session.Exclusive), TTL: ttl, MaxWait: time.Minute})
				p.wait("holding")
				time.Sleep(ttl / 2) // it has renewed its lease
				type result struct {
					n   int
					err error
					at  time.Time
				}
				next := make(chan result)
				go func() {
					s, err := m.Open(t.Context(), token)
					if err != nil {
						next <- result{err: err}
						return
					}
					r := result{at: time.Now()}
					r.err = errOf(visits.Update(s, func(n int) int { r.n = n; return n + 1 }))
					r.err = errors.Join(r.err, s.Save(t.Context()))
					if tt.mode == session.Merge {
						r.at = time.Now()
					}
					next <- r
				}()
				time.Sleep(ttl / 4) // it waits
				killed := time.Now()
				p.signal(syscall.SIGKILL)
				r := <-next
				if r.err != nil {
					t.Fatal(r.err)
				}
				took := r.at.Sub(killed)
				t.Logf("%v after the kill, with a lease of %v", took.Round(time.Millisecond), ttl)
				if took < 0 || took > ttl+10*time.Second {
					t.Errorf("it took %v, want the lease of %v and a little", took, ttl)
				}
				if n, names, kept := stored(t, a, token); r.n != 0 || n != 1 || len(names) != 0 || kept != "kept" {
					t.Errorf("the next one read %d, and stored is %d, %v, %q", r.n, n, names, kept)
				}
			}, stores...)
		})
	}
}

// TestPausedHolder stops a process that has the lock until its lease has run
// out. When it continues it must not write, and must get the reason, whatever
// others did meanwhile.
func TestPausedHolder(t *testing.T) {
	t.Parallel()
	const ttl = 500 * time.Millisecond
	tests := []struct {
		name   string
		others func(t *testing.T, m *session.Manager, token string) (end func())
		want   int // how often it was counted
		says   string
	}{
		{"no other holder", func(*testing.T, *session.Manager, string) func() {
			time.Sleep(2 * ttl)
			return nil
		}, 0, "save"},
		{"another has written", func(t *testing.T, m *session.Manager, token string) func() {
			s := mustOpen(t, m, token)
			if err := errors.Join(errOf(visits.Update(s, inc)), s.Save(t.Context())); err != nil {
				t.Fatal(err)
			}
			return nil
		}, 1, "save"},
		{"another has the lock", func(t *testing.T, m *session.Manager, token string) func() {
			s := mustOpen(t, m, token)
			return func() {
				if err := errors.Join(errOf(visits.Update(s, inc)), s.Save(t.Context())); err != nil {
					t.Errorf("the new holder: %v", err)
				}
			}
		}, 1, "save"},
		{"another had the lock and changed nothing", func(t *testing.T, m *session.Manager, token string) func() {
			if err := mustOpen(t, m, token).Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return nil
		}, 0, "save"},
		{"it waits for its context", func(t *testing.T, m *session.Manager, token string) func() {
			s := mustOpen(t, m, token)
			if err := errors.Join(errOf(visits.Update(s, inc)), s.Save(t.Context())); err != nil {
				t.Fatal(err)
			}
			return nil
		}, 1, "learn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			eachLock(t, func(t *testing.T, a address) {
				token := a.begin(t)
				m := a.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: 10 * time.Second, MaxWait: time.Minute}})
				p := start(t, job{Kind: "hold", Name: "holder", At: a, Token: token, Mode: int(session.Exclusive), TTL: ttl, MaxWait: time.Minute})
				p.wait("holding")
				p.signal(syscall.SIGSTOP)
				end := tt.others(t, m, token)
				p.say(tt.says)
				p.signal(syscall.SIGCONT)
				for _, kind := range []string{"saved", "context"} {
					if e := p.wait(kind); !e.is("lost") {
						t.Errorf("%s: got error %q, want ErrLockLost", kind, e.Err)
					}
				}
				if end != nil {
					end()
				}
				if n, names, kept := stored(t, a, token); n != tt.want || len(names) != 0 || kept != "kept" {
					t.Errorf("stored is %d, %v, %q, want %d and nothing of the holder that was stopped", n, names, kept, tt.want)
				}
				// And the lock is free.
				if err := mustOpen(t, m, token).Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func mustOpen(t *testing.T, m *session.Manager, token string) *session.Session {
	t.Helper()
	s, err := m.Open(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDelayedSave delays the holder's Save until another process has acquired
// the lock and written. It then arrives, and must not be applied.
func TestDelayedSave(t *testing.T) {
	eachStore(t, func(t *testing.T, a address) {
		token := a.begin(t)
		slow, l := a.through(t)
		const ttl = 300 * time.Millisecond
		holder := slow.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{TTL: ttl}})
		other := a.manager(t, session.Config{Mode: session.Exclusive, Lock: session.LockConfig{MaxWait: time.Minute}})

		s := mustOpen(t, holder, token)
		if err := visits.Set(s, 100); err != nil {
			t.Fatal(err)
		}
		// Every write from now on is delayed, so that none renews the lease.
		free := make(chan struct{})
		l.SetRule(proxy.Always(a.store().writes, proxy.Action{Before: func() { <-free }}))
		saved := make(chan error)
		go func() { saved <- s.Save(t.Context()) }()
		next := mustOpen(t, other, token)
		if err := errors.Join(visits.Set(next, 1), next.Save(t.Context())); err != nil {
			t.Fatal(err)
		}
		close(free)
		if err := <-saved; !errors.Is(err, session.ErrLockLost) {
			t.Errorf("the former holder: got error %v, want ErrLockLost", err)
		}
		if n, _, _ := stored(t, a, token); n != 1 {
			t.Errorf("stored is %d, want what the new holder wrote", n)
		}
	})
}
