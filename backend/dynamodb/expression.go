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

// newExpressions makes the expressions with the attribute names that names
// returns for placeholders. Names are always replaced by placeholders: "data"
// is only one of some six hundred reserved words.
func newExpressions(names func(placeholders ...string) map[string]string) expressions {
	const (
		// Every write ends the lock: that of its holder, or one that has run out.
		set  = "SET #d = :d, #e = :e, #c = :c, #v = :v REMOVE #l, #u"
		free = "(attribute_not_exists(#l) OR #u <= :ms)"
	)
	return expressions{
		load: expression{
			text:  "#d, #e, #c, #v, #l, #u",
			names: names("#d", "#e", "#c", "#v", "#l", "#u"),
		},
		create: expression{
			text: set,
			// An expired record of this package may be replaced.
			condition: "attribute_not_exists(#k) OR (attribute_exists(#v) AND #e <= :now)",
			names:     names("#k", "#d", "#e", "#c", "#v", "#l", "#u"),
			once:      true,
		},
		replace: expression{
			text:      set,
			condition: "#v = :old AND #e > :now AND " + free,
			names:     names("#d", "#e", "#c", "#v", "#l", "#u"),
		},
		unlock: expression{
			text: set,
			// The lease does not matter: if it has run out and nobody has taken
			// the lock over, this write harms nobody.
			condition: "#v = :old AND #e > :now AND #l = :mine",
			names:     names("#d", "#e", "#c", "#v", "#l", "#u"),
		},
		// A record that has expired may be ended in spite of its lock, which has
		// expired with it.
		end: expression{
			condition: "#v = :old AND (attribute_not_exists(#l) OR #u <= :ms OR #e <= :now)",
			names:     names("#e", "#v", "#l", "#u"),
		},
		endHeld: expression{
			condition: "#v = :old AND (#l = :mine OR #e <= :now)",
			names:     names("#e", "#v", "#l"),
		},
		overdue: expression{
			condition: "#v = :old AND #e <= :now",
			names:     names("#e", "#v"),
		},
		touch: expression{
			text: "SET #e = :e",
			// Every item of this package has a version. Others are left alone.
			condition: "attribute_exists(#v) AND #e > :now AND #e < :e",
			names:     names("#e", "#v"),
		},
		acquire: expression{
			text:      "SET #l = :mine, #u = :until",
			condition: "attribute_exists(#v) AND #e > :now AND " + free,
			names:     names("#e", "#v", "#l", "#u"),
			returns:   types.ReturnValueAllNew, // the same as a consistent read, at no cost
		},
		extend: expression{
			text:      "SET #u = :until",
			condition: "#l = :mine AND #e > :now AND #u > :ms",
			names:     names("#e", "#l", "#u"),
		},
		release: expression{
			text:      "REMOVE #l, #u",
			condition: "#l = :mine AND #e > :now",
			names:     names("#e", "#l", "#u"),
		},
		releaseMove: expression{
			text:      "SET #e = :e REMOVE #l, #u",
			condition: "#l = :mine AND #e > :now AND #e < :e",
			names:     names("#e", "#l", "#u"),
		},
	}
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
	}
	names := make(map[string]string, len(placeholders))
	for _, p := range placeholders {
		names[p] = all[p]
	}
	return names
}
