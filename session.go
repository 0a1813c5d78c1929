// Package session keeps sessions of web applications in a store outside them.
package session
