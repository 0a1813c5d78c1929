package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// ownerFlags say whose sessions a command is about.
type ownerFlags struct {
	user   string
	owners []string
	scan   bool
}

func (f *ownerFlags) add(fl *pflag.FlagSet, what string) {
	fl.StringVar(&f.user, "user", "", what+" of the user with this `name`, as given to Login")
	fl.StringArrayVar(&f.owners, "owner", nil, what+" of this owner, `KIND=ID`, as given to LoginWith; if repeated,\nthose that have all of them")
	fl.BoolVar(&f.scan, "scan", false, "with --user and --owner: read the whole table, also where there is an index")
}

// parse returns the owners that the flags name, none if they name none.
func (f *ownerFlags) parse(cmd *cobra.Command) (owners, error) {
	var all owners
	if cmd.Flags().Changed("user") {
		if f.user == "" {
			return nil, usageError("--user needs a name: a session without a login has no user")
		}
		if php, _ := cmd.Flags().GetString("php"); php != "" && !cmd.Flags().Changed("php-user") {
			return nil, usageError("--user needs --php-user, the name of the value of $_SESSION that has the user")
		}
		all = append(all, session.User(f.user))
	}
	for _, text := range f.owners {
		kind, id, _ := strings.Cut(text, "=")
		if kind == "" || id == "" {
			return nil, usageError("--owner is %q; it must be of the form KIND=ID, as in tenant=acme", text)
		}
		if o := (session.Owner{Kind: kind, ID: id}); !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	if f.scan && all == nil {
		return nil, usageError("--scan is for --user and --owner")
	}
	return all, nil
}

// owners are those that a session must have.
type owners []session.Owner

// listable reports whether a login can have listed a session under all of them.
func (all owners) listable() bool {
	const most = 512 // as package session allows
	return !slices.ContainsFunc(all, func(o session.Owner) bool {
		return len(o.Kind) > most || len(o.ID) > most || !utf8.ValidString(o.Kind) || !utf8.ValidString(o.ID)
	})
}

// own reports whether they have the session with these values.
func (all owners) own(c session.Codec, values map[string][]byte) (bool, listing, error) {
	var of owners
	missing := func(o session.Owner) bool { return !slices.Contains(of, o) }
	if data, ok := values[userValue]; ok {
		var name string
		if err := c.Unmarshal(data, &name); err != nil {
			return false, listing{}, fmt.Errorf("%w: %w", session.ErrDecode, err)
		}
		of = append(of, session.User(name))
	}
	ls, err := listingOf(c, values)
	if err != nil && !slices.ContainsFunc(all, missing) {
		return true, ls, nil
	}
	of = append(of, ls.Owners...)
	return !slices.ContainsFunc(all, missing), ls, err
}

// String is for the sentences that have "of" before it.
func (all owners) String() string {
	if len(all) == 1 && all[0] == session.User(all[0].ID) {
		return fmt.Sprintf("user %q", all[0].ID)
	}
	var names []string
	for _, o := range all {
		names = append(names, fmt.Sprintf("%q", o.Kind+"="+o.ID))
	}
	return "owner " + strings.Join(names, " and ")
}

// owned is a session of the owners.
type owned struct {
	Key         string            `json:"key"` // "" if it is not known
	Handle      string            `json:"handle,omitempty"`
	State       string            `json:"state"`
	Created     time.Time         `json:"created"`
	LastUsed    *time.Time        `json:"last_used,omitempty"` // if it is known
	Expires     time.Time         `json:"expires"`
	LockedUntil *time.Time        `json:"locked_until,omitempty"`
	DataSize    int               `json:"data_bytes"`
	Note        map[string]string `json:"note,omitempty"`

	indexed bool // it is in the index
}

func newOwned(key string, rec *session.Record, ls *listing, now time.Time) owned {
	o := owned{
		Key: key, Handle: ls.Handle, State: stateLive, Created: rec.Created.UTC(), Expires: rec.Expires.UTC(),
		LockedUntil: known(rec.LockedUntil), DataSize: len(rec.Data), Note: ls.Note,
	}
	if rec.LockedUntil.After(now) {
		o.State = stateLocked
	}
	return o
}

// name is what the session is called in a sentence.
func (o *owned) name() string {
	if o.Key == "" {
		return "the session with handle " + printable(o.Handle)
	}
	return printable(o.Key)
}

// search says where sessions of an owner were looked for.
type search struct {
	Complete    bool   `json:"complete"`               // no session of the owner can have been missed
	Indexed     bool   `json:"indexed"`                // the index has a record of the owner
	Listed      int    `json:"listed"`                 // live sessions in it
	Unfinished  int    `json:"unfinished,omitempty"`   // revocations in it that are not complete
	NotSearched string `json:"not_searched,omitempty"` // what else the owner may have

	Scanned     int64 `json:"scanned"`
	Searched    int   `json:"searched"`    // sessions that were looked into
	Expired     int   `json:"expired"`     // records that need not be
	Index       int   `json:"index"`       // records of the index
	Migrated    int   `json:"migrated"`    // records of a move to another store
	Undecodable int   `json:"undecodable"` // records that cannot be, with this codec
	Foreign     int   `json:"foreign"`     // records that cannot be, as package session did not write them
}

const notSearched = "sessions whose user logged in before Owners.Index was set in the Config, or through a process without it"

// missed says what of the owner a scan may have left out, nil if nothing.
func (r *search) missed(codec, whose string) error {
	if r.NotSearched != "" {
		return nil
	}
	var what []string
	if r.Undecodable > 0 {
		what = append(what, fmt.Sprintf("%s sessions do not decode with codec %s", count(int64(r.Undecodable)), codec))
	}
	if r.Foreign > 0 {
		what = append(what, fmt.Sprintf("package session did not write %s records", count(int64(r.Foreign))))
	}
	if r.Complete = len(what) == 0; r.Complete {
		return nil
	}
	todo := "Name another codec with --codec, or pass --php if PHP uses the table. An application that encrypts its sessions has to end them itself."
	if strings.HasPrefix(codec, "php") {
		todo = "Name another handler with --serialize-handler; \"sessionctl doctor\" finds the one that PHP uses. With --php-user-int the user has to be an integer in each session, and without it a string."
	}
	if r.Undecodable == 0 {
		todo = "If the application uses other attribute names, pass them: \"sessionctl help\" has the flags. Other writers have to end their own sessions."
	}
	return &wordsError{what: fmt.Sprintf("%s: they could not be searched, and may belong to the %s.", strings.Join(what, ", and "), whose), todo: todo}
}

// whose is what the owners are called after "of the".
func (all owners) whose() string {
	if len(all) == 1 && all[0].Kind == session.User("").Kind {
		return "user"
	}
	return "owner"
}

// how says how to look for the sessions of an owner.
type how struct {
	scan      bool    // not only in the index
	readUnits float64 // a second, of a scan
	most      int     // sessions to find, 0 for all
}

// sessionsOf finds the live sessions of the owners: in the index, if it has a
// record of them, else in the whole store.
func (a *app) sessionsOf(ctx context.Context, s store, all owners, h how) ([]owned, *search, error) {
	r := &search{}
	found, err := a.findInIndex(ctx, s, all, h.most, r)
	switch {
	case errors.Is(err, session.ErrDecode):
		found, r.Indexed = nil, false
		a.note("The record of the %s in the index of owners does not decode with codec %s, so this reads all of %s.", all, a.codecName(), s)
	case err != nil && h.scan && ctx.Err() == nil:
		what, _ := a.explain(ctx, err)
		a.note("The index of owners cannot be read: %s", what)
	case err != nil:
		return nil, nil, err
	case !r.Indexed:
		a.note("The index of owners has no record of the %s, so this reads all of %s.", all, s)
	case !h.scan && a.php.on(): // PHP lists nobody
	case !h.scan:
		r.NotSearched = notSearched
		first := ""
		if len(found) == h.most && h.most > 0 {
			first = "The first "
		}
		a.note("%s%s of the %s in the index of owners. Not searched: %s. --scan reads the whole store for them.",
			first, plural(r.Listed, "session", "sessions"), all.whose(), notSearched)
		return found, r, nil
	}
	more, err := a.findByScan(ctx, s, all, h, r)
	if err != nil {
		return nil, nil, err
	}
	for _, o := range found {
		delete(more, o.Key)
	}
	for _, key := range slices.Sorted(maps.Keys(more)) {
		found = append(found, more[key])
	}
	return found, r, nil
}

// findInIndex finds what the index lists, and sets Indexed if it has a record of
// the owners.
func (a *app) findInIndex(ctx context.Context, s store, all owners, most int, r *search) (found []owned, err error) {
	if !all.listable() {
		return nil, nil
	}
	c, err := a.sessionCodec()
	if err != nil {
		return nil, err
	}
	w := &watchedStore{store: s}
	m, err := a.newIndexManager(w, c)
	if err != nil {
		return nil, err
	}
	var b *bar
	defer func() { b.close() }()
	now := time.Now()
	for e, err := range m.Sessions(ctx, all...) {
		if err != nil {
			r.Indexed = w.found
			return found, a.withScan(ctx, err)
		}
		if found == nil {
			if rec, _, _ := indexOf(string(w.first.Data)); rec.InPages > 0 {
				b = a.newBar("Reading sessions", int64(rec.Entries+rec.InPages))
			}
		}
		found = append(found, w.owned(&e, c, now))
		b.set(int64(len(found)), "")
		if len(found) == most {
			break
		}
	}
	if r.Indexed = w.found; w.found {
		rec, _, _ := indexOf(string(w.first.Data))
		r.Listed, r.Unfinished = len(found), rec.Revocations
	}
	return found, nil
}

// withScan says what to do if the index cannot be read, unless there is more to say.
func (a *app) withScan(ctx context.Context, err error) error {
	what, todo := a.explain(ctx, err)
	if todo != "" || ctx.Err() != nil {
		return err
	}
	return &wordsError{what: what, todo: "Run it again, or with --scan, which does not rely on the index.", err: err}
}

// newIndexManager returns a Manager that lists and revokes sessions. The timeouts
// of the application are not known here; the deadlines in the store are.
func (a *app) newIndexManager(s store, c session.Codec) (*session.Manager, error) {
	const ages = 100 * 365 * 24 * time.Hour
	cfg := session.Config{
		Codec: c, IdleTimeout: ages, AbsoluteTimeout: ages, Owners: session.OwnersConfig{Index: true},
	}
	if a.php.on() {
		cfg.StoreKey = a.php.storeKey
	}
	return session.New(struct{ store }{s}, cfg) // which has no CheckConfig
}

// watchedStore remembers what a Manager has loaded: first the record of the
// owner, and last that of the session that it has found.
type watchedStore struct {
	store
	mu    sync.Mutex
	asked bool // for the first
	found bool // there is one
	first session.Record
	key   string // of last
	last  session.Record
}

func (w *watchedStore) Load(ctx context.Context, key string) (session.Record, error) {
	rec, err := w.store.Load(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	begins := !w.asked
	w.asked = true
	if err != nil {
		return rec, err
	}
	if begins {
		w.found, w.first = true, rec
	}
	w.key, w.last = key, rec
	return rec, nil
}

// owned describes the session of e, which was just found.
func (w *watchedStore) owned(e *session.Entry, c session.Codec, now time.Time) owned {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := newOwned("", &session.Record{Created: e.Created, Expires: e.Expires}, &listing{Handle: e.Handle, Note: e.Note}, now)
	if values, err := c.Split(w.last.Data); err == nil {
		if ls, err := listingOf(c, values); err == nil && ls.Handle == e.Handle {
			o = newOwned(w.key, &w.last, &ls, now)
		}
	}
	if e.LastUsed.After(e.Created) { // otherwise it may be no more than a guess
		o.LastUsed = known(e.LastUsed)
	}
	o.indexed = true
	return o
}

// readers is the number of sessions read at once.
const readers = 16

// clockTrust is the time after its deadline when a session counts as dead.
const clockTrust = time.Hour

// findByScan looks into every session, and counts what it searched. The result is
// by key.
func (a *app) findByScan(ctx context.Context, s store, all owners, h how, r *search) (map[string]owned, error) {
	c, err := a.sessionCodec()
	if err != nil {
		return nil, err
	}
	a.warnOfScan(ctx, s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards what follows
		found = map[string]owned{}
	)
	keys := make(chan string)
	for range readers {
		wg.Go(func() {
			for key := range keys {
				o, is, err := lookInto(ctx, s, c, key, all)
				mu.Lock()
				switch {
				case errors.Is(err, errIndex):
					r.Index++
				case errors.Is(err, errMigrated):
					r.Migrated++
				case errors.Is(err, session.ErrDecode):
					r.Undecodable++
				case err != nil:
					cancel(err)
				default:
					r.Searched++
					if is {
						found[o.Key] = o
					}
					if h.most > 0 && len(found) == h.most {
						cancel(errEnough)
					}
				}
				mu.Unlock()
			}
		})
	}
	now := time.Now()
	report, err := admin.List(ctx, s, admin.ListOptions{ReadUnits: h.readUnits}, func(e admin.Entry) error {
		// The clock of an operator's machine may be fast, and what List says
		// old: one too many does no harm, one too few does.
		expired := now.Sub(e.Expires) > clockTrust
		mu.Lock()
		switch {
		case a.php.isLock(&e):
		case e.Foreign && (e.Expires.IsZero() || !expired):
			r.Foreign++
		case expired:
			r.Expired++
		}
		mu.Unlock()
		if e.Foreign || expired {
			return nil
		}
		select {
		case keys <- e.Key:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(keys)
	wg.Wait()
	r.Scanned = report.Scanned
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errEnough):
		return found, nil
	case cause != nil:
		return nil, cause
	case err != nil:
		return nil, err
	}
	a.note("%s sessions of the %s among %s records%s.", count(int64(len(found))), all.whose(), count(report.Scanned), unitsUsed(report.ReadUnits))
	return found, nil
}

// lookInto reports whether the session with key is of the owners. One that got a
// new ID since the scan came by may be under a key that the scan has passed: it is
// found under the key that it has now.
func lookInto(ctx context.Context, s store, c session.Codec, key string, all owners) (o owned, is bool, err error) {
	at, _, rec, err := follow(ctx, s, key)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return o, false, nil
	case errors.Is(err, errWhereMoved):
		return o, false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	case err != nil:
		return o, false, err
	}
	if err := notIndex(rec.Data); err != nil {
		return o, false, err
	}
	if err := notMigrated(rec.Data); err != nil {
		return o, false, err
	}
	values, err := c.Split(rec.Data)
	if err != nil {
		return o, false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	is, ls, err := all.own(c, values)
	return newOwned(at, &rec, &ls, time.Now()), is, err
}
