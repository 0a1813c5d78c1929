package conformance_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/conformance"
)

// A Tagged is a codec under test. It encodes as codec.JSON does, and puts a tag
// before each session, so that another format can follow some day. The tag is
// text, so the codec is a session.TextCodec as codec.JSON is.
type Tagged struct{ codec.JSON }

const tag = "v1 "

// Join implements session.Codec.
func (t Tagged) Join(values map[string][]byte) ([]byte, error) {
	data, err := t.JSON.Join(values)
	if err != nil {
		return nil, err
	}
	return append([]byte(tag), data...), nil
}

// Split implements session.Codec.
func (t Tagged) Split(data []byte) (map[string][]byte, error) {
	rest, ok := bytes.CutPrefix(data, []byte(tag))
	if !ok {
		return nil, errors.New("tagged: the data does not begin with the tag")
	}
	return t.JSON.Split(rest)
}

// testTagged is called TestConformance in the package of the codec.
func testTagged(t *testing.T) {
	conformance.TestCodec(t, Tagged{})
}

// The whole test of a codec, here of one that adds a tag to another.
func ExampleTestCodec() {
	_ = testTagged // go test calls it

	user, err := Tagged{}.Marshal("alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	data, err := Tagged{}.Join(map[string][]byte{"user": user})
	fmt.Printf("%s %v\n", data, err)
	// Output: v1 {"user":"alice"} <nil>
}
