package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

var errNoRegion = errors.New("no AWS region is set")

// profileError says that the files of the AWS command line cannot be used.
type profileError struct{ err error }

func (e *profileError) Error() string {
	return "the AWS configuration cannot be read: " + e.err.Error()
}
func (e *profileError) Unwrap() error { return e.err }

// credentialsError says that there are no credentials.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no AWS credentials could be had: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// report says what err means, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	code := codeFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if errors.Is(err, errPrinted) {
		return code
	}
	fmt.Fprintf(a.stderr, "sessionctl: %v\n", err)
	if code == codeUsage {
		fmt.Fprintf(a.stderr, "\"%s --help\" says how it is used.\n", cmd.CommandPath())
	}
	return code
}
