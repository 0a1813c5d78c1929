package kv

import (
	"sync"

	"github.com/seed-a7bee19b/session"
)

// Seen is what one request knows of the store, by key. The zero Seen knows
// nothing. A nil Seen is for callers that only read or delete.
type Seen struct {
	mu      sync.Mutex
	records map[string]state
}

type state struct {
	session.Record
	ended  bool // by this request
	unsure bool // a Save failed, and may have been applied: the data may be others
}

func (s *Seen) get(key string) (st state, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, ok = s.records[key]
	return st, ok
}

func (s *Seen) set(key string, st state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == nil {
		s.records = map[string]state{}
	}
	s.records[key] = st
}

func (s *Seen) add(key string, rec session.Record) {
	if s == nil {
		return
	}
	if _, ok := s.get(key); !ok {
		s.set(key, state{Record: rec})
	}
}

// doubt remembers that the record may have been replaced by this request.
func (s *Seen) doubt(key string) {
	if st, known := s.get(key); known {
		st.unsure = true
		s.set(key, st)
	}
}

func (s *Seen) end(key string) {
	if s != nil {
		s.set(key, state{ended: true})
	}
}
