package codec

import (
	"errors"
	"reflect"
)

// Unmarshal takes at most memoryPerByte bytes of memory for each byte of data,
// plus memoryBase, as the package comment promises. No any needs that much.
const (
	memoryPerByte = 128
	memoryBase    = 256 << 10
)

var errMemory = errors.New("codec: decoding takes too much memory for the size of the data")

// allowance returns how much memory decoding n bytes of data may take.
func allowance(n int) int { return memoryBase + memoryPerByte*n }

// mayExceed reports whether n bytes of data, at perByte each, may take more
// than that.
func mayExceed(perByte, n int) bool { return perByte > memoryPerByte && perByte*n > allowance(n) }

// room returns the memory that the allocator takes for size bytes, or a little
// more.
func room(size int) int {
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

// roomFor is room for n elements of type t. It does not overflow.
func roomFor(n int, t reflect.Type) int {
	size := int(t.Size())
	if size > 0 && n > 1<<40/size {
		return 1 << 40
	}
	return room(n * size)
}

// pointed returns the memory that the pointers in *t, **t and so on point to.
func pointed(t reflect.Type) int {
	size := 0
	for range maxPointers {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
			size += room(int(t.Size()))
		}
	}
	return size
}

const (
	mapHeader = 48
	mapGroup  = 8   // entries
	mapInline = 128 // larger keys and elements are stored by themselves
)

// mapRoom returns the memory that a map of type t takes with n entries.
func mapRoom(t reflect.Type, n int) int {
	slot, apart := 0, 0
	for _, part := range [...]reflect.Type{t.Key(), t.Elem()} {
		if size := int(part.Size()); size <= mapInline {
			slot += size
		} else {
			slot += 8
			apart += room(size)
		}
	}
	// Reading goes through one key and one element.
	scratch := room(int(t.Key().Size())) + room(int(t.Elem().Size()))
	if apart > 0 && n > 1<<40/apart {
		return 1 << 40
	}
	return entriesRoom(slot, n) + n*apart + scratch
}

// entriesRoom returns the memory that n entries of slot bytes take in a map.
func entriesRoom(slot, n int) int {
	switch {
	case n == 0:
		return mapHeader
	case n <= mapGroup:
		return mapHeader + room(mapGroup*(slot+1))
	}
	// At worst tables are half empty, and the tables of half the size from before
	// growing count too.
	return mapHeader + room(5*n*(slot+1))
}
