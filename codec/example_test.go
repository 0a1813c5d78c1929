package codec_test

import (
	"fmt"
	"log"

	"github.com/seed-a7bee19b/session/codec"
)

// A value is read back into the type that it was written from.
func ExampleMessagePack() {
	type User struct {
		ID    int      `json:"id"`
		Roles []string `json:"roles"`
	}
	var c codec.MessagePack

	data, err := c.Marshal(User{7, []string{"editor"}})
	if err != nil {
		log.Fatal(err)
	}
	var u User
	if err := c.Unmarshal(data, &u); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), u.ID, u.Roles)
	// Output: 19 7 [editor]
}

// A session is joined from encoded values, and split without decoding them.
func ExampleMessagePack_Split() {
	var c codec.MessagePack
	visits, err := c.Marshal(3)
	if err != nil {
		log.Fatal(err)
	}
	name, err := c.Marshal("Ada")
	if err != nil {
		log.Fatal(err)
	}
	blob, err := c.Join(map[string][]byte{"visits": visits, "name": name})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", blob)

	values, err := c.Split(blob)
	if err != nil {
		log.Fatal(err)
	}
	var n int
	if err := c.Unmarshal(values["visits"], &n); err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
	// Output:
	// "\x82\xa4name\xa3Ada\xa6visits\x03"
	// 3
}

// A number that the target cannot hold is an error.
func ExampleMessagePack_Unmarshal() {
	var c codec.MessagePack
	data, err := c.Marshal(300)
	if err != nil {
		log.Fatal(err)
	}
	var small int8
	fmt.Println(c.Unmarshal(data, &small))
	var v any
	fmt.Println(c.Unmarshal(data, &v))
	fmt.Printf("%T %v\n", v, v)
	// Output:
	// codec: MessagePack: the integer is out of range for int8
	// <nil>
	// int64 300
}

// Data that claims more than it contains is refused before anything is allocated
// for it.
func ExampleMessagePack_Split_hostile() {
	_, err := codec.MessagePack{}.Split([]byte("\xdf\xff\xff\xff\xff"))
	fmt.Println(err)
	// Output: codec: MessagePack: a length is greater than the rest of the data allows
}

// JSON can be read in the store.
func ExampleJSON() {
	var c codec.JSON
	values := make(map[string][]byte)
	for k, v := range map[string]any{"visits": 3, "cart": map[string]int{"tea": 2, "cup": 1}} {
		data, err := c.Marshal(v)
		if err != nil {
			log.Fatal(err)
		}
		values[k] = data
	}
	blob, err := c.Join(values)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(blob))
	// Output: {"cart":{"cup":1,"tea":2},"visits":3}
}

// Limits are fields; those that are zero have a default.
func ExampleJSON_limits() {
	c := codec.JSON{MaxValues: 2}
	_, err := c.Split([]byte(`{"a":1,"b":2,"c":3}`))
	fmt.Println(err)
	// Output: codec: more values than MaxValues
}
