package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
)

// Save stores rec and returns its new version. If rec.Version is zero, Save
// creates the record. Otherwise it replaces the state that the version names, and
// fails with a [*session.ConflictError] if another state is stored. The error has
// the current record.
//
// While a lock is live, only the holder's version can write. Any other Save fails
// with a [*session.LockedError], even one that creates or whose version is no
// longer stored. Every Save that succeeds ends the lock.
//
// Save rounds Expires up to the second, unless it has passed, and Created down to
// the millisecond. Both must be in the years 1 to 9999. An item larger than
// [Config].MaxItemSize is refused with [session.ErrTooLarge]. With DataType
// String, data that is not UTF-8 is refused with [session.ErrEncode]. Save sends
// neither.
//
// After any other error, if a response was lost, the record may have been stored.
// The error then says so. A Save that creates is not sent again in that case,
// because the record could have been deleted in between.
//
// Save sends one UpdateItem, which costs 1 WCU per KB of the larger of the old
// and the new item, rounded up, whether it succeeds or conflicts. It sends a
// second one if KeepLater is set and the stored Expires is later. If rec replaces
// a state and its Expires has passed, Save sends a DeleteItem instead. If it finds
// an expired record, it removes that with another DeleteItem.
func (b *Backend) Save(ctx context.Context, key string, rec session.Record) (session.Version, error) {
	if err := b.check(ctx, opUpdateItem, key); err != nil {
		return "", err
	}
	s, err := b.newSave(key, rec)
	if err != nil {
		return "", err
	}
	for {
		refused, err := b.sendSave(ctx, s)
		if err != nil {
			return "", err
		}
		if refused == nil {
			return s.next.version(), nil
		}
		found := b.stored(ctx, key, refused)
		v := s.refused(refused, found).verdict()
		if s.breaks(v, refused, found) {
			continue
		}
		if v == verdictExpired {
			var r removal
			r, found.err = b.bury(ctx, key, found.rec)
			v = r.ofSave(refused.unsure != nil)
		}
		switch v {
		case verdictSuccess:
			// If others have written since, the next Save with this version
			// conflicts.
			return s.next.version(), nil
		case verdictAgain:
			b.leaveExpires(s)
		default:
			if v == verdictUnknown && found.err == nil {
				found.err = s.doubt(found)
			}
			return "", b.verdictError(s.op(), v, refused, found)
		}
	}
}

// save is a Save in progress.
type save struct {
	kind    saveKind
	holder  string // ID of the lock that the version names, "" for none
	old     base   // what it replaces, zero if it creates
	token   string
	next    base  // what it writes
	expires int64 // epoch seconds
	keeps   bool  // a later Expires stays
	shared  bool  // the table is beside PHP
	private bool  // there, as Private of the record
	empty   bool  // there, no data is stored
	request conditional
}

// newSave prepares a Save, and refuses one that must not be sent.
func (b *Backend) newSave(key string, rec session.Record) (*save, error) {
	held, old := b.was(rec.Version)
	s := &save{holder: held.id, old: old, token: newToken(), shared: b.Shared()}
	s.next = base{history: old.history.push(s.token)}
	expires, created, err := b.fits(key, rec, s.next.history)
	if err != nil {
		return nil, err
	}
	s.expires = expires
	switch {
	case rec.Version == "":
		s.kind = saveCreates
	case rec.Expires.After(b.now()):
		s.kind = saveReplaces
	default:
		s.kind = saveEnds
	}
	s.keeps = rec.KeepLater && s.kind != saveCreates

	values := map[string]types.AttributeValue{
		":d": b.data(rec.Data),
		":e": number(expires),
		":c": number(created),
		":v": &types.AttributeValueMemberB{Value: []byte(s.next.history)},
	}
	if s.kind != saveCreates && !s.shared {
		values[":old"] = &types.AttributeValueMemberB{Value: []byte(old.history)}
	}
	if s.holder != "" {
		values[":mine"] = &types.AttributeValueMemberB{Value: []byte(s.holder)}
	}
	if s.shared {
		b.share(s, rec, values)
	}
	s.request = conditional{key: key, expr: b.saveExpr(s), values: values, was: old}
	if s.keeps {
		s.request.expr = s.request.expr.unlessLater()
	}
	return s, nil
}

func (s *save) op() operation {
	if s.kind == saveEnds {
		return opDeleteItem
	}
	return opUpdateItem
}

func (b *Backend) sendSave(ctx context.Context, s *save) (*refusal, error) {
	if s.kind == saveEnds {
		return b.remove(ctx, s.request)
	}
	_, refused, err := b.update(ctx, s.request)
	return refused, err
}

// leaveExpires makes s a Save that does not change Expires. No request can say
// "the later of the two", so that takes another one.
func (b *Backend) leaveExpires(s *save) {
	s.kind, s.keeps = saveReplaces, false
	s.request.expr = b.saveExpr(s).keepingExpires()
	delete(s.request.values, ":e")
}

// saveExpr returns the expression for s.
func (b *Backend) saveExpr(s *save) *expression {
	e := b.expr.ofSave(s.kind, s.holder != "")
	if s.shared && s.kind != saveEnds {
		e = e.storing(s.private, s.empty)
	}
	return e
}

// share prepares s for a table beside PHP.
func (b *Backend) share(s *save, rec session.Record, values map[string]types.AttributeValue) {
	s.private, s.empty = rec.Private, !rec.Private && len(rec.Data) == 0
	if s.empty {
		delete(values, ":d")
	}
	if s.next.whole = b.stock() && !s.private; s.next.whole {
		s.next.data = values[":d"]
	}
}

// breaks makes s one that ignores the lock of a dead holder in PHP, if that has refused
// it, which v says. It does so once for each state of the item.
func (s *save) breaks(v verdict, refused *refusal, found stored) bool {
	dead := found.lock
	if !dead.dead(refused.at) || s.request.dead != nil && s.request.dead.sum == dead.sum {
		return false
	}
	switch {
	case v == verdictWasLocked, v == verdictUnknown && found.err == nil && s.trace(found) == traceSame: // the same request once more
	case s.kind == saveCreates && v == verdictUnseen: // what PHP leaves of a session that it has not stored
	default:
		return false
	}
	s.request.dead = &dead
	return true
}

// refused returns the inputs for the verdict on s.
func (s *save) refused(refused *refusal, found stored) refusedSave {
	barred := found.lock.live(refused.at)
	if s.holder != "" {
		barred = found.lock.id != s.holder
	}
	row, trace := found.row(), s.trace(found)
	if trace == traceAnew && s.kind == saveReplaces { // a logout is to end the other one too
		row = rowGone
	}
	return refusedSave{
		kind:    s.kind,
		holder:  s.holder != "",
		lost:    refused.unsure != nil,
		row:     row,
		trace:   trace,
		barred:  barred,
		expired: found.expired(refused.at),
		later:   s.keeps && found.rec.Expires.Unix() > s.expires,
	}
}

// trace says how the record that was found relates to s.
func (s *save) trace(found stored) trace {
	if found.err != nil {
		return traceNewer
	}
	if s.shared {
		return s.traceShared(found)
	}
	return history(found.rec.Version).look(s.token, s.old.history)
}

// doubt says why the record that was found does not tell whether s was
// applied.
func (s *save) doubt(found stored) error {
	switch t := s.trace(found); {
	case t == traceForgotten && s.shared && found.history() == s.old.history:
		return errors.New("PHP has changed the data, and may change it back")
	case t == traceForgotten:
		return fmt.Errorf("there were %d or more other writes since", tokens)
	}
	return errors.New("the record is as it was, and locked")
}

// fits refuses a record that the table cannot hold, and returns the times to
// store.
func (b *Backend) fits(key string, rec session.Record, version history) (expires, created int64, err error) {
	expires, created = seconds(rec.Expires), rec.Created.UnixMilli()
	if !rec.Expires.After(b.now()) {
		expires = rec.Expires.Unix() // rounding up must not give it another second
	}
	switch {
	case rec.Expires.IsZero():
		return 0, 0, errors.New("dynamodb: the record has no Expires")
	case expires < minSeconds || expires > maxSeconds:
		return 0, 0, errors.New("dynamodb: Expires is not in the years 1 to 9999")
	case rec.Created.Year() < 1 || rec.Created.Year() > 9999:
		return 0, 0, errors.New("dynamodb: Created is not in the years 1 to 9999")
	}
	size := b.fixed + len(key) + len(rec.Data) + numberSize(expires) + numberSize(created) + len(version)
	if size > b.c.MaxItemSize {
		return 0, 0, fmt.Errorf("dynamodb: the item would have %d bytes, and %d are allowed: %w",
			size, b.c.MaxItemSize, session.ErrTooLarge)
	}
	if b.c.DataType == String && !utf8.Valid(rec.Data) {
		return 0, 0, fmt.Errorf("dynamodb: the data is not UTF-8 text, which DataType String requires: %w", session.ErrEncode)
	}
	return expires, created, nil
}

// untilOf returns the deadline that a Touch or a Release asks for, in epoch
// seconds.
func untilOf(expires time.Time) (int64, error) {
	until := seconds(expires)
	if until > maxSeconds {
		return 0, errors.New("dynamodb: Expires is not in the years 1 to 9999")
	}
	return until, nil
}

func (b *Backend) data(data []byte) types.AttributeValue {
	switch {
	case b.c.DataType == String:
		return &types.AttributeValueMemberS{Value: string(data)}
	case data == nil:
		data = []byte{}
	}
	return &types.AttributeValueMemberB{Value: data}
}
