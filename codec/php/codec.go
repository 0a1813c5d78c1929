package php

import (
	"fmt"
	"unicode/utf8"
)

// Handler is a session.serialize_handler of PHP: how it joins the values of a
// session.
type Handler uint8

// The handlers.
const (
	// PHP is the handler "php", the default of PHP.
	PHP Handler = iota
	// Binary is the handler "php_binary".
	Binary
	// Serialize is the handler "php_serialize".
	Serialize
)

// String returns PHP's name of the handler.
func (h Handler) String() string {
	switch h {
	case PHP:
		return "php"
	case Binary:
		return "php_binary"
	case Serialize:
		return "php_serialize"
	}
	return fmt.Sprintf("Handler(%d)", uint8(h))
}

// The limits that apply where a field of [Codec] is zero.
const (
	DefaultMaxDepth  = 256     // levels
	DefaultMaxValues = 4096    // values
	DefaultMaxSize   = 4 << 20 // bytes
)

// greatestDepth bounds MaxDepth itself, because each level takes stack.
const greatestDepth = 10_000

// Names of values that a Session does not show. See the package comment.
const (
	userName  = "_session.user"
	orderName = "_session.order"
)

// Codec reads and writes sessions as PHP does. Its zero value is for PHP's default
// handler; it is safe for concurrent use.
type Codec struct {
	// Handler is the session.serialize_handler of the PHP side. Zero is [PHP].
	Handler Handler

	// User is the name of the value of $_SESSION that says who is logged in, such
	// as "user_id". Split gives it the name under which a session.Session keeps its
	// user, and Join gives it back, so that PHP's logins are found by
	// Session.User, and Session.Login logs in for PHP. The value has to be a
	// string, or null, which is nobody. A session.Key cannot have this name: Join
	// refuses its value. Empty means that PHP does not learn who is logged in
	// here, and the other way round.
	User string

	// UserInt says that the value called User is an integer: 42 is the user "42".
	// Split refuses any other value but null, and Join a user that is not an
	// integer as PHP writes it, such as "042" or "ann".
	UserInt bool

	// UTF8 says that sessions are stored as text, as the handler of the AWS SDK
	// does by default (data_attribute_type "string"). The strings of PHP are bytes;
	// with UTF8, Marshal, Join and Split refuse those that are not valid UTF-8, and
	// a []byte is a string in base64. Without it, Text is false, a []byte is a string
	// with these bytes, and sessions have to be stored as binary.
	UTF8 bool

	// MaxDepth limits how deep arrays and objects are nested in one value. It is at
	// most 10,000; PHP itself reads 4096 levels. Zero or less means
	// [DefaultMaxDepth].
	MaxDepth int
	// MaxValues limits the number of values in one session. Zero or less means
	// [DefaultMaxValues].
	MaxValues int
	// MaxSize limits the bytes of one value, and of one joined session. Zero or less
	// means [DefaultMaxSize].
	MaxSize int
}

func orDefault(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

func (c Codec) maxDepth() int {
	return min(orDefault(c.MaxDepth, DefaultMaxDepth), greatestDepth)
}
func (c Codec) maxValues() int { return orDefault(c.MaxValues, DefaultMaxValues) }
func (c Codec) maxSize() int   { return orDefault(c.MaxSize, DefaultMaxSize) }

// Text reports whether all sessions are valid UTF-8, which is what UTF8 says.
func (c Codec) Text() bool { return c.UTF8 }

// SerializeHandler returns the value of session.serialize_handler with which PHP
// reads and writes the same sessions.
func (c Codec) SerializeHandler() string { return c.Handler.String() }

// checkText returns an error if data has to be text and is not.
func (c Codec) checkText(data []byte) error {
	if c.UTF8 && !utf8.Valid(data) {
		return errUTF8
	}
	return nil
}
