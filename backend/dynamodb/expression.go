package dynamodb

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// expression is the part of a request that is the same for all requests of a
// kind. The SDK only reads it.
type expression struct {
	text      string // projection or update
	condition string
	names     map[string]string
	returns   types.ReturnValue // "" for none
	once      bool              // see patience
}

// expressions are those of a Backend.
type expressions struct {
	load        expression
	create      expression
	replace     expression // by a writer that holds no lock
	unlock      expression // a write by the holder of the lock
	end         expression // by a writer that holds no lock
	endHeld     expression // by the holder of the lock
	overdue     expression // removes an expired record
	touch       expression
	acquire     expression
	extend      expression
	release     expression
	releaseMove expression // release, and move Expires
}

// newExpressions makes the expressions for the attributes of b. Their names are
// always replaced by placeholders: "data" is only one of some six hundred
// reserved words.
func (b *Backend) newExpressions() expressions {
	const (
		// Every write ends the lock: that of its holder, or one that has run out.
		set  = "SET #d = :d, #e = :e, #c = :c, #v = :v REMOVE #l, #u"
		same = sameState
		free = freeLock
	)
	e := expressions{
		load: b.expression("#d, #e, #c, #v, #l, #u", ""),
		// An expired record of this package may be replaced.
		create:  b.expression(set, "attribute_not_exists(#k) OR (attribute_exists(#v) AND #e <= :now)"),
		replace: b.expression(set, same+" AND #e > :now AND "+free),
		// The lease does not matter: if it has run out and nobody has taken the
		// lock over, this write harms nobody.
		unlock: b.expression(set, same+" AND #e > :now AND #l = :mine"),
		// A record that has expired may be ended in spite of its lock, which has
		// expired with it.
		end:     b.expression("", same+" AND ("+free+" OR #e <= :now)"),
		endHeld: b.expression("", same+" AND (#l = :mine OR #e <= :now)"),
		overdue: b.expression("", same+" AND #e <= :now"),
		// Every item of this package has a version. Others are left alone.
		touch:       b.expression("SET #e = :e", "attribute_exists(#v) AND #e > :now AND #e < :e"),
		acquire:     b.expression("SET #l = :mine, #u = :until", "attribute_exists(#v) AND #e > :now AND "+free),
		extend:      b.expression("SET #u = :until", "#l = :mine AND #e > :now AND #u > :ms"),
		release:     b.expression("REMOVE #l, #u", "#l = :mine AND #e > :now"),
		releaseMove: b.expression("SET #e = :e REMOVE #l, #u", "#l = :mine AND #e > :now AND #e < :e"),
	}
	if b.Shared() {
		// PHP's rows have no version, and it leaves one without Expires behind if it
		// dies before it has stored a session that it has locked.
		e.create = b.expression(set, "#e <= :now OR (attribute_not_exists(#e) AND "+free+")")
		e.touch.condition = "#e > :now AND #e < :e"
		e.acquire.condition = "#e > :now AND " + free
		e.load.text += ", #p"
		e.load.names = b.names("#d", "#e", "#c", "#v", "#l", "#u", "#p")
	}
	e.create.once = true
	e.acquire.returns = types.ReturnValueAllNew // the same as a consistent read, at no cost
	return e
}

// expression returns one with the names that it uses, as DynamoDB refuses
// others.
func (b *Backend) expression(text, condition string) expression {
	if !b.Shared() {
		condition = strings.NewReplacer(sameState, ordinarySame, freeLock, ordinaryFree).Replace(condition)
	}
	var used []string
	for _, p := range []string{"#k", "#d", "#e", "#c", "#v", "#l", "#u", "#p"} {
		if strings.Contains(text+condition, p) {
			used = append(used, p)
		}
	}
	return expression{text: text, condition: condition, names: b.names(used...)}
}

// ofSave returns the expression of a Save.
func (e *expressions) ofSave(kind saveKind, holder bool) *expression {
	switch {
	case kind == saveCreates:
		return &e.create
	case kind == saveEnds && holder:
		return &e.endHeld
	case kind == saveEnds:
		return &e.end
	case holder:
		return &e.unlock
	}
	return &e.replace
}

// unlessLater is e, on the further condition that the stored Expires is not
// later than :e.
func (e *expression) unlessLater() *expression {
	with := *e
	with.condition += " AND #e <= :e"
	return &with
}

// keepingExpires is e without setting Expires.
func (e *expression) keepingExpires() *expression {
	with := *e
	with.text = strings.Replace(e.text, "#e = :e, ", "", 1)
	return &with
}

// storing is e, the expression of a Save on a table beside PHP, for the data that is
// stored. PHP stores none for an empty session.
func (e *expression) storing(private, empty bool) *expression {
	with := *e
	switch {
	case private:
		with.text = strings.NewReplacer("#d = :d", "#p = :d", "REMOVE ", "REMOVE #d, ").Replace(e.text)
	case empty:
		with.text = strings.NewReplacer("#d = :d, ", "", "REMOVE ", "REMOVE #d, #p, ").Replace(e.text)
	default:
		with.text = strings.Replace(e.text, "REMOVE ", "REMOVE #p, ", 1)
	}
	return &with
}

// names maps placeholders to the names of the attributes.
func (b *Backend) names(placeholders ...string) map[string]string {
	all := map[string]string{
		"#k": b.c.KeyAttribute,
		"#d": b.c.DataAttribute,
		"#e": b.c.ExpiresAttribute,
		"#c": b.c.CreatedAttribute,
		"#v": b.c.VersionAttribute,
		"#l": b.c.LockAttribute,
		"#u": b.c.LockUntilAttribute,
		"#p": b.c.PrivateAttribute,
	}
	names := make(map[string]string, len(placeholders))
	for _, p := range placeholders {
		names[p] = all[p]
	}
	return names
}
