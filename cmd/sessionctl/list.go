package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/admin"
)

type listFlags struct {
	ownerFlags
	limit                                                  int
	expired, live, locked, foreign, moved, index, migrated bool
	sort                                                   string
	keyPrefix                                              string
	notes                                                  bool
	readUnits                                              float64

	of owners // that ownerFlags name
}

func (a *app) listCommand() *cobra.Command {
	var f listFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the keys of sessions",
		Long: `list prints the key, size, start, deadline and lock of the records in the store.
show and revoke take a key.

` + aboutKeys + `

list reads the table from its beginning, at a unit for each 8 KB, and stops at the
limit. Records come in no order. With --sort it has to read all of them. With
several of --live, --expired, --locked, --moved, --index, --migrated and --foreign
it lists the records that match any of them. A session that gets a new ID, for example by a
login, leaves a record under the old one. This record is "moved", and not a
session. A record of the index of owners is "index", and not a session. While
sessions move to another store, a record that says where one is or that it has
ended, or a copy on its way, is "migrated". From Redis list transfers the data of
the sessions of users, to tell the kinds.

With --user it lists the live sessions of a user, and with --owner those of
another owner that a login has given; with several owners, those that have all of
them. If the application has an index of owners, list finds them there, the
latest login first, at 1 read unit and 1 for each session, and says what it did
not search. Without a record of the owner in the index, and with --scan, it reads
the whole table and each live session. See "sessionctl help revoke".`,
		Example: `  sessionctl list --limit 20
  sessionctl list --locked --json
  sessionctl list --sort size --limit 10
  sessionctl list --user ann --notes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.of, err = f.parse(cmd); err != nil {
				return err
			}
			for _, name := range []string{"live", "expired", "locked", "moved", "index", "migrated", "foreign", "sort", "key-prefix"} {
				if f.of != nil && cmd.Flags().Changed(name) {
					return usageError("--%s does not go with --user and --owner", name)
				}
			}
			if f.of == nil && f.notes {
				return usageError("--notes is for --user and --owner")
			}
			if err := a.checkKeys(); err != nil {
				return err
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close() //nolint:errcheck // nothing was written
			return a.list(cmd.Context(), s, &f)
		},
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.IntVarP(&f.limit, "limit", "n", 100, "stop after this number; 0 for all")
	fl.BoolVar(&f.live, "live", false, "live sessions")
	fl.BoolVar(&f.expired, "expired", false, "expired sessions")
	fl.BoolVar(&f.locked, "locked", false, "locked sessions")
	fl.BoolVar(&f.moved, "moved", false, "records under the old IDs of sessions that got new ones")
	fl.BoolVar(&f.index, "index", false, "records of the index of owners")
	fl.BoolVar(&f.migrated, "migrated", false, "records of a move of the sessions to another store")
	fl.BoolVar(&f.foreign, "foreign", false, "records that package session did not write")
	fl.StringVar(&f.sort, "sort", "", "order by key, created, expires or size, the largest first; reads all records")
	fl.StringVar(&f.keyPrefix, "key-prefix", "", "only keys that begin with `TEXT`")
	a.addKeys(c, fl)
	f.add(fl, "live sessions")
	fl.BoolVar(&f.notes, "notes", false, "with --user and --owner: also print what the application noted at the login")
	numberVar(fl, &f.readUnits, "read-units", 0, "use at most this number of read units a second (default: no limit)")
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(sortOrders, cobra.ShellCompDirectiveNoFileComp))
	return c
}

var sortOrders = []string{"key", "created", "expires", "size"}

// state of an entry.
const (
	stateLive     = "live"
	stateExpired  = "expired"
	stateLocked   = "locked"
	stateForeign  = "foreign"
	stateMoved    = "moved"
	stateIndex    = "index"
	stateMigrated = "migrated"
)

// stateOf takes a list that has asked for the data with dataOfKind.
func stateOf(e *admin.Entry, now time.Time) string {
	switch {
	case e.Foreign:
		return stateForeign
	case !e.Expires.After(now):
		return stateExpired
	case isMoved(e):
		return stateMoved
	case isIndex(e):
		return stateIndex
	case isMigrated(e):
		return stateMigrated
	case e.LockedUntil.After(now):
		return stateLocked
	}
	return stateLive
}

// all reports whether every state is to be listed.
func (f *listFlags) all() bool {
	return !f.live && !f.expired && !f.locked && !f.foreign && !f.moved && !f.index && !f.migrated
}

// wants reports whether an entry in this state is to be listed.
func (f *listFlags) wants(state string) bool {
	if f.all() {
		return true
	}
	switch state {
	case stateForeign:
		return f.foreign
	case stateExpired:
		return f.expired
	case stateMoved:
		return f.moved
	case stateIndex:
		return f.index
	case stateMigrated:
		return f.migrated
	case stateLocked:
		return f.locked || f.live
	}
	return f.live
}

// listed is an entry as list prints it.
type listed struct {
	Key         string     `json:"key"`
	State       string     `json:"state"`
	Created     *time.Time `json:"created,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	LockedUntil *time.Time `json:"locked_until,omitempty"`
	Size        int        `json:"bytes"`
	DataSize    int        `json:"data_bytes"`
}

func (a *app) newListed(e *admin.Entry, state string) listed {
	return listed{
		Key: a.key(e.Key), State: state, Size: e.Size, DataSize: e.DataSize,
		Created: known(e.Created), Expires: known(e.Expires), LockedUntil: known(e.LockedUntil),
	}
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (a *app) list(ctx context.Context, s store, f *listFlags) error {
	if f.limit < 0 {
		return usageError("--limit %d is negative", f.limit)
	}
	if err := a.checkReadUnits(f.readUnits); err != nil {
		return err
	}
	if f.sort != "" && !slices.Contains(sortOrders, f.sort) {
		return usageError("--sort is %q; it can be %s", f.sort, strings.Join(sortOrders, ", "))
	}
	if f.of != nil {
		return a.listOwned(ctx, s, f)
	}
	opts := admin.ListOptions{KeyPrefix: f.keyPrefix, DataWith: dataOfKind, ReadUnits: f.readUnits}
	if f.sort == "" && f.all() {
		opts.Limit = f.limit
	}
	if opts.Limit == 0 || f.keyPrefix != "" {
		a.warnOfScan(ctx, s)
	}
	now := time.Now()
	shown := 0
	show := func(e *admin.Entry, state string) error {
		shown++
		if a.json {
			return a.line(a.newListed(e, state))
		}
		if shown == 1 {
			a.stdout.printf("%-32s  %-9s  %-14s  %-14s  %s\n", "KEY", "SIZE", "BEGAN", "ENDS", "STATE")
		}
		if state == stateLocked {
			state += " for " + span(e.LockedUntil.Sub(now))
		}
		a.stdout.printf("%-32s  %-9s  %-14s  %-14s  %s\n", printable(a.key(e.Key)), size(int64(e.Size)), relative(e.Created, now), relative(e.Expires, now), state)
		return a.stdout.err
	}

	var kept []sorted
	report, err := admin.List(ctx, s, opts, func(e admin.Entry) error {
		state := stateOf(&e, now)
		if !f.wants(state) {
			return nil
		}
		if f.sort != "" {
			e.Data = "" // which may be much
			kept = append(kept, sorted{e, state})
			if f.limit > 0 && len(kept) > 1000 && len(kept)/2 > f.limit {
				kept = f.first(kept)
			}
			return nil
		}
		if err := show(&e, state); err != nil {
			return err
		}
		if shown == f.limit {
			return errEnough
		}
		return nil
	})
	enough := errors.Is(err, errEnough) || err == nil && f.sort == "" && f.limit > 0 && shown == f.limit
	if err != nil && !enough {
		return err
	}
	kept = f.first(kept)
	for i := range kept {
		if err := show(&kept[i].Entry, kept[i].state); err != nil {
			return err
		}
	}
	switch used := unitsUsed(report.ReadUnits); {
	case enough:
		a.note("These are the first %s%s. --limit 0 lists all.", count(int64(shown)), used)
	case shown == 0:
		a.note("There are none among the %s records in %s%s.", count(report.Scanned), s, used)
	default:
		a.note("%s of %s records%s.", count(int64(shown)), count(report.Scanned), used)
	}
	return nil
}

// listOwned lists the sessions of an owner.
func (a *app) listOwned(ctx context.Context, s store, f *listFlags) error {
	sessions, searched, err := a.sessionsOf(ctx, s, f.of, how{scan: f.scan, readUnits: f.readUnits, most: f.limit})
	if err != nil {
		return err
	}
	enough := f.limit > 0 && len(sessions) >= f.limit
	if enough {
		sessions = sessions[:f.limit]
	}
	now := time.Now()
	for i := range sessions {
		o := &sessions[i]
		o.Key = a.key(o.Key)
		if !f.notes {
			o.Note = nil
		}
		if a.json {
			if err := a.line(o); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			a.stdout.printf("%-32s  %-14s  %-14s  %-14s  %s\n", "KEY", "BEGAN", "LAST USED", "ENDS", "STATE")
		}
		state, used := o.State, time.Time{}
		if state == stateLocked {
			state += " for " + span(o.LockedUntil.Sub(now))
		}
		if o.LastUsed != nil {
			used = *o.LastUsed
		}
		a.stdout.printf("%-32s  %-14s  %-14s  %-14s  %s\n", o.name(), relative(o.Created, now), relative(used, now), relative(o.Expires, now), state)
		for _, name := range slices.Sorted(maps.Keys(o.Note)) {
			a.stdout.printf("  %s: %s\n", printable(name), printable(o.Note[name]))
		}
	}
	if searched.Unfinished > 0 {
		a.note("A revocation of the %s is not complete: sessions that it covers are not listed. \"sessionctl revoke\" completes it.", f.of)
	}
	if enough {
		a.note("These are the first %s. --limit 0 lists all.", count(int64(len(sessions))))
		return nil
	}
	incomplete := searched.missed(a.codecName(), f.of.whose())
	if len(sessions) == 0 && incomplete == nil {
		a.nobody(f.of, searched)
	}
	return incomplete
}

func unitsUsed(units float64) string {
	if units == 0 {
		return ""
	}
	return ", " + amount(units) + " read units used"
}

// sorted is an entry that waits for the others.
type sorted struct {
	admin.Entry
	state string
}

// first sorts, and keeps as many as the limit allows.
func (f *listFlags) first(all []sorted) []sorted {
	slices.SortStableFunc(all, func(x, y sorted) int {
		switch f.sort {
		case "created":
			return x.Created.Compare(y.Created)
		case "expires":
			return x.Expires.Compare(y.Expires)
		case "size":
			return cmp.Compare(y.Size, x.Size)
		}
		return cmp.Compare(x.Key, y.Key)
	})
	if f.limit > 0 && len(all) > f.limit {
		all = all[:f.limit]
	}
	return all
}

// Above this a scan is worth a warning: units of a cent or less, and seconds
// of work.
const (
	manyReadUnits = 50_000
	manyRecords   = 1_000_000
)

// warnOfScan says what it costs to look at everything, if that is much. It is
// an estimate, and a store that does not make one is asked all the same.
func (a *app) warnOfScan(ctx context.Context, s store) {
	about, err := s.About(ctx)
	if err != nil {
		return
	}
	units := float64(about.Bytes) / 8192
	switch {
	case units >= manyReadUnits:
		a.note("This reads all of %s: about %s records, %s, %s read units. --read-units slows it down.",
			s, count(about.Records), size(about.Bytes), amount(units))
	case about.Bytes == 0 && about.Records >= manyRecords:
		a.note("This looks at all keys of %s, about %s.", s, count(about.Records))
	}
}

// errEnough ends a list that has shown what was asked for.
var errEnough = errors.New("the list has as many as were asked for")

// checkReadUnits checks the flag of a command that lists.
func (a *app) checkReadUnits(n float64) error {
	switch {
	case n < 0:
		return usageError("--read-units %v is negative", n)
	case n > 0 && a.backend == "redis":
		return usageError("--read-units is for DynamoDB, but the backend is Redis: leave it out")
	}
	return nil
}

// relative is a time as seen from now.
func relative(t, now time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "-"
	case d >= 0:
		return "in " + coarse(d)
	default:
		return coarse(-d) + " ago"
	}
}

// coarse is span without the parts that nobody reads in a list.
func coarse(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d/time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
