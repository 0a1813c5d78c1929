package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session/internal/index"
)

// An Owner names something that sessions belong to: a user, or something else that
// the application names at login, such as a device or a tenant.
type Owner struct {
	Kind string // "user", or a name of your choice
	ID   string
}

// User returns the Owner of the sessions of a user, under which each login lists
// its session.
func User(id string) Owner { return Owner{Kind: "user", ID: id} }

// OwnersConfig configures the index of the sessions of each owner. The zero value
// keeps none.
//
// The index is kept in the Backend, with a record for each owner. It costs
// nothing when a session is read or saved. A login, and each new ID that the
// session gets after it, costs 1 Load and 1 Save more for each owner, and a
// logout costs nothing more. With more than 16 sessions, a new ID also costs about 2
// Loads later, to find out which IDs are in use: one request in 128 makes them.
type OwnersConfig struct {
	// Index lists a session under its owners when its user logs in, so that
	// [Manager.Sessions] and [Manager.Revoke] find it. Set it in all processes that
	// share a store.
	//
	// A session whose user logged in before Index was set, or in another program, is
	// listed under its user when a Manager next saves changes of it. That costs 1 Load
	// and 1 Save more, once. If it cannot be listed, because the index fails or the
	// session has no room for it, it is saved as it was, and listed another time. On a
	// store whose records another program writes too, so is a session that has got its
	// key or its user from that program since it was listed; a session costs 1 Load more
	// there when it is saved first after a login or a new ID.
	Index bool

	// MaxSessions limits the sessions of a user. Default 0: no limit; at most
	// 1,000. Checking costs nothing below the limit. At the limit a login costs
	// up to MaxSessions Loads to find out which sessions are alive, 2 Saves, and 1
	// Delete for each session that it ends.
	MaxSessions int

	// AtLimit says what a login does if the user has MaxSessions. Default
	// [EndOldest]. A session that is listed although nobody has logged in, see Index,
	// ends others too, but is never refused.
	AtLimit LimitPolicy
}

// LimitPolicy says what a login does if the user has as many sessions as
// [OwnersConfig.MaxSessions] allows.
type LimitPolicy int

const (
	// EndOldest ends the sessions that logged in first. With more than 16, one that
	// got a new ID since may count as later.
	EndOldest LimitPolicy = iota
	// RefuseLogin makes saving the login fail with [ErrSessionLimit]. A session
	// counts until it ends, also if its browser is gone: give the user a way to end
	// one without a session.
	RefuseLogin
)

func (c OwnersConfig) check(p *problems) {
	switch {
	case c.MaxSessions < 0 || c.MaxSessions > 1000:
		p.bad("Owners: MaxSessions is %d; it must be between 0 and 1000", c.MaxSessions)
	case c.MaxSessions > 0 && !c.Index:
		p.bad("Owners: MaxSessions is set, and Index is not: there is nothing to count")
	}
	switch {
	case c.AtLimit != EndOldest && c.AtLimit != RefuseLogin:
		p.bad("Owners: unknown LimitPolicy %d", int(c.AtLimit))
	case c.AtLimit != EndOldest && c.MaxSessions == 0:
		p.bad("Owners: AtLimit is set, and MaxSessions is not")
	}
}

const (
	maxOwners  = 8    // of a session, beside its user
	maxOwnerID = 512  // bytes
	maxNote    = 1024 // bytes
)

func (o Owner) check() error {
	switch {
	case o.Kind == "" || o.ID == "":
		return errors.New("an Owner needs a Kind and an ID")
	case len(o.Kind) > maxOwnerID || len(o.ID) > maxOwnerID:
		return fmt.Errorf("the Kind or ID of an Owner has more than %d bytes", maxOwnerID)
	case !utf8.ValidString(o.Kind) || !utf8.ValidString(o.ID):
		return errors.New("the Kind or ID of an Owner is not UTF-8")
	}
	return nil
}

// digest is 24 bytes of SHA-256, in base64url.
func (o Owner) digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s%s", len(o.Kind), o.Kind, o.ID)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:24])
}

// short is a digest that tells the other owners of a session apart.
func (o Owner) short() string { return o.digest()[:8] }

// ownerKey returns the key of the record of o. No token leads to it, because none
// has a dot.
func (m *core) ownerKey(o Owner) string { return m.indexKey("owner." + o.digest()) }

// newPageKey returns a key for a page of the index.
func (m *core) newPageKey() string { return m.indexKey("page." + newToken()) }

// indexKey returns the key of a record of the index. Another program that shares the
// store may take tokens with a dot: a visitor of PHP's could send the name of the
// record of any user, and PHP would write over it. PHP takes none with '<'.
func (m *core) indexKey(name string) string {
	if m.shared {
		name = "<" + name
	}
	return m.cfg.StoreKey(name)
}

// A listing says where a session is listed. It is among the session's own values,
// so that whatever process gives the session a new ID lists it again.
type listing struct {
	Handle string            `json:"h"`
	Owners []Owner           `json:"o,omitempty"` // beside the user
	Note   map[string]string `json:"n,omitempty"`
	// Mark has short digests of the user and of the key for which the session was
	// listed, where another program may change both. After a login it has the first.
	Mark string `json:"k,omitempty"`
}

func newHandle() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// validHandle reports whether newHandle may have made h. A revocation keeps the
// handle in the index for a while, and it may come from a client.
func validHandle(h string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(h)
	return err == nil && len(b) == 16 && len(h) == base64.RawURLEncoding.EncodedLen(16)
}

// newListing returns the listing of a session of l.
func newListing(l Login) (listing, error) {
	ls := listing{Handle: newHandle(), Note: l.Note}
	if len(l.Owners) > maxOwners {
		return ls, fmt.Errorf("there are %d Owners, and %d are allowed", len(l.Owners), maxOwners)
	}
	for _, o := range append([]Owner{User(l.User)}, l.Owners...) {
		if err := o.check(); err != nil {
			return ls, err
		}
		if o != User(l.User) && !slices.Contains(ls.Owners, o) {
			ls.Owners = append(ls.Owners, o)
		}
	}
	size := 0
	for name, text := range l.Note {
		if !utf8.ValidString(name) || !utf8.ValidString(text) {
			return ls, errors.New("the Note is not UTF-8")
		}
		size += len(name) + len(text)
	}
	if size > maxNote {
		return ls, fmt.Errorf("%w: the Note has %d bytes, and %d are allowed", ErrTooLarge, size, maxNote)
	}
	return ls, nil
}

func (m *core) encodeListing(ls listing) ([]byte, error) {
	text, err := json.Marshal(ls)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return m.encode(string(text))
}

// listingOf returns the listing in the values of a session, and all its owners;
// without a handle if it is not listed, or if another program has taken its user away.
func (m *core) listingOf(values map[string][]byte) (ls listing, owners []Owner, err error) {
	data := values[listedName]
	if data == nil || values[userName] == nil {
		return ls, nil, nil
	}
	var text, user string
	if err = m.decode(data, &text); err == nil {
		if err = json.Unmarshal([]byte(text), &ls); err != nil {
			err = fmt.Errorf("%w: %w", ErrDecode, err)
		}
	}
	if err == nil {
		err = m.decode(values[userName], &user)
	}
	if err == nil && ls.Handle == "" {
		err = fmt.Errorf("%w: a listing has no handle", ErrDecode)
	}
	return ls, append([]Owner{User(user)}, ls.Owners...), err
}

// Handle returns the name of the session in the list of [Manager.Sessions], which
// is no secret and stays the same when the session gets a new ID. It is "" if the
// session has no user, or if there is no index. A session that is to be listed when
// it is next saved has its handle already.
func (s *Session) Handle() string {
	s.mu.Lock()
	values, key := s.changes.Values(), s.stored.key
	s.mu.Unlock()
	ls, _, _, _ := s.m.listingAt(values, key)
	return ls.Handle
}

// enlist lists the session, which was just stored under key with values, in the
// records of its owners. That is when a login takes place: a revocation that
// comes after it ends the session. The token leaves after that.
func (s *Session) enlist(ctx context.Context, values map[string][]byte, key string) error {
	ls, owners, err := s.m.listingOf(values)
	if err == nil && ls.Handle == "" {
		return nil
	}
	was, before, berr := s.m.listingOf(s.changes.Base())
	own, terr := s.m.terms(values)
	if err := cmp.Or(err, berr, terr); err != nil {
		return fmt.Errorf("%w: %w", errNotListed, err)
	}
	until := int64(0)
	if !own.until.IsZero() {
		until = own.until.Add(2 * skew).Unix() // by the clocks of all machines
	}
	again := s.isStored() && was.Handle == ls.Handle
	adopted := s.isStored() && !again && s.renewal != newLogin
	if adopted || key == s.stored.key { // leaves time to save it as it was
		try, cancel := halfOf(ctx)
		defer cancel()
		ctx = try
	}
	same := again && len(before) == len(owners) && !slices.ContainsFunc(owners, func(o Owner) bool { return !slices.Contains(before, o) })
	for i, o := range owners {
		e := index.Entry{Handle: ls.Handle, Until: until, Again: again && !same || adopted}
		for j, also := range owners {
			if j != i {
				e.Also = append(e.Also, also.short())
			}
		}
		slices.Sort(e.Also)
		from, limit := "", 0
		switch {
		case same:
			from = s.stored.key
		case i == 0 && !again && (!adopted || s.m.cfg.Owners.AtLimit == EndOldest):
			limit = s.m.cfg.Owners.MaxSessions
		}
		if err := s.m.list(ctx, s.m.ownerKey(o), e, from, key, limit, s.unchanged); err != nil {
			return err
		}
	}
	return nil
}

// unchanged returns a conflict if another request has stored the session since it
// was read, such as a login that this one is to join.
func (s *Session) unchanged(ctx context.Context) error {
	if !s.isStored() || s.hold != nil {
		return nil
	}
	rec, err := s.m.load(ctx, s.stored.key)
	switch {
	case errors.Is(err, ErrNotFound):
		return &ConflictError{Gone: true}
	case err == nil && rec.Version != s.stored.rec.Version:
		return &ConflictError{Current: &rec}
	}
	return err
}

// limited returns the values of a session that began at created with the time at
// which it is over at the latest, if it is listed. The index knows it no longer.
func (m *core) limited(values map[string][]byte, created time.Time) (map[string][]byte, error) {
	if values[listedName] == nil {
		return values, nil
	}
	own, err := m.terms(values)
	if err != nil {
		return nil, err
	}
	values = maps.Clone(values)
	delete(values, untilName)
	if absolute := m.lifetimes.of(own.life).absolute; absolute > 0 {
		values[untilName], err = m.encode(created.Add(absolute).Unix() + 1)
	}
	return values, err
}

// sameOwners reports whether the sessions with the values a and b are listed under
// the same owners.
func (m *core) sameOwners(a, b map[string][]byte) (bool, error) {
	_, of, err := m.listingOf(a)
	_, other, oerr := m.listingOf(b)
	lacks := func(all []Owner) func(Owner) bool {
		return func(o Owner) bool { return !slices.Contains(all, o) }
	}
	return !slices.ContainsFunc(of, lacks(other)) && !slices.ContainsFunc(other, lacks(of)), errors.Join(err, oerr)
}

// errNotListed says that the index of owners has failed, and not the session: a
// conflict in such an error is not one of the session.
var errNotListed = errors.New("the session could not be listed")

// errFull says that an owner has as many sessions as are allowed, if all that are
// listed are alive.
var errFull = errors.New("too many sessions are listed")

// list lists the session of e under key in the record of an owner. from is the key
// that it had, "" if it is new there. limit is how many sessions the owner may
// have, 0 for any number. Before list ends others for that, or refuses the session,
// it calls check, which says whether the session can still be stored.
func (m *core) list(ctx context.Context, owner string, e index.Entry, from, key string, limit int, check func(context.Context) error) error {
	const most = 20
	var met ownerRecord   // in which it was to be listed
	var room *ownerRecord // one that has room, although it lists so many
	var gone []string     // keys without a record
	again := e.Again      // it may be listed, and in a page by now
	for try := 0; ; try++ {
		o, err := m.changeOwner(ctx, owner, room, func(o *ownerRecord) (bool, error) {
			met = *o
			full := limit > 0 && o.head.Count() >= limit && !o.head.Lists(e.Handle)
			if full && (room == nil || room.version != o.version) {
				return false, errFull
			}
			if gone != nil {
				o.head.Drop(gone)
			}
			again = again || o.unsure
			e.Again = again
			return o.head.List(e, from, key)
		})
		revoked := errors.Is(err, index.ErrRevoked)
		switch {
		case err == nil:
			if o.head.Crowded() {
				m.pack(ctx, owner, o)
			}
			return nil
		case errors.Is(err, errFull):
			var refused error
			if room, refused, err = m.makeRoom(ctx, owner, met, e.Handle, limit-1, check); refused != nil {
				return refused
			}
		case errors.Is(err, index.ErrManyKeys):
			gone, err = m.gone(ctx, met.head.Keys(e.Handle))
		case errors.Is(err, index.ErrUnfinished), revoked:
			_, err = m.carryOut(ctx, owner, met)
		}
		if err == nil && try >= most {
			err = fmt.Errorf("%w: the sessions of an owner (%d times in a row)", ErrConflict, try+1)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", errNotListed, err)
		case revoked:
			return &ConflictError{Gone: true}
		}
	}
}
