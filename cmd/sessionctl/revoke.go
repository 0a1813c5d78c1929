package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

type revokeFlags struct {
	tokenStdin bool
	user       string
	readUnits  float64
	dryRun     bool
	yes        bool
}

func (a *app) revokeCommand() *cobra.Command {
	var f revokeFlags
	c := &cobra.Command{
		Use:   "revoke KEY... | - | --token-stdin | --user NAME",
		Short: "End sessions for good",
		Long: `revoke deletes sessions, as a logout does. No request in flight can bring them
back. A session that does not exist is not an error, but revoke says so.

Name the sessions by their KEYs, as list prints them. If Config.StoreKey makes
keys that begin with "-", put "--" before them. With "-" revoke reads keys
from standard input, one a line. With --token-stdin it reads a token from there.
With --user it ends all sessions that Login has bound to a user.

--user reads the whole table and then each live session. That costs a read unit
for each 8 KB of the table, and one more for each session. For a large table,
keep a list of a user's keys in the application instead. --user may miss a
session that begins meanwhile, so first stop the user from logging in.

--user cannot look into some records: sessions that do not decode, because of
another codec or encryption, and records that package session did not write.
They may be the user's. revoke counts them, revokes what it found, and exits with
1.

For the KEY or token of a session that got a new ID, for example by a login,
revoke ends the session under the new one. It costs 1 read unit for each 4 KB,
and 1 write unit for each KB and one more. It exits with 1 if anything failed;
then run it again.`,
		Example: `  sessionctl revoke kGx4w9sXl8bKzQZ1aJ0m3Yt6uRfEoNvC
  sessionctl revoke --user ann --dry-run
  sessionctl list --json --limit 0 --key-prefix test- | jq -r .key | sessionctl revoke - --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := a.keysToRevoke(cmd, args, &f)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			err = a.revoke(cmd.Context(), s, given, &f)
			return errors.Join(err, s.Close())
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.BoolVar(&f.tokenStdin, "token-stdin", false, "end the session of the token on standard input")
	fl.StringVar(&f.user, "user", "", "end all sessions of the user with this `name`, as given to Login")
	numberVar(fl, &f.readUnits, "read-units", 0, "with --user: use at most this number of read units a second")
	fl.BoolVar(&f.dryRun, "dry-run", false, "report what would be revoked, and do nothing")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask before revoking more than one session")
	return c
}

// keysToRevoke are those that were given; none with --user.
func (a *app) keysToRevoke(cmd *cobra.Command, args []string, f *revokeFlags) ([]string, error) {
	byUser, stdin := cmd.Flags().Changed("user"), slices.Contains(args, "-")
	ways := 0
	for _, way := range []bool{len(args) > 0, f.tokenStdin, byUser} {
		if way {
			ways++
		}
	}
	switch {
	case ways != 1:
		return nil, usageError("which sessions? Give one of KEY..., \"-\", --token-stdin and --user")
	case stdin && len(args) > 1:
		return nil, usageError("\"-\" stands for the keys on standard input; give no other KEY with it")
	case a.checkReadUnits(f.readUnits) != nil:
		return nil, a.checkReadUnits(f.readUnits)
	case byUser && f.user == "":
		return nil, usageError("--user needs a name: a session without a login has no user")
	case byUser:
		return nil, nil
	case f.tokenStdin:
		key, err := tokenKey(a.input(cmd.Context()))
		return []string{key}, err
	case stdin:
		var err error
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

// revocation is the outcome for a key.
type revocation struct {
	Key     string `json:"key"`
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
	Search   *search      `json:"search,omitempty"` // with --user
}

// search counts the records that --user looked at.
type search struct {
	Complete    bool  `json:"complete"` // nothing of the user can have been missed
	Scanned     int64 `json:"scanned"`
	Searched    int   `json:"searched"`    // sessions that were looked into
	Expired     int   `json:"expired"`     // records that need not be
	Undecodable int   `json:"undecodable"` // records that cannot be, with this codec
	Foreign     int   `json:"foreign"`     // records that cannot be, as package session did not write them
}

// missed says what of a user may have been left out, nil if nothing.
func (r *search) missed(codec string) error {
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
	todo := "Name another codec with --codec. An application that encrypts its sessions has to end them itself."
	if r.Undecodable == 0 {
		todo = "If the application uses other attribute names, pass them: \"sessionctl help\" has the flags. Other writers have to end their own sessions."
	}
	return &wordsError{what: strings.Join(what, ", and ") + ": they could not be searched, and may belong to the user.", todo: todo}
}

func (a *app) revoke(ctx context.Context, s store, keys []string, f *revokeFlags) error {
	var (
		searched   *search
		incomplete error
	)
	if f.user != "" {
		found, r, err := a.sessionsOf(ctx, s, f)
		if err != nil {
			return err
		}
		keys, searched, incomplete = found, r, r.missed(a.codec)
		if len(keys) == 0 && incomplete == nil {
			a.note("No live session is bound to a user %q. Upper and lower case matter.", f.user)
		}
	}
	if len(keys) > 1 && !f.dryRun && !f.yes {
		if err := a.confirm(ctx, fmt.Sprintf("Revoke %s sessions in %s?", count(int64(len(keys))), s)); err != nil {
			return err
		}
	}
	report := revokeReport{DryRun: f.dryRun, Sessions: []revocation{}, Search: searched}
	var (
		failure     error
		failureTodo string
		absent      int
	)
	for _, key := range keys {
		r, err := a.revokeOne(ctx, s, key, f)
		if err != nil {
			failure = err
			report.Failed++
		}
		if r.Absent {
			absent++
		}
		if r.Revoked {
			report.Revoked++
		}
		report.Sessions = append(report.Sessions, r)
		if !a.json {
			if todo := a.tellRevoked(ctx, &r, err, f.dryRun); todo != "" {
				failureTodo = todo
			}
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
	if left := len(keys) - len(report.Sessions) + report.Failed; left > 0 {
		what := fmt.Sprintf("%s of %s sessions were not revoked", count(int64(left)), count(int64(len(keys))))
		if incomplete != nil {
			return errors.Join(errors.New(what+"; run it again"), incomplete)
		}
		again := "Run it again."
		if failureTodo != "" {
			again = failureTodo + " Then run it again."
		}
		return &wordsError{what: what + ".", todo: again, err: errors.Join(failure, context.Cause(ctx))}
	}
	return incomplete
}

func (a *app) revokeOne(ctx context.Context, s store, key string, f *revokeFlags) (revocation, error) {
	r := revocation{Key: key}
	var at string
	var err error
	if f.dryRun {
		at, _, _, err = follow(ctx, s, key)
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

// tellRevoked says what became of a key. If it failed, it returns what to do.
func (a *app) tellRevoked(ctx context.Context, r *revocation, err error, dryRun bool) (todo string) {
	key := printable(r.Key)
	if r.MovedTo != "" {
		key += ", now " + printable(r.MovedTo)
	}
	switch {
	case err != nil:
		var what string
		what, todo = a.explain(ctx, err)
		a.note("not revoked: %s: %s", key, what)
	case r.Absent:
		a.stdout.printf("no session %s\n", key)
	case dryRun:
		a.stdout.printf("would revoke %s\n", key)
	default:
		a.stdout.printf("revoked %s\n", key)
	}
	return todo
}

// readers is the number of sessions read at once.
const readers = 16

// sessionsOf finds the live sessions of a user, and counts what it searched.
func (a *app) sessionsOf(ctx context.Context, s store, f *revokeFlags) ([]string, *search, error) {
	c, err := a.sessionCodec()
	if err != nil {
		return nil, nil, err
	}
	a.warnOfScan(ctx, s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards what follows
		found = map[string]bool{}
		r     = &search{}
	)
	keys := make(chan string)
	for range readers {
		wg.Go(func() {
			for key := range keys {
				at, is, err := isUsers(ctx, s, c, key, f.user)
				mu.Lock()
				switch {
				case errors.Is(err, session.ErrDecode):
					r.Undecodable++
				case err != nil:
					cancel(err)
				default:
					r.Searched++
					if is {
						found[at] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	now := time.Now()
	report, err := admin.List(ctx, s, admin.ListOptions{ReadUnits: f.readUnits}, func(e admin.Entry) error {
		// The clock of an operator's machine may be fast, and what List says
		// old: one too many does no harm, one too few does.
		expired := now.Sub(e.Expires) > clockTrust
		mu.Lock()
		switch {
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
	if cause := context.Cause(ctx); cause != nil {
		return nil, nil, cause
	}
	if err != nil {
		return nil, nil, err
	}
	r.Scanned = report.Scanned
	a.note("%s sessions of the user among %s records%s.", count(int64(len(found))), count(report.Scanned), unitsUsed(report.ReadUnits))
	return slices.Sorted(maps.Keys(found)), r, nil
}

// clockTrust is the time after its deadline when a session counts as dead.
const clockTrust = time.Hour

// isUsers reports whether the session with key is bound to user. One that got a
// new ID since the scan came by may be under a key that the scan has passed: at
// is the key that it has now.
func isUsers(ctx context.Context, s store, c session.Codec, key, user string) (at string, is bool, err error) {
	at, _, rec, err := follow(ctx, s, key)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return at, false, nil
	case errors.Is(err, errWhereMoved):
		return at, false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	case err != nil:
		return at, false, err
	}
	values, err := c.Split(rec.Data)
	if err != nil {
		return at, false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	data, ok := values[userValue]
	if !ok {
		return at, false, nil
	}
	var name string
	if err := c.Unmarshal(data, &name); err != nil {
		return at, false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	return at, name == user, nil
}
