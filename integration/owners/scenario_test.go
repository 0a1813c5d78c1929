package owners

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-a7bee19b/session"
)

var (
	ann = session.User("ann")
	bob = session.User("bob")
	van = session.Owner{Kind: "device", ID: "van"}
)

// A scenario is what clients do at the same time. Before it, ann has logged in.
type scenario struct {
	name    string
	before  int            // sessions that ann has: s0, s1 and so on. All are on the device
	strange bool           // ann has also logged in where there is no index: session f
	clients [][]func() *Op // what each client does; with w.token and the like filled in when it begins
}

func one(o Op) func() *Op { return func() *Op { c := o; return &c } }

func login(name string) func() *Op {
	return one(Op{Kind: Login, Name: name, Owners: []session.Owner{ann, van}})
}

func using(kind Kind, name string) func() *Op {
	o := Op{Kind: kind, Session: name, Again: 1}
	switch kind {
	case LoginAgain:
		o.Name, o.Owners = name, []session.Owner{ann, van}
	case SwitchUser:
		o.Name, o.Owners = name+" of bob", []session.Owner{bob, van}
	case Write:
		o.Value = "written"
	}
	return one(o)
}

func writing(name, value string) func() *Op {
	return one(Op{Kind: Write, Session: name, Value: value, Again: 1})
}

func of(kind Kind, owners ...session.Owner) func() *Op { return one(Op{Kind: kind, Owners: owners}) }

// but is the revocation of one session, or of all others.
func but(kind Kind, name string) func() *Op {
	return one(Op{Kind: kind, Handle: "of " + name, Owners: []session.Owner{ann}})
}

func ops(o ...func() *Op) []func() *Op { return o }

var scenarios = func() (all []scenario) {
	add := func(before int, clients ...[]func() *Op) {
		var names []string
		for _, ops := range clients {
			name := ""
			for i, f := range ops {
				o := f()
				if i > 0 {
					name += ", then "
				}
				name += strings.TrimSuffix(o.String(), ": ")
			}
			names = append(names, name)
		}
		strange := strings.Contains(strings.Join(names, " "), "of f")
		all = append(all, scenario{fmt.Sprintf("%d before; ", before) + strings.Join(names, " | "), before, strange, clients})
	}
	visitor := one(Op{Kind: LoginVisitor, Name: "v", Owners: []session.Owner{ann}})
	add(0, ops(login("a")), ops(of(Revoke, ann)))
	add(1, ops(login("a")), ops(of(Revoke, van)))
	add(1, ops(visitor), ops(of(Revoke, ann)))
	add(0, ops(login("a")), ops(login("b")))
	add(1, ops(login("a")), ops(of(List, ann)))
	add(1, ops(login("a")), ops(but(RevokeOthers, "s0")))
	add(1, ops(using(Rotate, "s0")), ops(of(Revoke, ann)))
	add(1, ops(using(Rotate, "s0")), ops(of(Revoke, van, ann)))
	add(2, ops(using(Rotate, "s0")), ops(of(List, ann)))
	add(1, ops(using(Rotate, "s0")), ops(using(Rotate, "s0")))
	add(1, ops(using(Rotate, "s0"), using(Rotate, "s0")), ops(of(Revoke, ann)))
	add(1, ops(using(Rotate, "s0")), ops(using(Logout, "s0")))
	add(1, ops(using(Rotate, "s0")), ops(using(Write, "s0")))
	add(2, ops(using(Rotate, "s0")), ops(but(RevokeOne, "s0")))
	add(1, ops(using(LoginAgain, "s0")), ops(of(Revoke, ann)))
	add(1, ops(using(LoginAgain, "s0")), ops(using(Rotate, "s0")))
	add(1, ops(using(SwitchUser, "s0")), ops(of(Revoke, ann)))
	add(1, ops(using(SwitchUser, "s0")), ops(of(Revoke, bob)))
	add(2, ops(of(Revoke, ann)), ops(of(Revoke, ann)))
	add(2, ops(of(Revoke, ann)), ops(of(List, ann)))
	add(2, ops(of(Revoke, ann)), ops(of(List, van)))
	add(2, ops(but(RevokeOthers, "s0")), ops(but(RevokeOne, "s0")))
	add(1, ops(of(Revoke, ann)), ops(using(Write, "s0"), using(Read, "s0")))
	add(2, ops(using(Logout, "s0")), ops(of(List, ann)))
	add(2, ops(using(Logout, "s0")), ops(but(RevokeOne, "s0")))
	add(0, ops(using(Write, "f")), ops(of(Revoke, ann)))
	add(0, ops(using(Write, "f")), ops(writing("f", "written too"), using(Read, "f"), of(Revoke, ann)))
	add(1, ops(using(Write, "f")), ops(writing("f", "written too"), using(Read, "f"), but(RevokeOthers, "f")))
	add(1, ops(using(Write, "f")), ops(but(RevokeOthers, "s0")))
	add(1, ops(using(Write, "f")), ops(of(List, ann), but(RevokeOne, "f")))
	add(0, ops(using(Write, "f")), ops(using(Rotate, "f"), of(Revoke, ann)))
	add(0, ops(using(Rotate, "f")), ops(using(Rotate, "f"), of(List, ann)))
	add(1, ops(using(Rotate, "f")), ops(of(Revoke, ann)))
	add(1, ops(using(Write, "f")), ops(using(Logout, "f"), of(List, ann)))
	return all
}()

// setUp has ann log in, and adds the clients, each on a machine of its own.
func (sc scenario) setUp(t *testing.T, w *world) {
	w.freely(t, func(do func(func() *Op)) {
		for i := range sc.before {
			do(login(fmt.Sprint("s", i)))
		}
	})
	if sc.strange {
		without := config
		without.Owners = session.OwnersConfig{}
		w.freelyWith(t, without, func(do func(func() *Op)) {
			do(one(Op{Kind: Elsewhere, Name: "f", Owners: []session.Owner{ann}}))
		})
		w.freely(t, func(do func(func() *Op)) { do(using(Read, "f")) })
	}
	for _, program := range sc.clients {
		w.add(w.machine(t), func() *Op {
			if len(program) == 0 {
				return nil
			}
			o := program[0]()
			program = program[1:]
			return o
		})
	}
}

// freely calls f with a function that does an operation without a schedule.
func (w *world) freely(t *testing.T, f func(do func(func() *Op))) { w.freelyWith(t, config, f) }

func (w *world) freelyWith(t *testing.T, config session.Config, f func(do func(func() *Op))) {
	w.free = true
	defer func() { w.free = false }()
	mc := w.machineWith(t, config)
	defer func() { mc.dead = true; mc.stop() }()
	c := &client{machine: mc, w: w, n: -2}
	c.ctx = context.WithValue(mc.ctx, clientKey{}, c)
	f(func(next func() *Op) {
		o := next()
		w.mu.Lock()
		w.begins(c, o)
		w.mu.Unlock()
		w.do(c, o)
	})
}

// inspect finds out how things are in the end: which tokens are good, what is
// listed, and whether a revocation ends it all.
func (w *world) inspect(t *testing.T) {
	w.freely(t, func(do func(func() *Op)) {
		look := func() {
			for _, name := range slices.Sorted(maps.Keys(w.pool.Tokens)) {
				for _, token := range w.pool.Tokens[name] {
					do(one(Op{Kind: Read, Session: name, Token: token}))
				}
			}
			for _, o := range []session.Owner{ann, van, bob} {
				do(of(List, o))
			}
		}
		look()
		if len(w.pool.Tokens["f"]) > 0 {
			do(writing("f", "written last"))
			do(using(Read, "f"))
		}
		do(login("z"))
		do(using(Read, "z"))
		do(of(List, ann))
		do(of(Revoke, ann))
		do(of(Revoke, bob))
		look()
	})
}

// play runs f in a world of its own, and returns it when all is done.
func play(t *testing.T, choose chooser, f func(t *testing.T, w *world)) (w *world) {
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(choose)
		f(t, w)
		w.run()
		w.inspect(t)
		w.close()
	})
	return w
}
