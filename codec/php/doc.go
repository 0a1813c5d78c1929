// Package php reads and writes sessions as PHP does, so that pages in PHP and pages in
// Go can share them.
//
// A [Codec] is a session.Codec for one of PHP's settings of session.serialize_handler:
// "php", which is PHP's default, "php_binary" or "php_serialize". Each value of
// $_SESSION is a value of the session of the same name. Those that a request does not
// change keep the bytes that PHP has written, and their places.
//
// # Types
//
//	PHP                        Go, by Marshal and Unmarshal         in an any
//	null                       nil; reads as the zero value         nil
//	bool                       bool                                 bool
//	int                        int, int8 … int64, uint … uint64     int64
//	float                      float64, float32                     float64
//	string                     string, []byte, [n]byte              string
//	string, RFC 3339           time.Time                            string
//	string                     a type with MarshalText, else        string
//	                           with MarshalBinary
//	array, keys 0, 1, 2 …      []T, [n]T, map[int]T                 []any
//	array, other keys          map[string]T, map[int]T, struct      map[string]any
//	array in its order         Array
//	object                     struct, map[string]T, Object         Object
//	object of a class          struct with the method PHPClass      Object
//	DateTimeImmutable          Time                                 Object
//	case of an enum            Enum                                 Enum
//	object, Serializable       Opaque                               Opaque
//	any value                  any, Raw
//
// DateTime and DateTimeImmutable are read into a time.Time too. A struct is written as
// an array, unless it has the method PHPClass. The name of an element or a property is
// the tag of the field, as in `php:"sku"`, or else the name of the field as it is; the
// tag "-" leaves the field out. Fields of an embedded struct without a tag are those of
// the struct. There are no options.
//
// PHP has one type for lists and maps. An empty array is an empty slice and an empty
// map. In keys, PHP makes integers of strings that look like one: "5" is the key 5, and
// a map of strings has "5" for it. A map is written in the order of its keys, integers
// first; use [Array] where the order of PHP matters.
//
// A float with an integral value stays a float (d:1;), and an integer an integer. No
// type takes the place of another: the string "5" is not read into an int, and the
// float 1.0 neither. An unsigned integer that is too great for PHP is a string of
// digits.
//
// An object that is read into an any or an [Object] and set again keeps its class, the
// visibility of its properties and their order. One that is read into a struct or a map
// becomes an array when it is set, unless the struct has the method PHPClass.
//
// # What is data, and what is code
//
// Nothing is run: an object is its class and its properties, however it came to be
// there. Whatever a program stores under a class that it read from a request, PHP will
// run when it opens the session, so take the names of classes from your own code.
//
// # References
//
// PHP writes an object a second time, and the second case of an enum, as a reference to
// the first, numbered through the whole session. Split numbers them within each value,
// and Join through the session again. Unmarshal gives each reference a copy, so that
// what is set again does not share any more.
//
// A reference into another value keeps its meaning as long as neither value is changed.
// If one is, and the other is not, Join fails and nothing is stored: set both, or delete
// both. The value can be read if what it refers to has no references in it. An object
// that contains itself can be kept and cannot be read.
//
// The data of a Serializable (C:) may have references that nobody else can number. So
// Split refuses a session that has both; it stays as it is.
//
// # Names
//
// PHP cannot store a value under each name: a "|" loses all values with the handler
// "php", a name of more than 127 bytes its value with "php_binary", and a name that is an
// integer with both. Codec.CheckName refuses these, and so do session.Key.Set and Join.
// With "php_serialize", the integer 5 is the name "5".
//
// Split adds a value called _session.order if the names are not sorted, for Join to keep
// the places; a session.Session does not show it.
//
// # Bytes and text
//
// Strings of PHP are bytes, and so are sessions. The handler of the AWS SDK for PHP
// stores them as text all the same, unless its option data_attribute_type is "binary".
// For sessions that are text, set Codec.UTF8: then what is not valid UTF-8 is refused
// when it is set, and a []byte is base64. The properties of PHP's objects that are
// private or protected have zero bytes in their names, which are valid UTF-8.
//
// # Hostile input
//
// All of the data is checked before any of it is decoded: counts and lengths against the
// rest of the data, nesting against MaxDepth. Unmarshal takes at most 128 bytes of memory
// for each byte of data, plus 256 KiB, and work in proportion, also for references that
// multiply. Memory that methods of the values take is not counted. Split is stricter
// than PHP: it refuses what PHP reads and does not write, such as the escaped strings of
// type S and a name that occurs twice. Join refuses what PHP would not read, as PHP
// destroys such sessions.
//
// # Round trips
//
// A value is read back equal or refused by Marshal, as by the other codecs: see package
// codec. Errors name types and positions, and contain no part of a value.
package php
