package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
)

type revokeFlags struct {
	ownerFlags
	tokenStdin  bool
	everyone    bool
	undecodable bool
	readUnits   float64
	writeUnits  float64
	dryRun      bool
	yes         bool

	of owners // that ownerFlags name
}

func (a *app) revokeCommand() *cobra.Command {
	var f revokeFlags
	c := &cobra.Command{
		Use:   "revoke KEY... | - | --token-stdin | --user NAME | --owner KIND=ID | --everyone",
		Short: "End sessions for good",
		Long: `revoke deletes sessions, as a logout does. No request in flight can bring them
back. A session that does not exist is not an error, but revoke says so.

Name the sessions by their KEYs, as list prints them. If Config.StoreKey makes
keys that begin with "-", put "--" before them. With "-" revoke reads keys
from standard input, one a line. With --token-stdin it reads a token from there.
With --user it ends all sessions that Login has bound to a user.

` + aboutKeys + `

If the application has an index of owners, that is Owners.Index in its Config,
--user finds the sessions there. It ends all that were listed when it began, and
says what it did not search. That costs 3 reads, 2 writes, and a read and a delete
for each session. --owner names another owner that a login has given. With several
owners, revoke ends the sessions that have all of them.

Without a record of the owner in the index, and with --scan, revoke reads the
whole table and then each live session. That costs a read unit for each 8 KB of
the table, and one more for each session. It may miss a session that begins
meanwhile, so first stop the user from logging in. sessionctl derives the key of
the record as session.DefaultStoreKey does. If the application has another
Config.StoreKey, sessionctl finds no record, and so reads the table.

On a table that PHP uses, with --php, revoke --user always reads the whole table, as
PHP lists nobody in the index. --php-user names the value of $_SESSION that has the
user. Each session is deleted on condition that it is as it was read. A page of the
stock handler that is at work with it brings it back when it ends: then run revoke
again. VersionedConnection brings none back.

A scan cannot look into some records: sessions that do not decode, because of
another codec or encryption, and records that package session did not write.
They may be the user's. revoke counts them, revokes what it found, and exits with
1.

--everyone ends every session in the store. It costs a read unit for each 8 KB of
the table, and for each record 1 read unit for each 4 KB and 1 write unit for each
KB. It leaves records that package session did not write, and those of the index
and of a move to another store, which expire. It also leaves sessions that do not
decode, and then exits with 1. With --undecodable it ends them too, and the
records of an index that is encrypted as they are. While sessions move, end those
of the old store first, then those of the new one.
If it is stopped, it exits with 4, and the same command ends the rest.
It may miss sessions that begin meanwhile or began a moment before, and encrypted
ones that get a new ID meanwhile. To end everybody's session at once, at no
request, set NotBefore in the Config of the application.

revoke refuses the KEY of a record of the index. For the KEY or token of a session
that got a new ID, for example by a login, revoke ends the session under the new
one. It costs 1 read unit for each 4 KB, and 1 write unit for each KB and one more.
It exits with 1 if anything failed; then run it again.`,
		Example: `  sessionctl revoke kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC
  sessionctl revoke --user ann --dry-run
  sessionctl revoke --user ann --owner tenant=acme --yes
  sessionctl revoke --everyone --read-units 100 --write-units 200
  sessionctl list --live --json --limit 0 --key-prefix test- | jq -r .key | sessionctl revoke - --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkKeys(); err != nil {
				return err
			}
			given, err := a.keysToRevoke(cmd, args, &f)
			if err != nil {
				return err
			}
			if f.everyone {
				return a.everyone(cmd.Context(), &f)
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			if given, err = a.resolve(cmd.Context(), s, given); err == nil {
				err = a.revoke(cmd.Context(), s, given, &f)
			}
			return errors.Join(err, s.Close())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.BoolVar(&f.tokenStdin, "token-stdin", false, "end the session of the token on standard input")
	fl.BoolVar(&a.anyToken, "any-token", false, "with --token-stdin: the token has a form of Config.Tokens")
	a.addKeys(c, fl)
	f.add(fl, "end all sessions")
	fl.BoolVar(&f.everyone, "everyone", false, "end every session in the store")
	fl.BoolVar(&f.undecodable, "undecodable", false, "with --everyone: also end sessions that do not decode, such as encrypted ones")
	numberVar(fl, &f.readUnits, "read-units", 0, "of a scan: use at most this number of read units a second")
	numberVar(fl, &f.writeUnits, "write-units", 0, "with --everyone: use at most this number of write units a second")
	fl.BoolVar(&f.dryRun, "dry-run", false, "report what would be revoked, and do nothing")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask before revoking more than one session")
	return c
}

// keysToRevoke are those that were given; none with --user and --everyone.
func (a *app) keysToRevoke(cmd *cobra.Command, args []string, f *revokeFlags) ([]string, error) {
	byOwner, stdin := cmd.Flags().Changed("user") || cmd.Flags().Changed("owner"), slices.Contains(args, "-")
	ways := 0
	for _, way := range []bool{len(args) > 0, f.tokenStdin, byOwner, f.everyone} {
		if way {
			ways++
		}
	}
	switch {
	case ways != 1:
		return nil, usageError("which sessions? Give KEY..., \"-\", --token-stdin, --user, --owner or --everyone")
	case stdin && len(args) > 1:
		return nil, usageError("\"-\" stands for the keys on standard input; give no other KEY with it")
	case !f.everyone && (f.undecodable || f.writeUnits != 0):
		return nil, usageError("--undecodable and --write-units are for --everyone")
	case a.checkReadUnits(f.readUnits) != nil:
		return nil, a.checkReadUnits(f.readUnits)
	}
	var err error
	if f.of, err = f.parse(cmd); err != nil || f.of != nil {
		return nil, err
	}
	switch {
	case f.everyone:
		return nil, a.checkEveryone(f)
	case f.tokenStdin:
		key, err := a.oneKey(cmd.Context(), nil, true)
		return []string{key}, err
	case stdin:
		if args, err = readKeys(a.input(cmd.Context())); err != nil {
			return nil, err
		}
		if len(args) == 0 {
			return nil, usageError("there are no keys on standard input")
		}
	}
	var keys []string
	seen := map[string]bool{}
	for _, key := range args {
		if err := checkKey(key); err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func readKeys(r io.Reader) ([]string, error) {
	var keys []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if key := strings.TrimSuffix(lines.Text(), "\r"); key != "" {
			keys = append(keys, key)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the keys cannot be read from standard input: %w", err)
	}
	return keys, nil
}

// revocation is the outcome for a session.
type revocation struct {
	Key     string `json:"key"`
	Handle  string `json:"handle,omitempty"` // of a session that the index lists
	Revoked bool   `json:"revoked"`
	Absent  bool   `json:"absent,omitempty"`   // there was none; only with KEYs and a token
	MovedTo string `json:"moved_to,omitempty"` // the key that the session had by then
	Error   string `json:"error,omitempty"`
}

type revokeReport struct {
	DryRun   bool         `json:"dry_run"`
	Sessions []revocation `json:"sessions"`
	Revoked  int          `json:"revoked"`
	Failed   int          `json:"failed"`
	Search   *search      `json:"search,omitempty"` // with --user and --owner
}

func (a *app) revoke(ctx context.Context, s store, keys []string, f *revokeFlags) error {
	var (
		sessions   []owned
		searched   *search
		incomplete error
	)
	for _, key := range keys {
		sessions = append(sessions, owned{Key: key})
	}
	if f.of != nil {
		var err error
		if sessions, searched, err = a.sessionsOf(ctx, s, f.of, how{scan: f.scan, readUnits: f.readUnits}); err != nil {
			return err
		}
		incomplete = searched.missed(a.codecName(), f.of.whose())
		if len(sessions) == 0 && incomplete == nil {
			a.nobody(f.of, searched)
		}
	}
	if len(sessions) > 1 && !f.dryRun && !f.yes {
		if err := a.confirm(ctx, fmt.Sprintf("Revoke %s sessions in %s?", count(int64(len(sessions))), s)); err != nil {
			return err
		}
	}
	var indexErr error
	if searched != nil && searched.Indexed && !f.dryRun { // it may have to complete a revocation, too
		indexErr = a.revokeListed(ctx, s, f.of)
	}
	report := revokeReport{DryRun: f.dryRun, Sessions: []revocation{}, Search: searched}
	failure, failureTodo := indexErr, ""
	if indexErr != nil {
		var what string
		what, failureTodo = a.explain(ctx, indexErr)
		a.note("The revocation by the index is not complete: %s", what)
	}
	absent := 0
	for _, o := range sessions {
		r, err := revocation{Key: o.Key, Handle: o.Handle}, error(nil)
		switch {
		case o.indexed && indexErr == nil:
			r.Revoked = !f.dryRun
		case o.Key == "":
			err = indexErr
			r.Error = oneLine(err.Error())
		default:
			r, err = a.revokeOne(ctx, s, o.Key, f)
			r.Handle = o.Handle
			if r.Absent && o.indexed { // the index has ended it, and not all others
				r.Absent, r.Revoked = false, !f.dryRun
			}
		}
		r.Key, r.MovedTo = a.key(r.Key), a.key(r.MovedTo)
		if err != nil {
			failure = err
			what, todo := a.explain(ctx, err)
			failureTodo = cmp.Or(todo, failureTodo)
			if !a.json {
				a.note("not revoked: %s: %s", r.name(), what)
			}
		}
		if r.Error != "" {
			report.Failed++
		}
		if r.Absent {
			absent++
		}
		if r.Revoked {
			report.Revoked++
		}
		report.Sessions = append(report.Sessions, r)
		if !a.json && r.Error == "" {
			a.tellRevoked(&r, f.dryRun)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := a.print(report, func(*output) {}); err != nil {
		return err
	}
	if absent > 0 {
		a.note("%s not there. If you expected a session: is it in %s, and is the KEY one that \"list\" prints, not a token? "+
			"--token-stdin works only if the application uses the default Config.StoreKey.", plural(absent, "session was", "sessions were"), s)
	}
	left := len(sessions) - len(report.Sessions) + report.Failed
	what := fmt.Sprintf("%s of %s sessions were not revoked", count(int64(left)), count(int64(len(sessions))))
	switch {
	case left == 0 && indexErr == nil:
		return incomplete
	case left == 0:
		what = fmt.Sprintf("What was found is revoked, but other sessions of the %s may be alive", f.of.whose())
	case indexErr != nil:
		what += fmt.Sprintf(", and other sessions of the %s may be alive", f.of.whose())
	}
	if incomplete != nil {
		return errors.Join(errors.New(what+"; run it again"), incomplete)
	}
	again := "Run it again."
	switch {
	case errors.Is(failure, errIndex):
		again = failureTodo
	case failureTodo != "":
		again = failureTodo + " Then run it again."
	}
	return &wordsError{what: what + ".", todo: again, err: errors.Join(failure, context.Cause(ctx))}
}

// nobody says that there is nothing to end or to list.
func (a *app) nobody(all owners, r *search) {
	switch {
	case r.NotSearched != "":
		a.note("The index lists no live session of the %s.", all)
	case len(all) == 1 && all.whose() == "user":
		a.note("No live session is bound to a %s. Upper and lower case matter.", all)
	default:
		a.note("There is no live session of the %s. Upper and lower case matter.", all)
	}
}

// revokeListed ends what the index lists, at one point in time.
func (a *app) revokeListed(ctx context.Context, s store, all owners) error {
	c, err := a.sessionCodec()
	if err != nil {
		return err
	}
	m, err := a.newIndexManager(s, c)
	if err != nil {
		return err
	}
	return m.Revoke(ctx, all...)
}

func (a *app) revokeOne(ctx context.Context, s store, key string, f *revokeFlags) (revocation, error) {
	r := revocation{Key: key}
	var at string
	var err error
	if f.dryRun {
		var rec session.Record
		if at, _, rec, err = follow(ctx, s, key); err == nil {
			err = notIndex(rec.Data)
		}
		if r.Absent = errors.Is(err, session.ErrNotFound); r.Absent || errors.Is(err, session.ErrDecode) {
			err = nil
		}
	} else {
		at, r.Absent, err = end(ctx, s, key)
		r.Revoked = err == nil && !r.Absent
	}
	if at != key {
		r.MovedTo = at
	}
	if err != nil {
		r.Error = oneLine(err.Error())
	}
	return r, err
}

// name is what the session is called in a sentence.
func (r *revocation) name() string {
	name := (&owned{Key: r.Key, Handle: r.Handle}).name()
	if r.MovedTo != "" {
		name += ", now " + printable(r.MovedTo)
	}
	return name
}

// tellRevoked says what became of a session, unless that failed.
func (a *app) tellRevoked(r *revocation, dryRun bool) {
	switch {
	case r.Absent:
		a.stdout.printf("no session %s\n", r.name())
	case dryRun:
		a.stdout.printf("would revoke %s\n", r.name())
	default:
		a.stdout.printf("revoked %s\n", r.name())
	}
}
