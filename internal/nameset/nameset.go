// Package nameset tells whether a name occurs twice.
package nameset

import "bytes"

// Set holds the names of an object or a map. The zero value is empty.
type Set struct {
	few  [16][]byte
	n    int
	many map[string]bool
}

// Add adds a name, and reports whether it was new.
func (s *Set) Add(name []byte) bool {
	for _, other := range s.few[:s.n] {
		if bytes.Equal(name, other) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	if s.many[string(name)] {
		return false
	}
	if s.many == nil {
		s.many = make(map[string]bool)
	}
	s.many[string(name)] = true
	return true
}
