package php

import (
	"errors"
	"fmt"
	"reflect"
)

var (
	errEmpty     = errors.New("php: no data")
	errSize      = errors.New("php: larger than MaxSize")
	errValues    = errors.New("php: more values than MaxValues")
	errTooDeep   = errors.New("php: nested deeper than MaxDepth")
	errMemory    = errors.New("php: decoding takes too much memory or work for the size of the data")
	errPointer   = errors.New("php: Unmarshal needs a non-nil pointer")
	errUTF8      = errors.New("php: not valid UTF-8, which the option UTF8 demands")
	errDuplicate = errors.New("php: a key occurs twice in an array, or a property in an object")
	errPanic     = errors.New("php: panic")
)

// quietError hides the text of an error from other code, because the text may
// quote a part of a value, which would then be logged. errors.Is and errors.As
// find the error.
type quietError struct {
	text string
	err  error
}

func (e *quietError) Error() string    { return e.text }
func (e *quietError) Unwrap() error    { return e.err }
func (e *quietError) GoString() string { return e.text }

// caught turns a panic of a method of a value into an error. The functions that run
// such methods defer it.
func caught(what string, err *error) {
	if p := recover(); p != nil {
		cause, ok := p.(error)
		if !ok {
			cause = errPanic
		}
		*err = &quietError{fmt.Sprintf("php: %s: panic with a %T", what, p), cause}
	}
}

func cannot(t reflect.Type, why string) error {
	return fmt.Errorf("php: cannot encode %v: %s", t, why)
}

// lost is the error for a value that would not be read back as it was.
func lost(t reflect.Type, why string) error {
	return fmt.Errorf("php: cannot keep this %v: %s", t, why)
}
