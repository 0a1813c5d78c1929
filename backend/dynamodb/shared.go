package dynamodb

import (
	"encoding/binary"
	"hash/fnv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// A table that PHP's session handler writes too has rows that this package has not
// written: without a version and a start, with a lock of type N that has no end, and
// without data if the session is empty.

// Shared reports whether PHP uses the table too, which [Config].PHP says.
func (b *Backend) Shared() bool { return b.c.PHP.Connection != 0 }

// stock reports whether PHP changes data and leaves the version as it is.
func (b *Backend) stock() bool { return b.Shared() && b.c.PHP.Connection != VersionedConnection }

// base is the state of an item, as far as a Save demands that it is unchanged.
type base struct {
	history history // "" if only PHP has written the item
	// whole says that the data counts too. The handler of the SDK changes it and
	// leaves the version.
	whole bool
	data  types.AttributeValue // nil if there is none
}

const packedMark = "P"

// version returns the Version of the state. With the data it is a letter, the length
// of the history, the type of the data, how much padding there is, the history, the
// data, the padding, and a checksum. Its length is no multiple of eight, so it is no
// history; nor is it a multiple of eight and one more, as a holder's.
func (s base) version() session.Version {
	if !s.whole {
		return session.Version(s.history)
	}
	kind, data := byte('-'), ""
	switch d := s.data.(type) {
	case *types.AttributeValueMemberS:
		kind, data = 'S', d.Value
	case *types.AttributeValueMemberB:
		kind, data = 'B', string(d.Value)
	}
	pad := (8 - len(data)%8) % 8
	v := make([]byte, 0, 4+len(s.history)+len(data)+pad+8)
	v = append(v, packedMark[0], byte(len(s.history)), kind, byte(pad))
	v = append(v, s.history...)
	v = append(v, data...)
	v = append(v, make([]byte, pad)...)
	return session.Version(binary.BigEndian.AppendUint64(v, checksum(v)))
}

func checksum(v []byte) uint64 {
	h := fnv.New64a()
	h.Write(v) // never fails
	return h.Sum64()
}

// unpack is the reverse of version for a state that is whole.
func unpack(v session.Version) (base, bool) {
	if len(v) < 12 || len(v)%8 != 4 || v[:1] != packedMark {
		return base{}, false
	}
	end := len(v) - 8
	if checksum([]byte(v[:end])) != binary.BigEndian.Uint64([]byte(v[end:])) {
		return base{}, false
	}
	n, kind, pad := int(v[1]), v[2], int(v[3])
	if n%tokenSize != 0 || n > tokens*tokenSize || 4+n+pad > end {
		return base{}, false
	}
	s := base{history: history(v[4 : 4+n]), whole: true}
	data := string(v[4+n : end-pad])
	switch kind {
	case 'S':
		s.data = &types.AttributeValueMemberS{Value: data}
	case 'B':
		s.data = &types.AttributeValueMemberB{Value: []byte(data)}
	}
	return s, true
}

// was decodes the Version that a caller hands in.
func (b *Backend) was(v session.Version) (holding, base) {
	held, h := split(v)
	if b.Shared() {
		if s, ok := unpack(session.Version(h)); ok {
			return held, s
		}
	}
	return held, base{history: h}
}

// state returns the base of an item, whose version is h.
func (b *Backend) state(item map[string]types.AttributeValue, h history) base {
	s := base{history: h}
	if b.Shared() && item[b.c.PrivateAttribute] == nil && (h == "" || b.stock()) {
		s.whole, s.data = true, item[b.c.DataAttribute]
	}
	return s
}

// history returns that of the record.
func (s stored) history() history {
	if state, packed := unpack(s.rec.Version); packed {
		return state.history
	}
	return history(s.rec.Version)
}

// traceShared is trace beside PHP, whose handler changes the data and leaves the
// history, and makes sessions anew under an ID that a client has.
func (s *save) traceShared(found stored) trace {
	h, old := found.history(), s.old.history
	t := h.look(s.token, old)
	switch {
	case t == traceSame && found.rec.Version != s.old.version():
		return traceForgotten
	case t == traceNewer && old != "" && h.index(old.newest()) < 0:
		return traceAnew
	}
	return t
}

// same returns the condition that an item is still s, and adds its values.
func (b *Backend) same(s base, values map[string]types.AttributeValue) string {
	condition := "attribute_not_exists(#v)"
	if s.history != "" {
		condition = "#v = :old"
		values[":old"] = &types.AttributeValueMemberB{Value: []byte(s.history)}
	}
	switch {
	case s.whole && s.data == nil:
		condition += " AND attribute_not_exists(#d)"
	case s.whole:
		condition += " AND #d = :was"
		values[":was"] = s.data
	case b.stock():
		condition += " AND attribute_exists(#p)" // the data does not count: PHP's is not that of a session
	}
	return condition
}

// Placeholders in the conditions of expressions. On an ordinary table they are
// replaced once, and beside PHP for each request.
const (
	sameState = "{same}"
	freeLock  = "{free}"

	ordinarySame = "#v = :old"
	ordinaryFree = "(attribute_not_exists(#l) OR #u <= :ms)"

	// An old lock_until may stand beside PHP's lock, so the type of the lock counts.
	sharedFree = "(attribute_not_exists(#l) OR (attribute_type(#l, :binary) AND #u <= :ms)"
)

// resolve returns w with the conditions for its state, on a table beside PHP.
func (b *Backend) resolve(w conditional) conditional {
	if !b.Shared() {
		return w
	}
	condition := w.expr.condition
	if strings.Contains(condition, sameState) {
		condition = strings.ReplaceAll(condition, sameState, b.same(w.was, w.values))
	}
	if strings.Contains(condition, freeLock) {
		w.values[":binary"] = &types.AttributeValueMemberS{Value: "B"}
		free := sharedFree
		if w.dead != nil {
			w.values[":held"] = w.dead.foreign
			delete(w.values, ":seen")
			if w.dead.seen == nil {
				free += " OR (#l = :held AND attribute_not_exists(#e))"
			} else {
				free += " OR (#l = :held AND #e = :seen)"
				w.values[":seen"] = w.dead.seen
			}
		}
		condition = strings.ReplaceAll(condition, freeLock, free+")")
	}
	e := b.expression(w.expr.text, condition)
	e.returns, e.once = w.expr.returns, w.expr.once
	w.expr = &e
	return w
}

// decodeShared is decode for a table beside PHP.
func (b *Backend) decodeShared(key string, item map[string]types.AttributeValue, now time.Time) (rec session.Record, l lock, err error) {
	if item[b.c.ExpiresAttribute] == nil {
		// PHP has locked a session that does not exist yet. It takes each item
		// without a deadline for none.
		if id := item[b.c.LockAttribute]; id != nil {
			l = b.foreignLock(key, id, nil, "", now)
		}
		return session.Record{}, l, session.ErrNotFound
	}
	expires, ok := epoch(item[b.c.ExpiresAttribute], 1)
	if !ok {
		return session.Record{}, lock{}, b.foreign(item, b.c.ExpiresAttribute, "N with epoch seconds")
	}
	rec.Expires = time.Unix(expires, 0).UTC()

	attribute := b.c.PrivateAttribute
	if item[attribute] == nil {
		attribute = b.c.DataAttribute
	}
	switch data := item[attribute].(type) {
	case nil: // PHP stores none for an empty session
	case *types.AttributeValueMemberB:
		rec.Data = data.Value
	case *types.AttributeValueMemberS:
		rec.Data = []byte(data.Value)
	default:
		return session.Record{}, lock{}, b.foreign(item, attribute, "B or S")
	}

	var h history
	rec.Created = now.UTC().Truncate(time.Millisecond) // PHP does not say
	if v := item[b.c.VersionAttribute]; v != nil {
		version, ok := v.(*types.AttributeValueMemberB)
		if !ok || !history(version.Value).valid() {
			return session.Record{}, lock{}, b.foreign(item, b.c.VersionAttribute, "B with up to 16 tokens")
		}
		h = history(version.Value)
		if created, ok := epoch(item[b.c.CreatedAttribute], 1000); ok {
			rec.Created = time.UnixMilli(created).UTC()
		}
	} else if attribute == b.c.PrivateAttribute {
		return session.Record{}, lock{}, b.foreign(item, b.c.VersionAttribute, "B with up to 16 tokens")
	}
	rec.Version = b.state(item, h).version()

	switch id := item[b.c.LockAttribute].(type) {
	case nil:
	case *types.AttributeValueMemberB:
		if l.id = string(id.Value); len(l.id) != lockIDSize {
			return session.Record{}, lock{}, b.foreign(item, b.c.LockAttribute, "B with 16 bytes")
		}
		if l.until, ok = epoch(item[b.c.LockUntilAttribute], 1000); !ok {
			return session.Record{}, lock{}, b.foreign(item, b.c.LockUntilAttribute, "N with epoch milliseconds")
		}
	default:
		l = b.foreignLock(key, id, item[b.c.ExpiresAttribute], rec.Version, now)
	}
	if l.foreign == nil {
		b.sightings.forget(key)
	}
	if l.live(now) {
		rec.LockedUntil = l.end()
	}
	return rec, l, nil
}
