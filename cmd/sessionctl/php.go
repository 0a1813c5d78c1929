package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec/php"
)

// phpFlags say how PHP uses the table.
type phpFlags struct {
	connection  string
	sessionName string
	handler     string
	user        string
	userInt     bool
}

// phpSessionName is the default of session.name in PHP.
const phpSessionName = "PHPSESSID"

var (
	phpConnections = []string{"versioned", "stock-locking", "stock-unlocked"}
	phpHandlers    = []string{php.PHP.String(), php.Binary.String(), php.Serialize.String()}
)

func (f *phpFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.connection, "php", "", "PHP uses the DynamoDB table too, by this `connection`: versioned,\n"+
		"stock-locking or stock-unlocked; \"sessionctl doctor\" says which")
	fl.StringVar(&f.sessionName, "session-name", phpSessionName, "with --php: session.name in PHP, with which its keys begin")
	fl.StringVar(&f.handler, "serialize-handler", "php", "with --php: session.serialize_handler in PHP: php, php_binary or\nphp_serialize")
	fl.StringVar(&f.user, "php-user", "", "with --php: `name` of the value of $_SESSION that has the user")
	fl.BoolVar(&f.userInt, "php-user-int", false, "with --php-user: that value is an integer")
}

// on reports whether PHP uses the table.
func (f *phpFlags) on() bool { return f.connection != "" }

// check refuses flags that contradict each other. changed returns the first of some
// flags that is set.
func (f *phpFlags) check(changed func(names ...string) string) error {
	if !f.on() {
		switch name := changed("session-name", "serialize-handler", "php-user", "php-user-int"); {
		case changed("php") != "":
			return usageError("--php is empty; it can be %s", either(phpConnections))
		case name != "":
			return usageError("--%s is for a table that PHP uses too: add --php, or leave it out", name)
		}
		return nil
	}
	switch {
	case !slices.Contains(phpConnections, f.connection):
		return usageError("--php is %q; it can be %s", f.connection, either(phpConnections))
	case !slices.Contains(phpHandlers, f.handler):
		return usageError("--serialize-handler is %q; it can be %s", f.handler, either(phpHandlers))
	case !phpName(f.sessionName):
		return usageError("--session-name %q is not one that PHP can have: letters and digits, and not digits only", f.sessionName)
	case changed("codec") != "":
		return usageError("--codec does not go with --php: PHP's sessions are read by --serialize-handler")
	case f.userInt && f.user == "":
		return usageError("--php-user-int needs --php-user, the name of the value")
	case changed("php-user") != "" && f.user == "":
		return usageError("--php-user needs the name of a value of $_SESSION")
	}
	return nil
}

// phpName reports whether s can be a session.name.
func phpName(s string) bool {
	digits := true
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("=,;.[\\\"", c) >= 0 {
			return false
		}
		digits = digits && '0' <= c && c <= '9'
	}
	return !digits && len(s) <= 128
}

// either is names as an alternative.
func either(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// config returns the PHP part of the Config of the backend. It accepts losses, which
// only an application can cause: a command sends no page.
func (f *phpFlags) config() dynamodb.PHPConfig {
	if !f.on() {
		return dynamodb.PHPConfig{}
	}
	c := dynamodb.PHPConfig{SessionName: f.sessionName, SerializeHandler: f.handler, AcceptLoss: true}
	switch f.connection {
	case "versioned":
		c.Connection = dynamodb.VersionedConnection
	case "stock-locking":
		c.Connection = dynamodb.StockLocking
	case "stock-unlocked":
		c.Connection = dynamodb.StockUnlocked
	}
	return c
}

func (f *phpFlags) codec() php.Codec {
	return php.Codec{Handler: php.Handler(max(0, slices.Index(phpHandlers, f.handler))), User: f.user, UserInt: f.userInt}
}

// storeKey is the key of the record of a token.
func (f *phpFlags) storeKey(token string) string { return f.sessionName + "_" + token }

// tokenKey is tokenKey for a token of PHP.
func (f *phpFlags) tokenKey(r io.Reader) (string, error) {
	token, err := readToken(r)
	if err != nil {
		return "", err
	}
	if !phpToken(token) {
		return "", errPHPToken
	}
	return f.storeKey(token), nil
}

var errPHPToken = fmt.Errorf("the text on standard input is not a token of PHP: it must be one line with the value of the cookie, " +
	"22 to 256 letters, digits, ',' and '-'")

// phpToken reports whether PHP can have drawn s.
func phpToken(s string) bool {
	return len(s) >= 22 && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != ',' && r != '-'
	})
}

// isLock reports whether e is a lock of the stock handler where there is no session.
func (f *phpFlags) isLock(e *admin.Entry) bool {
	return f.on() && e.Foreign && e.DataSize == 0 && e.Expires.IsZero() && strings.HasPrefix(e.Key, f.sessionName+"_")
}

// codecName returns the name of the codec of the sessions.
func (a *app) codecName() string {
	if a.php.on() {
		return a.php.handler
	}
	return a.codec
}

// asText is s, or a description of its bytes if it is no text: strings of PHP are
// bytes.
func asText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return escape(s)
}

// phpObject is what can be shown of an object of PHP.
func phpObject(o php.Object) map[string]any {
	properties := make(map[string]any, len(o.Fields))
	for _, f := range o.Fields {
		name := f.Name
		if i := strings.LastIndexByte(name, 0); i >= 0 && name[0] == 0 && properties[asText(name[i+1:])] == nil {
			name = name[i+1:] // without what says that it is private or protected
		}
		properties[asText(name)] = jsonable(f.Value)
	}
	return map[string]any{"class": asText(o.Class), "properties": properties}
}
