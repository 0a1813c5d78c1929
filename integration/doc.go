// Package integration holds the tests that need a real store. It is a module of
// its own, so that users of the session module do not download its dependencies.
package integration
