// Package codec turns the values of a session into bytes and back.
//
// A codec encodes each value by itself (Marshal, Unmarshal) and joins the
// encoded values into one blob, which a backend stores (Join, Split). So a
// request decodes only the values that it reads, and never encodes a value that
// did not change.
//
// # Choosing a codec
//
// [MessagePack] is the default. It is smaller and faster, keeps integers,
// floats, binary data and times apart, and gives values in an any useful types.
// [JSON] is for sessions that people or programs in other languages read; its
// Text method says that a store may keep the blob as a string. All sessions of
// a store have the same codec: each codec refuses the blobs of the other. Package
// codec/php has a codec for sessions that pages in PHP share.
//
// # Wire format
//
// A blob of MessagePack is a map from strings to values, each value as
// Marshal made it. A blob of JSON is an object, without spaces. In both the
// keys are in byte order, and every length or escape has its shortest form.
// So the same values always give the same bytes, and Split accepts only what
// Join writes. An empty session is 0x80, or {}. A blob of no bytes is not a
// session.
//
// Equal values give equal bytes, so a session can tell by the bytes that nothing
// changed. In two cases values that are equal in Go differ in bytes: 0.0 and
// -0.0, and a nil and an empty slice or map.
//
// # Limits
//
// Each codec limits the depth of a value, the number of values in a session,
// and the size in bytes of a value and of a session. The limits hold for writing
// as well as for reading: stored data can be read back with the same limits.
// Lowering a limit makes larger sessions unreadable, but leaves them in the
// store.
//
// # Round trips
//
// A value is read back equal, into the type that it was written from, or
// Marshal refuses it. Equality is that of [reflect.DeepEqual], except that
//
//   - times need only be the same instant: the monotonic clock and the zone are
//     not kept;
//   - NaN equals NaN;
//   - an empty slice or map in a field tagged omitempty is read back as nil;
//   - fields tagged "-" are left out, and so is the state of a [sync.Mutex] or a
//     [sync.RWMutex];
//   - a type with methods to encode and decode it may define equality by a
//     method Equal, Cmp or Compare for its own type;
//   - a value in an any is read back as the type that Unmarshal documents, and
//     is refused if that type cannot hold it. There, nil of any type becomes nil.
//
// So Marshal refuses a struct that embeds a type with methods to encode it, such
// as struct{ time.Time; Title string }, because the promoted method forgets the
// other fields; an unexported field that is not zero; a type whose methods lose
// something; and two fields of one name. Some types cost more, because Marshal
// cannot tell from the type that nothing is lost: it reads each value back and
// compares it. Structs with exported fields of ordinary types, and lists and maps
// of them, do not need that. Embedded structs, types with methods, and with JSON
// times and any do.
//
// # Hostile input
//
// All of the data is checked before any of it is decoded. A length that is
// greater than the rest of the data, nesting beyond the limit, trailing bytes,
// a name that occurs twice, and in a blob names that are out of order, are
// errors. The check is one pass, and allocates no more than the data can fill:
// five bytes that claim four billion elements cost no more than any other five
// bytes.
//
// Unmarshal takes at most 128 bytes of memory for each byte of data, plus 256
// KiB, for every type: a megabyte of nils fails with an error, and does not
// become a gigabyte of large structs. Memory that methods of the values take is
// not counted. Marshal refuses values that could not be read back within this
// limit: many thousands of large structs in which nearly all fields are left out.
//
// # Errors
//
// Errors name types, fields and positions. They contain no part of a value, so
// they can be logged. The errors of encoding/json, of the methods of values, and
// of panics in them may contain one: they are wrapped, and their text is not
// repeated.
//
// # Traps avoided
//
// Values are written with github.com/vmihailenco/msgpack/v5, but not read with
// it, except in DecodeMsgpack methods. Its decoder, at v5.4.1, silently cuts
// integers to the size of the target (300 read into an int8 is 44, -1 into a
// uint is 1<<64-1), gives an integer in an any a type that depends on its size,
// and allocates as many elements as the data claims. Checking the data first
// does not help against the last: the decoder takes an extension for the start
// of a map, and reads a length from the extension's content.
//
// The encoder of that package writes most maps in random order, and does not
// end on a value that contains itself; Marshal sorts all maps and refuses such
// values.
//
// encoding/json silently replaces bytes that are not UTF-8; JSON.Marshal
// refuses them.
package codec
