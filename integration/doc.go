// Package integration holds the tests that need a real store. It is a module
// of its own, so that nobody who uses sessions downloads what they need.
package integration
