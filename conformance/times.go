package conformance

import (
	"fmt"
	"time"

	"github.com/seed-a7bee19b/session"
)

// timeRules are about Created and Expires.
var timeRules = []backendRule{
	{name: "Created", run: ruleCreated, quotes: []string{
		"Save stores Data, Created and Expires of rec",
		"A backend MAY round Created to the millisecond",
	}},
	{name: "Expires", run: ruleExpires, quotes: []string{
		"Save stores Data, Created and Expires of rec",
		"and MAY round Expires up to the next second.",
	}},
	{name: "KeptUntilExpires", run: ruleKept, waits: true, quotes: []string{
		"It MUST keep a record until its Expires;",
	}},
	{name: "Times", run: ruleTimes, wide: true, quotes: []string{
		"Times are moments of the years 1970 to 9999, given in any time zone, and MUST be kept as that.",
	}},
}

func ruleCreated(p *probe) {
	for i, created := range []time.Time{
		p.now(),
		p.now().Add(-30 * 24 * time.Hour),
		p.now().Truncate(time.Second).Add(999 * time.Millisecond),
		p.now().Truncate(time.Second).Add(time.Millisecond),
		p.now().In(time.FixedZone("", -(9*3600 + 1800))),
	} {
		key := p.key(fmt.Sprint(i))
		for _, what := range []string{"created", "replaced"} {
			rec := p.record("1")
			rec.Created = created
			if what == "replaced" {
				key += what
				rec.Version = p.save(key, p.record("1"))
				rec.Created = created.Add(-time.Hour)
			}
			p.save(key, rec)
			if got := p.load(key).Created; got.Sub(rec.Created).Abs() > time.Millisecond {
				p.Errorf("%s with Created %v, loaded with %v; want the same, or a millisecond more or less", what, rec.Created, got)
			}
		}
	}
}

func ruleExpires(p *probe) {
	base := p.now().Truncate(time.Second)
	for i, expires := range []time.Time{
		base.Add(30 * time.Minute),
		base.Add(30*time.Minute + time.Nanosecond),
		base.Add(30*time.Minute + time.Millisecond),
		base.Add(30*time.Minute + time.Second - time.Nanosecond),
		base.Add(400*24*time.Hour + 500*time.Millisecond),
		base.In(time.FixedZone("", 5*3600)).Add(time.Hour),
	} {
		key := p.key(fmt.Sprint(i))
		v := p.save(key, expiring(p.record("1"), expires))
		p.roundedUp("created", p.load(key).Expires, expires)
		expires = expires.Add(time.Hour)
		p.save(key, replacing(expiring(p.record("2"), expires), v))
		p.roundedUp("replaced", p.load(key).Expires, expires)
	}
}

func ruleKept(p *probe) {
	suffix, soon := p.inTime(func(suffix string, soon time.Time) error {
		p.save(p.key("short"+suffix), expiring(p.record("1"), soon))
		v := p.save(p.key("moved"+suffix), expiring(p.record("1"), soon))
		return second(p.b.Save(p.ctx, p.key("moved"+suffix), replacing(p.record("2"), v)))
	})
	short, moved := p.key("short"+suffix), p.key("moved"+suffix)

	// A Load that returns before the deadline must find the record. Try that as
	// close to the deadline as the machine allows.
	step := soon.Sub(p.now()) / 10
	for {
		rec, err := p.b.Load(p.ctx, short)
		now := p.now()
		if !now.Before(soon) {
			break
		}
		if err != nil || string(rec.Data) != "1" {
			p.Errorf("Load %v before Expires: got error %v and %d bytes, want the record", soon.Sub(now), err, len(rec.Data))
			break
		}
		p.wait(now.Add(step))
	}
	p.wait(soon)
	if rec, err := p.b.Load(p.ctx, moved); err != nil || string(rec.Data) != "2" {
		p.Errorf("Load after the old Expires of a record, which a Save had moved forward: got error %v and %d bytes, want the record", err, len(rec.Data))
	}
}

func ruleTimes(p *probe) {
	zones := []*time.Location{time.UTC, time.FixedZone("", 14*3600), time.FixedZone("", -(9*3600 + 1800)), time.FixedZone("X", 5*3600+45*60)}
	base := p.now().Truncate(time.Second)
	for i, far := range []time.Time{
		base.Add(time.Hour),
		time.Date(2038, 1, 19, 3, 14, 9, 0, time.UTC), time.Date(2106, 2, 7, 6, 28, 17, 0, time.UTC), // 31 and 32 bits of seconds
		time.Date(2262, 4, 11, 23, 47, 18, 0, time.UTC), // 63 bits of nanoseconds
		time.Date(2554, 7, 21, 23, 34, 35, 0, time.UTC), time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	} {
		if far.Before(base) {
			continue
		}
		for _, created := range []time.Time{
			time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(2001, 9, 9, 1, 46, 39, 999e6, time.UTC), base.Add(-time.Hour), far,
		} {
			zone := zones[i%len(zones)]
			i++
			key := p.key(fmt.Sprint(i, far, created))
			is := func(what string, created, expires time.Time) {
				p.Helper()
				rec := p.load(key)
				if rec.Created.Sub(created).Abs() > time.Millisecond || rec.Expires.Before(expires) || rec.Expires.Sub(expires) >= time.Second {
					p.Errorf("%s with Created %v and Expires %v, loaded with %v and %v; want the same, but for a millisecond and up to the next second",
						what, created, expires, rec.Created, rec.Expires)
				}
			}
			rec := session.Record{Data: []byte("1"), Created: created.In(zone), Expires: far.Add(-time.Minute).In(zone)}
			v := p.save(key, rec)
			is("created", rec.Created, rec.Expires)
			if err := p.b.Touch(p.ctx, key, far.In(zone)); err != nil {
				p.Errorf("Touch with Expires %v: got error %v, want none", far.In(zone), err)
			}
			is("touched", rec.Created, far)
			rec.Version, rec.Created = v, created.Add(time.Second).In(zone)
			p.save(key, rec)
			is("replaced", rec.Created, rec.Expires)
		}
	}
	// A deadline in the past ends the record in every zone and year.
	for _, past := range []time.Time{time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC), base.Add(-time.Minute).In(zones[1]), base.Add(-time.Minute).In(zones[2])} {
		key := p.key(past.String())
		v := p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), past), v)); err != nil {
			p.Errorf("Save with Expires %v, which has passed: got error %v, want none", past, err)
		}
		if p.alive(key) {
			p.Errorf("the record is live after a Save with Expires %v, which has passed; want it to be dead", past)
		}
	}
}
