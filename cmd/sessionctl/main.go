// Sessionctl manages the sessions that package session keeps in DynamoDB or
// Redis. It creates and checks tables, sweeps, lists, shows and revokes
// sessions, computes their number and cost, and diagnoses problems.
//
// Its exit codes:
//
//	0  done
//	1  failed
//	2  wrong usage
//	3  found a problem: table check, doctor, show; sessions left: migrate
//	4  stopped before the end, and can be resumed: sweep, migrate, revoke --everyone
//
// Results go to standard output, everything else to standard error.
// "sessionctl help" describes the commands.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// app is one run of the program.
type app struct {
	stdin  io.Reader
	stdout *output
	stderr *output
	globals

	running bool         // a command has begun; errors before that are wrong usage
	role    string       // that the command needs
	dynamo  *dynamoStore // the store that is open, or the one that could not be opened
	redis   *redisStore

	keys     string // which ones to print, of --keys
	anyToken bool   // --token-stdin reads one of any form
}

// run is the program. It returns its exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: &output{w: stdout, ctx: ctx}, stderr: &output{w: stderr, ctx: ctx}}
	root := a.root()
	root.SetArgs(keysLast(root, args))
	root.SetIn(stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)

	cmd, err := root.ExecuteContextC(ctx)
	if a.stdout.err != nil {
		err = fmt.Errorf("cannot write the output: %w", a.stdout.err)
	}
	if err == nil {
		return codeDone
	}
	if !a.running {
		err = &exitError{code: codeUsage, err: err}
	}
	return a.report(cmd, err)
}

// root is the command that has all others.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sessionctl",
		Short: "Manage the sessions in DynamoDB or Redis",
		Long: `sessionctl manages the sessions that package session keeps in DynamoDB or Redis.
It takes the region, the profile and the credentials from the configuration of
the AWS command line. For an --endpoint on this machine it needs none of them:
it makes up credentials and uses us-east-1, so DynamoDB Local works at once.

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  found a problem: table check, doctor, show; sessions left: migrate
  4  stopped before the end, and can be resumed: sweep, migrate, revoke --everyone

Results go to standard output, everything else to standard error. With --json
the output is one JSON document, for list one object per line. No command prints
a token. No command prints the content of a session unless you ask for it.`,
		Example: `  sessionctl table create --endpoint http://localhost:8000
  sessionctl doctor --table sessions
  sessionctl sweep --dry-run`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	a.add(root)
	root.SetUsageFunc(a.usage)
	root.SetHelpCommand(helpCommand(root))
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"The store:", a.storeCommands()},
		{"Sessions:", a.sessionCommands()},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.title
			root.AddCommand(c)
		}
	}
	a.prepare(root)
	return root
}

// prepare has errors from before a command begins told apart from its own,
// and a command that only has others ask for one of them.
func (a *app) prepare(c *cobra.Command) {
	if c.HasSubCommands() && c.HasParent() {
		c.RunE = needsCommand
	}
	if begin := c.RunE; begin != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := a.check(cmd); err != nil {
				return err
			}
			a.running = true
			a.role = roleOf(cmd)
			if a.timeout > 0 {
				ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, errTimeout)
				defer cancel()
				cmd.SetContext(ctx)
				a.stdout.until(ctx)
				a.stderr.until(ctx)
			}
			return begin(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		a.prepare(sub)
	}
}
