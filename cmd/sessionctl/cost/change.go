package cost

import (
	"slices"
	"time"

	"github.com/seed-a7bee19b/session"
)

// JSONSize is the size of a typical session in codec.JSON, relative to that in
// codec.MessagePack.
const JSONSize = 1.3

// Change is the effect of one other setting, as differences.
type Change struct {
	What       string  `json:"change"`
	Requests   float64 `json:"requests"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`
	StorageGB  float64 `json:"storage_gb"`
	Money      float64 `json:"money"`
	Share      float64 `json:"money_share"` // of what it costs now; 0 if that is nothing
}

// Changes tells what each of the settings that matter would change.
func Changes(w Workload, s Settings, price Price) ([]Change, error) {
	w, s, err := complete(w, s)
	if err != nil {
		return nil, err
	}
	now, err := Compute(w, s, price)
	if err != nil {
		return nil, err
	}
	var changes []Change
	try := func(what string, change func(*Workload, *Settings)) {
		other, with := w, s
		other.Sizes = slices.Clone(w.Sizes)
		change(&other, &with)
		if err != nil {
			return
		}
		var e Estimate
		if e, err = Compute(other, with, price); err != nil {
			return
		}
		c := Change{
			What: what, Requests: e.Requests - now.Requests,
			ReadUnits: e.ReadUnits - now.ReadUnits, WriteUnits: e.WriteUnits - now.WriteUnits,
			StorageGB: e.StorageGB - now.StorageGB, Money: e.Money.Total - now.Money.Total,
		}
		if now.Money.Total > 1e-9 { // else it is nothing, and no share of it says anything
			c.Share = c.Money / now.Money.Total
		}
		changes = append(changes, c)
	}
	settings := func(what string, change func(*Settings)) {
		try(what, func(_ *Workload, s *Settings) { change(s) })
	}
	scale := func(what string, by float64) {
		try(what, func(w *Workload, _ *Settings) {
			for i := range w.Sizes {
				w.Sizes[i].Data = min(int(float64(w.Sizes[i].Data)*by), maxData)
			}
		})
	}
	modes := func(what string, mode, safe session.Mode) {
		if s.Mode != mode || s.SafeMode != safe {
			settings(what, func(s *Settings) { s.Mode, s.SafeMode = mode, safe })
		}
	}

	if s.EventuallyConsistentReads {
		settings("consistent reads", func(s *Settings) { s.EventuallyConsistentReads = false })
	} else {
		settings("EventuallyConsistentReads", func(s *Settings) { s.EventuallyConsistentReads = true })
	}
	modes("Mode Merge for every request", session.Merge, session.Merge)
	modes("Mode Exclusive for every request", session.Exclusive, session.Exclusive)
	modes("Mode Exclusive, SafeMode Merge", session.Exclusive, session.Merge)
	if s.IdleTimeout > 0 && w.Touches == nil {
		interval := func(what string, d time.Duration) {
			if d < s.IdleTimeout {
				settings("TouchInterval "+what+": "+short(d), func(s *Settings) { s.TouchInterval = d })
			}
		}
		if s.TouchInterval > 1 {
			interval("halved", s.TouchInterval/2)
		}
		if s.TouchInterval < s.IdleTimeout/2 {
			interval("doubled", s.TouchInterval*2)
		}
	}
	if now.Touches > 0 {
		try("no touches: SafeMode ReadOnly, or no IdleTimeout", func(w *Workload, _ *Settings) { w.Touches = new(float64) })
	}
	if s.Owners == 0 && w.Mix.Login > 0 {
		settings("Owners.Index, a session listed under its user", func(s *Settings) { s.Owners = 1 })
	} else if s.Owners > 0 {
		settings("no Owners.Index", func(s *Settings) { s.Owners = 0 })
	}
	scale("sessions half as large", 0.5)
	scale("sessions twice as large", 2)
	scale("codec JSON: 1.3 times as large, typically", JSONSize)
	if s.SweepEvery > 0 {
		settings("TTL in place of the sweep", func(s *Settings) { s.SweepEvery = 0 })
	} else {
		settings("a daily sweep in place of TTL", func(s *Settings) { s.SweepEvery = 24 * time.Hour })
	}
	if s.Provisioned {
		settings("on demand", func(s *Settings) { s.Provisioned = false })
	} else {
		settings("provisioned, for a peak "+number(s.Peak)+" times the average", func(s *Settings) { s.Provisioned = true })
		if s.Peak > 1 {
			settings("provisioned, if there were no peak", func(s *Settings) { s.Provisioned, s.Peak = true, 1 })
		}
	}
	return changes, err
}

// Operation is the cost of one operation on a session.
type Operation struct {
	What       string  `json:"operation"`
	Requests   string  `json:"requests"`
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`
	Million    float64 `json:"money_million"` // a million times, on demand
}

// Operations returns the costs of the operations on a session with data bytes of
// data and a full version: reading, reading with a lock, writing, destroying and
// collecting it.
func Operations(data int, s Settings, price Price) ([]Operation, error) {
	w, s, err := complete(Workload{Sizes: []SizeClass{{Data: data, Weight: 1}}}, s)
	if err != nil {
		return nil, err
	}
	m := &model{w: w, s: s}
	size, locked := s.Item.Size(data, tokens, false), s.Item.Size(data, tokens, true)
	read, write, lockedWrite := m.readUnits(size), WriteUnits(size), WriteUnits(locked)
	all := []Operation{
		{"read", "1 GetItem", read, 0, 0},
		{"read, once in each TouchInterval", "1 GetItem, 1 UpdateItem", read, write, 0},
		{"locking read", "1 UpdateItem", 0, lockedWrite, 0},
		{"look at a lock that is taken", "1 GetItem", m.readUnits(locked), 0, 0},
		{"release without a change", "1 UpdateItem", 0, lockedWrite, 0},
		{"write, after a read", "1 UpdateItem", 0, write, 0},
		{"write, after a locking read", "1 UpdateItem", 0, lockedWrite, 0},
		{"log in, after a read", "2 UpdateItem", 0, write + WriteUnits(s.Item.Size(data, 1, false)), 0},
		{"destroy, after a read", "1 DeleteItem", 0, write, 0},
		{"collect: sweep, each row looked at", "Scan, 1 MB a page", float64(size) / readBlock / 2, 0, 0},
		{"collect: sweep, each row deleted", "1 DeleteItem", 0, write, 0},
		{"collect: TTL", "none", 0, 0, 0},
	}
	for i := range all {
		reads, writes := price.Units(all[i].ReadUnits, all[i].WriteUnits)
		all[i].Million = (reads + writes) * 1e6
	}
	return all, nil
}
