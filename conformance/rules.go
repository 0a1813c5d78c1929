package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-a7bee19b/session"
)

var backendRules = []backendRule{
	{name: "Data", run: ruleData, quotes: []string{
		"Save stores Data, Created and Expires of rec",
		"Data is the encoded session, opaque to the backend.",
	}},
	{name: "EmptyData", run: ruleEmptyData, quotes: []string{
		"Data is the encoded session, opaque to the backend. It may be empty.",
	}},
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
	{name: "LoadAbsent", run: ruleLoadAbsent, quotes: []string{
		"Load returns the record at key. If there is none it MUST fail with ErrNotFound.",
	}},
	{name: "VersionOfLoad", run: ruleVersionOfLoad, quotes: []string{
		"Version is set by the backend on Load, and names the state that a Save replaces.",
	}},
	{name: "VersionNew", run: ruleVersionNew, quotes: []string{
		"returns the new version, which MUST be one that the key never had.",
	}},
	{name: "VersionAfterDelete", run: ruleVersionAfterDelete, quotes: []string{
		"A backend never gives two states of a key the same Version, not even across a Delete.",
	}},
	{name: "CreateExisting", run: ruleCreateExisting, quotes: []string{
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
	}},
	{name: "CreateAfterEnd", run: ruleCreateAfterEnd, waits: true, quotes: []string{
		"With a zero rec.Version it creates: it MUST fail with a *ConflictError if a live record exists.",
	}},
	{name: "SaveStale", run: ruleSaveStale, quotes: []string{
		"Otherwise it replaces, and MUST fail with a *ConflictError unless the stored version is still rec.Version, byte by byte.",
	}},
	{name: "SaveStaleIsNotGone", run: ruleSaveStaleIsNotGone, quotes: []string{
		"where the record was deleted, or its Expires has passed, it fails with a *ConflictError that is also ErrNotFound where the store can tell.",
	}},
	{name: "ConflictWritesNothing", run: ruleConflictWritesNothing, quotes: []string{
		"A Save that fails with a conflict MUST write nothing,",
	}},
	{name: "ConflictCurrent", run: ruleConflictCurrent, quotes: []string{
		"and carries the current record where the store hands it over in the same request.",
	}},
	{name: "SaveAbsent", run: ruleSaveAbsent, quotes: []string{
		"A replacing Save MUST NOT create: where the record was deleted,",
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	}},
	{name: "SaveExpired", run: ruleSaveExpired, waits: true, quotes: []string{
		"A replacing Save MUST NOT create: where the record was deleted, or its Expires has passed, it fails with a *ConflictError",
		"it is dead at once, and for ever.",
	}},
	{name: "SaveEarlier", run: ruleSaveEarlier, quotes: []string{
		"Expires may be earlier than before,",
	}},
	{name: "SavePast", run: ruleSavePast, quotes: []string{
		"A Save after which Expires has passed ends the record: it is dead at once, and for ever.",
	}},
	{name: "SaveZeroExpires", run: ruleSaveZeroExpires, quotes: []string{
		"A zero Expires MUST be refused with an error.",
	}},
	{name: "TooLarge", run: ruleTooLarge, quotes: []string{
		"A record that the store cannot hold MUST be refused with ErrTooLarge; what was stored before stays, with its Expires and its lock.",
	}, needs: func(b Backend) bool { return b.MaxData > 0 }},
	{name: "Touch", run: ruleTouch, waits: true, quotes: []string{
		"Touch moves Expires forward;",
		"It MUST keep a record until its Expires;",
	}},
	{name: "TouchKeeps", run: ruleTouchKeeps, quotes: []string{
		"Touch moves Expires forward; it MUST NOT change data, Created or version.",
	}},
	{name: "TouchEarlier", run: ruleTouchEarlier, quotes: []string{
		"An Expires that is not later than the stored one MUST be a no-op that returns nil.",
	}},
	{name: "TouchAbsent", run: ruleTouchAbsent, quotes: []string{
		"If there is no record, or its Expires has passed, it MUST fail with ErrNotFound and revive nothing.",
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	}},
	{name: "TouchExpired", run: ruleTouchExpired, waits: true, quotes: []string{
		"If there is no record, or its Expires has passed, it MUST fail with ErrNotFound and revive nothing.",
		"it is dead at once, and for ever.",
	}},
	{name: "Delete", run: ruleDelete, quotes: []string{
		"Delete removes the record, whatever its version,",
	}},
	{name: "DeleteAbsent", run: ruleDeleteAbsent, quotes: []string{
		"An absent record MUST NOT be an error.",
	}},
	{name: "Keys", run: ruleKeys, quotes: []string{
		"Keys are non-empty strings of at most 512 bytes of UTF-8; a backend MUST keep any two of them apart, byte by byte.",
	}},
	{name: "CallersData", run: ruleCallersData, quotes: []string{
		"It MUST neither keep nor change the caller's slices,",
	}},
	{name: "ReturnedData", run: ruleReturnedData, quotes: []string{
		"and what it returns MUST NOT alias what it keeps,",
	}},
	{name: "DoneContextLoad", run: ruleDoneContextLoad, quotes: doneContext},
	{name: "DoneContextSave", run: ruleDoneContextSave, quotes: doneContext},
	{name: "DoneContextTouch", run: ruleDoneContextTouch, quotes: doneContext},
	{name: "DoneContextDelete", run: ruleDoneContextDelete, quotes: doneContext},
	{name: "ContextEnds", run: ruleContextEnds, own: true, quotes: []string{
		"Once ctx is done it MUST return promptly,",
	}},
	{name: "StoreFailure", run: ruleStoreFailure, quotes: []string{
		"A failure of the store MUST be returned as an error that is none of the sentinels of this package; above all it is never ErrNotFound.",
	}, needs: canFail, own: true},
	{name: "Clients", run: ruleClients, quotes: []string{
		"its effect MUST be linearizable per key and durable, as far as the store is, when it returns:",
	}},
	{name: "RaceCreate", run: ruleRaceCreate, quotes: concurrent},
	{name: "RaceSave", run: ruleRaceSave, quotes: concurrent},
	{name: "RaceTouch", run: ruleRaceTouch, quotes: concurrent},
	{name: "RaceDelete", run: ruleRaceDelete, quotes: append(concurrent,
		"Once it has returned, no Save with an older version and no Touch may bring the record back.",
	)},
}

var (
	doneContext = []string{
		"a call that starts with a done ctx MUST fail with an error that wraps the ctx's error, and change nothing.",
	}
	concurrent = []string{
		"Every method MUST be safe for concurrent use, and its effect MUST be linearizable per key",
	}
)

// untested is what no rule can test, each with the reason.
var untested = map[string]string{
	"Package conformance has a test for every MUST below":                                                            "it is not a rule, but about them",
	"A retry inside the backend after a lost response MUST NOT report the caller's own first attempt as a conflict.": "it needs a fault between the backend and its store; see the package comment",
}

var untestedLeaser = map[string]string{
	"A retry inside the backend after a lost response MUST NOT report the caller's own lock as another holder's.": "likewise",
}

var untestedSweeper = map[string]string{
	"It MUST refuse an option that it cannot follow":                               "that it keeps to the budget it accepts, only the store can tell",
	"and, unless opts.Foreign is set, the records that the backend did not write.": "only the backend knows how to write what it did not",
}

func describe(rec session.Record) string {
	return fmt.Sprintf("{%d bytes, created %s, expires %s, version %q}", len(rec.Data),
		rec.Created.UTC().Format(time.RFC3339Nano), rec.Expires.UTC().Format(time.RFC3339Nano), rec.Version)
}

// large is the most Data that the suite counts on.
func (p *probe) large() int {
	if p.backend.MaxData > 0 {
		return p.backend.MaxData
	}
	return 1 << 20
}

func ruleData(p *probe) {
	var every []byte
	for c := range 256 {
		every = append(every, byte(c))
	}
	samples := []struct {
		name string
		data []byte
		text bool
	}{
		{"ASCII", []byte(`{"a":"b\n\\'"<&>%20}`), true},
		{"space around it", []byte(" \t\na\n\t "), true},
		{"UTF-8", []byte("a\u00e9e\u0301\u20ac\U0001f600\u2028"), true},
		{"ends of lines", []byte("a\r\nb\rc\nd\n\r\ve\f\u0085"), true},
		{"a line feed behind it", []byte("a\n"), true},
		{"a byte order mark", []byte("\ufeffa\ufeff"), true},
		{"slashes", []byte(`\a\\b/c//\/\"\'\0\x41\u0041%41&#65;&amp;+`), true},
		{"quotes around it", []byte(`"a"`), true},
		{"a number", []byte("010e0"), true},
		{"JSON", []byte(`{"b" : 1.0, "a":[1e3,null],"b":"<\u003c"}`), true},
		{"null", []byte("null"), true},
		{"base64", []byte("YWI="), true},
		{"control characters", []byte("\x00\x01\b\x1a\x1b[0m\x7f"), true},
		{"composed characters", []byte("\u00e9\u212b\ufb01\u1e9e"), true},
		{"UPPER and lower case", []byte("aAbB\u0130\u0131"), true},
		{"4095 bytes", bytes.Repeat([]byte("x"), 4095), true},
		{"4097 bytes", bytes.Repeat([]byte("x"), 4097), true},
		{"the largest", bytes.Repeat([]byte("x"), p.large()), true},
		{"every byte", every, false},
		{"zeros around it", []byte("\x00\x00a\x00\x00"), false},
		{"not UTF-8", []byte("a\xff\xc3"), false},
		{"a surrogate", []byte("a\xed\xa0\x80"), false},
		{"what looks packed", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), false},
	}
	for i, sample := range samples {
		key := p.key(fmt.Sprint(i))
		rec := p.record("")
		rec.Data = sample.data
		if len(sample.data) > p.large() {
			continue
		}
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			if p.backend.Text && !sample.text {
				continue
			}
			p.Errorf("Save of Data with %s: %v", sample.name, err)
			continue
		}
		if got := p.load(key).Data; !bytes.Equal(got, sample.data) {
			p.Errorf("Data with %s, %d bytes, came back as other %d bytes", sample.name, len(sample.data), len(got))
		}
	}
}

func ruleEmptyData(p *probe) {
	for _, data := range [][]byte{nil, {}} {
		key := p.key(fmt.Sprint("created ", data == nil))
		rec := p.record("")
		rec.Data = data
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.Errorf("creating a record without Data: %v", err)
			continue
		}
		if got := p.load(key); len(got.Data) != 0 {
			p.Errorf("no Data came back as %d bytes", len(got.Data))
		}
		key = p.key(fmt.Sprint("replaced ", data == nil))
		rec.Version = p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.Errorf("replacing Data by none: %v", err)
			continue
		}
		if got := p.load(key); len(got.Data) != 0 {
			p.Errorf("after a Save without Data there are %d bytes", len(got.Data))
		}
	}
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
				p.Errorf("%s with Created %v: it came back as %v", what, rec.Created, got)
			}
		}
	}
}

// roundedUp complains unless got is want, or want up to the next second.
func (p *probe) roundedUp(what string, got, want time.Time) {
	p.Helper()
	if got.Before(want) || got.Sub(want) >= time.Second {
		p.Errorf("%s: Expires %v came back as %v", what, want, got)
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

	// As close to the deadline as the machine allows: a Load that returned
	// before it must have found the record.
	step := soon.Sub(p.now()) / 10
	for {
		rec, err := p.b.Load(p.ctx, short)
		now := p.now()
		if !now.Before(soon) {
			break
		}
		if err != nil || string(rec.Data) != "1" {
			p.Errorf("Load %v before Expires: %v, %d bytes", soon.Sub(now), err, len(rec.Data))
			break
		}
		p.wait(now.Add(step))
	}
	p.wait(soon)
	if rec, err := p.b.Load(p.ctx, moved); err != nil || string(rec.Data) != "2" {
		p.Errorf("Load of a record whose Expires a Save has moved forward, after the former one: %v, %d bytes", err, len(rec.Data))
	}
}

func ruleLoadAbsent(p *probe) {
	if _, err := p.b.Load(p.ctx, p.key("absent")); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Load of a key that never was: got error %v, want ErrNotFound", err)
	}
	p.kill(true, false, func(_, key string, _ session.Version) {
		if _, err := p.b.Load(p.ctx, key); !errors.Is(err, session.ErrNotFound) {
			p.Errorf("Load after Delete: got error %v, want ErrNotFound", err)
		}
	})
}

func ruleVersionOfLoad(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	if got := p.load(key).Version; got != v || v == "" {
		p.Errorf("Save returned version %q, then Load %q", v, got)
	}
	for i := range 3 {
		if _, err := p.b.Save(p.ctx, key, replacing(p.record(fmt.Sprint(i)), p.load(key).Version)); err != nil {
			p.Fatalf("Save with the version that Load returned: %v", err)
		}
	}
}

func ruleVersionNew(p *probe) {
	key := p.key("a")
	seen := map[session.Version]bool{"": true}
	var v session.Version
	// The same record again, and what was there before, are new states too.
	for _, data := range []string{"1", "1", "2", "1"} {
		var err error
		if v, err = p.b.Save(p.ctx, key, replacing(p.record(data), v)); err != nil {
			p.Fatalf("Save with the version that Save returned: %v", err)
		}
		if seen[v] {
			p.Fatalf("a Save returned version %q, which the key has had", v)
		}
		seen[v] = true
	}
}

func ruleVersionAfterDelete(p *probe) {
	key := p.key("a")
	seen := map[session.Version]bool{}
	for life := range 5 {
		v, err := p.b.Save(p.ctx, key, p.record(fmt.Sprint(life, "a")))
		if err != nil {
			p.Logf("Save after Delete: %v", err)
			return // rule Delete says why
		}
		w := p.save(key, replacing(p.record(fmt.Sprint(life, "b")), v))
		if seen[v] || seen[w] {
			p.Fatalf("versions %q, %q: the key had one before it was deleted", v, w)
		}
		seen[v], seen[w] = true, true
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Fatalf("Delete: %v", err)
		}
	}
}

func ruleCreateExisting(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	_, err := p.b.Save(p.ctx, key, p.record("2"))
	p.conflict(err, "creating a record that is there")
	p.save(key, replacing(p.record("3"), v))
	_, err = p.b.Save(p.ctx, key, p.record("4"))
	p.conflict(err, "creating a record that is there and was replaced")
}

func ruleCreateAfterEnd(p *probe) {
	p.kill(true, true, func(how, key string, _ session.Version) {
		if _, err := p.b.Save(p.ctx, key, p.record("new")); err != nil {
			p.Errorf("creating a record where one was %s: %v", how, err)
			return
		}
		if rec := p.load(key); string(rec.Data) != "new" || rec.Expired(p.now()) {
			p.Errorf("created where one was %s: %s", how, describe(rec))
		}
	})
}

func ruleSaveStale(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for name, stale := range map[string]session.Version{
		"the version before": v,
		"a version made up":  "no such version",
	} {
		if stale == "" {
			continue // it would create
		}
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale))
		p.conflict(err, "replacing "+name)
	}
}

func ruleSaveStaleIsNotGone(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	p.save(key, replacing(p.record("2"), v))
	for what, stale := range map[string]session.Version{"replacing a version before": v, "creating": ""} {
		if _, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale)); errors.Is(err, session.ErrNotFound) {
			p.Errorf("%s: there is a record, but the error is ErrNotFound", what)
		}
	}
}

func ruleConflictWritesNothing(p *probe) {
	late := p.later().Add(time.Hour)
	for _, key := range []string{p.key("replaced"), p.key("created")} {
		stale := p.save(key, p.record("1"))
		p.save(key, replacing(p.record("2"), stale))
		if key == p.key("created") {
			stale = ""
		}
		before := p.load(key)
		rec := session.Record{Data: []byte("3"), Created: late, Expires: late, Version: stale}
		if _, err := p.b.Save(p.ctx, key, rec); err != nil {
			p.unchanged(key, before, fmt.Sprintf("a Save of version %q that failed (%v)", stale, err))
		}
	}
}

func ruleConflictCurrent(p *probe) {
	for _, key := range []string{p.key("replaced"), p.key("created")} {
		stale := p.save(key, p.record("1"))
		p.save(key, replacing(p.record("2"), stale))
		if key == p.key("created") {
			stale = ""
		}
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), stale))
		if !errors.As(err, &conflict) || conflict.Current == nil {
			continue
		}
		current, stored := *conflict.Current, p.load(key)
		if string(current.Data) != string(stored.Data) || !current.Created.Equal(stored.Created) || !current.Expires.Equal(stored.Expires) {
			p.Errorf("the conflict carries %s, stored is %s", describe(current), describe(stored))
		}
		if _, err = p.b.Save(p.ctx, key, replacing(p.record("4"), current.Version)); err != nil {
			p.Errorf("Save with the version that the conflict carries, %q: %v", current.Version, err)
		}
	}
	p.kill(true, false, func(how, key string, v session.Version) {
		var conflict *session.ConflictError
		_, err := p.b.Save(p.ctx, key, replacing(p.record("3"), v))
		if errors.As(err, &conflict) && conflict.Current != nil {
			p.Errorf("replacing a record that was %s: the conflict carries %s", how, describe(*conflict.Current))
		}
	})
}

func ruleSaveAbsent(p *probe) {
	v := p.save(p.key("a"), p.record("1"))
	absent := p.key("absent")
	_, err := p.b.Save(p.ctx, absent, replacing(p.record("2"), v))
	p.conflict(err, "replacing a record that never was")
	if p.alive(absent) {
		p.Error("replacing a record that never was made one")
	}
	p.kill(true, false, p.saveRevivesNothing)
}

func ruleSaveExpired(p *probe) { p.kill(false, true, p.saveRevivesNothing) }

func (p *probe) saveRevivesNothing(how, key string, v session.Version) {
	_, err := p.b.Save(p.ctx, key, replacing(p.record("revived"), v))
	p.conflict(err, "replacing a record that was "+how)
	if p.alive(key) {
		p.Errorf("replacing a record that was %s revived it", how)
	}
}

func ruleSaveEarlier(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	earlier := p.later().Add(-12 * time.Hour)
	p.save(key, replacing(expiring(p.record("2"), earlier), v))
	p.roundedUp("after a Save with an earlier one", p.load(key).Expires, earlier)
}

func ruleSavePast(p *probe) {
	for _, ago := range []time.Duration{2 * time.Second, time.Hour, 20 * 365 * 24 * time.Hour} {
		past := p.now().Add(-ago)
		key := p.key(fmt.Sprint("replaced ", ago))
		v := p.save(key, p.record("1"))
		if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), past), v)); err != nil {
			p.Errorf("replacing a record by one that expired %v ago: %v", ago, err)
		}
		if p.alive(key) {
			p.Errorf("a record replaced by one that expired %v ago is alive", ago)
		}
		key = p.key(fmt.Sprint("created ", ago))
		if _, err := p.b.Save(p.ctx, key, expiring(p.record("1"), past)); err != nil {
			p.Errorf("creating a record that expired %v ago: %v", ago, err)
		}
		if p.alive(key) {
			p.Errorf("a record created with an Expires %v ago is alive", ago)
		}
	}
}

func ruleSaveZeroExpires(p *probe) {
	absent := p.key("absent")
	if _, err := p.b.Save(p.ctx, absent, expiring(p.record("1"), time.Time{})); err == nil {
		p.Error("creating a record with a zero Expires: no error")
	}
	if rec, err := p.b.Load(p.ctx, absent); err == nil && string(rec.Data) == "1" {
		p.Error("creating a record with a zero Expires made one")
	}
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	if _, err := p.b.Save(p.ctx, key, replacing(expiring(p.record("2"), time.Time{}), v)); err == nil {
		p.Error("replacing a record by one with a zero Expires: no error")
	}
	p.unchanged(key, before, "a Save with a zero Expires")
}

func ruleTooLarge(p *probe) {
	// All that it would change is different, and so shows.
	late := p.later().Add(time.Hour)
	tooLarge := session.Record{Data: bytes.Repeat([]byte("x"), 2*p.backend.MaxData), Created: late, Expires: late}
	absent := p.key("absent")
	if _, err := p.b.Save(p.ctx, absent, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("creating a record with %d bytes: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	if p.alive(absent) {
		p.Error("creating a record that is too large made one")
	}
	key := p.key("a")
	tooLarge.Version = p.save(key, p.record("1"))
	before := p.load(key)
	if _, err := p.b.Save(p.ctx, key, tooLarge); !errors.Is(err, session.ErrTooLarge) {
		p.Errorf("replacing a record by one with %d bytes: got error %v, want ErrTooLarge", len(tooLarge.Data), err)
	}
	p.unchanged(key, before, "a Save that is too large")
}

func ruleTouch(p *probe) {
	suffix, soon := p.inTime(func(suffix string, soon time.Time) error {
		key := p.key(suffix)
		p.save(key, expiring(p.record("1"), soon))
		return p.b.Touch(p.ctx, key, soon.Add(time.Minute))
	})
	key := p.key(suffix)
	p.roundedUp("touched", p.load(key).Expires, soon.Add(time.Minute))
	for _, expires := range []time.Time{soon.Add(time.Minute + time.Second + time.Millisecond), p.later()} {
		if err := p.b.Touch(p.ctx, key, expires); err != nil {
			p.Fatalf("Touch: %v", err)
		}
		p.roundedUp("touched", p.load(key).Expires, expires)
	}
	p.wait(soon)
	if !p.alive(key) {
		p.Error("a touched record was dropped at the Expires it had before")
	}
}

func ruleTouchKeeps(p *probe) {
	key := p.key("a")
	v := p.save(key, p.record("1"))
	before := p.load(key)
	if err := p.b.Touch(p.ctx, key, p.later().Add(time.Hour)); err != nil {
		p.Fatalf("Touch: %v", err)
	}
	after := p.load(key)
	after.Expires = before.Expires
	if string(after.Data) != string(before.Data) || !after.Created.Equal(before.Created) || after.Version != before.Version {
		p.Errorf("Touch changed %s to %s", describe(before), describe(after))
	}
	if _, err := p.b.Save(p.ctx, key, replacing(p.record("2"), v)); err != nil {
		p.Errorf("Save with a version from before the Touch: %v", err)
	}
}

func ruleTouchEarlier(p *probe) {
	key := p.key("a")
	p.save(key, p.record("1"))
	before := p.load(key)
	for _, expires := range []time.Time{
		before.Expires, before.Expires.Add(-time.Millisecond), before.Expires.Add(-time.Hour), p.now().Add(-time.Hour), {},
	} {
		if err := p.b.Touch(p.ctx, key, expires); err != nil {
			p.Errorf("Touch with an Expires that is not later: %v", err)
		}
		if got := p.load(key).Expires; !got.Equal(before.Expires) {
			p.Errorf("a Touch with an Expires that is not later, %v, changed it from %v to %v", expires, before.Expires, got)
		}
	}
}

func ruleTouchAbsent(p *probe) {
	p.touchRevivesNothing("absent", p.key("absent"), "")
	p.kill(true, false, p.touchRevivesNothing)
}

func ruleTouchExpired(p *probe) { p.kill(false, true, p.touchRevivesNothing) }

func (p *probe) touchRevivesNothing(how, key string, _ session.Version) {
	if err := p.b.Touch(p.ctx, key, p.later()); !errors.Is(err, session.ErrNotFound) {
		p.Errorf("Touch of a record that was %s: got error %v, want ErrNotFound", how, err)
	}
	if p.alive(key) {
		p.Errorf("Touch of a record that was %s revived it", how)
	}
}

func ruleDelete(p *probe) {
	once, often, other := p.key("once"), p.key("often"), p.key("other")
	p.save(once, p.record("1"))
	v := p.save(often, p.record("1"))
	p.save(often, replacing(p.record("2"), v))
	p.save(other, p.record("1"))
	before := p.load(other)
	for _, key := range []string{once, often} {
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Errorf("Delete: %v", err)
		}
		if p.alive(key) {
			p.Error("there is a record after Delete")
		}
	}
	p.unchanged(other, before, "Delete of another key")
}

func ruleDeleteAbsent(p *probe) {
	if err := p.b.Delete(p.ctx, p.key("absent")); err != nil {
		p.Errorf("Delete of a key that never was: %v", err)
	}
	p.kill(true, false, func(_, key string, _ session.Version) {
		if err := p.b.Delete(p.ctx, key); err != nil {
			p.Errorf("second Delete: %v", err)
		}
	})
}

func ruleKeys(p *probe) {
	names := []string{
		"a", "A", "b", "a ", " a", "  a", "a\n", "a\t", "aa", "a0", "a00",
		"a/", "/a", "a/b", "a//b", "a/./b", "a/../b", "/../a", "/../../a", `\..\a`, "a.", "..", ".a",
		"a:", "a:b", "a::b", "a#b", "a|b", "a,b", "a;b", "a=b", "a&b",
		"a%", "a_", "a*", "a?", "a[b]", "ab", "a.*", "^a", "a\r", "a\r\n", "a\\", "a\\b", "a%2Fb", "a%2fb", "a+b", "a%20b", "a b", "'", `"`, "`", `\`, "$a", "{a}", "<a>",
		"1", "01", "1.0", "1e0", "null",
		"\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u00b2", "2", // equal if normalized
		"\u00df", "ss", "\u017f", "s", "\u212a", "K", "k", "\u0130", "i", "I", // equal if case is folded
		"\uff41", "\u200ba", "a\u200b", "\ufeffa", "\U0001f600", "\U0001f601",
		"a\x00", "a\x00b", "\x7f",
	}
	for _, end := range []string{"", "a", "b", "\u00e9"} {
		long := strings.Repeat("x", 512-len(p.prefix)-len(end)) + end
		names = append(names, long, long[:255-len(p.prefix)])
	}
	keys := map[string]session.Record{}
	for _, name := range names {
		key := p.key(name)
		if _, ok := keys[key]; ok {
			continue
		}
		rec := p.record(fmt.Sprintf("data of %q", name))
		v, err := p.b.Save(p.ctx, key, rec)
		if err != nil {
			p.Errorf("creating a record at a new key, ending in %q: %v", end(name), err)
			continue
		}
		rec.Version = v
		keys[key] = rec
	}
	same := func(name string) {
		rec, err := p.b.Load(p.ctx, p.key(name))
		want := keys[p.key(name)]
		if err != nil || !bytes.Equal(rec.Data, want.Data) {
			p.Errorf("at the key ending in %q: %v, %d bytes, want %d", end(name), err, len(rec.Data), len(want.Data))
		}
	}
	for _, name := range names {
		same(name)
	}
	// The shorter ones might be taken for patterns or beginnings of others.
	for _, name := range []string{"a", "a%", "a_", "a*", "a?", "a[b]", "a.*", "a/", " a", "k", "e\u0301"} {
		if err := p.b.Delete(p.ctx, p.key(name)); err != nil {
			p.Errorf("Delete: %v", err)
		}
		delete(keys, p.key(name))
	}
	for _, name := range names {
		if _, ok := keys[p.key(name)]; ok {
			same(name)
		}
	}
}

func end(name string) string { return name[max(0, len(name)-8):] }

func ruleCallersData(p *probe) {
	key := p.key("a")
	buf := []byte("12345678")
	rec := p.record("")
	rec.Data = buf[:4]
	for range 2 {
		v := p.save(key, rec)
		if string(buf) != "12345678" {
			p.Fatalf("Save changed the array of Data from 12345678 to %s", buf)
		}
		copy(buf, "abcd")
		if got := p.load(key).Data; string(got) != "1234" {
			p.Fatalf("the caller changed its Data after Save; Load returned %q, want 1234", got)
		}
		copy(buf, "1234")
		rec.Version = v
	}
	// A conflict has the caller's record and the stored one at hand.
	rec.Version = "no such version"
	if _, err := p.b.Save(p.ctx, key, rec); err != nil && string(buf) != "12345678" {
		p.Errorf("a conflict changed the array of Data from 12345678 to %s", buf)
	}
}

func ruleReturnedData(p *probe) {
	key := p.key("a")
	p.save(key, p.record("1234"))
	spoil := func(what string, data []byte) {
		want := string(p.load(key).Data)
		clear(data)
		clear(data[len(data):cap(data)])
		if got := p.load(key).Data; string(got) != want {
			p.Fatalf("the caller changed the Data %s; Load returned %q, want %q", what, got, want)
		}
	}
	spoil("that Load returned", p.load(key).Data)
	var conflict *session.ConflictError
	_, err := p.b.Save(p.ctx, key, p.record("5678"))
	if errors.As(err, &conflict) && conflict.Current != nil {
		spoil("of a conflict", conflict.Current.Data)
	}
}

// doneContexts returns a context that is done, for each way in which it can be.
func doneContexts(ctx context.Context) []context.Context {
	past := time.Now().Add(-time.Hour)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, past)
	cancel()
	withCause, cancelCause := context.WithCancelCause(ctx)
	cancelCause(errCause)
	lateWithCause, cancel := context.WithDeadlineCause(ctx, past, errCause)
	cancel()
	return []context.Context{canceled, late, withCause, lateWithCause}
}

// errCause is the cause of contexts that are done. Their error is another.
var errCause = errors.New("the cause of the end of a context")

// doneContexts calls f with a record and a context that is done.
func (p *probe) doneContexts(f func(ctx context.Context, key string, rec session.Record) error) {
	for i, ctx := range doneContexts(p.ctx) {
		key := p.key(fmt.Sprint(i))
		p.save(key, p.record("1"))
		before := p.load(key)
		if err := f(ctx, key, before); !errors.Is(err, ctx.Err()) {
			p.Errorf("with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
		p.unchanged(key, before, "a call with a done context")
	}
}

func ruleDoneContextLoad(p *probe) {
	p.doneContexts(func(ctx context.Context, key string, _ session.Record) error {
		_, err := p.b.Load(ctx, key)
		return err
	})
}

func ruleDoneContextSave(p *probe) {
	p.doneContexts(func(ctx context.Context, key string, rec session.Record) error {
		absent := key + "absent"
		if _, err := p.b.Save(ctx, absent, p.record("2")); !errors.Is(err, ctx.Err()) {
			p.Errorf("creating with a done context: got error %v, want one that wraps %v", err, ctx.Err())
		}
		if p.alive(absent) {
			p.Error("a Save with a done context made a record")
		}
		_, err := p.b.Save(ctx, key, replacing(p.record("2"), rec.Version))
		return err
	})
}

func ruleDoneContextTouch(p *probe) {
	p.doneContexts(func(ctx context.Context, key string, rec session.Record) error {
		return p.b.Touch(ctx, key, rec.Expires.Add(time.Hour))
	})
}

func ruleDoneContextDelete(p *probe) {
	p.doneContexts(func(ctx context.Context, key string, _ session.Record) error {
		return p.b.Delete(ctx, key)
	})
}

func ruleContextEnds(p *probe) {
	p.returnsWhenDone(func(ctx context.Context, key string) []func(i int) error {
		rec := p.record("1")
		return []func(i int) error{
			func(int) error {
				current, err := p.b.Load(ctx, key)
				if err != nil && !errors.Is(err, session.ErrNotFound) {
					return err
				}
				return second(p.b.Save(ctx, key, replacing(rec, current.Version)))
			},
			func(i int) error { return p.b.Touch(ctx, key, rec.Expires.Add(time.Duration(i)*time.Second)) },
			func(i int) error {
				if i%8 == 0 {
					return p.b.Delete(ctx, key)
				}
				return nil
			},
		}
	})
}

// returnsWhenDone has calls under way when their context ends, on a store that
// works and on one that fails. On one that works, nothing but that can be why
// one fails then.
func (s *scene) returnsWhenDone(calls func(ctx context.Context, key string) []func(i int) error) {
	during := func(when string, works bool) {
		ctx, cancel := context.WithCancelCause(s.ctx)
		defer cancel(nil)
		var wg, started sync.WaitGroup
		for _, call := range calls(ctx, s.key("busy")) {
			for range 4 {
				wg.Add(1)
				started.Add(1)
				go func() {
					defer wg.Done()
					started.Done()
					for i := 0; ctx.Err() == nil; i++ {
						if err := call(i); works && err != nil && !isSentinel(err) && !errors.Is(err, context.Canceled) {
							if ctx.Err() != nil { // else other rules say so
								s.Errorf("%s, the context of a call has ended: got error %v, want one that wraps %v", when, err, context.Canceled)
							}
							return
						}
						time.Sleep(100 * time.Microsecond) // leave some for other tests
					}
				}()
			}
		}
		started.Wait()
		time.Sleep(20 * time.Millisecond)
		cancel(errCause)
		if !s.ends(wg.Wait) {
			s.Errorf("%s, a call has not returned %v after its context ended", when, s.patience)
		}
	}
	during("on a busy key", true)
	if s.fail != nil {
		defer s.fail()()
		during("while the store fails", false)
	}
}

var sentinels = []error{
	session.ErrNotFound, session.ErrConflict, session.ErrTooLarge, session.ErrEncode, session.ErrDecode, session.ErrReadOnly,
	session.ErrClosed, session.ErrLocked, session.ErrLockTimeout, session.ErrLockLost, session.ErrTooLate,
}

func isSentinel(err error) bool {
	return slices.ContainsFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

func ruleStoreFailure(p *probe) {
	there, absent := p.key("there"), p.key("absent")
	v := p.save(there, p.record("1"))
	before := p.load(there)
	p.failures(func(ctx context.Context) []namedCall {
		return []namedCall{
			{"Load", func() error { _, err := p.b.Load(ctx, there); return err }},
			{"Load of an absent key", func() error { _, err := p.b.Load(ctx, absent); return err }},
			{"creating Save", func() error { _, err := p.b.Save(ctx, absent, p.record("2")); return err }},
			{"replacing Save", func() error { _, err := p.b.Save(ctx, there, replacing(p.record("2"), v)); return err }},
			{"Touch", func() error { return p.b.Touch(ctx, there, before.Expires.Add(time.Hour)) }},
			{"Delete", func() error { return p.b.Delete(ctx, there) }},
			{"Delete of an absent key", func() error { return p.b.Delete(ctx, absent) }},
		}
	})
}

type namedCall struct {
	name string
	call func() error
}

// failures makes calls while the store fails.
func (s *scene) failures(calls func(ctx context.Context) []namedCall) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	restore := s.fail()
	list := calls(ctx)
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Add(1)
		go func() { defer wg.Done(); errs[i] = c.call() }()
	}
	wg.Wait()
	restore()
	for i, err := range errs {
		if err == nil {
			s.Errorf("%s while the store fails: no error", list[i].name)
		}
		for _, sentinel := range sentinels {
			if errors.Is(err, sentinel) {
				s.Errorf("%s while the store fails: got %v, which is the sentinel %q", list[i].name, err, sentinel)
			}
		}
	}
}
