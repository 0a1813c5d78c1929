package owners

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/seed-a7bee19b/session"
)

// A Pool has what clients know of sessions, and draws from that what they do next.
// Its zero value but for Rand is ready for use.
type Pool struct {
	Rand    *rand.Rand
	Prefix  string              // of the names of sessions and owners
	Tokens  map[string][]string // of each session, the latest last
	Handles map[string]string
	Visits  []string // tokens
	logins  map[string]Op
	n       int
}

// Owner returns an owner with the prefix of the pool.
func (p *Pool) Owner(kind, id string) session.Owner {
	return session.Owner{Kind: kind, ID: p.Prefix + id}
}

// Users are the users that log in, and Devices theirs.
func (p *Pool) Users() []session.Owner {
	return []session.Owner{p.Owner("user", "ann"), p.Owner("user", "bob")}
}

// Devices returns what the users log in from.
func (p *Pool) Devices() []session.Owner {
	return []session.Owner{p.Owner("device", "van"), p.Owner("device", "hut")}
}

// Began keeps what others may know of o while it is not done.
func (p *Pool) Began(o Op) {
	if p.logins == nil {
		p.logins = map[string]Op{}
	}
	if o.Name != "" {
		p.logins[o.Name] = o
	}
}

// Learn keeps what o has brought.
func (p *Pool) Learn(o Op) {
	if p.Tokens == nil {
		p.Tokens, p.Handles = map[string][]string{}, map[string]string{}
	}
	if o.Kind == Visit {
		if o.NewToken != "" {
			p.Visits = append(p.Visits, o.NewToken)
		}
		return
	}
	name := cmp.Or(o.Name, o.Session)
	if o.Kind == Read && o.NewHandle != "" {
		p.Handles[name] = o.NewHandle
	}
	known := false // if it has joined another login
	for _, tokens := range p.Tokens {
		known = known || slices.Contains(tokens, o.NewToken)
	}
	if o.NewToken != "" && !known {
		p.Tokens[name] = append(p.Tokens[name], o.NewToken)
		p.Handles[name] = o.NewHandle
	}
	for _, s := range o.Seen {
		if s.Name == "" {
			continue // it was adopted
		}
		p.Handles[s.Name] = s.Handle
	}
}

func (p *Pool) one(n int) bool { return p.Rand.IntN(n) == 0 }

// pick returns one of them, often one of the last.
func pick[T any](p *Pool, from []T) T {
	if p.one(2) {
		from = from[max(0, len(from)-3):]
	}
	return from[p.Rand.IntN(len(from))]
}

// use draws an operation with the token of a session.
func (p *Pool) use() Op {
	names := slices.SortedFunc(maps.Keys(p.Tokens), p.order)
	name := pick(p, names)
	tokens := p.Tokens[name]
	token := tokens[len(tokens)-1]
	if p.one(8) {
		token = pick(p, tokens)
	}
	kind := pick(p, []Kind{Read, Read, Read, Write, Write, Rotate, Rotate, Rotate, LoginAgain, Logout, SwitchUser})
	o := Op{Kind: kind, Session: name, Token: token}
	switch kind {
	case Write:
		p.n++
		o.Value = fmt.Sprint("value ", p.n)
	case LoginAgain:
		o.Name, o.Owners = name, p.logins[name].Owners
	case SwitchUser:
		users := p.Users()
		i := slices.Index(users, p.logins[name].Owners[0])
		o.Name, o.Owners = p.name(), []session.Owner{users[1-i]}
	}
	return o
}

// order is that in which they were named.
func (p *Pool) order(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func (p *Pool) name() string {
	p.n++
	return fmt.Sprint(p.Prefix, "s", p.n)
}

// Next draws what a client does.
func (p *Pool) Next() Op {
	var o Op
	switch x := p.Rand.IntN(100); {
	case len(p.Tokens) == 0 && x < 80 || x < 22:
		o = Op{Kind: Login, Name: p.name(), Owners: p.Users()[:1]}
		if p.one(3) {
			o.Owners = p.Users()[1:]
		}
		if p.one(3) {
			o.Kind = LoginVisitor
			if len(p.Visits) > 0 && !p.one(3) {
				o.Visitor = pick(p, p.Visits)
			}
		}
		if !p.one(3) {
			o.Owners = append(slices.Clone(o.Owners), pick(p, p.Devices()))
		}
	case x < 65 && len(p.Tokens) > 0:
		o = p.use()
	case x < 67 && len(p.Visits) > 0:
		o = Op{Kind: Logout, Visitor: pick(p, p.Visits)}
	case x < 70:
		o = Op{Kind: Visit}
	case x < 82:
		o = Op{Kind: List, Owners: p.whose()}
	case x < 90 || len(p.Handles) == 0:
		o = Op{Kind: Revoke, Owners: p.whose()}
	default:
		name := pick(p, slices.SortedFunc(maps.Keys(p.Handles), p.order))
		o = Op{Kind: pick(p, []Kind{RevokeOne, RevokeOne, RevokeOthers}), Handle: p.Handles[name], Owners: p.logins[name].Owners[:1]}
	}
	o.Again = p.Rand.IntN(3)
	return o
}

// whose draws owners of whom to list or revoke the sessions.
func (p *Pool) whose() []session.Owner {
	users, devices := p.Users(), p.Devices()
	switch x := p.Rand.IntN(10); {
	case x < 5:
		return users[:1]
	case x < 6:
		return users[1:]
	case x < 8:
		return devices[:1]
	case x < 9:
		return []session.Owner{users[0], devices[0]}
	}
	return []session.Owner{devices[0], users[0]}
}
