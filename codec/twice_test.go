package codec_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/seed-a7bee19b/session/codec"
)

// A name that occurs twice is refused everywhere: even in a large struct, if the
// struct has no such field, or if it is written in another way.
func TestNameTwice(t *testing.T) {
	fields := make([]reflect.StructField, 70)
	for i := range fields {
		fields[i] = reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: reflect.TypeFor[int]()}
	}
	large := reflect.StructOf(fields)
	for _, name := range []string{"F0", "F63", "F64", "F69", "None"} {
		once := append([]byte{0xa0 | byte(len(name))}, name...)
		once = append(once, 1)
		packed := append(append([]byte{0x82}, once...), once...)
		if err := (codec.MessagePack{}).Unmarshal(packed, reflect.New(large).Interface()); err == nil {
			t.Errorf("MessagePack takes %s twice", name)
		}
		for _, again := range []string{name, fmt.Sprintf(`\u%04x%s`, name[0], name[1:])} {
			text := fmt.Sprintf(`{"%s":1,"%s":1}`, name, again)
			for _, v := range []any{reflect.New(large).Interface(), new(any), new(map[string]int)} {
				if err := (codec.JSON{}).Unmarshal([]byte(text), v); err == nil {
					t.Errorf("JSON takes %s as a %T", text, v)
				}
			}
		}
	}
}
