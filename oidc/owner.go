package backchannel

import (
	"context"

	"github.com/seed-a7bee19b/session"
)

const (
	sidKind     = "oidc-sid"
	subjectKind = "oidc-sub"
)

// A Revoker ends sessions. A [session.Manager] is one.
type Revoker interface {
	// Revoke ends all sessions that have all of the owners, and returns when they
	// are gone. It is no error if there is none.
	Revoke(ctx context.Context, owners ...session.Owner) error
}

// SID names the sessions that began with an ID token that has this issuer and
// this claim sid. Two issuers may use the same sid, so the issuer is part of the
// name: the Kind is "oidc-sid", and the ID is the issuer, a space and the sid. For an
// operator, that is sessionctl revoke --owner "oidc-sid=https://op.example.com 08a5".
func SID(issuer, sid string) session.Owner {
	return session.Owner{Kind: sidKind, ID: join(issuer, sid)}
}

// Subject names the sessions that began with an ID token that has this issuer
// and this claim sub. The Kind is "oidc-sub", and the ID is the issuer, a space and
// the sub.
func Subject(issuer, sub string) session.Owner {
	return session.Owner{Kind: subjectKind, ID: join(issuer, sub)}
}

// Owners returns the owners of a session that begins with an ID token that has
// these claims: [Subject], and [SID] unless sid is empty.
func Owners(issuer, sub, sid string) []session.Owner {
	owners := []session.Owner{Subject(issuer, sub)}
	if sid != "" {
		owners = append(owners, SID(issuer, sid))
	}
	return owners
}

// Owner returns the owner whose sessions the token ends: [SID] if the token has a
// sid, and otherwise [Subject]. It is the default of [Config.Owner].
func (t Token) Owner() session.Owner {
	if t.SID != "" {
		return SID(t.Issuer, t.SID)
	}
	return Subject(t.Issuer, t.Subject)
}

// join is unambiguous because no issuer has a space in it: see New.
func join(issuer, id string) string { return issuer + " " + id }
