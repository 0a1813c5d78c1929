// Package room tells how much memory values take, so that decoding hostile data can be
// bounded.
package room

import "reflect"

// Decoding may take perByte bytes of memory for each byte of data, plus base, as the
// package comments of the codecs promise. No any needs that much.
const (
	perByte = 128
	base    = 256 << 10
)

// maxPointers bounds the pointers to pointers that count.
const maxPointers = 4

// Allowance returns how much memory decoding n bytes of data may take.
func Allowance(n int) int { return base + perByte*n }

// MayExceed reports whether n bytes of data, at each bytes for one, may take more
// than that.
func MayExceed(each, n int) bool { return each > perByte && each*n > Allowance(n) }

// Of returns the memory that the allocator takes for size bytes, or a little
// more.
func Of(size int) int {
	switch {
	case size <= 32:
		return (size + 7) &^ 7
	case size <= 256:
		return (size + 15) &^ 15
	case size <= 512:
		return size + size/8
	}
	return size + size/5
}

// For is Of for n elements of type t. It does not overflow.
func For(n int, t reflect.Type) int {
	size := int(t.Size())
	if size > 0 && n > 1<<40/size {
		return 1 << 40
	}
	return Of(n * size)
}

// Pointed returns the memory that the pointers in *t, **t and so on point to.
func Pointed(t reflect.Type) int {
	size := 0
	for range maxPointers {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
			size += Of(int(t.Size()))
		}
	}
	return size
}

const (
	mapHeader = 48
	mapGroup  = 8   // entries
	mapInline = 128 // larger keys and elements are stored by themselves
)

// Map returns the memory that a map of type t takes with n entries.
func Map(t reflect.Type, n int) int {
	slot, apart := 0, 0
	for _, part := range [...]reflect.Type{t.Key(), t.Elem()} {
		if size := int(part.Size()); size <= mapInline {
			slot += size
		} else {
			slot += 8
			apart += Of(size)
		}
	}
	// Reading goes through one key and one element.
	scratch := Of(int(t.Key().Size())) + Of(int(t.Elem().Size()))
	if apart > 0 && n > 1<<40/apart {
		return 1 << 40
	}
	return Entries(slot, n) + n*apart + scratch
}

// Entries returns the memory that n entries of slot bytes take in a map.
func Entries(slot, n int) int {
	switch {
	case n == 0:
		return mapHeader
	case n <= mapGroup:
		return mapHeader + Of(mapGroup*(slot+1))
	}
	// At worst tables are half empty, and the tables of half the size from before
	// growing count too.
	return mapHeader + Of(5*n*(slot+1))
}
