package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec/php"
)

// The values that package session keeps for itself.
const (
	reservedPrefix = "_session."
	userValue      = reservedPrefix + "user"
	movedValue     = reservedPrefix + "moved"
	idleValue      = reservedPrefix + "idle"
	lifetimeValue  = reservedPrefix + "lifetime"
	listedValue    = reservedPrefix + "listed"
	ownerValue     = reservedPrefix + "owner"
)

type showFlags struct {
	tokenStdin bool
	values     bool
}

func (a *app) showCommand() *cobra.Command {
	var f showFlags
	c := &cobra.Command{
		Use:   "show KEY | - | --token-stdin",
		Short: "Show one session",
		Long: `show prints the start, deadline, size and lock of a session, and the names, types
and sizes of its values. Only with --values it prints the user and the values
themselves, decoded with --codec.

For the old ID of a session that got a new one it prints the new key. For a record
of the index of owners it prints how much it holds. With --values it also prints
under which owners a session is listed there, and what was noted at the login.

On a table that PHP uses, with --php, it decodes the values as PHP does, but runs
nothing of PHP. Strings that are no text are shown in base64. With --php-user it
tells the user. With --token-stdin it takes the value of PHP's cookie.

KEY is a key that list prints. If Config.StoreKey makes keys that begin with "-",
put "--" before KEY. With "-" show reads KEY from standard input, where no other
process sees it. With --token-stdin it reads the token from there, and derives the
key as package session does unless Config.StoreKey is set. It never prints the
token.

` + aboutKeys + `

It costs one Load: 1 read unit for each 4 KB. It exits with 1 if there is no
session, and with 3 if the record is not a session or does not decode.`,
		Example: `  sessionctl show kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC
  sessionctl show --token-stdin --values < token.txt`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkKeys(); err != nil {
				return err
			}
			key, err := a.oneKey(cmd.Context(), args, f.tokenStdin)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close() //nolint:errcheck // nothing was written
			keys, err := a.resolve(cmd.Context(), s, []string{key})
			if err != nil {
				return err
			}
			key = keys[0]
			return a.show(cmd.Context(), s, key, f.values)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.Flags().BoolVar(&f.tokenStdin, "token-stdin", false, "read the token of the session from standard input")
	c.Flags().BoolVar(&a.anyToken, "any-token", false, "with --token-stdin: the token has a form of Config.Tokens")
	a.addKeys(c, c.Flags())
	c.Flags().BoolVar(&f.values, "values", false, "print the values, and the user")
	return c
}

// oneKey is the key that a command is about.
func (a *app) oneKey(ctx context.Context, args []string, tokenStdin bool) (string, error) {
	switch {
	case tokenStdin && len(args) > 0:
		return "", usageError("give a KEY or --token-stdin, not both")
	case tokenStdin:
		if a.php.on() {
			return a.php.tokenKey(a.input(ctx))
		}
		if a.anyToken {
			return anyTokenKey(a.input(ctx))
		}
		return tokenKey(a.input(ctx))
	case len(args) == 0:
		return "", usageError("which session? Give its KEY, which \"list\" prints, or --token-stdin")
	case args[0] == "-":
		keys, err := readKeys(a.input(ctx))
		if err == nil && len(keys) != 1 {
			err = usageError("there are %d keys on standard input; show takes one", len(keys))
		}
		if err != nil {
			return "", err
		}
		return keys[0], checkKey(keys[0])
	}
	return args[0], checkKey(args[0])
}

func checkKey(key string) error {
	if key == "" || len(key) > 512 {
		return usageError("a KEY has 1 to 512 bytes, and this one has %d", len(key))
	}
	return nil
}

// shown is the output of show.
type shown struct {
	Key         string        `json:"key"`
	Kind        string        `json:"kind"` // session, moved, index, migrated or undecodable
	State       string        `json:"state"`
	Created     time.Time     `json:"created"`
	Expires     time.Time     `json:"expires"`
	IdleSeconds int64         `json:"left_seconds"` // until Expires, 0 once it has passed
	LockedUntil *time.Time    `json:"locked_until,omitempty"`
	DataSize    int           `json:"data_bytes"`
	Writes      int           `json:"writes,omitempty"` // that the version remembers, at most 16
	LoggedIn    bool          `json:"logged_in"`
	User        *string       `json:"user,omitempty"`
	MovedTo     string        `json:"moved_to,omitempty"`
	Lifetime    *shownLife    `json:"lifetime,omitempty"` // of its own
	Index       *indexRecord  `json:"index,omitempty"`
	Listed      *shownListing `json:"listed,omitempty"`
	Values      []shownValue  `json:"values"`

	now time.Time
}

// shownLife is a session.Lifetime: seconds, 0 for those of the Config, -1 for never.
type shownLife struct {
	Idle       int64 `json:"idle_seconds"`
	Absolute   int64 `json:"absolute_seconds"`
	Persistent bool  `json:"persistent_cookie"`
	Unreadable bool  `json:"unreadable,omitempty"` // it does not decode
}

type shownValue struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Size  int    `json:"bytes"`
	Value any    `json:"value,omitempty"`
}

// shownListing says where a session is listed in the index of owners.
type shownListing struct {
	Handle string            `json:"handle"`
	Owners []string          `json:"owners,omitempty"` // KIND=ID, beside the user
	Note   map[string]string `json:"note,omitempty"`
}

func newShownListing(ls *listing, values bool) *shownListing {
	shown := &shownListing{Handle: ls.Handle}
	if values {
		for _, o := range ls.Owners {
			shown.Owners = append(shown.Owners, o.Kind+"="+o.ID)
		}
		shown.Note = ls.Note
	}
	return shown
}

func (a *app) show(ctx context.Context, s store, key string, values bool) error {
	c, err := a.sessionCodec()
	if err != nil {
		return err
	}
	rec, err := s.Load(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return &wordsError{
			what: fmt.Sprintf("There is no session with key %s in %s.", printable(a.key(key)), s),
			todo: "It has ended, or never existed, or a login gave it a new key. \"sessionctl list\" prints the keys. Pass the value of a cookie with --token-stdin.",
		}
	case errors.Is(err, session.ErrDecode):
		return &exitError{codeFound, &wordsError{
			what: fmt.Sprintf("The record with key %s in %s was not written by package session.", printable(a.key(key)), s),
			todo: "If the application uses other attribute names, pass them: \"sessionctl help\" has the flags.", err: err,
		}}
	case err != nil:
		return err
	}
	v := shown{
		Key: a.key(key), Kind: "session", State: stateLive, Created: rec.Created.UTC(), Expires: rec.Expires.UTC(),
		LockedUntil: known(rec.LockedUntil), DataSize: len(rec.Data), now: time.Now(), Values: []shownValue{},
	}
	switch {
	case rec.Expired(v.now):
		v.State = stateExpired
	case rec.LockedUntil.After(v.now):
		v.State = stateLocked
	}
	if v.State != stateExpired {
		v.IdleSeconds = int64(rec.Expires.Sub(v.now) / time.Second)
	}
	if _, ok := s.(*dynamoStore); ok {
		v.Writes = len(rec.Version) / 8
	}

	if holds, is, err := indexOf(string(rec.Data)); is {
		v.Kind = "index"
		if err == nil {
			v.Index = &holds
		}
		if perr := a.print(v, v.write); perr != nil || err == nil {
			return perr
		}
		return &exitError{codeFound, &wordsError{
			what: "The record of the index does not decode.",
			todo: "The sessions of this owner cannot be found by the index. \"sessionctl revoke --user NAME --scan\" finds them.", err: err,
		}}
	}
	if is, _ := migrated(rec.Data); is {
		v.Kind = "migrated"
		return a.print(v, v.write)
	}
	encoded, err := c.Split(rec.Data)
	if err != nil {
		v.Kind = "undecodable"
		if err := a.print(v, v.write); err != nil {
			return err
		}
		return &exitError{codeFound, &wordsError{
			what: fmt.Sprintf("The session does not decode with codec %s.", a.codecName()),
			todo: "If the application uses another codec, name it with --codec; --verbose prints the cause.", err: err,
		}}
	}
	for _, name := range slices.Sorted(maps.Keys(encoded)) {
		data := encoded[name]
		var value any
		err := c.Unmarshal(data, &value)
		content, isText := value.(string)
		switch name {
		case idleValue: // says when Expires was written, and nothing that it does not
			continue
		case movedValue:
			v.Kind = "moved"
			if isText {
				v.MovedTo = a.key(content)
			}
			continue
		case lifetimeValue:
			v.Lifetime = parseLife(content)
			continue
		case userValue:
			v.LoggedIn = true
			if isText && values {
				user := asText(content)
				v.User = &user
			}
			continue
		case listedValue:
			if ls, err := listingOf(c, encoded); err == nil && ls.Handle != "" {
				v.Listed = newShownListing(&ls, values)
			}
			continue
		}
		if strings.HasPrefix(name, reservedPrefix) {
			continue // of the session package, for its own use
		}
		sv := shownValue{Name: asText(name), Type: typeName(value), Size: len(data)}
		if err != nil {
			sv.Type = "undecodable"
		} else if values {
			sv.Value = jsonable(value)
		}
		v.Values = append(v.Values, sv)
	}
	return a.print(v, v.write)
}

func (v *shown) write(w *output) {
	line := func(name, format string, args ...any) {
		w.printf("%-8s  %s\n", name, fmt.Sprintf(format, args...))
	}
	at := func(t time.Time) string {
		return fmt.Sprintf("%s, %s", t.Format("2006-01-02 15:04:05 MST"), relative(t, v.now))
	}
	line("Key", "%s", printable(v.Key))
	switch v.Kind {
	case "moved":
		line("What", "a marker: the session here was given a new ID, by a login or a rotation")
		line("Now at", "%s", printable(v.MovedTo))
		line("Moved", "%s", at(v.Created))
	case "index":
		line("What", "a record of the index of owners, which finds the sessions of one owner")
		line("Began", "%s", at(v.Created))
	case "migrated":
		line("What", "a record of a move to another store, which says where the session is, or a copy of it")
		line("Began", "%s", at(v.Created))
	case "undecodable":
		line("What", "a record that does not decode")
		line("Began", "%s", at(v.Created))
	default:
		line("What", "a session")
		line("Began", "%s", at(v.Created))
	}
	switch {
	case v.State == stateExpired:
		line("Expired", "%s; nobody can use it any more", at(v.Expires))
	case v.Kind == "moved", v.Kind == "index", v.Kind == "migrated":
		line("Ends", "%s", at(v.Expires))
	default:
		line("Ends", "%s, unless it is used", at(v.Expires))
	}
	if v.State == stateLocked {
		line("Locked", "until %s, unless it is renewed", at(*v.LockedUntil))
	}
	more := ""
	if v.Writes >= 16 {
		more = ", written 16 times or more"
	} else if v.Writes > 0 {
		more = fmt.Sprintf(", written %d times", v.Writes)
		if v.Writes == 1 {
			more = ", written once"
		}
	}
	line("Data", "%s%s", size(int64(v.DataSize)), more)
	if i := v.Index; i != nil {
		line("Holds", "%s, and %s with up to %s", plural(i.Entries, "session", "sessions"), plural(i.Pages, "page", "pages"), count(int64(i.InPages)))
		if i.Revocations > 0 {
			line("Revokes", "%s not complete; \"sessionctl revoke\" completes it", plural(i.Revocations, "revocation is", "revocations are"))
		}
	}
	if v.Kind != "session" {
		return
	}
	switch {
	case v.User != nil:
		line("User", "%s", printable(*v.User))
	case v.LoggedIn:
		line("User", "logged in; --values says who")
	default:
		line("User", "none")
	}
	if v.Lifetime != nil {
		line("Lifetime", "%s", v.Lifetime)
	}
	if l := v.Listed; l != nil {
		line("Listed", "in the index of owners, with handle %s", printable(l.Handle))
		for _, o := range l.Owners {
			line("Owner", "%s", printable(o))
		}
		for _, name := range slices.Sorted(maps.Keys(l.Note)) {
			line("Note", "%s: %s", printable(name), printable(l.Note[name]))
		}
	}
	if len(v.Values) == 0 {
		line("Values", "none")
		return
	}
	header := table.Row{"Value", "Type", "Size"}
	if slices.ContainsFunc(v.Values, func(v shownValue) bool { return v.Value != nil }) {
		header = append(header, "")
	}
	t := newTable(header, 3)
	for _, value := range v.Values {
		row := table.Row{printable(value.Name), value.Type, size(int64(value.Size))}
		if value.Value != nil {
			row = append(row, jsonText(value.Value))
		}
		t.AppendRow(row)
	}
	w.printf("\n%s\n", t.Render())
}

// parseLife reads a lifetime as it is stored.
func parseLife(text string) *shownLife {
	var l shownLife
	times, persistent := strings.CutSuffix(text, " persistent")
	l.Persistent = persistent
	if _, err := fmt.Sscanf(times+"\n", "%d %d\n", &l.Idle, &l.Absolute); err != nil {
		return &shownLife{Unreadable: true}
	}
	return &l
}

func (l *shownLife) String() string {
	if l.Unreadable {
		return "does not decode, so the application cannot read the session"
	}
	timeout := func(seconds int64) string {
		switch {
		case seconds == 0:
			return "as configured"
		case seconds < 0:
			return "never"
		case seconds > math.MaxInt64/int64(time.Second):
			return fmt.Sprintf("%d s", seconds)
		}
		return coarse(time.Duration(seconds) * time.Second)
	}
	cookie := "as configured"
	if l.Persistent {
		cookie = "persistent"
	}
	return fmt.Sprintf("of its own: idle %s, absolute %s, cookie %s", timeout(l.Idle), timeout(l.Absolute), cookie)
}

// typeName names the type of v for a reader.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if !utf8.ValidString(v) { // of PHP
			return "bytes"
		}
		return "text"
	case php.Object:
		return "object"
	case php.Enum:
		return "enum"
	case php.Opaque:
		return "object that serializes itself"
	case []byte:
		return "bytes"
	case bool:
		return "bool"
	case float32, float64:
		return "number"
	case json.Number:
		return "number"
	case time.Time:
		return "time"
	case []any:
		return fmt.Sprintf("list of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("map of %d", len(v))
	case map[any]any:
		return fmt.Sprintf("map of %d", len(v))
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return "integer"
	}
	return fmt.Sprintf("%T", v)
}

// jsonable is v without what encoding/json cannot write.
func jsonable(v any) any {
	switch v := v.(type) {
	case string:
		if !utf8.ValidString(v) {
			return []byte(v)
		}
	case php.Object:
		return phpObject(v)
	case php.Enum:
		return v.Class + "::" + v.Case
	case php.Opaque:
		return map[string]any{"class": asText(v.Class), "data": v.Data}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
	case float32:
		return jsonable(float64(v))
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = jsonable(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[asText(k)] = jsonable(e)
		}
		return m
	case map[any]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[asText(fmt.Sprint(k))] = jsonable(e)
		}
		return m
	}
	return v
}

// jsonText is v in JSON.
func jsonText(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "(" + typeName(v) + ")"
	}
	return strings.TrimSpace(b.String())
}
