package session

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Foreign is a session of another library, for [Pack].
type Foreign struct {
	// Values are those of the session. A name must not be empty, and must not begin
	// with "_session.". A value of each type is as [Key.Set] takes it.
	Values map[string]any

	// User is the user that the other library's session is bound to, as [Login] has
	// it; "" for a visitor. The session is not in the index of owners before a Manager
	// saves changes of it, see [OwnersConfig.Index].
	User string

	// Created is when the session began. Default: now, so that the absolute timeout
	// begins with the move.
	Created time.Time

	// Expires is when the session ends unless it is used. It is required. When the
	// session is next used, the timeouts of the [Config] apply.
	Expires time.Time

	// Used is when the session was last used, for an idle timeout that is shorter
	// than the other library's. Default: not known; then the session lives until
	// Expires, or until the absolute timeout.
	Used time.Time
}

// Pack returns the record of a session of another library, as a [Manager] with the
// codec c reads it. It makes no request. To move the session, [Backend.Save] creates
// the record under the key that [Config.StoreKey] makes of its token; see
// [Config.Tokens] for tokens of other libraries.
//
// It fails with [ErrEncode] if a name is not allowed, or if the codec cannot encode
// a value or could not read it back unchanged. The error names the value and its
// type, and not what it is.
func Pack(c Codec, f Foreign) (Record, error) {
	switch {
	case c == nil:
		return Record{}, errors.New("session: pack: there is no Codec")
	case f.Expires.IsZero():
		return Record{}, errors.New("session: pack: Expires is zero")
	case f.Used.After(f.Expires):
		return Record{}, errors.New("session: pack: Used is after Expires")
	}
	m := &core{cfg: Config{Codec: c}}
	values := make(map[string][]byte, len(f.Values)+1)
	for _, name := range slices.Sorted(maps.Keys(f.Values)) {
		var err error
		if values[name], err = m.encodeValue(name, f.Values[name]); err != nil {
			return Record{}, wrapValue("pack", name, err)
		}
	}
	if f.User != "" {
		var err error
		if values[userName], err = m.encode(f.User); err != nil {
			return Record{}, fmt.Errorf("session: pack: the user: %w", err)
		}
	}
	if !f.Used.IsZero() {
		putUnlessNil(values, idleName, m.encodeIdle(f.Expires.Sub(f.Used), true))
	}
	data, err := c.Join(values)
	if err != nil {
		return Record{}, fmt.Errorf("session: pack: %w: %w", ErrEncode, err)
	}
	rec := Record{Data: data, Created: f.Created, Expires: f.Expires}
	if rec.Created.IsZero() {
		rec.Created = time.Now()
	}
	return rec, nil
}
