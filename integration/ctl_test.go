package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// operator uses the commands for sessions on one store, and keeps their output.
type operator struct {
	*sessionctl
	at   address
	mu   sync.Mutex
	said strings.Builder
}

func (o *operator) flags(args ...string) []string {
	if o.at.Store == dynamoStore.name {
		return append(args, "--endpoint", o.at.URL, "--table", o.at.Room)
	}
	return append(args, "--redis", "redis://"+o.at.URL, "--prefix", o.at.Room)
}

// do runs a command, and returns its output and its exit code.
func (o *operator) do(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := o.command(t, o.flags(args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said.WriteString(out.String() + errs.String())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that succeeds, and decodes its output into v.
func (o *operator) must(t *testing.T, v any, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, code := o.do(t, stdin, args...)
	if code != 0 {
		t.Fatalf("sessionctl %v: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(stdout), v); err != nil {
			t.Fatalf("sessionctl %v: %v\n%s", args, err, stdout)
		}
	}
	return stdout
}

// TestSessionctlSessions has an operator look at sessions and end them, on each
// store.
func TestSessionctlSessions(t *testing.T) {
	t.Parallel()
	ctl := buildSessionctl(t)
	eachStore(t, func(t *testing.T, a address) {
		const secret = "what nobody has asked for"
		o := &operator{sessionctl: ctl, at: a}
		m := a.manager(t, session.Config{})
		var tokens []string
		begin := func(user string) string {
			t.Helper()
			s := m.Start()
			err := note.Set(s, secret)
			if user != "" {
				err = errors.Join(err, s.Login(user))
			}
			if err := errors.Join(err, s.Save(t.Context()), s.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			tokens = append(tokens, s.Token().Reveal())
			return s.Token().Reveal()
		}
		annOne, annTwo, bob, guest := begin("ann"), begin("ann"), begin("bob"), begin("")
		exclusive, err := m.With(session.Route{Mode: session.Exclusive})
		if err != nil {
			t.Fatal(err)
		}
		held, err := exclusive.Open(t.Context(), bob)
		if err != nil {
			t.Fatal(err)
		}
		before := begin("")
		rotated := mustOpen(t, m, before)
		if err := errors.Join(rotated.Rotate(), rotated.Save(t.Context())); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, rotated.Token().Reveal())

		lines := func(args ...string) int {
			t.Helper()
			return strings.Count(o.must(t, nil, "", append([]string{"list", "--json"}, args...)...), "\n")
		}
		if n := lines(); n != 6 {
			t.Errorf("%d records are listed, want 5 sessions and a marker", n)
		}
		if n := lines("--locked"); n != 1 {
			t.Errorf("%d locked ones are listed, want 1", n)
		}
		if n := lines("--limit", "2"); n != 2 {
			t.Errorf("%d are listed, want 2", n)
		}

		type shown struct {
			Key      string
			Kind     string
			State    string
			LoggedIn bool   `json:"logged_in"`
			MovedTo  string `json:"moved_to"`
			User     string
			Values   []struct {
				Name, Type string
				Value      any
			}
		}
		show := func(token string, args ...string) (s shown) {
			t.Helper()
			o.must(t, &s, token+"\n", append([]string{"show", "--token-stdin", "--json"}, args...)...)
			return s
		}
		ann := show(annOne)
		if ann.Kind != "session" || !ann.LoggedIn || ann.User != "" || len(ann.Values) != 1 || ann.Values[0].Value != nil || ann.Values[0].Type != "text" {
			t.Errorf("got %+v", ann)
		}
		if s := show(bob); s.State != "locked" {
			t.Errorf("got %+v", s)
		}
		if old, now := show(before), show(rotated.Token().Reveal()); old.Kind != "moved" || old.MovedTo != now.Key {
			t.Errorf("got %+v and %+v", old, now)
		}
		o.must(t, nil, "", "show", ann.Key)
		if said := o.said.String(); strings.Contains(said, secret) || strings.Contains(said, "ann") {
			t.Errorf("it shows what was not asked for:\n%s", said)
		}
		if s := show(annOne, "--values"); s.User != "ann" || len(s.Values) != 1 || s.Values[0].Value != secret {
			t.Errorf("got %+v", s)
		}
		if _, said, code := o.do(t, "", "show", "nobody"); code != 1 || !strings.Contains(said, "no session") {
			t.Errorf("got %d, %s", code, said)
		}

		var stats struct {
			Total, Live, Locked, Moved int
			Projection                 any
		}
		o.must(t, &stats, "", "stats", "--json")
		if stats.Total != 6 || stats.Live != 5 || stats.Moved != 1 || stats.Locked != 1 || (stats.Projection != nil) != (a.Store == dynamoStore.name) {
			t.Errorf("got %+v", stats)
		}
		o.must(t, nil, "", "stats")

		var bench struct {
			Requests, Errors int
			WriteUnits       float64 `json:"write_units"`
		}
		o.must(t, &bench, "", "bench", "--json", "--duration=1s", "--concurrency=4", "--sessions=20")
		if bench.Requests == 0 || bench.Errors > 0 || (bench.WriteUnits > 0) != (a.Store == dynamoStore.name) {
			t.Errorf("got %+v", bench)
		}
		o.interrupt(t)
		if n := lines("--limit=0"); n != 6 {
			t.Errorf("after bench there are %d records, want 6", n)
		}

		if err := held.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, _, code := o.do(t, "", "revoke", "--user=ann"); code != 2 {
			t.Errorf("two were revoked without a question: exit code %d", code)
		}
		o.must(t, nil, "", "revoke", "--user=ann", "--yes")
		o.must(t, nil, guest, "revoke", "--token-stdin")
		o.must(t, nil, guest, "revoke", "--token-stdin")
		for _, token := range []string{annOne, annTwo, guest} {
			if _, err := m.Open(t.Context(), token); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		}
		mustOpen(t, m, bob)
		if n := lines(); n != 3 {
			t.Errorf("%d records are left, want 3", n)
		}
		for _, token := range tokens {
			if strings.Contains(o.said.String(), token) {
				t.Error("a token was printed")
			}
		}
	})
}

// TestSessionctlOwners has an operator find and end the sessions of owners by the
// index, and those of everyone, on each store.
func TestSessionctlOwners(t *testing.T) {
	t.Parallel()
	ctl := buildSessionctl(t)
	eachStore(t, func(t *testing.T, a address) {
		plain, m := a.manager(t, session.Config{}), a.manager(t, session.Config{Owners: session.OwnersConfig{Index: true}})
		at, l := a.through(t)
		o := &operator{sessionctl: ctl, at: at}
		login := func(m *session.Manager, login session.Login) string {
			t.Helper()
			s := m.Start()
			if err := errors.Join(s.LoginWith(login), s.Save(t.Context()), s.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			return s.Token().Reveal()
		}
		alive := func(tokens ...string) (n int) {
			t.Helper()
			for _, token := range tokens {
				if s, err := m.Open(t.Context(), token); err == nil {
					n++
					_ = s.Close(t.Context())
				} else if !errors.Is(err, session.ErrNotFound) {
					t.Fatal(err)
				}
			}
			return n
		}

		const many = 20 // so that there is a page
		var bobs, all []string
		for range many {
			bobs = append(bobs, login(m, session.Login{User: "bob", Owners: []session.Owner{{Kind: "tenant", ID: "acme"}}}))
		}
		before, ann := login(plain, session.Login{User: "ann"}), login(m, session.Login{User: "ann", Note: map[string]string{"device": "a phone"}})
		rotated := mustOpen(t, m, login(m, session.Login{User: "ann"}))
		if err := errors.Join(rotated.Rotate(), rotated.Save(t.Context()), rotated.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		all = append(append(all, bobs...), before, ann, rotated.Token().Reveal())

		var stats struct{ Total, Live, Moved, Index int }
		o.must(t, &stats, "", "stats", "--json")
		if stats.Live != many+3 || stats.Moved != 1 || stats.Index < 4 || stats.Total != stats.Live+stats.Moved+stats.Index {
			t.Errorf("got %+v", stats)
		}
		o.must(t, nil, "", "doctor", "--reads=1")

		type found struct {
			Key, Handle string
			Note        map[string]string
		}
		list := func(args ...string) (all []found) {
			t.Helper()
			d := json.NewDecoder(strings.NewReader(o.must(t, nil, "", append([]string{"list", "--json", "--limit=0"}, args...)...)))
			for d.More() {
				var f found
				if err := d.Decode(&f); err != nil {
					t.Fatal(err)
				}
				all = append(all, f)
			}
			return all
		}
		index := list("--index")
		if len(index) != stats.Index {
			t.Errorf("%d records of the index are listed, want %d", len(index), stats.Index)
		}
		for _, f := range index {
			if _, said, code := o.do(t, "", "revoke", f.Key); code != 1 || !strings.Contains(said, "record of the index of owners, and no session") {
				t.Errorf("got %d, %s", code, said)
			}
		}
		if anns := list("--user=ann", "--notes"); len(anns) != 2 || anns[1].Note["device"] != "a phone" || anns[0].Handle != rotated.Handle() {
			t.Errorf("got %+v", anns)
		}
		if n := len(list("--user=ann", "--scan")); n != 3 {
			t.Errorf("%d are found by a scan, want 3", n)
		}
		if n := len(list("--owner=tenant=acme", "--user=bob")); n != many {
			t.Errorf("%d are listed, want %d", n, many)
		}

		l.Reset()
		var report struct{ Revoked int }
		o.must(t, &report, "", "revoke", "--user=bob", "--yes", "--json")
		if n := alive(bobs...); report.Revoked != many || n != 0 {
			t.Errorf("%d are revoked, and %d alive", report.Revoked, n)
		}
		if got := l.Counts(); a.Store == dynamoStore.name {
			t.Logf("%d sessions took %+v", many, got)
			if got["Scan"].Requests != 0 || got["GetItem"].Requests > many+6 || got["UpdateItem"].Requests != 2 || got["DeleteItem"].Requests != many+1 {
				t.Errorf("%d sessions took %+v", many, got)
			}
		}
		_, said, code := o.do(t, "", "revoke", "--user=ann", "--yes")
		if code != 0 || !strings.Contains(said, "Not searched: sessions whose user logged in before") || alive(all...) != 1 || alive(before) != 1 {
			t.Errorf("got %d, %s", code, said)
		}
		if _, said, code := o.do(t, "", "revoke", "--user=ann", "--scan"); code != 0 || alive(before) != 0 {
			t.Errorf("got %d, %s", code, said)
		}
		if _, said, code := o.do(t, "", "revoke", "--user=eve"); code != 0 || !strings.Contains(said, "has no record of the user") {
			t.Errorf("got %d, %s", code, said)
		}

		all = nil
		for i := range 10 {
			all = append(all, login(m, session.Login{User: fmt.Sprint("user", i%3)}), login(plain, session.Login{User: "ann"}))
		}
		if _, _, code := o.do(t, "", "revoke", "--everyone"); code != 2 || alive(all...) != len(all) {
			t.Errorf("all were revoked without a question: exit code %d", code)
		}
		var everyone struct {
			Complete                bool
			Revoked, Markers, Index int
		}
		o.must(t, &everyone, "", "revoke", "--everyone", "--dry-run", "--json")
		if everyone.Revoked != len(all) || alive(all...) != len(all) {
			t.Errorf("dry run: got %+v", everyone)
		}
		o.must(t, &everyone, "", "revoke", "--everyone", "--yes", "--json")
		if !everyone.Complete || everyone.Revoked != len(all) || everyone.Index < 3 || alive(all...) != 0 {
			t.Errorf("got %+v, %d are alive", everyone, alive(all...))
		}
		if n := len(list("--live")); n != 0 {
			t.Errorf("%d are left", n)
		}
		// The index goes on as ever.
		token := login(m, session.Login{User: "bob"})
		if n := len(list("--user=bob")); n != 1 {
			t.Errorf("%d are listed", n)
		}
		if err := m.Revoke(t.Context(), session.User("bob")); err != nil || alive(token) != 0 {
			t.Errorf("got %v", err)
		}
		for _, token := range append(append(all, bobs...), token) {
			if strings.Contains(o.said.String(), token) {
				t.Error("a token was printed")
			}
		}
	})
}

// interrupt ends a bench with a signal after its first output.
func (o *operator) interrupt(t *testing.T) {
	t.Helper()
	cmd := o.command(t, o.flags("bench", "--duration=1m", "--concurrency=4", "--sessions=20")...)
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := errs.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	_, _ = rest.ReadFrom(errs) // until it ends
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("an interrupted bench ended with code %d: %s", code, &rest)
	}
}
