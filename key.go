package session

import (
	"bytes"

	"github.com/seed-a7bee19b/session/internal/changes"
)

// Key is the name and the type of a value. Declare one for each value:
//
//	var cart = session.Key[[]Item]{Name: "cart"}
//
// The type may change as the codec allows. A value that does not decode into T is
// an [ErrDecode], and stays as it is. With an empty Name, every method fails with
// [ErrEncode].
type Key[T any] struct {
	// Name is the name of the value in the session. It must not be empty.
	Name string

	// Resolve, if set, resolves a conflict in mode [Merge]: this request has Set
	// the value, and another request has changed it since it was read. base is
	// the value that this request read, mine the one that it set, theirs the one
	// that is stored now; a missing value is the zero T. It may be called more
	// than once and must have no other effect; above all it must not change the
	// session, which waits for it. Without Resolve the later writer wins.
	Resolve func(base, mine, theirs T) T
}

// Get returns the value, or the zero T if there is none. The error is
// [ErrDecode] if it is not a T, or [ErrClosed].
func (k Key[T]) Get(s *Session) (T, error) {
	v, _, err := k.Lookup(s)
	return v, err
}

// Lookup is Get, and reports whether there is a value.
func (k Key[T]) Lookup(s *Session) (T, bool, error) {
	var v T
	ok, err := s.Get(k.Name, &v)
	if err != nil {
		var zero T
		return zero, ok, err
	}
	return v, ok, nil
}

// Set changes the value to v. Errors are those of [Session.Set].
func (k Key[T]) Set(s *Session, v T) error {
	mine, err := s.m.encodeValue(k.Name, v)
	if err != nil {
		return wrapValue("set", k.Name, err)
	}
	return s.edit("set", k.Name, func() error {
		e := changes.Edit{Data: mine}
		if base := s.changes.Base()[k.Name]; k.Resolve != nil && !s.changes.Cleared() && !bytes.Equal(base, mine) {
			e.Redo = func(theirs []byte) ([]byte, error) {
				if bytes.Equal(base, theirs) {
					return mine, nil
				}
				return k.resolve(s, base, mine, theirs)
			}
		}
		s.changes.Put(k.Name, e)
		return nil
	})
}

// Update changes the value from v to f(v), where v is the zero T if there is
// none, and returns the new value. In mode [Merge], if another request has stored
// the session meanwhile, f is applied again to the value that it has stored, so
// that neither change is lost. So f may be called more than once, and must have
// no other effect; above all it must not change the session, which waits for it.
//
// It fails as [Session.Set] does, and with [ErrDecode] if the value is not a T.
// If it fails, nothing has changed.
func (k Key[T]) Update(s *Session, f func(v T) T) (T, error) {
	return k.TryUpdate(s, func(v T) (T, error) { return f(v), nil })
}

// TryUpdate is Update with a function that may refuse, for example to add an item
// to a cart that is full. If f returns an error, TryUpdate returns that very
// error, and nothing has changed. If f refuses the value that another request has
// stored meanwhile, saving fails with that very error, and nothing is stored: in
// a handler, [Config.ErrorHandler] gets it and tells the client. In mode
// [LastWrite] f is not asked again.
func (k Key[T]) TryUpdate(s *Session, f func(v T) (T, error)) (T, error) {
	apply := func(data []byte) (v T, _ []byte, err error) {
		if v, err = k.decode(s, data); err != nil {
			return v, nil, err
		}
		if v, err = f(v); err != nil {
			return v, nil, &refusal{err}
		}
		data, err = s.m.encode(v)
		return v, data, err
	}
	var now T
	err := k.change(s, "update", func(value []byte) (e changes.Edit, err error) {
		now, e.Data, err = apply(value)
		e.Redo = func(theirs []byte) ([]byte, error) {
			_, data, err := apply(theirs)
			return data, err
		}
		return e, err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	return now, nil
}

// Take returns the value, as Lookup does, and deletes it: for messages that are
// shown once. A value that another request stores meanwhile stays. Errors are
// those of [Key.Update].
func (k Key[T]) Take(s *Session) (v T, ok bool, err error) {
	err = k.change(s, "take", func(value []byte) (changes.Edit, error) {
		var err error
		v, err = k.decode(s, value)
		ok = value != nil
		return changes.Edit{Redo: func(theirs []byte) ([]byte, error) {
			if bytes.Equal(theirs, value) {
				return nil, nil
			}
			return theirs, nil
		}}, err
	})
	if err != nil {
		var zero T
		return zero, false, err
	}
	return v, ok, nil
}

// Delete removes the value. Errors are those of [Session.Delete].
func (k Key[T]) Delete(s *Session) error { return s.Delete(k.Name) }

// change replaces the value by what f makes of it. f runs unlocked, and again
// if another goroutine of the request changed the value meanwhile.
func (k Key[T]) change(s *Session, what string, f func(value []byte) (changes.Edit, error)) error {
	if err := checkName(k.Name); err != nil {
		return wrapValue(what, k.Name, err)
	}
	var before []byte
	err := s.edit(what, k.Name, func() error {
		before = s.changes.Value(k.Name)
		return nil
	})
	if err != nil {
		return err
	}
	for {
		e, err := f(before)
		if err == nil && e.Data != nil {
			err = s.m.checkNewName(k.Name)
		}
		if err != nil {
			return wrapValue(what, k.Name, err)
		}
		again := false
		err = s.edit(what, k.Name, func() error {
			now := s.changes.Value(k.Name)
			if again = !bytes.Equal(before, now); again {
				before = now
				return nil
			}
			if earlier, ok := s.changes.Edit(k.Name); ok {
				e.Redo = follow(earlier, e)
			}
			s.changes.Put(k.Name, e)
			return nil
		})
		if err != nil || !again {
			return err
		}
	}
}

// follow returns how to redo e after an earlier edit of the same value. If that
// one does not depend on what others store, e does not.
func follow(earlier, e changes.Edit) func([]byte) ([]byte, error) {
	if earlier.Redo == nil {
		return nil
	}
	return func(theirs []byte) ([]byte, error) {
		data, err := earlier.Redo(theirs)
		if err != nil {
			return nil, err
		}
		return e.Redo(data)
	}
}

func (k Key[T]) decode(s *Session, data []byte) (v T, err error) {
	if data != nil {
		err = s.m.decode(data, &v)
	}
	return v, err
}

func (k Key[T]) resolve(s *Session, base, mine, theirs []byte) ([]byte, error) {
	var v [3]T
	for i, data := range [][]byte{base, mine, theirs} {
		var err error
		if v[i], err = k.decode(s, data); err != nil {
			return nil, err
		}
	}
	return s.m.encode(k.Resolve(v[0], v[1], v[2]))
}
