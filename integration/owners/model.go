package owners

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/seed-a7bee19b/session"
)

// A state is that of one session. Each session is judged by itself: a list and a
// revocation promise something about each session, and nothing about two at once.
type state struct {
	// Listed has a bit for each owner under which the session is listed. The
	// first listing is when the login takes place.
	Listed owners
	// Live says that the session is logged in, and Token opens it. Once it has
	// ended, it never lives again.
	Live  bool
	Token string
	Value string
	// Stray has the owners under which there may be a record of the session whose
	// token nobody has: of a login or a new ID that was not completed. A list may
	// have it. A revocation ends it too.
	Stray owners
}

type owners uint16

func (o owners) has(n int) bool { return o&(1<<n) != 0 }

// ended is st after the session has ended for its clients.
func (st state) ended() state {
	st.Live, st.Token = false, noToken
	return st
}

// An event is an Op as one session sees it.
type event struct {
	Op
	as     kind
	owner  int  // the number of the owner that an event is about
	lists  bool // it is in the list
	joint  bool // logins under one old ID, of one user, were joined
	early  bool // an earlier try of an operation, which may have been done
	adopts bool // the session logged in elsewhere, and is listed when it is used
}

type kind int

const (
	isLogin   kind = iota // is listed under one owner
	isBegun               // logs in and is not listed
	isAdopted             // is listed under its user
	isUse                 // by its token
	isListed              // in a list, or not
	isRevoked             // if it is listed
	isMissed              // by a RevokeOne that has not found it
	isOver                // by time
	mayEnd                // by a logout or login with a token that the client had before
)

func (e event) String() string {
	switch {
	case e.as == isListed && e.lists:
		return e.Op.String() + ": it is listed"
	case e.as == isListed:
		return e.Op.String() + ": it is not listed"
	case e.as == isLogin:
		return fmt.Sprintf("%v (under owner %d)", e.Op, e.owner)
	}
	return e.Op.String()
}

// joins is the kind of a login that has joined another one: the session that it
// began with was logged in as the same user.
const joins Kind = "login that joins"

// noToken is the token of a session that has none.
const noToken = "none"

// lostToken is the token that a session has by e, if no client has received it.
func lostToken(e event) string { return fmt.Sprintf("lost at %d", e.Call) }

// step returns the states in which e can have left st, or none if e cannot have had
// its outcome.
func step(st state, e event) []state {
	listed, next := st.Listed.has(e.owner), st
	switch e.as {
	case isLogin:
		if e.Result != OK {
			next.Stray |= 1 << e.owner
			return []state{st, next}
		}
		switch {
		case listed && e.joint:
			return only(st, st.Live && st.Token == e.NewToken)
		case st.Listed == 0:
			next.Live, next.Token = true, e.NewToken
		}
		next.Listed |= 1 << e.owner
		return []state{next}
	case isBegun:
		if e.Result == OK {
			next.Live, next.Token = true, e.NewToken
		}
		return []state{next}
	case isAdopted:
		if st.Live {
			next.Listed |= 1
		}
		if e.Result == OK && e.Calm {
			return []state{next}
		}
		return []state{st, next}
	case isUse:
		return use(st, e)
	case isListed:
		if e.lists {
			return only(st, listed && st.Live || st.Stray.has(e.owner))
		}
		return only(st, !listed || !st.Live)
	case isMissed:
		return only(st, !listed || !st.Live)
	case isRevoked:
		if listed {
			next = st.ended()
		}
		if next.Stray &^= 1 << e.owner; next.Stray == 0 || !st.Stray.has(e.owner) {
			return maybe(e, st, next)
		}
		none := next
		none.Stray = 0 // there may be one stray record, or several
		return append(maybe(e, st, next), none)
	case isOver:
		next = st.ended()
		next.Stray = 0
		return maybe(e, st, next)
	case mayEnd:
		return []state{st, st.ended()}
	}
	return nil
}

func only(st state, ok bool) []state {
	if !ok {
		return nil
	}
	return []state{st}
}

// maybe returns next, and also st if it is not known whether e was done.
func maybe(e event, st, next state) []state {
	if e.Result == Unknown {
		return []state{st, next}
	}
	return []state{next}
}

func use(st state, e event) []state {
	open := st.Live && st.Token == e.Token
	next := st
	switch e.Kind {
	case joins: // the other login has ended this session
		st.Stray = st.Listed
		return only(st, !open)
	case Read:
		if e.Result == OK {
			return only(st, open && st.Value == e.Got)
		}
	case Write:
		next.Value = e.Value
	case Rotate, LoginAgain:
		if next.Token = e.NewToken; e.Result != OK {
			next.Token = lostToken(e)
		}
		if e.Result != OK || e.Tries > 1 {
			st.Stray, next.Stray = st.Listed, st.Listed
			if e.adopts {
				st.Stray, next.Stray = 1, 1
			}
		}
	case Logout, SwitchUser:
		next = st.ended()
		if e.Result == OK && e.Kind == Logout {
			return []state{next} // also by an old token, if the client had opened it before
		}
	}
	switch {
	case e.Result == OK && open:
		return []state{next}
	case e.Result == OK && e.Kind == LoginAgain:
		return only(st, st.Live && st.Token == e.NewToken) // it has joined another one
	case e.Result == Unknown && (open || e.Kind == Logout):
		return []state{st, next}
	case e.Result == NotFound && e.Kind == SwitchUser && open:
		return []state{st, next} // the other user's session was revoked at once
	case e.Result == NotFound:
		return only(st, !open && (!st.Live || st.Token != lostToken(e)))
	}
	return only(st, e.Result == Conflict || e.Result == Unknown)
}

var model = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(st, input, _ any) []any {
		var next []any
		for _, s := range step(st.(state), input.(event)) {
			next = append(next, s)
		}
		return next
	},
	DescribeOperation: func(input, _ any) string { return input.(event).String() },
}).ToModel()

// Judge reports whether a history can be explained, for each session by itself, by
// one order of the operations in which each has its effect between its beginning
// and its end. An operation whose outcome is not known may have it later, or
// never. If it cannot, Judge returns the evidence.
func Judge(history []Op) (complaints []string) {
	history = slices.Clone(history)
	bad := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	handles := map[string]string{} // sessions by handle
	called := func(handle, name string) {
		if was, ok := handles[handle]; ok && was != name || handle == "" {
			bad("%s and %s have the handle %q", was, name, handle)
		}
		handles[handle] = name
	}
	for _, o := range history {
		if o.Kind == Read && o.NewHandle != "" {
			called(o.NewHandle, o.Session)
		}
	}
	for _, o := range history {
		seen := map[string]bool{}
		for i, s := range o.Seen {
			if s.Name == "" { // it was adopted, and has no note
				o.Seen[i].Name = handles[s.Handle]
				s = o.Seen[i]
			}
			if seen[s.Name] {
				bad("%v: %s is listed twice", o, s.Name)
			}
			seen[s.Name] = true
			called(s.Handle, s.Name)
		}
	}
	names := map[string]string{} // of the sessions of joined logins
	for i, o := range history {
		if o.Result != OK || o.Name == "" || o.Kind == Elsewhere {
			continue
		}
		name, ok := handles[o.NewHandle]
		if o.Kind != SwitchUser && o.Kind != LoginAgain && o.Visitor == "" || !ok || name == o.Name {
			called(o.NewHandle, o.Name)
			continue
		}
		// It has joined another login of the user.
		joined := o
		joined.Kind, joined.Name, joined.Session, joined.Visitor = Login, name, "", ""
		history[i].Kind, history[i].Name = joins, ""
		history = append(history, joined)
		if o.Kind != LoginAgain { // and may have left a record of its own
			names[o.Name] = name
			o.Kind, o.Session, o.Visitor, o.Result = Login, "", "", Conflict
			history = append(history, o)
		}
	}
	logins := map[string][]Op{}
	for i := range history {
		o := &history[i]
		o.Session = cmp.Or(names[o.Session], o.Session)
		if o.Name != "" && o.Kind != LoginAgain {
			logins[o.Name] = append(logins[o.Name], *o)
		}
		if o.Result == Wrong {
			bad("%v", o)
		}
	}
	for handle, name := range handles {
		if len(logins[name]) == 0 {
			bad("nobody has logged in as %q, with the handle %s", name, handle)
			return complaints
		}
	}
	for name, of := range logins {
		before := map[string]bool{} // the sessions that this one was, and the tokens of the visitor
		for l := of[0]; ; l = logins[l.Session][0] {
			if l.Visitor != "" {
				before[l.Visitor] = true
			}
			if l.Kind != SwitchUser {
				break
			}
			before[l.Session] = true
		}
		if evidence := judge(of[0], events(name, logins, before, history, handles)); evidence != "" {
			complaints = append(complaints, name+evidence)
		}
	}
	slices.Sort(complaints)
	return complaints
}

func judge(login Op, events []event) (evidence string) {
	var ops []porcupine.Operation
	for _, e := range events {
		end := e.Return
		if e.Result == Unknown && !e.early {
			end = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{ClientId: e.Client, Input: e, Call: e.Call, Return: end})
	}
	switch porcupine.CheckOperationsTimeout(model, ops, 20*time.Second) {
	case porcupine.Illegal:
		slices.SortFunc(events, func(a, b event) int { return cmp.Compare(a.Call, b.Call) })
		var b strings.Builder
		fmt.Fprintf(&b, " of %v is not linearizable:\n", login.Owners)
		for _, e := range events {
			fmt.Fprintf(&b, "%12d %12d  client %d: %v\n", e.Call, e.Return, e.Client, e)
		}
		return b.String()
	case porcupine.Unknown:
		return ": the checker did not finish"
	}
	return ""
}

// events returns what concerns a session. It has several logins if these were joined.
func events(name string, logins map[string][]Op, before map[string]bool, history []Op, handles map[string]string) (all []event) {
	login := logins[name][0]
	has := func(owners []session.Owner) bool {
		for _, o := range owners {
			if !slices.Contains(login.Owners, o) {
				return false
			}
		}
		return true
	}
	for _, o := range history {
		e := event{Op: o, joint: len(logins[o.Name]) > 1}
		e.adopts = login.Kind == Elsewhere
		if o.Name == login.Name && o.Kind == Elsewhere {
			e.as = isBegun
			all = append(all, e)
		} else if o.Name == login.Name && o.Kind != LoginAgain {
			for i := range login.Owners {
				e.as, e.owner = isLogin, i
				all = append(all, e)
				if o.Tries > 1 && o.Result == OK {
					early := e
					early.Result, early.early = Unknown, true
					all = append(all, early)
				}
			}
		}
		if o.Session == login.Name {
			if e.adopts && (o.Kind == Write || o.Kind == Rotate) {
				e.as = isAdopted
				all = append(all, e)
			}
			e.as = isUse
			all = append(all, e)
			same := func(other Op) bool { return other.NewToken == o.NewToken && other.Call != o.Call }
			if o.Result == OK && o.Kind == LoginAgain && slices.ContainsFunc(history, same) {
				e.Result = Conflict // it may have joined the other login when it was listed already
				all = append(all, e)
			}
			if o.Result == NotFound && (o.Kind == Rotate || o.Kind == LoginAgain || o.Kind == Write && o.Tries > 1) {
				e.Result, e.early = Unknown, true
				all = append(all, e)
			}
			continue
		}
		if (o.Kind == Logout && before[o.Session] || before[o.Visitor] && o.Name != name) && (o.Result == OK || o.Result == Unknown) {
			e.as = mayEnd
			all = append(all, e)
		}
		switch o.Kind {
		case Age:
			e.as = isOver
			all = append(all, e)
			continue
		case List, Revoke, RevokeOthers, RevokeOne:
		default:
			continue
		}
		if !has(o.Owners) {
			continue
		}
		e.owner = slices.Index(login.Owners, o.Owners[0])
		it := handles[o.Handle] == login.Name
		switch {
		case o.Kind == List:
			e.as = isListed
			e.lists = slices.ContainsFunc(o.Seen, func(s Seen) bool { return s.Name == login.Name })
			if o.Result != OK {
				continue
			}
		case o.Kind == RevokeOthers && it, o.Kind == RevokeOne && !it:
			continue
		case o.Result == NotFound:
			e.as = isMissed
		case o.Result == Conflict:
			continue
		case o.Result == Unknown && o.Over > 0 && !slices.ContainsFunc(logins[name], func(l Op) bool { return l.Call <= o.Over }):
			continue // it can only cover who logged in before
		default:
			e.as = isRevoked
		}
		all = append(all, e)
	}
	return all
}
