// Package codec turns the values of a session into bytes and back.
//
// A codec encodes each value by itself (Marshal, Unmarshal) and joins the
// encoded values into one blob, which is what a backend stores (Join, Split).
// So a request decodes only the values that it reads, and values that did not
// change are never encoded again.
//
// # Which one
//
// [MessagePack] is the default. It is smaller and faster, keeps integers,
// floats, binary data and times apart, and its any is useful. [JSON] is for
// sessions that people or other languages read; its Text method says that a
// store may keep the blob as a string. A store has sessions of one codec:
// each refuses the blobs of the other.
//
// # Wire format
//
// A blob of MessagePack is a map from strings to values, each value as
// Marshal made it. A blob of JSON is an object, without spaces. In both the
// keys are in byte order and every length, or escape, has its shortest form,
// so that the same values always give the same bytes, and Split accepts only
// what Join writes. An empty session is 0x80, or {}. No data at all is not a
// session.
//
// Equal values give equal bytes, which is how the session knows that nothing
// changed. Two things are less equal in bytes than in Go: 0.0 and -0.0
// differ, and so do a nil and an empty slice or map.
//
// # Limits
//
// Each codec limits the depth of a value, the number of values in a session,
// and the bytes of a value and of a session. The limits hold for writing as
// for reading: what was stored can be read back with the same limits. Lowering
// a limit makes larger sessions unreadable, but leaves them in the store.
//
// # What is kept
//
// A value is read back equal, into the type that it was written from, or
// Marshal refuses it. Equal is as [reflect.DeepEqual] has it, except that
//
//   - times are the same instant: the monotonic clock and the zone are not kept;
//   - NaN is NaN;
//   - an empty slice or map in a field tagged omitempty is read back nil;
//   - fields tagged "-" are left out, and so is who holds a [sync.Mutex] or a
//     [sync.RWMutex];
//   - a type with methods to encode and decode it may say what is equal by a
//     method Equal, Cmp or Compare for its own type;
//   - what is in an any is read back as the type that Unmarshal says, and is
//     refused if that cannot hold it. Nil of any type is nil there.
//
// So these are refused: a struct that embeds a type with methods to encode it,
// as struct{ time.Time; Title string } does, where the method that it gets from
// there forgets the other fields; a field that is not exported and not zero; a
// type whose methods lose something; two fields of one name. A type for which
// Marshal cannot tell beforehand that nothing is lost costs more: the value is
// read back and compared each time it is set. Structs with exported fields of
// ordinary types, and lists and maps of them, are not among those. Embedded
// structs, methods, and with JSON times and any are.
//
// # Hostile input
//
// Data is checked whole before any of it is decoded. A length that is greater
// than the rest of the data, nesting beyond the limit, trailing bytes, names
// that are there twice, and in a blob names that are out of order, are errors,
// found in one pass that allocates no more than the data can fill: five bytes
// that claim four billion elements cost no more than any other five bytes.
//
// Unmarshal takes at most 128 bytes of memory for each byte of data, and 256
// KiB, whatever the type: a megabyte of nils does not become a gigabyte of
// large structs, but an error. What methods of the values take is not counted.
// Marshal refuses what this limit would keep from being read back: many
// thousands of large structs in which nearly all is left out.
//
// # Errors
//
// Errors name types, fields and positions, and have no part of a value in
// them, so that they can be logged. The errors of encoding/json, of the methods
// of values, and of panics in them may have: they are wrapped, and their text
// is not repeated.
//
// # Traps avoided
//
// MessagePack values are written by github.com/vmihailenco/msgpack/v5, but
// not read by it, except in DecodeMsgpack methods. Its decoder, at v5.4.1,
// cuts integers to the size of the target in silence (300 read into an int8
// is 44, -1 into a uint is 1<<64-1), gives integers in an any a type that
// depends on how large they are, and makes room for as many elements as the
// data claims. Checking the data first does not help against the last: it
// takes an extension for the start of a map, and reads a length from what the
// extension contains.
//
// Its encoder writes most maps in random order, and does not end on a value
// that contains itself; Marshal sorts all maps and refuses such values.
//
// encoding/json replaces bytes that are not UTF-8 in silence; JSON.Marshal
// refuses them.
package codec
