package backchannel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// A Token is a logout token that has been verified.
type Token struct {
	Issuer  string    // claim iss: Config.Issuer
	Subject string    // claim sub, the user; "" if the token has none
	SID     string    // claim sid, the user's session at the provider; "" if the token has none
	ID      string    // claim jti
	Issued  time.Time // claim iat
	Expires time.Time // claim exp; zero if the token has none
}

// logoutEvent is the member of the claim events that makes a token a logout token.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// verified is a token, and what the handler remembers of it.
type verified struct {
	Token
	digest digest
	until  time.Time // from then on it is refused, whatever its exp
}

// verify follows section 2.6 of the specification. The signature is checked before
// the claims, so only the provider learns what is wrong with them.
func (h *handler) verify(ctx context.Context, compact string) (verified, error) {
	payload, typ, err := h.signed(ctx, compact)
	if err != nil {
		return verified{}, err
	}
	claims, reason := parseClaims(payload)
	if reason == "" {
		reason = h.judge(claims, typ, time.Now())
	}
	if reason != "" {
		return verified{}, &refusal{status: http.StatusBadRequest, signed: true, reason: reason}
	}
	v := verified{
		Token:  Token{Issuer: claims.iss, Subject: claims.sub, SID: claims.sid, ID: claims.jti, Issued: claims.iat, Expires: claims.exp},
		digest: sha256.Sum256(payload),
		until:  claims.iat.Add(h.cfg.MaxAge + h.cfg.ClockSkew),
	}
	return v, nil
}

// signed returns the payload of a token that the provider has signed, and the
// header typ. Nothing else of the header is used: not the keys that it may have,
// and not the addresses of keys.
func (h *handler) signed(ctx context.Context, compact string) (payload []byte, typ string, err error) {
	jws, err := jose.ParseSignedCompact(compact, h.algorithms)
	if err != nil {
		// The library's error can have text from the token.
		if unexpected := new(jose.ErrUnexpectedSignatureAlgorithm); errors.As(err, &unexpected) {
			return nil, "", refuse("the token is signed with an algorithm that is not in Algorithms")
		}
		return nil, "", refuse("logout_token is not a signed JWT in compact form")
	}
	header := jws.Signatures[0].Protected
	if _, ok := header.ExtraHeaders["crit"]; ok {
		return nil, "", refuse("the token has a critical header")
	}
	typ, ok := "", true
	if v, has := header.ExtraHeaders[jose.HeaderType]; has {
		typ, ok = v.(string)
	}
	if !ok {
		return nil, "", refuse("the header typ is not a string")
	}
	keys, err := h.cfg.Keys(ctx, header.KeyID)
	if err != nil {
		return nil, "", &failure{status: http.StatusServiceUnavailable, err: fmt.Errorf("obtain keys: %w", err)}
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(k Key) bool {
		return !k.serves(jose.SignatureAlgorithm(header.Algorithm), header.KeyID)
	})
	for i, k := range keys {
		if i == maxTried {
			break
		}
		if payload, err := jws.Verify(k.Public); err == nil {
			return payload, typ, nil
		}
	}
	return nil, "", refuse("no key of the provider has signed the token")
}

// claims are those of a logout token, with zero values for those that it lacks.
type claims struct {
	iss, sub, sid, jti string
	aud                []string
	iat, exp           time.Time
	event, nonce       bool
}

// parseClaims returns the claims, or the reason why they are not those of a JWT.
func parseClaims(payload []byte) (c claims, reason string) {
	// This package of the JOSE library tells upper from lower case in names, and
	// refuses a name that is there twice.
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &all) != nil || all == nil {
		return c, "the payload is not a JSON object, or has a name twice"
	}
	// A claim that is null is one that is not there.
	for _, t := range []struct {
		name string
		to   *string
	}{{"iss", &c.iss}, {"sub", &c.sub}, {"sid", &c.sid}, {"jti", &c.jti}} {
		if raw, ok := all[t.name]; ok && !isNull(raw) && (json.Unmarshal(raw, t.to) != nil || *t.to == "") {
			return c, "the claim " + t.name + " is not a string, or is empty"
		}
	}
	for _, t := range []struct {
		name string
		to   *time.Time
	}{{"iat", &c.iat}, {"exp", &c.exp}} {
		if raw, ok := all[t.name]; ok && !isNull(raw) && !parseDate(raw, t.to) {
			return c, "the claim " + t.name + " is not a time"
		}
	}
	if raw, ok := all["aud"]; ok {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			c.aud = []string{one}
		} else if json.Unmarshal(raw, &c.aud) != nil {
			return c, "the claim aud is neither a string nor a list of strings"
		}
	}
	if raw, ok := all["events"]; ok {
		var events map[string]json.RawMessage
		if json.Unmarshal(raw, &events) != nil {
			return c, "the claim events is not an object"
		}
		c.event = bytes.HasPrefix(bytes.TrimSpace(events[logoutEvent]), []byte("{"))
	}
	_, c.nonce = all["nonce"]
	return c, ""
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// parseDate reads a NumericDate of RFC 7519, which may have a fraction.
func parseDate(raw json.RawMessage, to *time.Time) bool {
	var seconds float64
	const last = 253402300799 // the end of the year 9999
	if json.Unmarshal(raw, &seconds) != nil || seconds < 1 || seconds > last {
		return false
	}
	*to = time.Unix(int64(seconds), 0)
	return true
}

// judge returns the reason why a token with these claims is refused, or "".
func (h *handler) judge(c claims, typ string, now time.Time) string {
	switch {
	case !h.typed(typ):
		return `the header typ is not "logout+jwt" (see AllowUntyped)`
	case c.iss != h.cfg.Issuer:
		return "the claim iss is not the Issuer"
	case !slices.Contains(c.aud, h.cfg.ClientID):
		return "the claim aud does not have the ClientID"
	case c.iat.IsZero():
		return "there is no claim iat"
	case c.iat.After(now.Add(h.cfg.ClockSkew)):
		return "the token was issued in the future: compare the clocks"
	case !now.Before(c.iat.Add(h.cfg.MaxAge + h.cfg.ClockSkew)):
		return "the token was issued longer ago than MaxAge"
	case c.exp.IsZero() && !h.cfg.AllowNoExpiry:
		return "there is no claim exp (see AllowNoExpiry)"
	case !c.exp.IsZero() && !now.Before(c.exp.Add(h.cfg.ClockSkew)):
		return "the token has expired"
	case c.jti == "":
		return "there is no claim jti"
	case !c.event:
		return "the claim events does not have the logout event, with an object"
	case c.nonce:
		return "there is a claim nonce, as in an ID token"
	case c.sub == "" && c.sid == "":
		return "there is neither a claim sub nor a claim sid"
	}
	return ""
}

// typed reports whether the header typ is one of a logout token.
func (h *handler) typed(typ string) bool {
	// Media types are compared without regard to case, and may be written in full.
	switch strings.TrimPrefix(strings.ToLower(typ), "application/") {
	case "logout+jwt":
		return true
	case "", "jwt":
		return h.cfg.AllowUntyped
	}
	return false
}
