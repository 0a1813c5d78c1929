// Package adapters tests the adapters with the libraries that they are for, on each
// store.
package adapters
