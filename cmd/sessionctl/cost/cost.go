// Package cost computes what sessions in DynamoDB cost: the requests, the
// capacity units, the storage and the money of a month, from how an
// application uses its sessions and how they are configured.
//
// It makes no requests. It knows what a session.Manager sends for each kind of
// request, and what backend/dynamodb makes of that; the tests in integration
// hold it against units counted between the two.
//
// What it leaves out: conflicts, waits for locks and renewals of them, unless
// the [Workload] says how many there are, retries, and lists and backups.
package cost

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// Month is the length of a month on the bill.
const Month = 730 * time.Hour

// The defaults of [Workload] and [Settings].
const (
	DefaultSize       = 700 // bytes
	DefaultGap        = time.Minute
	DefaultIdle       = 2 * time.Hour
	DefaultAbsolute   = 24 * time.Hour
	DefaultTTLDelay   = 48 * time.Hour
	DefaultPeak       = 4.0
	DefaultSweepGrace = admin.DefaultSweepGrace
)

// Mix has the weights of the kinds of requests of an application. A weight may be
// a number, a share or a percentage. Requests that do not use their session, and
// visitors without data, cost nothing and are not in it.
type Mix struct {
	Read        float64 `json:"read"`         // reads a session, and changes nothing
	Write       float64 `json:"write"`        // reads and changes it
	LockedRead  float64 `json:"locked_read"`  // reads it on a route in mode Exclusive
	LockedWrite float64 `json:"locked_write"` // reads and changes it on such a route
	New         float64 `json:"new"`          // begins a session
	Login       float64 `json:"login"`        // logs in, or rotates the ID of, a session that is there
	Logout      float64 `json:"logout"`       // destroys it
	Gone        float64 `json:"gone"`         // comes with the token of a session that is over
}

// DefaultMix is that of an ordinary shop.
var DefaultMix = Mix{Read: 80, Write: 14, New: 3, Login: 1, Logout: 1, Gone: 1}

// fields names the weights.
func (m *Mix) fields() []mixField {
	return []mixField{
		{"read", &m.Read}, {"write", &m.Write}, {"locked-read", &m.LockedRead}, {"locked-write", &m.LockedWrite},
		{"new", &m.New}, {"login", &m.Login}, {"logout", &m.Logout}, {"gone", &m.Gone},
	}
}

type mixField struct {
	name   string
	weight *float64
}

func (m Mix) sum() float64 {
	var sum float64
	for _, f := range m.fields() {
		sum += *f.weight
	}
	return sum
}

// SizeClass is a part of the sessions, of one size.
type SizeClass struct {
	Data   int     `json:"bytes"`  // bytes of the encoded session
	Weight float64 `json:"weight"` // how many have it, relative to the others
}

// Workload describes the use that an application makes of its sessions.
type Workload struct {
	Requests float64 // of the application, in a month, that are in Mix
	Mix      Mix     // default DefaultMix
	// Sizes are those of the encoded sessions. Default one of 700 bytes.
	Sizes []SizeClass
	// Gap is the average time between two requests of one session while it is
	// used. Default 1 min. With TouchInterval it says how many reads touch.
	Gap time.Duration
	// Touches, if not nil, is the share of unlocked reads that touch, in place
	// of what follows from Gap.
	Touches *float64
	// Writes is the number of writes of each record under one ID, the first
	// included. Each of the first 16 makes the item larger. Default 0, a random
	// number with the average that follows from Mix.
	Writes int
	// Conflicts is the share of unlocked writes that meet another one, and are
	// sent again.
	Conflicts float64
	// Waits is the share of locked requests that find the lock taken, and
	// Looks how often such a one looks before it is free.
	Waits, Looks float64
	// Rows is the average number of items in the table. Default 0, the number
	// that follows from Mix and the timeouts.
	Rows float64
}

// Settings is the configuration of the sessions and their table.
type Settings struct {
	Mode     session.Mode // Merge (default), LastWrite or Exclusive
	SafeMode session.Mode // of requests that only read; default as Mode

	IdleTimeout     time.Duration // as in session.Config
	AbsoluteTimeout time.Duration // as in session.Config
	TouchInterval   time.Duration // as in session.Config

	// Owners is the number of owners that a login lists its session under, the
	// user included. Default 0: Owners.Index of session.Config is not set. It is
	// taken that an owner has few sessions: what more than 16 cost is left out.
	Owners int

	EventuallyConsistentReads bool // as in dynamodb.Config
	Item                      Item

	// Provisioned says that capacity is bought by the hour, and Peak how many
	// times the average it has to be. Default on demand; 4.
	Provisioned bool
	Peak        float64

	// SweepEvery is the time between two sweeps. Default 0: the table has
	// TTL, which removes rows for nothing, up to days late.
	SweepEvery time.Duration
}

// Call is the number of calls of one method in a month, and their cost. What is a
// method of session.Backend or session.LockingBackend, or Sweep. Request is the
// name of the request to DynamoDB.
type Call struct {
	What       string  `json:"call"`
	Request    string  `json:"request"`
	Requests   float64 `json:"requests"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`
}

// Money is the cost of a month, in the currency of the [Prices].
type Money struct {
	Reads   float64 `json:"reads"`
	Writes  float64 `json:"writes"`
	Storage float64 `json:"storage"`
	Total   float64 `json:"total"`
}

// Estimate is a month.
type Estimate struct {
	Calls      []Call  `json:"calls"`
	Requests   float64 `json:"requests"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`

	Touches   float64 `json:"touch_share"` // share of the unlocked reads that touch
	Rows      float64 `json:"rows"`        // in the table, on average
	RowBytes  float64 `json:"row_bytes"`   // of an item, on average, as DynamoDB counts them
	StorageGB float64 `json:"storage_gb"`

	// Capacity to provision, if Settings.Provisioned.
	ReadCapacity  float64 `json:"read_capacity,omitempty"`
	WriteCapacity float64 `json:"write_capacity,omitempty"`

	Money Money `json:"money"`
}

// complete fills in the defaults, and refuses what cannot be.
func complete(w Workload, s Settings) (Workload, Settings, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("cost: "+format, args...)) }
	share := func(name string, v float64) {
		if !(v >= 0 && v <= 1) {
			bad("%s is %v; it must be between 0 and 1", name, v)
		}
	}
	amount := func(name string, v float64) {
		if !(v >= 0 && v <= mostAmount) {
			bad("%s is %v; it must be a number from 0 to %g", name, v, mostAmount)
		}
	}
	weight := func(name string, v float64) {
		if !isWeight(v) {
			bad("the weight of %s is %v; it must be 0, or from %g to %g", name, v, leastWeight, mostWeight)
		}
	}
	if w.Mix == (Mix{}) {
		w.Mix = DefaultMix
	}
	for _, f := range w.Mix.fields() {
		weight(f.name, *f.weight)
	}
	if len(w.Sizes) == 0 {
		w.Sizes = []SizeClass{{Data: DefaultSize, Weight: 1}}
	}
	var weights float64
	for _, c := range w.Sizes {
		if c.Data < 0 || c.Data > maxData {
			bad("a size is %d bytes; it must be between 0 and %d", c.Data, maxData)
		}
		weight("a size", c.Weight)
		weights += c.Weight
	}
	if !(weights > 0) {
		bad("the weights must add up to more than 0")
	}
	amount("Requests", w.Requests)
	amount("Rows", w.Rows)
	if !(w.Looks >= 0 && w.Looks <= mostLooks) {
		bad("Looks is %v; it must be from 0 to %g", w.Looks, mostLooks)
	}
	share("Conflicts", w.Conflicts)
	share("Waits", w.Waits)
	if w.Touches != nil {
		share("Touches", *w.Touches)
	}
	if w.Writes < 0 {
		bad("Writes is %d; it must not be negative", w.Writes)
	}

	for _, m := range []session.Mode{s.Mode, s.SafeMode} {
		if m < 0 || m > session.ReadOnly {
			bad("unknown Mode %d", int(m))
		}
	}
	if s.Mode == session.ReadOnly {
		bad("Mode cannot be ReadOnly, because sessions have to begin somewhere; SafeMode can")
	}
	if s.Mode == 0 {
		s.Mode = session.Merge
	}
	if s.SafeMode == 0 {
		s.SafeMode = s.Mode
	}
	timeout := func(name string, d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
		if *d < 0 && *d != session.Never {
			bad("%s is %v; it must not be negative", name, *d)
		}
	}
	timeout("AbsoluteTimeout", &s.AbsoluteTimeout, DefaultAbsolute)
	idle := DefaultIdle
	if s.AbsoluteTimeout > 0 {
		idle = min(idle, s.AbsoluteTimeout)
	}
	timeout("IdleTimeout", &s.IdleTimeout, idle)
	switch {
	case s.IdleTimeout == session.Never && s.AbsoluteTimeout == session.Never:
		bad("IdleTimeout and AbsoluteTimeout are both Never")
	case s.TouchInterval < 0:
		bad("TouchInterval is %v; it must not be negative", s.TouchInterval)
	case s.TouchInterval == 0 && s.IdleTimeout > 0:
		s.TouchInterval = s.IdleTimeout / 10
	case s.IdleTimeout > 0 && s.TouchInterval >= s.IdleTimeout:
		bad("TouchInterval is %v; it must be shorter than IdleTimeout, which is %v", s.TouchInterval, s.IdleTimeout)
	}
	if w.Gap == 0 {
		w.Gap = DefaultGap
	}
	if w.Gap < 0 {
		bad("Gap is %v; it must not be negative", w.Gap)
	}
	if s.Peak == 0 {
		s.Peak = DefaultPeak
	}
	if !(s.Peak >= 1 && s.Peak <= mostPeak) {
		bad("Peak is %v; it must be at least 1, and at most %g", s.Peak, mostPeak)
	}
	if s.Owners < 0 || s.Owners > mostOwners {
		bad("Owners is %d; it must be between 0 and %d", s.Owners, mostOwners)
	}
	if s.SweepEvery < 0 {
		bad("SweepEvery is %v; it must not be negative", s.SweepEvery)
	}
	for _, n := range []int{s.Item.Key, s.Item.Names, s.Item.LockNames} {
		if n < 0 || n > 8*mostName {
			bad("Item %+v has a negative size, or one that no item can have", s.Item)
		}
	}
	s.Item = s.Item.withDefaults()
	return w, s, errors.Join(errs...)
}

const maxData = 400 << 10

// What weights and amounts can be, so that all that is computed from them is a
// number, too: their products stay far from the ends of a float64.
const (
	leastWeight = 1e-9
	mostWeight  = 1e9
	mostAmount  = 1e18
	mostLooks   = 1e6
	mostPeak    = 1e6
	mostName    = 64 << 10 // of DynamoDB
	mostOwners  = 9        // the user, and those of a Login
)

func isWeight(v float64) bool { return v == 0 || v >= leastWeight && v <= mostWeight }

// Compute estimates a month of w with s, at price.
func Compute(w Workload, s Settings, price Price) (Estimate, error) {
	w, s, err := complete(w, s)
	if err != nil {
		return Estimate{}, err
	}
	m := &model{w: w, s: s}
	m.requests()
	m.rows()
	return m.estimate(price), nil
}

// model adds up.
type model struct {
	w     Workload
	s     Settings
	calls map[string]*Call
	e     Estimate
}

// The requests of each call.
var requestOf = map[string]string{
	load: "GetItem", save: "UpdateItem", touch: "UpdateItem", deletion: "DeleteItem",
	acquire: "UpdateItem", release: "UpdateItem", scan: "Scan", sweep: "DeleteItem",
}

const (
	load     = "Load"
	save     = "Save"
	touch    = "Touch"
	deletion = "Delete"
	acquire  = "Acquire"
	release  = "Release"
	scan     = "Sweep: scan"
	sweep    = "Sweep: delete"
)

var callOrder = []string{load, save, touch, deletion, acquire, release, scan, sweep}

func (m *model) add(what string, n, read, write float64) {
	if n == 0 {
		return
	}
	if m.calls == nil {
		m.calls = map[string]*Call{}
	}
	c := m.calls[what]
	if c == nil {
		c = &Call{What: what, Request: requestOf[what]}
		m.calls[what] = c
	}
	c.Requests += n
	c.ReadUnits += n * read
	c.WriteUnits += n * write
}

// each calls f with every size, and how many of a kind of request of the given
// weight have a session of it in a month.
func (m *model) each(weight float64, f func(n float64, data int)) {
	if weight == 0 {
		return
	}
	var all float64
	for _, c := range m.w.Sizes {
		all += c.Weight
	}
	for _, c := range m.w.Sizes {
		if c.Weight > 0 {
			f(m.w.Requests*weight/m.w.Mix.sum()*c.Weight/all, c.Data)
		}
	}
}

// phase is a time in the life of a record. The version of its item, and so the
// item, grows with each of the first 16 writes.
type phase int

const (
	inLife phase = iota
	beforeWrite
	atEnd
)

// average is that of f over how often a record has been written by then, up to
// 16 times.
//
// If Writes is set, every record is written that often. If not, lives end at
// random: whatever is done to a record, it is as likely as ever that it is the
// last, and then all phases look alike.
func (m *model) average(p phase, f func(writes int) float64) float64 {
	if n := m.w.Writes; n > 0 {
		first, last := 1, n
		switch p {
		case beforeWrite:
			last = max(1, n-1)
		case atEnd:
			first = n
		}
		var sum float64
		for i := first; i <= min(last, tokens); i++ {
			sum += f(i)
		}
		if last > tokens {
			sum += float64(last-max(tokens, first-1)) * f(tokens)
		}
		return sum / float64(last-first+1)
	}
	mix := m.w.Mix
	changes, records := mix.Write+mix.LockedWrite, mix.New+mix.Login
	if changes == 0 {
		return f(1)
	}
	var sum float64
	left, goesOn := 1.0, changes/(changes+records)
	for i := 1; i < tokens; i++ {
		sum += left * (1 - goesOn) * f(i)
		left *= goesOn
	}
	return sum + left*f(tokens)
}

// units is the average of what it takes to read or write the item.
func (m *model) units(p phase, data int, locked bool, unit func(size int) float64) float64 {
	return m.average(p, func(writes int) float64 { return unit(m.s.Item.Size(data, writes, locked)) })
}

func (m *model) readUnits(size int) float64 {
	if m.s.EventuallyConsistentReads {
		return ReadUnits(size) / 2
	}
	return ReadUnits(size)
}

// begin is n requests that read a session of this size, or lock it.
func (m *model) begin(n float64, p phase, data int, locked bool) {
	read := m.units(p, data, locked, m.readUnits)
	if !locked {
		m.add(load, n, read, 0)
		return
	}
	// Those that are refused look before they try again.
	waits := n * m.w.Waits
	m.add(acquire, n+waits, 0, m.units(p, data, true, WriteUnits))
	m.add(load, waits*m.w.Looks, read, 0)
}

// replace adds n Saves of an existing session.
func (m *model) replace(n float64, data int, locked bool) {
	m.add(save, n, 0, m.average(beforeWrite, func(writes int) float64 {
		before, after := m.s.Item.Size(data, writes, locked), m.s.Item.Size(data, writes+1, false)
		return WriteUnits(max(before, after))
	}))
}

// create is n Saves of a record that was not.
func (m *model) create(n float64, data int) {
	m.add(save, n, 0, WriteUnits(m.s.Item.Size(data, 1, false)))
}

// requests adds what the Manager sends for each kind of request.
func (m *model) requests() {
	mix, exclusive := m.w.Mix, m.s.Mode == session.Exclusive
	m.e.Touches = m.touches()

	read := func(weight float64, mode session.Mode) {
		m.each(weight, func(n float64, data int) {
			m.begin(n, inLife, data, mode == session.Exclusive)
			if mode == session.Exclusive {
				m.add(release, n, 0, m.units(inLife, data, true, WriteUnits))
			} else if mode != session.ReadOnly {
				m.add(touch, n*m.e.Touches, 0, m.units(inLife, data, false, WriteUnits))
			}
		})
	}
	write := func(weight float64, locked bool) {
		m.each(weight, func(n float64, data int) {
			m.begin(n, beforeWrite, data, locked)
			if !locked {
				n *= 1 + m.w.Conflicts // they hand over the record
			}
			m.replace(n, data, locked)
		})
	}
	read(mix.Read, m.s.SafeMode)
	read(mix.LockedRead, session.Exclusive)
	write(mix.Write, exclusive)
	write(mix.LockedWrite, true)
	m.each(mix.New, m.create)
	m.each(mix.Login, func(n float64, data int) {
		m.begin(n, atEnd, data, exclusive)
		m.create(n, data)
		// The old record becomes a marker.
		m.add(save, n, 0, m.average(atEnd, func(writes int) float64 {
			return WriteUnits(max(m.s.Item.Size(data, writes, exclusive), m.s.Item.Size(markerData, writes+1, false)))
		}))
		index, owners := m.s.Item.Size(indexData, tokens, false), n*float64(m.s.Owners)
		m.add(load, owners, m.readUnits(index), 0)
		m.add(save, owners, 0, WriteUnits(index))
	})
	m.each(mix.Logout, func(n float64, data int) {
		m.begin(n, atEnd, data, exclusive)
		m.add(deletion, n, 0, m.units(atEnd, data, exclusive, WriteUnits))
	})
	m.each(mix.Gone, func(n float64, _ int) {
		if exclusive {
			m.add(acquire, n, 0, WriteUnits(0))
			return
		}
		m.add(load, n, m.readUnits(0), 0)
		if m.s.EventuallyConsistentReads { // then a consistent one has the last word
			m.add(load, n, ReadUnits(0), 0)
		}
	})
}

// touches is the share of the unlocked reads that find the deadline older than
// TouchInterval allows. Requests come at random, one each Gap on average. A
// write moves the deadline too, so it takes a time without one until it is
// stale, and then the next request makes it fresh.
func (m *model) touches() float64 {
	mix := m.w.Mix
	switch {
	case m.s.IdleTimeout == session.Never, m.s.SafeMode == session.Exclusive && mix.Read > 0, m.s.SafeMode == session.ReadOnly:
		return 0
	case m.w.Touches != nil:
		return *m.w.Touches
	}
	reads, writes := mix.Read+mix.LockedRead, mix.Write+mix.LockedWrite+mix.Login
	if reads == 0 {
		return 0
	}
	interval := float64(m.s.TouchInterval) / float64(m.w.Gap) // in requests
	fresh := interval
	if share := writes / (reads + writes); share > 0 {
		fresh = math.Expm1(share*interval) / share
	}
	return 1 / (1 + fresh)
}

// rows adds what is in the table, and what is done to it.
func (m *model) rows() {
	mix, item := m.w.Mix, m.s.Item
	perWeight := m.w.Requests / mix.sum()
	// Each Login turns one row into a marker, and begins another.
	idle := max(0, mix.New-mix.Logout) * perWeight
	logout, marker := mix.Logout*perWeight, mix.Login*perWeight
	index := marker * float64(m.s.Owners)

	var size, weight float64
	for _, c := range m.w.Sizes {
		size += c.Weight * m.average(inLife, func(writes int) float64 { return float64(item.Size(c.Data, writes, false)) })
		weight += c.Weight
	}
	size /= weight
	markerSize := m.average(atEnd, func(writes int) float64 { return float64(item.Size(markerData, writes+1, false)) })

	delay := DefaultTTLDelay
	if m.s.SweepEvery > 0 {
		delay = m.s.SweepEvery/2 + DefaultSweepGrace
	}
	life := m.s.IdleTimeout
	if life == session.Never || m.s.AbsoluteTimeout > 0 && life > m.s.AbsoluteTimeout {
		life = m.s.AbsoluteTimeout
	}
	used := m.w.Gap
	if sessions := mix.New + mix.Login; sessions > 0 {
		used = time.Duration(min(float64(m.w.Gap)*(mix.sum()-mix.Gone)/sessions, float64(Month)))
	}
	if m.s.AbsoluteTimeout > 0 {
		used = min(used, m.s.AbsoluteTimeout)
	}
	// A marker is there as long as the old ID would have been good.
	markerLife := max(life, 10*time.Minute)
	at := func(n float64, lives ...time.Duration) float64 {
		var hours float64 // their sum may be more than a Duration holds
		for _, d := range lives {
			hours += d.Hours()
		}
		return n * hours / Month.Hours()
	}
	markers := at(marker, markerLife, delay)
	sessions := at(idle, used, life, delay) + at(logout, used) + at(marker, used)
	// A record of the index stays for a day after the last of its sessions. It is
	// taken that each has one.
	longest := life
	if m.s.AbsoluteTimeout > 0 {
		longest = m.s.AbsoluteTimeout
	}
	heads := at(index, longest, indexMargin, delay)
	if m.w.Rows > 0 {
		all := markers + sessions + heads
		if all == 0 {
			sessions, all = 1, 1
		}
		markers, sessions, heads = markers*m.w.Rows/all, sessions*m.w.Rows/all, heads*m.w.Rows/all
	}
	m.e.Rows = markers + sessions + heads
	headSize := item.Size(indexData, 1, false)
	bytes := markers*markerSize + sessions*size + heads*float64(headSize)
	if m.e.Rows > 0 {
		m.e.RowBytes = bytes / m.e.Rows
	}
	m.e.StorageGB = StorageGB(m.e.Rows, bytes)

	if m.s.SweepEvery > 0 {
		sweeps := float64(Month) / float64(m.s.SweepEvery)
		pages := math.Ceil(bytes / scanPage)
		// Eventually consistent, and the sizes of a page are added up before
		// they are rounded.
		m.add(scan, sweeps*pages, math.Ceil(bytes/readBlock)/2/max(1, pages), 0)
		m.each(max(0, mix.New-mix.Logout), func(n float64, data int) {
			m.add(sweep, n, 0, m.units(atEnd, data, false, WriteUnits))
		})
		m.add(sweep, marker, 0, WriteUnits(int(markerSize)))
		m.add(sweep, index, 0, WriteUnits(headSize))
	}
}

// estimate adds up the calls and prices them.
func (m *model) estimate(price Price) Estimate {
	e := m.e
	for _, what := range callOrder {
		if c := m.calls[what]; c != nil {
			e.Calls = append(e.Calls, *c)
			e.Requests += c.Requests
			e.ReadUnits += c.ReadUnits
			e.WriteUnits += c.WriteUnits
		}
	}
	if m.s.Provisioned {
		e.ReadCapacity = max(1, math.Ceil(e.ReadUnits/Month.Seconds()*m.s.Peak))
		e.WriteCapacity = max(1, math.Ceil(e.WriteUnits/Month.Seconds()*m.s.Peak))
		e.Money.Reads = e.ReadCapacity * Month.Hours() * price.ReadUnitHour
		e.Money.Writes = e.WriteCapacity * Month.Hours() * price.WriteUnitHour
	} else {
		e.Money.Reads, e.Money.Writes = price.Units(e.ReadUnits, e.WriteUnits)
	}
	e.Money.Storage = e.StorageGB * price.StorageMonth
	e.Money.Total = e.Money.Reads + e.Money.Writes + e.Money.Storage
	return e
}

// Units returns the cost of request units on demand.
func (p Price) Units(read, write float64) (reads, writes float64) {
	return read * p.ReadMillion / 1e6, write * p.WriteMillion / 1e6
}

// StorageGB is the storage that is billed for so many rows with bytes in all,
// as DynamoDB counts their sizes, in units of 2^30 bytes: 100 bytes a row are
// added.
func StorageGB(rows, bytes float64) float64 { return (bytes + rows*rowOverhead) / gigabyte }

// ByRequest adds up the calls by what DynamoDB calls their requests.
func (e Estimate) ByRequest() []Call {
	var sums []Call
	for _, c := range e.Calls {
		i := 0
		for i < len(sums) && sums[i].Request != c.Request {
			i++
		}
		if i == len(sums) {
			sums = append(sums, Call{Request: c.Request})
		}
		sums[i].Requests += c.Requests
		sums[i].ReadUnits += c.ReadUnits
		sums[i].WriteUnits += c.WriteUnits
	}
	return sums
}
