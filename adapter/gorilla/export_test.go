package gorillastore

// Remembered is how many sessions s knows something of.
func Remembered(s *Store) (n int) {
	s.sessions.states.Range(func(any, any) bool { n++; return true })
	return n
}
