package session

// Codec turns values into bytes one at a time, and the encoded values of a
// session into one blob and back, so that a value is decoded only when it is
// read, and one that did not change is never encoded again. Package codec has
// implementations; [Config.Codec] defaults to codec.MessagePack.
//
// Methods MUST be safe for concurrent use and MUST NOT keep or change the
// slices and maps they are given, except that results of Split may alias data.
// Results MUST NOT share memory with each other, nor with a buffer that is used
// again. Errors are logged, and so MUST NOT contain what is encoded: they name
// types and positions.
type Codec interface {
	// Marshal encodes one value; nil is one too, and gives some bytes. A type
	// that it cannot encode MUST be an error, also where it is that of a part. So
	// MUST be a value that Unmarshal would not give back equal: for some codecs
	// NaN is, or text that is not UTF-8, or one with fields that it would leave
	// out. Equal is as reflect.DeepEqual has it, but times are equal as instants,
	// NaN is NaN, and what is in an any may come back as another type. Equal
	// values MUST give equal bytes, maps included: that is how the Manager knows
	// that nothing changed.
	Marshal(v any) ([]byte, error)

	// Unmarshal decodes what Marshal made into the pointer v. What does not fit
	// MUST be an error: no number is cut, rounded or wrapped. Anything else MUST
	// be an error, trailing bytes, spaces and a name that is twice in a map
	// included, and MUST NOT panic. Its memory MUST be bounded by a small
	// multiple of len(data), whatever the lengths that data claims.
	Unmarshal(data []byte, v any) error

	// Join makes one blob of encoded values, those of nil too. It MUST be
	// deterministic.
	Join(values map[string][]byte) ([]byte, error)

	// Split MUST return the values that Join was given, byte for byte. It
	// MUST refuse what Join cannot have made, spaces, and names that are there
	// twice or in another order included, with work and memory bounded by a
	// small multiple of len(data), and MUST NOT panic. Empty data MUST be refused,
	// unless that is what Join makes of no values.
	Split(data []byte) (map[string][]byte, error)
}

// TextCodec is a [Codec] that can make text, for a [TextBackend].
type TextCodec interface {
	Codec

	// Text reports whether what Join makes is text. If so, it MUST be valid
	// UTF-8.
	Text() bool
}

// NameCodec is a [Codec] whose format cannot hold values of all names that are valid
// UTF-8. [Key.Set] asks it, so that a name is refused at once and not when the session
// is saved.
type NameCodec interface {
	Codec

	// CheckName returns an error that says why there can be no value called name, or
	// nil. Join MUST refuse the names that it refuses, and no others.
	CheckName(name string) error
}
