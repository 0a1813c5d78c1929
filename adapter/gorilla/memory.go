package gorillastore

import (
	"runtime"
	"sync"
	"weak"

	"github.com/gorilla/sessions"

	"github.com/seed-a7bee19b/session/internal/kv"
)

// state is what a Store knows of a session.
type state struct {
	seen  kv.Seen
	token string // of what was read or saved last; "" if there is nothing
	err   error  // it could not be read
}

// memory has the state of each session, for as long as the session lives. Its
// Values would be the simpler place, but programs empty them and replace them, and
// gin-contrib's Clear does. Then the state must not be lost: a session whose version
// is not known could only overwrite or fail.
type memory struct{ states sync.Map } // from weak.Pointer[sessions.Session] to *state

func (m *memory) of(ss *sessions.Session) *state {
	p := weak.Make(ss)
	st, known := m.states.LoadOrStore(p, new(state))
	if !known {
		runtime.AddCleanup(ss, func(p weak.Pointer[sessions.Session]) { m.states.Delete(p) }, p)
	}
	return st.(*state)
}
