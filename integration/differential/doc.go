// Package differential serves a table of behaviours with and without
// [session.Manager.Handler], and compares what clients and middleware see.
package differential
