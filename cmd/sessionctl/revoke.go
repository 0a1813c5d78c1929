package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session"
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
		Short: "End sessions, for good",
		Long: `revoke deletes sessions, as logging out does: no request that is under way can
bring them back. It is no error if there is none, but it says so.

Which sessions: the KEYs, as list prints them; with "-" the keys on standard
input, one a line; with --token-stdin that of the token on standard input; with
--user all that Login has bound to a user.

--user reads the whole table and then each live session, which costs a read
unit for each 8 KB of the table, and one more for each session: on a large
table keep a list of a user's keys in the application instead. A session that
begins meanwhile may be missed, so first keep the user from logging in.

A deletion costs 1 write unit for each KB; of KEYs and a token also 1 read unit
for each 4 KB, to say so if there was no session, as with a mistyped KEY or the
wrong table. It exits with 1 if anything failed; then run it again.`,
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
	fl.BoolVar(&f.tokenStdin, "token-stdin", false, "the session of the token on standard input")
	fl.StringVar(&f.user, "user", "", "all sessions of this user, by the `name` given to Login")
	numberVar(fl, &f.readUnits, "read-units", 0, "with --user: scan with at most so many read units a second")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would be revoked, and do nothing")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask before more than one session is revoked")
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
		return nil, usageError("\"-\" stands for the keys on standard input; give no others beside it")
	case f.readUnits < 0:
		return nil, usageError("--read-units %v is negative", f.readUnits)
	case byUser && f.user == "":
		return nil, usageError("--user needs a name: sessions without a login have none")
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
		return nil, fmt.Errorf("the keys on standard input cannot be read: %w", err)
	}
	return keys, nil
}

// revocation is what became of a key.
type revocation struct {
	Key     string `json:"key"`
	Revoked bool   `json:"revoked"`
	Absent  bool   `json:"absent,omitempty"` // there was none; only with KEYs and a token
	Error   string `json:"error,omitempty"`
}

type revokeReport struct {
	DryRun   bool         `json:"dry_run"`
	Sessions []revocation `json:"sessions"`
	Revoked  int          `json:"revoked"`
	Failed   int          `json:"failed"`
}

func (a *app) revoke(ctx context.Context, s store, keys []string, f *revokeFlags) error {
	var incomplete error
	if f.user != "" {
		found, err := a.sessionsOf(ctx, s, f)
		if err != nil && found == nil {
			return err
		}
		keys, incomplete = found, err
		if len(keys) == 0 && err == nil {
			a.note("No live session is bound to a user %q; upper and lower case differ.", f.user)
		}
	}
	if len(keys) > 1 && !f.dryRun && !f.yes {
		if err := a.confirm(ctx, fmt.Sprintf("Revoke %s sessions in %s?", count(int64(len(keys))), s)); err != nil {
			return err
		}
	}
	report := revokeReport{DryRun: f.dryRun, Sessions: []revocation{}}
	var (
		failure     error
		failureTodo string
		absent      int
	)
	for _, key := range keys {
		r := revocation{Key: key}
		if f.user == "" {
			// Delete does not tell, and whoever ends a stolen session has to know.
			_, err := s.Load(ctx, key)
			if r.Absent = errors.Is(err, session.ErrNotFound); r.Absent {
				absent++
			}
		}
		if !f.dryRun {
			if err := s.Delete(ctx, key); err != nil {
				r.Error = err.Error()
				failure = err
				report.Failed++
			} else {
				r.Revoked = !r.Absent
			}
			if r.Revoked {
				report.Revoked++
			}
		}
		report.Sessions = append(report.Sessions, r)
		if a.json {
			continue
		}
		switch {
		case r.Absent && r.Error == "":
			a.stdout.printf("no session %s\n", printable(key))
		case f.dryRun:
			a.stdout.printf("would revoke %s\n", printable(key))
		case r.Revoked:
			a.stdout.printf("revoked %s\n", printable(key))
		default:
			var what string
			what, failureTodo = a.explain(ctx, failure)
			a.note("not revoked: %s: %s", printable(key), what)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := a.print(report, func(*output) {}); err != nil {
		return err
	}
	if absent > 0 {
		a.note("%s not there. If a session should have been: is it in %s, and is the KEY one that \"list\" prints, not a token? "+
			"With --token-stdin the application must use the default of Config.StoreKey.", plural(absent, "session was", "sessions were"), s)
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

// readers is how many sessions are read at once.
const readers = 16

// sessionsOf finds the live sessions of a user. If it could not look into all
// of them, it returns what it found, and an error.
func (a *app) sessionsOf(ctx context.Context, s store, f *revokeFlags) ([]string, error) {
	c, err := a.sessionCodec()
	if err != nil {
		return nil, err
	}
	a.warnOfScan(ctx, s)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var (
		wg          sync.WaitGroup
		mu          sync.Mutex // guards what follows
		found       = []string{}
		undecodable int
	)
	keys := make(chan string)
	for range readers {
		wg.Go(func() {
			for key := range keys {
				is, err := isUsers(ctx, s, c, key, f.user)
				mu.Lock()
				switch {
				case errors.Is(err, session.ErrDecode):
					undecodable++
				case err != nil:
					cancel(err)
				case is:
					found = append(found, key)
				}
				mu.Unlock()
			}
		})
	}
	now := time.Now()
	report, err := s.List(ctx, listOptions{ReadUnits: f.readUnits}, func(e entry) error {
		// The clock of an operator's machine may be fast, and what List says
		// old: one too many does no harm, one too few does.
		if e.Foreign || now.Sub(e.Expires) > clockTrust {
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
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	a.note("%s sessions of the user among %s records%s.", count(int64(len(found))), count(report.Scanned), unitsUsed(report.ReadUnits))
	if undecodable > 0 {
		return found, fmt.Errorf("%s sessions do not decode with codec %s, and may be the user's: --codec names another",
			count(int64(undecodable)), a.codec)
	}
	return found, nil
}

// clockTrust is how long a session must have expired to be taken for dead.
const clockTrust = time.Hour

// isUsers reports whether the session with key is bound to user.
func isUsers(ctx context.Context, s store, c session.Codec, key, user string) (bool, error) {
	rec, err := s.Load(ctx, key)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	values, err := c.Split(rec.Data)
	if err != nil {
		return false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	data, ok := values[userValue]
	if !ok {
		return false, nil
	}
	var name string
	if err := c.Unmarshal(data, &name); err != nil {
		return false, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	return name == user, nil
}
