package session

// Codec turns values into bytes one at a time, and the encoded values of a
// session into one blob and back, so that a value is decoded only when it is
// read, and one that did not change is never encoded again. Package codec has
// implementations; [Config.Codec] defaults to codec.MessagePack.
//
// Methods MUST be safe for concurrent use and MUST NOT keep or change the
// slices and maps they are given, except that results of Split may alias data.
type Codec interface {
	// Marshal encodes one value. A type that it cannot encode MUST be an
	// error. Equal values MUST give equal bytes, maps included: that is how
	// the Manager knows that nothing changed.
	Marshal(v any) ([]byte, error)

	// Unmarshal decodes what Marshal made into the pointer v. Anything else
	// MUST be an error, trailing bytes included, and MUST NOT panic. Its
	// memory MUST be bounded by a small multiple of len(data), whatever the
	// lengths that data claims.
	Unmarshal(data []byte, v any) error

	// Join makes one blob of encoded values. It MUST be deterministic.
	Join(values map[string][]byte) ([]byte, error)

	// Split MUST return the values that Join was given, byte for byte. It
	// MUST refuse what Join cannot have made, with work and memory bounded by
	// a small multiple of len(data), and MUST NOT panic. Empty data is not a
	// session: it MUST be refused.
	Split(data []byte) (map[string][]byte, error)
}
