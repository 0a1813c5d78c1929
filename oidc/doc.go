// Package backchannel ends the sessions of users who log out elsewhere. It has an
// http.Handler for OpenID Connect Back-Channel Logout 1.0: when a user logs out at
// the OpenID Provider, or an administrator ends the user's session there, the
// provider sends a signed logout token to each application, from server to server.
// The handler verifies the token and revokes the sessions that it names.
//
// An application does two things. At login it lists the session under names that
// a logout token will have, from the ID token that it has verified:
//
//	err := s.LoginWith(session.Login{
//		User:   user,
//		Owners: backchannel.Owners(idToken.Issuer, idToken.Subject, claims.SID),
//	})
//
// And it serves the handler at the URI that it has registered with the provider as
// backchannel_logout_uri:
//
//	keys, err := backchannel.FetchedKeys(fetch) // the document at the provider's jwks_uri
//	...
//	logout, err := backchannel.New(backchannel.Config{
//		Issuer:   "https://op.example.com",
//		ClientID: "shop",
//		Keys:     keys,
//		Sessions: manager,
//	})
//	...
//	mux.Handle("POST /backchannel-logout", logout)
//
// The provider has no cookie and no browser, so the route needs neither a session
// nor protection against requests from other sites, and the URI must be reachable
// from the provider. Anybody can send requests to it. Limit the time in which a
// server reads a request, as for every route: see ReadTimeout of http.Server.
//
// # What a token ends
//
// A token with a claim sid ends the sessions that began with an ID token with the
// same sid: usually one, in one browser. A token without sid ends all sessions of
// the user in the claim sub. If there is no such session, the user is logged out
// already, and the answer is 200.
//
// List each session under both names, as [Owners] does. A session that is listed
// under its sid alone is not found by a token that has only a sub, and the other
// way round. A provider that sends a sid in logout tokens must also have sent it
// in ID tokens. If yours does not, or if a logout should end the user's sessions
// on all devices, set [Config.Owner] to a function that returns [Subject].
//
// If the users of your application have the sub of one provider as their name in
// [session.Login], they are listed under it already. Then list the sid alone, and
// save the requests for another owner:
//
//	Owners: []session.Owner{backchannel.SID(idToken.Issuer, claims.SID)},
//	...
//	Owner: func(_ context.Context, t backchannel.Token) (session.Owner, error) {
//		if t.SID != "" {
//			return t.Owner(), nil
//		}
//		return session.User(t.Subject), nil
//	},
//
// # What it costs
//
// Each name of a session costs its login 1 Load and 1 Save, and keeps a record in
// the store: see [session.OwnersConfig].
//
// A token that is refused costs no request to the store. Any other costs what
// Revoke costs for one owner, and none if it comes again after a success, to the
// same process. What a stranger can send is bounded: 16 KiB, with one token, that
// is tried with 16 keys at most.
//
// # What it does not do
//
// A login that is under way when the token arrives is not covered: its session is
// listed after the revocation. So call LoginWith as soon as you have verified the
// ID token, in the same request.
//
// A token that is captured on its way can be sent again. Each process remembers
// the last 8,192 tokens that it has carried out, and answers 200 without doing it
// again. Other processes do not know them, nor does a process that has started
// again: there, a captured token that has a sub and no sid ends sessions that the
// user has begun since, until it expires or MaxAge and ClockSkew have passed. One
// with a sid finds nothing, unless the provider uses that sid again.
//
// The specification asks for status 400 also if the logout failed. This handler
// answers 500 or 503 then, because 400 would say that the token is wrong, and that
// it is of no use to send it again. Many providers do not send a token again,
// whatever the answer, so watch the log, or set OnError. Then the application or
// its operator has to revoke the sessions.
//
// Encrypted tokens, and tokens that are signed with the client's secret, are
// refused.
package backchannel
