// Package owners has a model of the sessions of owners, and the operations that it
// describes. Its tests check histories on a store in memory; those of package
// integration check histories on real stores.
package owners

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session"
)

// An Op is something that a client does, and its outcome. It can be sent to another
// process as JSON.
type Op struct {
	Client int
	Kind   Kind
	Call   int64 // by the clock of the history
	Return int64

	// Over is when the last write of the Op was applied, if that is known and
	// its outcome is not; otherwise 0.
	Over int64

	Visitor string          // the token of a client without a user, who logs in or out over HTTP
	Session string          // that the client uses: the name that its login gave it
	Token   string          // by which the client uses it
	Name    string          // of the session that logs in
	Owners  []session.Owner // of the session that logs in; or which sessions are listed or revoked
	Handle  string          // of RevokeOne, and the one that RevokeOthers keeps
	Value   string          // to write
	Again   int             // how often to save again while the outcome is not known

	Result Result
	Err    string

	Tries     int // to save
	NewToken  string
	NewHandle string
	Calm      bool   // no call of its machine has failed
	Got       string // what was read
	Seen      []Seen // what was listed
}

// Seen is a session in a list.
type Seen struct{ Name, Handle string }

// Kind is the kind of an Op.
type Kind string

// The kinds. Those from Login to SwitchUser log in the session called Name.
const (
	Visit        Kind = "visit"            // begins a session without a user
	Login        Kind = "login"            // of a client without a session
	LoginVisitor Kind = "login of visitor" // of a client that has a session without a user
	LoginAgain   Kind = "login again"      // of the user that the session has; its Name stays
	SwitchUser   Kind = "login as other"   // of another user than that of the session
	Elsewhere    Kind = "login elsewhere"  // with a Manager that has no index
	Rotate       Kind = "rotate"           // a new ID
	Read         Kind = "read"             //
	Write        Kind = "write"            //
	Logout       Kind = "logout"           //
	List         Kind = "list"             //
	Revoke       Kind = "revoke"           //
	RevokeOthers Kind = "revoke others"    //
	RevokeOne    Kind = "revoke one"       //
	Age          Kind = "the sessions end" // for no other reason than time
)

// Result is the outcome of an Op.
type Result string

// The results.
const (
	OK       Result = "ok"
	NotFound Result = "not found"
	Conflict Result = "conflict" // others kept changing it, and nothing was done
	Unknown  Result = "unknown"  // it may have been done, or may still be
	Wrong    Result = "wrong"    // an error that can have no good cause
)

func (o Op) String() string {
	var b strings.Builder
	b.WriteString(string(o.Kind))
	word := func(prefix, s string) {
		if s != "" {
			b.WriteString(prefix + s)
		}
	}
	word(" of ", o.Session)
	if token := o.Token + o.Visitor; token != "" {
		b.WriteString(" by " + short(token))
	}
	word(" named ", o.Name)
	if o.Handle != "" {
		b.WriteString(" handle " + short(o.Handle))
	}
	for _, owner := range o.Owners {
		b.WriteString(" " + owner.Kind + "=" + owner.ID)
	}
	word(" value ", o.Value)
	word(": ", string(o.Result))
	if o.NewToken != "" {
		b.WriteString(", now " + short(o.NewToken))
	}
	word(", got ", o.Got)
	for _, s := range o.Seen {
		word(", saw ", s.Name)
	}
	if o.Result == Unknown || o.Result == Wrong {
		word(" (", o.Err+")")
	}
	return b.String()
}

func short(s string) string { return s[:min(4, len(s))] }

var (
	value = session.Key[string]{Name: "value"}
	label = "name" // in the note of a login
)

// Do performs o with m, and records the outcome. It leaves the clock to the
// caller.
func (o *Op) Do(ctx context.Context, m *session.Manager) {
	err := o.do(ctx, m)
	switch {
	case err == nil:
		o.Result = OK
		return
	case errors.Is(err, session.ErrStore), errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		o.Result = Unknown
	case errors.Is(err, session.ErrNotFound):
		o.Result = NotFound
	case errors.Is(err, session.ErrConflict):
		o.Result = Conflict
	default:
		o.Result = Wrong
	}
	o.Err = err.Error()
}

func (o *Op) do(ctx context.Context, m *session.Manager) error {
	switch o.Kind {
	case List:
		return o.list(ctx, m)
	case Revoke:
		return m.Revoke(ctx, o.Owners...)
	case RevokeOthers:
		return m.RevokeOthers(ctx, o.Handle, o.Owners...)
	case RevokeOne:
		return m.RevokeOne(ctx, o.Handle, o.Owners[0])
	case Login:
		return o.save(ctx, m.Start(), o.login)
	case Elsewhere:
		return o.save(ctx, m.Start(), func(s *session.Session) error { return s.Login(o.Owners[0].ID) })
	case Visit:
		return o.save(ctx, m.Start(), func(s *session.Session) error { return value.Set(s, "") })
	case LoginVisitor:
		if o.Visitor != "" {
			return o.request(ctx, m, func(_ *http.Request, s *session.Session) error { return o.login(s) })
		}
		visitor := m.Start()
		if err := errors.Join(value.Set(visitor, ""), visitor.Save(ctx)); err != nil {
			return err
		}
		return o.save(ctx, visitor, o.login)
	case Age:
		return errors.New("nobody can do that")
	}
	if o.Visitor != "" {
		return o.request(ctx, m, func(r *http.Request, s *session.Session) error { return s.Destroy(r.Context()) })
	}
	s, err := m.Open(ctx, o.Token)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close(ctx) }() // only the end of its use
	switch o.Kind {
	case Read:
		o.Got, err = value.Get(s)
		o.NewHandle = s.Handle()
		return err
	case Write:
		return o.save(ctx, s, func(s *session.Session) error { return value.Set(s, o.Value) })
	case Rotate:
		return o.save(ctx, s, (*session.Session).Rotate)
	case LoginAgain, SwitchUser:
		return o.save(ctx, s, o.login)
	case Logout:
		return o.retry(ctx, s.Destroy)
	}
	return fmt.Errorf("unknown operation %q", o.Kind)
}

func (o *Op) login(s *session.Session) error {
	return s.LoginWith(session.Login{User: o.Owners[0].ID, Owners: o.Owners[1:], Note: map[string]string{label: o.Name}})
}

// save changes and saves s, and takes its new token.
func (o *Op) save(ctx context.Context, s *session.Session, change func(*session.Session) error) error {
	if err := change(s); err != nil {
		return err
	}
	if err := o.retry(ctx, s.Save); err != nil {
		return err
	}
	if o.Kind != Write {
		o.NewToken, o.NewHandle = s.Token().Reveal(), s.Handle()
	}
	return nil
}

// failure has the error of a request.
type failure struct{ err error }

type failureKey struct{}

// HandleError is the ErrorHandler of the Managers.
func HandleError(w http.ResponseWriter, r *http.Request, err error) {
	if f, ok := r.Context().Value(failureKey{}).(*failure); ok {
		f.err = err
	}
	w.WriteHeader(session.Status(err))
}

// request has a Handler serve a request of the visitor.
func (o *Op) request(ctx context.Context, m *session.Manager, f func(*http.Request, *session.Session) error) error {
	var failed failure
	r := httptest.NewRequestWithContext(context.WithValue(ctx, failureKey{}, &failed), http.MethodPost, "/", nil)
	cookie := m.Config().Cookie.Name
	r.AddCookie(&http.Cookie{Name: cookie, Value: o.Visitor})
	w := httptest.NewRecorder()
	var used *session.Session
	m.HandlerFunc(func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		used = s
		return f(r, s)
	}).ServeHTTP(w, r)
	if failed.err != nil || o.Kind == Logout {
		return failed.err
	}
	for _, c := range w.Result().Cookies() {
		if c.Name == cookie && c.Value != "" {
			o.NewToken, o.NewHandle = c.Value, used.Handle()
			return nil
		}
	}
	return errors.New("the response has no token")
}

// retry calls f again while the outcome is not known.
func (o *Op) retry(ctx context.Context, f func(context.Context) error) error {
	err := f(ctx)
	o.Tries = 1
	for range o.Again {
		if !errors.Is(err, session.ErrStore) || ctx.Err() != nil {
			break
		}
		err = f(ctx)
		o.Tries++
	}
	return err
}

func (o *Op) list(ctx context.Context, m *session.Manager) error {
	before := time.Now()
	for e, err := range m.Sessions(ctx, o.Owners...) {
		switch {
		case err != nil:
			return err
		case e.User != o.Owners[0].ID && o.Owners[0].Kind == session.User("").Kind:
			return fmt.Errorf("a session of another user: %+v", e)
		case e.Created.After(time.Now()) || e.LastUsed.Before(e.Created) || !e.Expires.After(before):
			return fmt.Errorf("strange times: %+v", e)
		}
		o.Seen = append(o.Seen, Seen{e.Note[label], e.Handle})
	}
	return nil
}
