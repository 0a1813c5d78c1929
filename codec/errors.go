package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
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

// quiet wraps an error that a library or a method of a value returned.
func quiet(what string, err error) error {
	return &quietError{"codec: " + what + ": " + reason(err), err}
}

// reason describes err by types and positions only.
func reason(err error) string {
	var (
		misfit    *json.UnmarshalTypeError
		noType    *json.UnsupportedTypeError
		noValue   *json.UnsupportedValueError
		ofMethod  *json.MarshalerError
		isMistake *json.InvalidUnmarshalError
	)
	switch {
	case errors.As(err, &misfit):
		if misfit.Field != "" {
			return fmt.Sprintf("field %s does not fit %v (byte %d)", misfit.Field, misfit.Type, misfit.Offset)
		}
		return fmt.Sprintf("a value does not fit %v (byte %d)", misfit.Type, misfit.Offset)
	case errors.As(err, &ofMethod):
		return fmt.Sprintf("the method of %v that encodes it failed with a %T", ofMethod.Type, ofMethod.Err)
	case errors.As(err, &noType):
		return fmt.Sprintf("cannot encode %v", noType.Type)
	case errors.As(err, &noValue):
		return fmt.Sprintf("this %v has no encoding, or contains itself", noValue.Value.Type())
	case errors.As(err, &isMistake):
		return errPointer.Error()
	}
	return fmt.Sprintf("a method of the value, or the library, failed with a %T", err)
}

// lost is the error for a value that would not be read back as it was.
func lost(codec string, t reflect.Type, where string) error {
	return fmt.Errorf("codec: %s: cannot keep this %v: %s would not be read back equal", codec, t, where)
}

// caught turns a panic into an error. The methods that run methods of their
// values defer it.
func caught(what string, err *error) {
	if p := recover(); p != nil {
		cause, ok := p.(error)
		if !ok {
			cause = errPanic
		}
		*err = &quietError{fmt.Sprintf("codec: %s: panic with a %T", what, p), cause}
	}
}

var errPanic = errors.New("codec: panic")
