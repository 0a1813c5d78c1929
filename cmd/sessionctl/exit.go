package main

import (
	"errors"
	"fmt"
)

// The exit codes, as the package comment has them.
const (
	codeDone    = 0
	codeFailed  = 1
	codeUsage   = 2
	codeFound   = 3
	codeStopped = 4
)

// exitError is an error that ends the program with a code of its own; others
// end it with codeFailed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// usageError says that the command was not given what it needs. Nothing has
// been done.
func usageError(format string, args ...any) error {
	return &exitError{code: codeUsage, err: fmt.Errorf(format, args...)}
}

// found ends the program with codeFound. What was found has been printed.
func found() error { return &exitError{code: codeFound, err: errPrinted} }

// stopped ends the program with codeStopped.
func stopped(err error) error { return &exitError{code: codeStopped, err: err} }

// errPrinted is an error about which everything has been said.
var errPrinted = errors.New("see above")

// errTimeout is why the context of a command has ended.
var errTimeout = errors.New("the time of --timeout is over")

// wordsError is an error that says itself what happened and what to do. err,
// which may be nil, is the cause.
type wordsError struct {
	what, todo string
	err        error
}

func (e *wordsError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return e.what
}

func (e *wordsError) Unwrap() error { return e.err }
