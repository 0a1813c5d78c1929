package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

func (a *app) tableCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "table",
		Short: "Create, check or delete the DynamoDB table",
		Long: `table creates, checks or deletes the DynamoDB table of the sessions. Redis has no
tables.`,
	}
	c.AddCommand(a.tableCreateCommand(), a.tableCheckCommand(), a.tableDeleteCommand())
	return c
}

// tableResult is the output of the table commands with --json.
type tableResult struct {
	Table    string   `json:"table"`
	Region   string   `json:"region"`
	Endpoint string   `json:"endpoint,omitempty"`
	Created  *bool    `json:"created,omitempty"`
	Deleted  *bool    `json:"deleted,omitempty"`
	OK       *bool    `json:"ok,omitempty"`
	Problems []string `json:"problems,omitempty"`

	Billing            string `json:"billing,omitempty"`
	ReadCapacity       int64  `json:"read_capacity,omitempty"`
	WriteCapacity      int64  `json:"write_capacity,omitempty"`
	DeletionProtection *bool  `json:"deletion_protection,omitempty"`
	Items              *int64 `json:"items,omitempty"`
	Bytes              *int64 `json:"bytes,omitempty"`
}

func (s *dynamoStore) result() tableResult {
	return tableResult{Table: s.table, Region: s.region, Endpoint: s.endpoint}
}

func (a *app) tableCreateCommand() *cobra.Command {
	var opts dynamodb.TableOptions
	c := &cobra.Command{
		Use:   "create",
		Short: "Create the table, with TTL, if it does not exist",
		Long: `create creates the table if it does not exist, waits until it is ready, enables
TTL, and waits for that. You can run it again at any time: an existing table
keeps its settings, except that TTL is enabled.

It takes some seconds. For TTL DynamoDB may take up to an hour. Ctrl-C ends the
wait, and DynamoDB goes on by itself.

It needs the permissions of "sessionctl iam set-up".`,
		Example: `  sessionctl table create
  sessionctl table create --endpoint http://localhost:8000
  sessionctl table create --table shop-sessions --deletion-protection --tag team=shop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tableCreate(cmd.Context(), opts) },
	}
	f := c.Flags()
	f.Int64Var(&opts.ReadCapacity, "read-capacity", 0, "provisioned read `units` per second, with --write-capacity (default: on demand)")
	f.Int64Var(&opts.WriteCapacity, "write-capacity", 0, "provisioned write `units` per second, with --read-capacity")
	f.BoolVar(&opts.DeletionProtection, "deletion-protection", false, "make DynamoDB refuse to delete the table")
	f.StringToStringVar(&opts.Tags, "tag", nil, "add a tag, `NAME=VALUE`; may be repeated")
	f.Lookup("tag").DefValue = "" // not "[]"
	c.MarkFlagsRequiredTogether("read-capacity", "write-capacity")
	return c
}

func (a *app) tableCreate(ctx context.Context, opts dynamodb.TableOptions) error {
	if opts.ReadCapacity < 0 || opts.WriteCapacity < 0 {
		return usageError("--read-capacity and --write-capacity must be positive")
	}
	s, err := a.openTable(ctx)
	if err != nil {
		return err
	}
	_, err = s.describe(ctx)
	existed := err == nil
	if !existed && !missing(err) {
		return err
	}
	what := "Creating"
	if existed {
		what = "Checking"
	}
	done := a.working(fmt.Sprintf("%s %s", what, s.where()))
	err = s.CreateTable(ctx, opts)
	done()
	if err != nil {
		if strings.Contains(err.Error(), "is still being") {
			err = &wordsError{
				what: fmt.Sprintf("Stopped waiting: %s, or its TTL on %q, is still being created by DynamoDB.", s.where(), s.config.ExpiresAttribute),
				todo: "Run the command again to wait for it.", err: err,
			}
		}
		return err
	}
	result := s.result()
	result.Created = aws.Bool(!existed)
	return a.print(result, func(w *output) {
		switch {
		case existed:
			w.printf("The %s exists already, and can be used; TTL is on attribute %q.\n", s.where(), s.config.ExpiresAttribute)
		case opts.ReadCapacity > 0:
			w.printf("Created %s, with %d read and %d write units per second, and TTL on attribute %q.\n",
				s.where(), opts.ReadCapacity, opts.WriteCapacity, s.config.ExpiresAttribute)
		default:
			w.printf("Created %s, on demand, with TTL on attribute %q.\n", s.where(), s.config.ExpiresAttribute)
		}
	})
}

func (a *app) tableCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check whether the table can be used",
		Long: `check checks that the table exists, is active, has the right key, and has TTL. It
lists each problem with what to do about it, and exits with 3 if there is one. It
changes nothing and costs no capacity.

It needs dynamodb:DescribeTable and dynamodb:DescribeTimeToLive.`,
		Example: `  sessionctl table check
  sessionctl table check --table shop-sessions --region eu-west-1 || page-somebody`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tableCheck(cmd.Context()) },
	}
}

func (a *app) tableCheck(ctx context.Context) error {
	s, err := a.openTable(ctx)
	if err != nil {
		return err
	}
	err = s.CheckTable(ctx)
	var wrong *dynamodb.TableError
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	result := s.result()
	result.OK = aws.Bool(err == nil)
	table, tableErr := s.describe(ctx)
	if tableErr == nil {
		result.about(table)
	}
	if wrong != nil {
		if missing(err) {
			what, todo := a.noTable()
			result.Problems = []string{what + " " + todo}
		} else {
			for _, p := range problems(wrong) {
				result.Problems = append(result.Problems, sentence(p))
			}
			if wrong.Err != nil {
				what, todo := a.explain(ctx, wrong.Err)
				result.Problems = append(result.Problems, strings.TrimSpace(what+" "+todo))
			}
		}
	}
	err = a.print(result, func(w *output) {
		if *result.OK {
			w.printf("The %s can be used: %s; TTL is on attribute %q.\n", s.where(), result.settings(), s.config.ExpiresAttribute)
			return
		}
		if missing(tableErr) {
			w.printf("%s\n", result.Problems[0])
			return
		}
		w.printf("The %s cannot be used as it is:\n", s.where())
		for _, p := range result.Problems {
			w.printf("- %s\n", p)
		}
	})
	if err == nil && !*result.OK {
		err = found()
	}
	return err
}

func (r *tableResult) about(t *types.TableDescription) {
	r.Billing, r.ReadCapacity, r.WriteCapacity = billing(t)
	r.DeletionProtection = aws.Bool(aws.ToBool(t.DeletionProtectionEnabled))
	r.Items, r.Bytes = aws.Int64(aws.ToInt64(t.ItemCount)), aws.Int64(aws.ToInt64(t.TableSizeBytes))
}

func (r *tableResult) settings() string {
	capacity := "on demand"
	if r.Billing == "provisioned" {
		capacity = fmt.Sprintf("%d read and %d write units per second", r.ReadCapacity, r.WriteCapacity)
	}
	protected := "not protected against deletion"
	if aws.ToBool(r.DeletionProtection) {
		protected = "protected against deletion"
	}
	return fmt.Sprintf("%s, %s, about %s items and %s",
		capacity, protected, count(aws.ToInt64(r.Items)), size(aws.ToInt64(r.Bytes)))
}

// billing tells how a table is paid for.
func billing(t *types.TableDescription) (mode string, read, write int64) {
	if t.BillingModeSummary != nil && t.BillingModeSummary.BillingMode == types.BillingModePayPerRequest {
		return "on-demand", 0, 0
	}
	if p := t.ProvisionedThroughput; p != nil {
		read, write = aws.ToInt64(p.ReadCapacityUnits), aws.ToInt64(p.WriteCapacityUnits)
	}
	return "provisioned", read, write
}

func (a *app) tableDeleteCommand() *cobra.Command {
	var yes string
	c := &cobra.Command{
		Use:   "delete",
		Short: "Delete the table, with all sessions",
		Long: `delete deletes the table with all sessions in it. Everybody is logged out.

On a terminal it prints the number of items, and asks for the name of the table.
Otherwise it needs --yes=NAME with the name of the table. It refuses a table
without the key of a session table.

It needs dynamodb:DescribeTable and dynamodb:DeleteTable, which no policy of
"sessionctl iam" has.`,
		Example: `  sessionctl table delete --table test-sessions
  sessionctl table delete --table test-sessions --yes=test-sessions`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.tableDelete(cmd.Context(), yes) },
	}
	c.Flags().StringVar(&yes, "yes", "", "do not ask; the `name` must be that of the table")
	return c
}

func (a *app) tableDelete(ctx context.Context, yes string) error {
	switch {
	case yes != "" && yes != a.table:
		return usageError("--yes is %q, and the table is %q: nothing was deleted", yes, a.table)
	case yes == "" && !terminal(a.stdin):
		return usageError("there is no terminal to ask on: --yes=%s deletes the table %q with all sessions", a.table, a.table)
	}
	s, err := a.openTable(ctx)
	if err != nil {
		return err
	}
	table, err := s.describe(ctx)
	if err != nil {
		return err
	}
	if !s.ours(table) {
		return s.wrongKey("nothing was deleted")
	}
	if yes == "" {
		a.note("The %s has about %s items, %s, as DynamoDB counted them in the last six hours.",
			s.where(), count(aws.ToInt64(table.ItemCount)), size(aws.ToInt64(table.TableSizeBytes)))
		a.stderr.printf("All of its sessions will be lost. Type the name of the table to delete it: ")
		line, err := readLine(a.input(ctx))
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) != s.table {
			return &wordsError{what: "That is not the name of the table: nothing was deleted."}
		}
	}
	if _, err := s.client.DeleteTable(ctx, &sdk.DeleteTableInput{TableName: &s.table}); err != nil {
		return err
	}
	done := a.working("Deleting " + s.where())
	err = sdk.NewTableNotExistsWaiter(s.client, func(o *sdk.TableNotExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 200*time.Millisecond, 5*time.Second
	}).Wait(ctx, &sdk.DescribeTableInput{TableName: &s.table}, time.Hour)
	done()
	if err != nil {
		if ctx.Err() != nil {
			err = &wordsError{what: fmt.Sprintf("Stopped waiting: %s is being deleted by DynamoDB.", s.where()), err: err}
		}
		return err
	}
	result := s.result()
	result.Deleted = aws.Bool(true)
	return a.print(result, func(w *output) { w.printf("Deleted %s.\n", s.where()) })
}

// openTable opens DynamoDB, and refuses Redis.
func (a *app) openTable(ctx context.Context) (*dynamoStore, error) {
	if a.backend == "redis" {
		return nil, usageError("Redis has no tables: each session is a key, and needs no preparation")
	}
	return a.openDynamoDB(ctx)
}

func (s *dynamoStore) describe(ctx context.Context) (*types.TableDescription, error) {
	out, err := s.client.DescribeTable(ctx, &sdk.DescribeTableInput{TableName: &s.table})
	if err != nil {
		return nil, err
	}
	if out.Table == nil {
		return nil, errors.New("the answer to DescribeTable is empty")
	}
	return out.Table, nil
}

// ours reports whether t has the key of a session table.
func (s *dynamoStore) ours(t *types.TableDescription) bool {
	return len(t.KeySchema) == 1 && aws.ToString(t.KeySchema[0].AttributeName) == s.config.KeyAttribute &&
		len(t.AttributeDefinitions) > 0 && t.AttributeDefinitions[0].AttributeType == types.ScalarAttributeTypeS
}

func (s *dynamoStore) wrongKey(outcome string) error {
	return &wordsError{
		what: fmt.Sprintf("The %s does not have the key of a session table, %q of type S: %s.", s.where(), s.config.KeyAttribute, outcome),
		todo: "Give --key-attribute if its key has another name; \"sessionctl table check\" prints its key. To delete a table of another kind, use the aws command.",
	}
}

func missing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}
