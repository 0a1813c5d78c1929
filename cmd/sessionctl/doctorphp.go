package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/codec/php"
)

// phpResult has the findings of doctor about a table that PHP uses.
type phpResult struct {
	Connection       string           `json:"connection"` // "" if nothing tells
	SessionName      string           `json:"session_name"`
	SerializeHandler string           `json:"serialize_handler"` // "" if none fits all rows, or nothing tells
	Handlers         map[string]int64 `json:"handlers"`          // rows that each could have written
	DataType         string           `json:"data_type"`         // string, binary, or "" if both occur or nothing tells
	Rows             int64            `json:"rows"`              // of PHP
	Versioned        int64            `json:"versioned"`         // of these, with a version
	Locked           int64            `json:"locked"`            // by the stock handler, with a session
	DeadLocks        int64            `json:"dead_locks"`        // rows with a lock and nothing else
	Private          int64            `json:"private"`           // markers and records of the index
	Ours             int64            `json:"ours"`              // sessions in a format that PHP cannot read
	Unreadable       int64            `json:"unreadable"`        // rows that neither side can read
}

// phpRow is a row as PHP may have written it.
type phpRow struct {
	name      string // of the session cookie, before the '_' of the key
	data      []byte
	isString  bool
	isBinary  bool
	versioned bool // it has what every row of package session has
	expires   bool
	stockLock bool
	private   bool
}

// phpCount counts rows.
type phpCount struct {
	phpResult
	names   map[string]int64
	strings int64
	filled  int64 // rows of PHP with data
}

// cutPHPKey returns the name of the cookie in a key of PHP, false if it is none. PHP's
// IDs have no '_'.
func cutPHPKey(key string) (name string, ok bool) {
	i := strings.LastIndexByte(key, '_')
	if i < 1 {
		return "", false
	}
	// The index of owners has keys that are made of what no token has.
	id := strings.NewReplacer(".", "", "_", "").Replace(key[i+1:])
	return key[:i], phpName(key[:i]) && phpToken(id)
}

// newPHPRow reads an item; false if its key is none of PHP's.
func newPHPRow(item map[string]types.AttributeValue, names *dynamodb.Config) (phpRow, bool) {
	var r phpRow
	key, _ := item[names.KeyAttribute].(*types.AttributeValueMemberS)
	if key == nil {
		return r, false
	}
	var ok bool
	if r.name, ok = cutPHPKey(key.Value); !ok {
		return r, false
	}
	switch data := item[names.DataAttribute].(type) {
	case *types.AttributeValueMemberS:
		r.data, r.isString = []byte(data.Value), true
	case *types.AttributeValueMemberB:
		r.data, r.isBinary = data.Value, true
	}
	version, _ := item[names.VersionAttribute].(*types.AttributeValueMemberB)
	_, created := item[names.CreatedAttribute].(*types.AttributeValueMemberN)
	r.versioned = version != nil && len(version.Value) > 0 && created
	_, r.expires = item[names.ExpiresAttribute].(*types.AttributeValueMemberN)
	_, r.stockLock = item[names.LockAttribute].(*types.AttributeValueMemberN)
	_, r.private = item[names.PrivateAttribute]
	return r, true
}

// add counts a row.
func (c *phpCount) add(r phpRow) {
	if c.names == nil {
		c.names, c.Handlers = map[string]int64{}, map[string]int64{}
	}
	var fits []string
	for i, name := range phpHandlers {
		if _, err := (php.Codec{Handler: php.Handler(i)}).Split(r.data); err == nil {
			fits = append(fits, name)
		}
	}
	switch hasData := r.isString || r.isBinary; {
	case r.private:
		c.Private++
		return
	case !hasData && !r.expires && r.stockLock:
		c.DeadLocks++
		c.names[r.name]++
		return
	case hasData && len(fits) == 0 && decodesAsOurs(r.data):
		c.Ours++
		return
	case hasData && len(fits) == 0:
		c.Unreadable++
		return
	case !hasData && !r.expires:
		return // nothing tells whose it is
	}
	c.Rows++
	c.names[r.name]++
	if r.versioned {
		c.Versioned++
	}
	if r.stockLock {
		c.Locked++
	}
	if len(r.data) == 0 {
		return // any handler
	}
	c.filled++
	for _, name := range fits {
		c.Handlers[name]++
	}
	if r.isString {
		c.strings++
	}
}

func decodesAsOurs(data []byte) bool {
	for _, c := range []session.Codec{codec.MessagePack{}, codec.JSON{}} {
		if _, err := c.Split(data); err == nil {
			return true
		}
	}
	return false
}

// result returns the settings of PHP as far as the rows show them, and false if PHP
// seems to have written none.
func (c *phpCount) result() (*phpResult, bool) {
	if c.filled == 0 && c.DeadLocks == 0 && c.Locked == 0 && c.Rows == c.Versioned {
		return nil, false
	}
	r := c.phpResult
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		if c.names[name] > c.names[r.SessionName] {
			r.SessionName = name
		}
	}
	for _, name := range phpHandlers { // the default of PHP comes first
		if r.SerializeHandler == "" && c.filled > 0 && c.Handlers[name] == c.filled {
			r.SerializeHandler = name
		}
	}
	switch {
	case c.filled > 0 && c.strings == c.filled:
		r.DataType = "string"
	case c.filled > 0 && c.strings == 0:
		r.DataType = "binary"
	}
	switch {
	case r.Locked+r.DeadLocks > 0:
		r.Connection = "stock-locking"
	case r.Rows > 0 && r.Versioned == r.Rows:
		r.Connection = "versioned"
	case r.Rows > 0:
		r.Connection = "stock-unlocked"
	}
	return &r, true
}

// mostPHPRows limits the rows that doctor reads to recognise PHP.
const mostPHPRows = 100

// onPHP looks at rows, and says with what settings PHP uses the table, if it does.
func (d *doctor) onPHP(ctx context.Context, s *dynamoStore) {
	out, err := s.client.Scan(ctx, &sdk.ScanInput{
		TableName: &s.table, Limit: aws.Int32(mostPHPRows), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}, d.once)
	d.result.Requests++
	if err != nil {
		d.fails(ctx, "PHP", err)
		return
	}
	if out.ConsumedCapacity != nil {
		d.result.ReadUnits += unitsOf(out.ConsumedCapacity)
	}
	var c phpCount
	for _, item := range out.Items {
		if r, ok := newPHPRow(item, &s.config); ok {
			c.add(r)
		}
	}
	r, is := c.result()
	if !is {
		if d.php.on() {
			d.says(isWarn, "PHP", fmt.Sprintf("None of %s has a session of PHP.", plural(len(out.Items), "record", "records")), "")
		}
		return
	}
	d.result.PHP = r
	d.tellPHP(r)
}

// tellPHP says what follows from r.
func (d *doctor) tellPHP(r *phpResult) {
	n := func(n int64, one, many string) string { return plural(int(n), one, many) }
	flags := "--php " + cmp.Or(r.Connection, either(phpConnections))
	if r.SessionName != phpSessionName {
		flags += " --session-name " + r.SessionName
	}
	if r.SerializeHandler != "php" && r.SerializeHandler != "" {
		flags += " --serialize-handler " + r.SerializeHandler
	}
	what := fmt.Sprintf("PHP uses this table: %s, with keys that begin with %q", n(r.Rows, "session of it", "sessions of it"), r.SessionName+"_")
	if r.DataType != "" {
		what += fmt.Sprintf(", and data of type %s", r.DataType)
	}
	what += "."
	switch p := &d.php; {
	case !p.on():
		d.says(isWarn, "PHP", what, fmt.Sprintf("Pass %s. %s", flags, configForPHP(r)))
	case p.sessionName != r.SessionName:
		d.says(isFail, "PHP", what, fmt.Sprintf("Pass --session-name %s; it is SessionName in PHPConfig.", r.SessionName))
	default:
		d.says(isOK, "PHP", what, "")
	}

	var fits []string
	for _, name := range phpHandlers {
		fits = append(fits, fmt.Sprintf("%s %s", count(r.Handlers[name]), name))
	}
	counts := strings.Join(fits, ", ")
	switch p := &d.php; {
	case len(r.Handlers) == 0:
		d.says(isOK, "handler", "All sessions are empty: they do not tell the serialize handler.", "")
	case r.SerializeHandler == "":
		d.says(isFail, "handler", "No serialize handler fits all sessions: "+counts+".",
			"PHP destroys a session that it cannot decode. All PHP pages need one session.serialize_handler.")
	case p.on() && p.handler != r.SerializeHandler && r.Handlers[p.handler] < r.Handlers[r.SerializeHandler]:
		d.says(isFail, "handler", fmt.Sprintf("The sessions are of session.serialize_handler %s, and not %s.", r.SerializeHandler, p.handler),
			fmt.Sprintf("Pass --serialize-handler %s; it is SerializeHandler in PHPConfig, and Handler in php.Codec.", r.SerializeHandler))
	default:
		d.says(isOK, "handler", fmt.Sprintf("session.serialize_handler is %s.", r.SerializeHandler), "")
	}

	if unversioned := r.Rows - r.Versioned; unversioned > 0 || r.Locked > 0 {
		what := fmt.Sprintf("The stock handler of the SDK has written: %s no version", n(unversioned, "session has", "sessions have"))
		if r.Locked > 0 {
			what += fmt.Sprintf(", and %s its lock", n(r.Locked, "one has", "have"))
		}
		s, todo := isWarn, "With VersionedConnection on all PHP pages, and as the Connection of PHPConfig, nothing is lost. Sessions from before it get a version when they are next written."
		if d.php.connection == "stock-locking" || d.php.connection == "stock-unlocked" {
			s, todo = isOK, ""
		}
		d.says(s, "connection", what+".", todo)
	} else if r.Rows > 0 {
		d.says(isOK, "connection", "All sessions have versions: no stock handler has created one.", "")
	}
	if r.DeadLocks > 0 {
		d.says(isWarn, "locks", fmt.Sprintf("%s a lock of the stock handler and nothing else: a page that has died, or that begins a session just now.",
			n(r.DeadLocks, "record has", "records have")), "\"sessionctl sweep --php versioned\" removes them. Run it when no page of the stock handler is at work.")
	}
	if r.Ours > 0 {
		d.says(isFail, "format", fmt.Sprintf("%s under keys of PHP a format that PHP cannot read: it destroys them when it opens them.",
			n(r.Ours, "session has", "sessions have")), "Use php.Codec in the Config of the Go side, with PHP in that of the backend. Then session.New refuses what PHP would destroy.")
	}
	if r.Unreadable > 0 {
		d.says(isWarn, "format", fmt.Sprintf("%s under keys of PHP neither side can read.", n(r.Unreadable, "record is there which", "records are there which")),
			"PHP destroys them when it opens them. They may be of igbinary, msgpack or another handler, or encrypted.")
	}
}

// configForPHP says what the Go side needs.
func configForPHP(r *phpResult) string {
	var fields []string
	add := func(format string, args ...any) { fields = append(fields, fmt.Sprintf(format, args...)) }
	switch r.Connection {
	case "versioned":
		add("Connection: dynamodb.VersionedConnection")
	case "stock-locking":
		add("Connection: dynamodb.StockLocking")
	case "stock-unlocked":
		add("Connection: dynamodb.StockUnlocked or StockLocking")
	}
	if r.SessionName != phpSessionName {
		add("SessionName: %q", r.SessionName)
	}
	var codec []string
	if h := r.SerializeHandler; h != "php" && h != "" {
		add("SerializeHandler: %q", h)
		codec = append(codec, map[string]string{"php_binary": "Handler: php.Binary", "php_serialize": "Handler: php.Serialize"}[h])
	}
	data := ""
	if r.DataType == "string" {
		data = ", DataType: dynamodb.String"
		codec = append(codec, "UTF8: true")
	}
	return fmt.Sprintf("In the application: dynamodb.Config{PHP: dynamodb.PHPConfig{%s}%s} and php.Codec{%s}.",
		strings.Join(fields, ", "), data, strings.Join(codec, ", "))
}
