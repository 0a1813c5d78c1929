package session

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/observe"
)

// Never, as a timeout, turns that timeout off.
const Never time.Duration = -1

const defaultIdle = 2 * time.Hour

// Config configures a [Manager]. The zero value is a good default.
type Config struct {
	// IdleTimeout ends a session that was not used for this long. A request that
	// began in time counts as use even if it takes longer than that: see
	// [Manager.Open]. A shorter timeout applies to stored sessions at once,
	// counted from when their deadline was last written; a longer one applies to
	// each session when it is next used.
	// Default 2 hours, or AbsoluteTimeout if that is shorter; at least 1 second;
	// [Never] turns it off.
	IdleTimeout time.Duration

	// AbsoluteTimeout ends a session this long after it began or after its last
	// Login, however much it is used. Default 24 hours; at least 1 second;
	// [Never] turns it off. One of the two timeouts must be on.
	AbsoluteTimeout time.Duration

	// MaxIdleTimeout and MaxAbsoluteTimeout are the longest timeouts that a session
	// can be given with a [Lifetime] of its own. Lowered ones apply to stored
	// sessions at once, as IdleTimeout does, so raise them in every process before
	// one relies on it. Default IdleTimeout and AbsoluteTimeout: a Lifetime can
	// only be shorter. They must not be shorter than these; [Never] is no limit.
	MaxIdleTimeout, MaxAbsoluteTimeout time.Duration

	// NotBefore ends everybody's session at once: one that began, or whose user
	// last logged in, before this time counts as ended. It costs no request; a
	// session that is found to have ended so costs what an expired one does, see
	// [Manager.Open]. Times are compared to the millisecond. Default: the zero
	// time, which ends none. It must not be in the future.
	NotBefore time.Time

	// TouchInterval is how stale the idle deadline in the store may get: a
	// session that is only read is written at most once in each interval. It
	// bounds the write cost of reading, and a session may end earlier by this
	// much. Default IdleTimeout/10; it must be shorter than IdleTimeout.
	TouchInterval time.Duration

	// RenewAfter gives a session a new ID when it has had one for this long, at
	// the start of the next response of the Handler that can carry a token. So a
	// token that has leaked is soon worth nothing, and no user has to log in again:
	// see RenewOverlap. Requests in mode [ReadOnly] renew nothing, and neither do
	// those whose client has gone away. If a renewal fails, the old ID stays good,
	// the page is served all the same, and the Observer gets an event. Clients that
	// send the token in a Header must take the new one from the response. Default
	// 0: only Login and Rotate give a session a new ID. At least 1 minute, longer
	// than RenewOverlap and shorter than AbsoluteTimeout.
	//
	// Cost: 2 Saves at each renewal, of which one replaces the Save or Touch of
	// that response; 1 Delete if the session has left 8 old IDs that are not over
	// yet. In mode Merge or LastWrite beside routes that lock with a Lock.Locker,
	// also its Acquire and Release, and 1 Load.
	RenewAfter time.Duration

	// RenewOverlap is how long after a renewal a request may still come under the
	// old ID: it goes on with the same session, and its response hands out the new
	// token, in case the first answer was lost. A request that opened the session
	// before the renewal can save it however long it takes. After a Login or Rotate
	// there is no overlap: the old ID is dead at once. But if two requests under
	// one ID log in the same user within this time, as after a double click, the
	// second one joins the session of the first; see also [Session.Reauthenticate].
	// Default 30 seconds; from 1 second to 10 minutes.
	//
	// Cost, for a request under an old ID: 1 Load to open the session; 1 Load when
	// the response starts, unless it has saved the session, because the token that
	// it hands out must not displace one of a later Login.
	RenewOverlap time.Duration

	// Mode says what happens when requests write a session concurrently. Default
	// [Merge].
	Mode Mode

	// SafeMode, if set, is the Mode in the Handler for requests with a safe
	// method (GET, HEAD, OPTIONS, TRACE). With Mode [Exclusive], SafeMode [Merge]
	// spares readers the lock.
	SafeMode Mode

	// Lock configures the locks of mode [Exclusive], and how other modes wait for
	// them.
	Lock LockConfig

	// Codec encodes the values. Default codec.MessagePack{}. Sessions written
	// with another codec fail with [ErrDecode].
	Codec Codec

	// MaxSize is the size in bytes of the largest encoded session that is sent to
	// the backend; a larger one fails with [ErrTooLarge]. Default 0: only the
	// backend's own limit applies.
	MaxSize int

	// Undecodable says what [Manager.Get] does if a stored session does not decode.
	// Default [FailUndecodable].
	Undecodable UndecodablePolicy

	// Tokens configures the form of tokens, for sites that share a cookie with
	// another library. Default: 192 random bits as 32 characters of base64url.
	Tokens Tokens

	// StoreKey derives the key of a record from the token. The default,
	// [DefaultStoreKey], is 24 bytes of the token's SHA-256 in base64url, so that
	// a key that leaks from the store cannot be used as a cookie. A StoreKey must
	// be deterministic, give the tokens of different sessions different keys of at
	// most 512 bytes, and never panic.
	//
	// A StoreKey from whose keys one can tell the tokens, for a site that shares its
	// records with another library, gives that up: each reader of the table can use
	// the sessions that it finds, and a backup is a bunch of live sessions, as are
	// the markers that a new ID leaves under the old one. So treat the table, its
	// backups and the traces of the store's client as passwords. Nothing in this
	// module prints a key; sessionctl does so if the key has the form of a default
	// one. So with such a StoreKey, draw tokens of another form: if Tokens is set,
	// it must not return a token of the default form as it is.
	//
	// With [OwnersConfig.Index] it is also given strings
	// with a dot, which no token has, for the records of the index.
	StoreKey func(token string) string

	// Owners configures the index of the sessions of each user, by which
	// [Manager.Sessions] and [Manager.Revoke] find them. Default: no index.
	Owners OwnersConfig

	// Cookie configures the cookie that carries the token.
	Cookie Cookie

	// Header, if set, names a header that carries the token instead of a cookie,
	// for APIs: in requests, with or without "Bearer " before it, and in the
	// responses that hand out a new token; there with "Bearer " if the header is
	// Authorization. An empty value in a response says that the token is dead.
	// The name may have 256 bytes. Default "": the token travels in a cookie.
	Header string

	// ClearSiteData lists the data that the response to a logout tells the browser
	// to delete, by the header Clear-Site-Data: a logout is [Session.Destroy] in a
	// handler, for a request that came with a token. The directives are "cache",
	// "cookies", "storage", "executionContexts", "clientHints", "prefetchCache"
	// and "prerenderCache", or "*" alone for all of them. "cookies" also deletes
	// those of all hosts of the registered domain; it is left out if the same
	// response has the cookie of a new session. "cache" takes Chromium seconds,
	// during which the page waits. Browsers obey over HTTPS only. Default none.
	ClearSiteData []string

	// CommitTimeout bounds the time in which the Handler saves a session, even if
	// the client has gone away. If nothing changed, moving the deadline or freeing
	// the lock has a tenth of it. If that fails, the responses of the next 5
	// seconds wait for it only if their session would end by then; the error page
	// after a failed save does not wait for it at all. Default 5 seconds.
	CommitTimeout time.Duration

	// MaxMerges is how often a Save tries again after a conflict before it fails
	// with [ErrConflict]. Requests of one process line up after their first
	// conflict, so later conflicts are with other processes. Default 32.
	MaxMerges int

	// ErrorHandler answers a request whose session could not be loaded or saved,
	// or whose handler failed; nothing has been sent yet. [Status] gives the
	// status for err, which contains no session ID, but may contain text from the
	// store. ErrorHandler is also called if the client has gone away; then
	// errors.Is finds [context.Canceled] in err. Default: see [Manager.Error].
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)

	// Observer is told of store calls and events. Default nil: none.
	Observer observe.Observer
}

// Mode says what happens when requests write one session concurrently.
type Mode int

const (
	// Merge takes no lock. If another request has saved the session first, the
	// changes of this one are applied to the stored session, value by value, and
	// saved again. If both changed a value, the later writer wins, unless it used
	// [Key.Update] or its [Key] has a Resolve function.
	Merge Mode = iota + 1

	// LastWrite takes no lock, and lets the later writer replace the whole
	// session: the changes of the earlier one are lost. A session that was
	// destroyed stays destroyed.
	LastWrite

	// Exclusive locks the session from when a request reads it until it is saved.
	// Other requests in mode Exclusive wait to read it; those in mode Merge and
	// LastWrite wait to save it. The lock has a lease, which is renewed until the
	// handler returns, even if its client has left, but for at most
	// [LockConfig.MaxHold]. If the lock is lost, the request's context is
	// cancelled with the cause [ErrLockLost], and nothing is written any more.
	// Exclusive needs a Backend that is a [LockingBackend], or a
	// [LockConfig.Locker].
	//
	// Saving frees the lock: changes that a handler makes after its response has
	// started are merged.
	Exclusive

	// ReadOnly never writes: a change fails with [ErrReadOnly], and reading
	// does not move the idle deadline.
	ReadOnly
)

func (m Mode) check() error {
	if m < Merge || m > ReadOnly {
		return fmt.Errorf("session: unknown Mode %d", int(m))
	}
	return nil
}

// MarshalText is for logs.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

func (m Mode) String() string {
	switch m {
	case Merge:
		return "Merge"
	case LastWrite:
		return "LastWrite"
	case Exclusive:
		return "Exclusive"
	case ReadOnly:
		return "ReadOnly"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// UndecodablePolicy says what to do if a stored session does not decode. The
// record is never changed or deleted.
type UndecodablePolicy int

const (
	// FailUndecodable returns [ErrDecode].
	FailUndecodable UndecodablePolicy = iota
	// ReplaceUndecodable gives the visitor a new session under a new ID. The
	// stored one stays until it expires.
	ReplaceUndecodable
)

// probeStoreKey tries f with two tokens, and with a text as long as the longest.
// custom says that Tokens is set.
func probeStoreKey(f func(string) string, a, z string, longest int, custom bool) error {
	switch key := f(a); {
	case key == "" || len(key) > 512:
		return fmt.Errorf("session: StoreKey makes a key of %d bytes; it must have 1 to 512", len(key))
	case key == f(z):
		return errors.New("session: StoreKey gives two tokens the same key")
	case key != f(a):
		return errors.New("session: StoreKey gives one token two keys")
	}
	if n := len(f(strings.Repeat("A", longest))); longest > tokenChars && n > 512 {
		return fmt.Errorf("session: StoreKey makes a key of %d bytes from a token of Tokens.MaxLength; it must have 512 at most", n)
	}
	if _, err := hex.DecodeString(a); custom && validToken(a) && err != nil && f(a) == a { // no digest is in hex
		return errors.New("session: StoreKey returns a token as it is, and it looks like the digest of one, which tools print; draw tokens of another form with Tokens.New")
	}
	return nil
}

// probeIndexKeys tries f with what the index of owners gives it, which is no
// token.
func probeIndexKeys(f func(string) string) error {
	var keys []string
	for _, kind := range []string{"owner.", "page."} {
		for range 2 {
			key := f(kind + newToken())
			if key == "" || len(key) > 512 || slices.Contains(keys, key) {
				return errors.New("session: StoreKey makes no key of 1 to 512 bytes, or not one of its own, for a record of the index of owners")
			}
			keys = append(keys, key)
		}
	}
	return nil
}

// takenHeaders have another meaning to clients, servers and proxies.
var takenHeaders = []string{
	"Cookie", "Set-Cookie", "Host", "Connection", "Content-Length", "Content-Type", "Content-Encoding",
	"Transfer-Encoding", "Upgrade", "Te", "Trailer", "Location", "Vary", "Cache-Control", "Date", "Origin",
}

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

func (p *problems) bad(format string, args ...any) {
	p.add(fmt.Errorf("session: "+format, args...))
}

func (c Config) withDefaults() (Config, error) {
	var p problems
	c.timeoutDefaults(&p)
	c.renewDefaults(&p)
	if c.Mode == 0 {
		c.Mode = Merge
	}
	p.add(c.Mode.check())
	if c.SafeMode != 0 {
		p.add(c.SafeMode.check())
	}
	var err error
	c.Lock, err = c.Lock.withDefaults()
	p.add(err)
	if c.Codec == nil {
		c.Codec = codec.MessagePack{}
	}
	if c.MaxSize < 0 {
		p.bad("MaxSize is %d; it must not be negative", c.MaxSize)
	}
	if c.Undecodable != FailUndecodable && c.Undecodable != ReplaceUndecodable {
		p.bad("unknown UndecodablePolicy %d", int(c.Undecodable))
	}
	drawn := c.tokenDefaults(&p)
	if c.StoreKey == nil {
		c.StoreKey = DefaultStoreKey
	} else {
		p.add(probeStoreKey(c.StoreKey, drawn[0], drawn[len(drawn)-1], c.Tokens.MaxLength, len(drawn) > 2))
	}
	if c.CommitTimeout < 0 {
		p.bad("CommitTimeout is %v; it must not be negative", c.CommitTimeout)
	} else if c.CommitTimeout == 0 {
		c.CommitTimeout = 5 * time.Second
	}
	if c.MaxMerges < 0 {
		p.bad("MaxMerges is %d; it must not be negative", c.MaxMerges)
	} else if c.MaxMerges == 0 {
		c.MaxMerges = 32
	}
	c.Owners.check(&p)
	if c.Owners.Index && c.StoreKey != nil {
		p.add(probeIndexKeys(c.StoreKey))
	}
	c.transportDefaults(&p, len(slices.MaxFunc(drawn, func(a, z string) int { return len(a) - len(z) })))
	c.ClearSiteData = slices.Clone(c.ClearSiteData)
	checkClearSiteData(c.ClearSiteData, &p)
	return c, errors.Join(p...)
}

func (c *Config) timeoutDefaults(p *problems) {
	timeout := func(name string, d *time.Duration, def time.Duration) {
		switch {
		case *d == 0:
			*d = def
		case *d != Never && *d < time.Second:
			p.bad("%s is %v; it must be at least 1s, or Never", name, *d)
		}
	}
	timeout("AbsoluteTimeout", &c.AbsoluteTimeout, 24*time.Hour)
	idle := defaultIdle
	if c.AbsoluteTimeout > 0 {
		idle = min(idle, c.AbsoluteTimeout)
	}
	timeout("IdleTimeout", &c.IdleTimeout, idle)
	if c.NotBefore.After(time.Now().Add(skew)) {
		p.bad("NotBefore is in the future: sessions would end as soon as they begin")
	}
	c.NotBefore = c.NotBefore.Truncate(time.Millisecond)
	switch {
	case c.IdleTimeout == Never && c.AbsoluteTimeout == Never:
		p.bad("IdleTimeout and AbsoluteTimeout are both Never; a session must end")
	case c.IdleTimeout == Never && c.TouchInterval != 0:
		p.bad("TouchInterval is set, and IdleTimeout is Never: there is nothing to touch")
	case c.TouchInterval < 0:
		p.bad("TouchInterval is %v; it must not be negative", c.TouchInterval)
	case c.IdleTimeout > c.AbsoluteTimeout && c.AbsoluteTimeout != Never:
		p.bad("IdleTimeout is %v, longer than AbsoluteTimeout, which is %v and would always come first", c.IdleTimeout, c.AbsoluteTimeout)
	case c.TouchInterval == 0:
		c.TouchInterval = c.IdleTimeout / 10
	case c.TouchInterval >= c.IdleTimeout:
		p.bad("TouchInterval is %v; it must be shorter than IdleTimeout, which is %v", c.TouchInterval, c.IdleTimeout)
	}
	ceiling := func(name string, most *time.Duration, ordinary time.Duration) {
		timeout("Max"+name, most, ordinary)
		switch {
		case *most != Never && ordinary == Never:
			p.bad("Max%s is %v, and %s is Never", name, *most, name)
		case atMost(*most, ordinary) != ordinary:
			p.bad("Max%s is %v, shorter than %s, which is %v", name, *most, name, ordinary)
		}
	}
	ceiling("IdleTimeout", &c.MaxIdleTimeout, c.IdleTimeout)
	ceiling("AbsoluteTimeout", &c.MaxAbsoluteTimeout, c.AbsoluteTimeout)
	if c.MaxIdleTimeout > c.MaxAbsoluteTimeout && c.MaxAbsoluteTimeout != Never {
		p.bad("MaxIdleTimeout is %v, longer than MaxAbsoluteTimeout, which is %v and would always come first", c.MaxIdleTimeout, c.MaxAbsoluteTimeout)
	}
}

// tokenDefaults returns some tokens.
func (c *Config) tokenDefaults(p *problems) (drawn []string) {
	ordinary := c.Tokens.New == nil && c.Tokens.Valid == nil && c.Tokens.MinLength == 0 && c.Tokens.MaxLength == 0
	if c.Tokens = c.Tokens.withDefaults(); ordinary {
		return []string{newToken(), newToken()}
	}
	return c.Tokens.check(p)
}

// transportDefaults takes the length of a token.
func (c *Config) transportDefaults(p *problems, length int) {
	if c.Header == "" {
		var err error
		c.Cookie, err = c.Cookie.withDefaults()
		p.add(err)
		if n := len(c.Cookie.Name) + length; n > maxPair {
			p.bad("Cookie: the name has %d bytes, %d with a token; browsers store %d", len(c.Cookie.Name), n, maxPair)
		}
		return
	}
	if c.Cookie != (Cookie{}) {
		p.bad("Header and Cookie are both set; the token travels in one of them")
	}
	if !validHeaderName(c.Header) || slices.Contains(takenHeaders, http.CanonicalHeaderKey(c.Header)) {
		p.bad("%q cannot be the Header of a token", c.Header)
	}
	if len(c.Header) > 256 {
		p.bad("Header has a name of %d bytes; the longest is 256", len(c.Header))
	}
	c.Header = http.CanonicalHeaderKey(c.Header)
}

var (
	_ Codec = codec.MessagePack{}
	_ Codec = codec.JSON{}
)

// validHeaderName reports whether a header can have that name.
func validHeaderName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return name != ""
}
