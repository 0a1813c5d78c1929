package backchannel

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seed-a7bee19b/session"
)

// Config configures the handler of [New]. Issuer, ClientID, Keys and Sessions
// have no default.
type Config struct {
	// Issuer is the issuer identifier of the OpenID Provider, exactly as its ID
	// tokens have it in the claim iss, with or without a slash at the end.
	Issuer string

	// ClientID is the client ID of the application. The claim aud must be it, or a
	// list that contains it.
	ClientID string

	// Keys returns the public keys of the OpenID Provider. [FixedKeys] and
	// [FetchedKeys] make one.
	Keys Keys

	// Sessions ends the sessions. A [session.Manager] does, if its Config lists
	// sessions by their owners.
	Sessions Revoker

	// Owner, if set, returns the owner whose sessions a token ends. Default
	// [Token.Owner]. An application that lists a session under another name, such
	// as its own ID of the user, sets it. An owner without Kind or ID is an error.
	// If the application does not know the user, there is nothing to end: return
	// [Token.Owner], which no session has. Errors are answered with a status of
	// 500 or more.
	Owner func(ctx context.Context, t Token) (session.Owner, error)

	// Algorithms are the signature algorithms that are accepted, by their names in
	// JOSE. Default RS256, PS256, ES256 and EdDSA. RS384, RS512, PS384, PS512,
	// ES384 and ES512 are known too. "none" and the algorithms with a shared
	// secret, HS256 and the like, are errors.
	Algorithms []string

	// MaxAge is how long ago a token may have been issued. A captured token is of
	// no use later. Default 5 minutes.
	MaxAge time.Duration

	// ClockSkew is how far the clock of the OpenID Provider may differ. Default 1
	// minute; at most 10 minutes.
	ClockSkew time.Duration

	// Timeout bounds Owner and the revocation. Both go on if the OpenID Provider
	// hangs up, as many of them wait for a few seconds and do not come back.
	// Default 30 seconds.
	Timeout time.Duration

	// AllowUntyped accepts tokens that are not marked as logout tokens: those
	// without a header typ, or with typ "JWT". Older providers send them. Without
	// it, typ must be "logout+jwt". Any other typ is always refused.
	AllowUntyped bool

	// AllowNoExpiry accepts tokens without a claim exp, which the specification
	// did not name at first. Such a token expires at the end of MaxAge.
	AllowNoExpiry bool

	// OnError, if set, is told of each request that is not answered with 200, and
	// of its status. No error contains a token or a claim, unless Keys, Owner or
	// Sessions puts it there. Without OnError, two kinds are logged where net/http
	// logs: a status of 500 or more, and a token that the provider has signed and
	// that is refused, because then a setting is wrong here or there.
	OnError func(r *http.Request, status int, err error)
}

const (
	defaultMaxAge    = 5 * time.Minute
	defaultClockSkew = time.Minute
	maxClockSkew     = 10 * time.Minute
	defaultTimeout   = 30 * time.Second
)

// withDefaults returns the configuration with its defaults filled in, and an error
// that names each setting that is wrong.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("backchannel: Config."+format, args...))
	}
	switch {
	case c.Issuer == "":
		bad("Issuer is empty")
	case !visible(c.Issuer):
		bad("Issuer %q is not an issuer identifier: it has a space, or what is not printable ASCII", c.Issuer)
	}
	if c.ClientID == "" {
		bad("ClientID is empty")
	}
	if c.Keys == nil {
		bad("Keys is nil")
	}
	if c.Sessions == nil {
		bad("Sessions is nil")
	}
	if c.Owner == nil {
		c.Owner = func(_ context.Context, t Token) (session.Owner, error) { return t.Owner(), nil }
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}
	}
	c.Algorithms = slices.Clone(c.Algorithms)
	for _, alg := range c.Algorithms {
		if _, ok := algorithms[jose.SignatureAlgorithm(alg)]; !ok {
			bad("Algorithms has %q, which is not a known algorithm with a public key", alg)
		}
	}
	duration := func(name string, d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		} else if *d < 0 {
			bad("%s is %v; it must not be negative", name, *d)
		}
	}
	duration("MaxAge", &c.MaxAge, defaultMaxAge)
	duration("ClockSkew", &c.ClockSkew, defaultClockSkew)
	duration("Timeout", &c.Timeout, defaultTimeout)
	if c.ClockSkew > maxClockSkew {
		bad("ClockSkew is %v; it must not be more than %v", c.ClockSkew, maxClockSkew)
	}
	return c, errors.Join(problems...)
}

// visible reports whether s is printable ASCII without spaces.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
