package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// TableOptions configures a table that [Backend.CreateTable] creates. The zero
// value creates an on-demand table.
type TableOptions struct {
	// ReadCapacity and WriteCapacity are the provisioned capacity, in units per
	// second. Set both or neither. Default 0: the table is on-demand.
	ReadCapacity  int64
	WriteCapacity int64

	// DeletionProtection makes DynamoDB refuse to delete the table. Default
	// false.
	DeletionProtection bool

	// Tags are the tags of the table. Default none.
	Tags map[string]string
}

// TableError is the error for a table that cannot be used.
type TableError struct {
	Table string
	// Problems has a sentence for each problem, with what to do about it.
	Problems []string
	// Err is the error of DynamoDB that ended the check, or nil.
	Err error
}

func (e *TableError) Error() string {
	text := fmt.Sprintf("dynamodb: table %q: %s", e.Table, strings.Join(e.Problems, "; "))
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *TableError) Unwrap() error { return e.Err }

// CreateTable creates the table if it does not exist, and waits until it is
// active. It then switches TTL on for ExpiresAttribute, and waits until TTL is
// enabled. It may be called again at any time. A table that exists keeps its
// settings, except that TTL is switched on if it is off. opts is ignored then.
//
// CreateTable fails with a [*TableError], and changes nothing, if the table
// exists and cannot be used because of its key, or because TTL is on another
// attribute. It fails if the client is not a [TableClient].
//
// It usually takes some seconds, but DynamoDB may take an hour to enable TTL, so
// give ctx a deadline. If ctx ends before TTL is enabled, the error says so. The
// table can be used then, and DynamoDB goes on by itself. The requests cost no
// capacity units.
func (b *Backend) CreateTable(ctx context.Context, opts TableOptions) error {
	client, err := b.tableClient()
	if err != nil {
		return err
	}
	if opts.ReadCapacity < 0 || opts.WriteCapacity < 0 || (opts.ReadCapacity == 0) != (opts.WriteCapacity == 0) {
		return fmt.Errorf("dynamodb: ReadCapacity %d and WriteCapacity %d must both be positive, or both zero for an on-demand table",
			opts.ReadCapacity, opts.WriteCapacity)
	}

	_, err = b.describe(ctx, client)
	created := false
	if isMissing(err) {
		if err = b.sendCreate(ctx, client, opts); err == nil {
			created = true
		}
	}
	if err != nil {
		return err
	}

	var wait waiter
	for {
		table, err := b.describe(ctx, client)
		switch {
		case created && isMissing(err): // DynamoDB does not always find a new table at once
		case err != nil:
			return err
		case table.TableStatus != types.TableStatusCreating:
			if problems := b.tableProblems(table); len(problems) > 0 {
				return &TableError{Table: b.c.Table, Problems: problems}
			}
			return b.enableTTL(ctx, client)
		}
		if err := wait.next(ctx); err != nil {
			return fmt.Errorf("dynamodb: table %q is still being created: run CreateTable again to go on: %w", b.c.Table, err)
		}
	}
}

// sendCreate sends the request. It succeeds if the table is being created
// already, by another client or by an attempt whose response was lost.
func (b *Backend) sendCreate(ctx context.Context, client TableClient, opts TableOptions) error {
	in := &dynamodb.CreateTableInput{
		TableName:            &b.c.Table,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &b.c.KeyAttribute, AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: &b.c.KeyAttribute, KeyType: types.KeyTypeHash}},
		BillingMode:          types.BillingModePayPerRequest,
	}
	if opts.ReadCapacity > 0 {
		in.BillingMode = types.BillingModeProvisioned
		in.ProvisionedThroughput = &types.ProvisionedThroughput{
			ReadCapacityUnits:  &opts.ReadCapacity,
			WriteCapacityUnits: &opts.WriteCapacity,
		}
	}
	if opts.DeletionProtection {
		in.DeletionProtectionEnabled = aws.Bool(true)
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(name), Value: aws.String(opts.Tags[name])})
	}
	_, err := b.call(ctx, opCreateTable, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		_, err := client.CreateTable(ctx, in, b.opts...)
		return nil, err
	})
	if isInUse(err) {
		return nil
	}
	return err
}

// enableTTL switches TTL on, and waits until it is enabled.
func (b *Backend) enableTTL(ctx context.Context, client TableClient) error {
	var (
		wait  waiter
		asked bool
		// DynamoDB refuses to enable TTL twice, and for other reasons. Only the
		// state of TTL tells which it was.
		refused error
	)
	for {
		ttl, err := b.describeTTL(ctx, client)
		if err != nil {
			return err
		}
		if problem := b.ttlProblem(ttl); problem != "" && !b.ttlOff(ttl) {
			return &TableError{Table: b.c.Table, Problems: []string{problem}}
		}
		switch {
		case ttl.TimeToLiveStatus == types.TimeToLiveStatusEnabled:
			return nil
		case b.ttlOff(ttl) && refused != nil:
			return refused
		case b.ttlOff(ttl) && !asked:
			err := b.sendTTL(ctx, client)
			code, _ := apiError(err)
			switch {
			case err == nil:
				asked = true
				continue // often it is enabled at once
			case isInUse(err): // the table is busy with another change
			case code == "ValidationException":
				refused = err
				continue
			default:
				return err
			}
		}
		if err := wait.next(ctx); err != nil {
			return fmt.Errorf("dynamodb: table %q can be used, but its TTL on %q is still being enabled: run CreateTable again to wait for it: %w",
				b.c.Table, b.c.ExpiresAttribute, err)
		}
	}
}

func (b *Backend) sendTTL(ctx context.Context, client TableClient) error {
	_, err := b.call(ctx, opUpdateTimeToLive, func(ctx context.Context) (*types.ConsumedCapacity, error) {
		_, err := client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
			TableName: &b.c.Table,
			TimeToLiveSpecification: &types.TimeToLiveSpecification{
				AttributeName: &b.c.ExpiresAttribute,
				Enabled:       aws.Bool(true),
			},
		}, b.opts...)
		return nil, err
	})
	return err
}

// CheckTable returns nil if the table can be used: it exists, is active, has
// the key that Config names, and has TTL on ExpiresAttribute, enabled or being
// enabled. Otherwise it returns a [*TableError] with all problems, or the error
// of a request that failed. It fails if the client is not a [TableClient]. It
// changes nothing, costs no capacity units, and is worth calling when a program
// starts.
func (b *Backend) CheckTable(ctx context.Context) error {
	client, err := b.tableClient()
	if err != nil {
		return err
	}
	table, err := b.describe(ctx, client)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return &TableError{Table: b.c.Table, Err: missing, Problems: []string{
			"it does not exist in " + b.place() + ": create it with CreateTable, or correct Config.Table or the region",
		}}
	}
	if err != nil {
		return err
	}
	problems := b.tableProblems(table)
	ttl, err := b.describeTTL(ctx, client)
	if err != nil {
		if len(problems) > 0 {
			return &TableError{Table: b.c.Table, Problems: problems, Err: err}
		}
		return err
	}
	if problem := b.ttlProblem(ttl); problem != "" {
		problems = append(problems, problem)
	}
	if len(problems) > 0 {
		return &TableError{Table: b.c.Table, Problems: problems}
	}
	return nil
}

func (b *Backend) tableProblems(table *types.TableDescription) (problems []string) {
	switch table.TableStatus {
	case types.TableStatusActive, types.TableStatusUpdating: // a table serves requests while it is updated
	case types.TableStatusCreating:
		problems = append(problems, "it is still being created: wait until it is ACTIVE")
	case types.TableStatusDeleting:
		problems = append(problems, "it is being deleted: wait until it is gone, and create it again")
	case types.TableStatusInaccessibleEncryptionCredentials:
		problems = append(problems, "DynamoDB cannot use the KMS key that encrypts it: enable the key, and its grants")
	default:
		problems = append(problems, fmt.Sprintf("its status is %s: it must be ACTIVE", table.TableStatus))
	}

	for _, k := range table.KeySchema {
		name := aws.ToString(k.AttributeName)
		if k.KeyType == types.KeyTypeRange {
			problems = append(problems, fmt.Sprintf(
				"it has a sort key, %q, and sessions have none: use another table, as a key cannot be changed", name))
			continue
		}
		if name != b.c.KeyAttribute {
			problems = append(problems, fmt.Sprintf(
				"its key is %q and not %q: set Config.KeyAttribute to %q, or use another table", name, b.c.KeyAttribute, name))
		}
		for _, a := range table.AttributeDefinitions {
			if aws.ToString(a.AttributeName) == name && a.AttributeType != types.ScalarAttributeTypeS {
				problems = append(problems, fmt.Sprintf(
					"its key %q is of type %s and not S: use another table, as a key cannot be changed", name, a.AttributeType))
			}
		}
	}
	return problems
}

func (b *Backend) ttlProblem(ttl *types.TimeToLiveDescription) string {
	name := aws.ToString(ttl.AttributeName)
	switch {
	case b.ttlOff(ttl):
		return fmt.Sprintf("TTL is off, so expired sessions would be kept for ever: switch it on for attribute %q, as CreateTable does",
			b.c.ExpiresAttribute)
	case ttl.TimeToLiveStatus == types.TimeToLiveStatusDisabling:
		return fmt.Sprintf("TTL on attribute %q is being switched off: wait until it is, an hour at most, and switch it on for %q, as CreateTable does",
			name, b.c.ExpiresAttribute)
	case name != b.c.ExpiresAttribute:
		return fmt.Sprintf("TTL is on attribute %q and not on %q: set Config.ExpiresAttribute to %q, or switch TTL off, and on again for %q",
			name, b.c.ExpiresAttribute, name, b.c.ExpiresAttribute)
	}
	return "" // ENABLED, or ENABLING
}

func (b *Backend) ttlOff(ttl *types.TimeToLiveDescription) bool {
	return ttl.TimeToLiveStatus == types.TimeToLiveStatusDisabled || ttl.TimeToLiveStatus == ""
}

func (b *Backend) tableClient() (TableClient, error) {
	client, ok := b.client.(TableClient)
	if !ok {
		return nil, fmt.Errorf("dynamodb: the client, a %T, cannot manage tables: it lacks methods of TableClient", b.client)
	}
	return client, nil
}

func (b *Backend) describe(ctx context.Context, client TableClient) (*types.TableDescription, error) {
	var out *dynamodb.DescribeTableOutput
	_, err := b.call(ctx, opDescribeTable, func(ctx context.Context) (_ *types.ConsumedCapacity, err error) {
		out, err = client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &b.c.Table}, b.opts...)
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	if out.Table == nil {
		return nil, fmt.Errorf("dynamodb: %s on table %q: the answer is empty", opDescribeTable, b.c.Table)
	}
	return out.Table, nil
}

func (b *Backend) describeTTL(ctx context.Context, client TableClient) (*types.TimeToLiveDescription, error) {
	var out *dynamodb.DescribeTimeToLiveOutput
	_, err := b.call(ctx, opDescribeTimeToLive, func(ctx context.Context) (_ *types.ConsumedCapacity, err error) {
		out, err = client.DescribeTimeToLive(ctx, &dynamodb.DescribeTimeToLiveInput{TableName: &b.c.Table}, b.opts...)
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	if out.TimeToLiveDescription == nil {
		return &types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}, nil
	}
	return out.TimeToLiveDescription, nil
}

func isMissing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

func isInUse(err error) bool {
	var inUse *types.ResourceInUseException
	return errors.As(err, &inUse)
}

// waiter waits between two requests about a table, longer each time.
type waiter struct{ d time.Duration }

// next waits, and fails if ctx ends before or would end meanwhile.
func (w *waiter) next(ctx context.Context) error {
	const first, longest = 100 * time.Millisecond, 5 * time.Second
	w.d = min(max(2*w.d, first), longest)
	if sleep(ctx, w.d) {
		return nil
	}
	if err := contextError(ctx); err != nil {
		return err
	}
	return context.DeadlineExceeded
}
