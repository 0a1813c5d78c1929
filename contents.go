package session

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

// Names with this prefix are ours: userName has the user that Login was given,
// lifetimeName the session's own Lifetime, if it has one, authName the last
// authentication, listedName where the session is listed, and untilName when it
// ends at the latest because of that. movedName, versionName and sealedName, in the
// marker under an old ID, have the key of the new record, the version that it began
// with, and its token, sealed. ownerName has a record of the index of owners.
// trailName, with the keys of markers, idleName and renewedName stand beside the
// values, and a Session never has them among its own.
const (
	reserved     = "_session."
	userName     = reserved + "user"
	lifetimeName = reserved + "lifetime"
	authName     = reserved + "auth"
	movedName    = reserved + "moved"
	versionName  = reserved + "version"
	trailName    = reserved + "trail"
	idleName     = reserved + "idle"
	renewedName  = reserved + "renewed"
	sealedName   = reserved + "sealed"
	listedName   = reserved + "listed"
	untilName    = reserved + "until"
	ownerName    = reserved + "owner"
)

// contents is the Data of a record, taken apart.
type contents struct {
	values  map[string][]byte
	trail   []byte        // the markers that the session has left, encoded
	used    time.Duration // how long before its Expires the session was used; 0 if that is not stored
	renewed time.Duration // how long after its Created the session got its ID; 0 if that is not stored
	own     terms         // those among the values; join does not read them
}

// split takes apart what join has made. It fails with a movedError for a marker.
func (m *core) split(rec Record) (contents, error) {
	values, err := m.cfg.Codec.Split(rec.Data)
	if err != nil {
		return contents{}, fmt.Errorf("%w: %w", ErrDecode, err)
	}
	if values[movedName] != nil {
		return contents{}, m.splitMarker(rec, values)
	}
	own, err := m.terms(values)
	if err != nil {
		return contents{}, err
	}
	c := contents{
		values: values, trail: values[trailName], own: own,
		used: m.decodeSeconds(values[idleName]), renewed: m.decodeSeconds(values[renewedName]),
	}
	delete(values, trailName)
	delete(values, idleName)
	delete(values, renewedName)
	return c, nil
}

// join makes the Data of a record. It leaves out the trail rather than fail
// because of it.
func (m *core) join(c contents) ([]byte, error) {
	all, idle, renewed := c.values, m.encodeIdle(c.used, c.values[lifetimeName] != nil), m.encodeSeconds(c.renewed)
	if c.trail != nil || idle != nil || renewed != nil {
		all = make(map[string][]byte, len(c.values)+3)
		maps.Copy(all, c.values)
		putUnlessNil(all, trailName, c.trail)
		putUnlessNil(all, idleName, idle)
		putUnlessNil(all, renewedName, renewed)
	}
	data, err := m.cfg.Codec.Join(all)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	if limit := m.cfg.MaxSize; limit > 0 && len(data) > limit {
		if c.trail != nil {
			c.trail = nil
			return m.join(c)
		}
		return nil, fmt.Errorf("%w: %d bytes, and MaxSize is %d", ErrTooLarge, len(data), limit)
	}
	return data, nil
}

func putUnlessNil(values map[string][]byte, name string, data []byte) {
	if data != nil {
		values[name] = data
	}
}

// A session stores how many seconds lay between its last use and Expires. The
// deadline alone does not tell when that use was, and a shorter IdleTimeout is
// to apply at once. Moving the deadline leaves it as it is, and so costs no
// write of the values. The two most usual timeouts are left out, so that
// sessions with them are no larger: timeouts.madeBy tells them by the deadline. A
// session with a Lifetime of its own is larger anyway, and stores them too.

// encodeIdle returns used as it is stored, nil if it is left out.
func (m *core) encodeIdle(used time.Duration, always bool) []byte {
	if used = used.Truncate(time.Second); !always && (used == defaultIdle || used == hourIdle) {
		return nil
	}
	return m.marshalSeconds(used)
}

// encodeSeconds returns d as it is stored, nil if it is 0.
func (m *core) encodeSeconds(d time.Duration) []byte {
	if d < time.Second {
		return nil
	}
	return m.marshalSeconds(d)
}

// marshalSeconds returns nil if the codec cannot encode d.
func (m *core) marshalSeconds(d time.Duration) []byte {
	data, err := m.cfg.Codec.Marshal(int64(d / time.Second))
	if err != nil || len(data) == 0 {
		return nil
	}
	return data
}

// decodeSeconds is the reverse of both. It returns 0 for what is left out or does
// not decode.
func (m *core) decodeSeconds(data []byte) time.Duration {
	if data == nil {
		return 0
	}
	var n int64 // on the heap, so not before
	if err := m.cfg.Codec.Unmarshal(data, &n); err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// terms returns those among the values of a session. It does not pass over what
// does not decode, as the session could then live longer.
func (m *core) terms(values map[string][]byte) (own terms, err error) {
	if own.life, err = m.lifetime(values); err != nil || values[untilName] == nil {
		return own, err
	}
	var n int64
	if err = m.decode(values[untilName], &n); err != nil {
		return own, fmt.Errorf("the end of the session: %w", err)
	}
	own.until = time.Unix(n, 0)
	return own, nil
}

// lifetime returns the Lifetime among the values of a session, nil if there is none.
func (m *core) lifetime(values map[string][]byte) (*Lifetime, error) {
	data := values[lifetimeName]
	if data == nil {
		return nil, nil
	}
	var text string
	if err := m.decode(data, &text); err != nil {
		return nil, fmt.Errorf("the lifetime of the session: %w", err)
	}
	l, err := parseLifetime(text)
	if err != nil {
		return nil, fmt.Errorf("%w the lifetime of the session: %w", ErrDecode, err)
	}
	return &l, nil
}

// encodeLifetime is the reverse, after a check. It returns nil for the zero
// Lifetime.
func (m *core) encodeLifetime(l Lifetime) ([]byte, error) {
	if l == (Lifetime{}) {
		return nil, nil
	}
	if err := m.lifetimes.check(l); err != nil {
		return nil, err
	}
	return m.encode(l.text())
}

// timeoutsOf returns those of the session of rec; if it is none, the longest that a
// session can have.
func (m *core) timeoutsOf(rec Record) timeouts {
	c, err := m.split(rec)
	if err != nil {
		return m.lifetimes.most
	}
	return m.lifetimes.by(c.own)
}

// movedError says that a session lives on under another ID, and what the marker
// under the old ID says. It stays inside of this package.
type movedError struct {
	key     string            // of the record under the new ID
	version Version           // that it began with, "" if that is not known
	at      time.Time         // when the session moved
	sealed  sealedToken       // the token under the new ID, "" if nobody is to have it
	kept    map[string][]byte // the values from before a Login, nil if there are none
	from    string            // the key of the marker
	found   Version           // of the marker
	token   string            // of the old ID
}

// errMoved is the error for a caller, without what the marker says.
var errMoved = fmt.Errorf("%w: it has a new ID", ErrNotFound)

func (e *movedError) Error() string { return errMoved.Error() }
func (e *movedError) Unwrap() error { return errMoved }

// asMoved returns the movedError in err, nil if there is none.
func asMoved(err error) *movedError {
	if err == nil {
		return nil // without an allocation
	}
	var to *movedError
	errors.As(err, &to)
	return to
}

// justMoved is how long requests under the old ID are taken to have been in
// flight when the session moved. What they change is not saved under yet another
// ID, as its cookie would displace that of the new one.
const justMoved = 10 * time.Second

// recent reports whether the answer with the new ID may be in flight.
func (e *movedError) recent() bool { return time.Since(e.at) < justMoved }

// maxMarkedVersion is the length of the longest Version that a marker has. A
// request that needs a longer one reads the record.
const maxMarkedVersion = 512

// joinMarker makes the Data of a marker: where the session went, the sealed token
// if there is one, and kept, what the session was.
func (m *core) joinMarker(key string, v Version, sealed sealedToken, kept map[string][]byte) ([]byte, error) {
	encodedKey, err := m.encode(key)
	if err != nil {
		return nil, err
	}
	values := map[string][]byte{movedName: encodedKey}
	if len(v) <= maxMarkedVersion {
		if values[versionName], err = m.encode(base64.RawURLEncoding.EncodeToString([]byte(v))); err != nil {
			return nil, err
		}
	}
	if sealed != "" {
		if values[sealedName], err = m.encode(string(sealed)); err != nil {
			return nil, err
		}
	}
	maps.Copy(values, kept)
	data, err := m.cfg.Codec.Join(values)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	if limit := m.cfg.MaxSize; limit > 0 && len(data) > limit && len(kept) > 0 {
		return m.joinMarker(key, v, sealed, nil)
	}
	return data, nil
}

// splitMarker returns the movedError of a marker that has values.
func (m *core) splitMarker(rec Record, values map[string][]byte) error {
	to := &movedError{at: rec.Created, kept: maps.Clone(values)}
	if err := m.decode(values[movedName], &to.key); err != nil {
		return err
	}
	if data := values[versionName]; data != nil { // earlier versions stored none
		var text string
		if err := m.decode(data, &text); err != nil {
			return err
		}
		version, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDecode, err)
		}
		to.version = Version(version)
	}
	if data := values[sealedName]; data != nil { // one that does not decode is as good as none
		var text string
		if m.decode(data, &text) == nil {
			to.sealed = sealedToken(text)
		}
	}
	delete(to.kept, movedName)
	delete(to.kept, versionName)
	delete(to.kept, sealedName)
	if len(to.kept) == 0 {
		to.kept = nil
	}
	return to
}

// maxTrail is how many markers a session leaves behind.
const maxTrail = 8

// extendTrail returns trail with the marker at key, which is to live until
// expires, and the key of the marker that is to be deleted in exchange, "" if
// there is room. A trail is a line for each marker: when it ends, and its key.
// One that does not decode is as good as none.
func (m *core) extendTrail(trail []byte, key string, expires time.Time) (_ []byte, oldest string, err error) {
	if strings.Contains(key, "\n") {
		return trail, "", nil // its markers are not counted
	}
	var old string
	if trail != nil {
		_ = m.decode(trail, &old)
	}
	var marks []string
	now := time.Now().Unix()
	for mark := range strings.Lines(old) {
		until, _, _ := strings.Cut(mark, " ")
		if n, err := strconv.ParseInt(until, 36, 64); err == nil && n > now {
			marks = append(marks, strings.TrimSuffix(mark, "\n"))
		}
	}
	marks = append(marks, strconv.FormatInt(expires.Unix(), 36)+" "+key)
	if len(marks) > maxTrail {
		_, oldest, _ = strings.Cut(marks[0], " ")
		marks = marks[1:]
	}
	data, err := m.encode(strings.Join(marks, "\n"))
	return data, oldest, err
}
