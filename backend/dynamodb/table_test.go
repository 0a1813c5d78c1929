package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// tables is a fake with the methods of TableClient.
type tables struct {
	*fake
	table    *types.TableDescription // nil if there is none
	ttl      types.TimeToLiveDescription
	creating int // how many DescribeTable it stays in CREATING
	enabling int // the same for TTL
	created  *dynamodb.CreateTableInput
	busy     int // how many UpdateTimeToLive fail with ResourceInUseException
	hidden   int // how many DescribeTable do not know the new table yet
}

func newTables() *tables {
	return &tables{fake: newFake(), ttl: types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}}
}

func (f *tables) CreateTable(ctx context.Context, in *dynamodb.CreateTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	return &dynamodb.CreateTableOutput{}, f.do(ctx, "CreateTable", func() error {
		if f.table != nil {
			return sdkError("CreateTable", 400, &types.ResourceInUseException{})
		}
		f.created = in
		f.table = &types.TableDescription{
			TableName:            in.TableName,
			KeySchema:            in.KeySchema,
			AttributeDefinitions: in.AttributeDefinitions,
			TableStatus:          types.TableStatusCreating,
		}
		return nil
	})
}

func (f *tables) DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	out := &dynamodb.DescribeTableOutput{}
	return out, f.do(ctx, "DescribeTable", func() error {
		if f.table != nil && f.hidden > 0 {
			f.hidden--
			return sdkError("DescribeTable", 400, &types.ResourceNotFoundException{})
		}
		if f.table == nil {
			return sdkError("DescribeTable", 400, &types.ResourceNotFoundException{})
		}
		if f.creating--; f.creating < 0 && f.table.TableStatus == types.TableStatusCreating {
			f.table.TableStatus = types.TableStatusActive
		}
		table := *f.table
		out.Table = &table
		return nil
	})
}

func (f *tables) UpdateTimeToLive(ctx context.Context, in *dynamodb.UpdateTimeToLiveInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateTimeToLiveOutput, error) {
	return &dynamodb.UpdateTimeToLiveOutput{}, f.do(ctx, "UpdateTimeToLive", func() error {
		if f.busy > 0 {
			f.busy--
			return sdkError("UpdateTimeToLive", 400, &types.ResourceInUseException{})
		}
		if f.ttl.TimeToLiveStatus != types.TimeToLiveStatusDisabled {
			return sdkError("UpdateTimeToLive", 400, &smithy.GenericAPIError{Code: "ValidationException", Message: "TimeToLive is already enabled"})
		}
		f.ttl = types.TimeToLiveDescription{AttributeName: in.TimeToLiveSpecification.AttributeName, TimeToLiveStatus: types.TimeToLiveStatusEnabling}
		return nil
	})
}

func (f *tables) DescribeTimeToLive(ctx context.Context, in *dynamodb.DescribeTimeToLiveInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTimeToLiveOutput, error) {
	out := &dynamodb.DescribeTimeToLiveOutput{}
	return out, f.do(ctx, "DescribeTimeToLive", func() error {
		if f.ttl.TimeToLiveStatus == types.TimeToLiveStatusEnabling {
			if f.enabling--; f.enabling < 0 {
				f.ttl.TimeToLiveStatus = types.TimeToLiveStatusEnabled
			}
		}
		ttl := f.ttl
		out.TimeToLiveDescription = &ttl
		return nil
	})
}

func tableOf(status types.TableStatus, key ...string) *types.TableDescription {
	d := &types.TableDescription{TableStatus: status}
	for i, k := range key {
		name, typ, _ := strings.Cut(k, ":")
		d.AttributeDefinitions = append(d.AttributeDefinitions, types.AttributeDefinition{
			AttributeName: &name, AttributeType: types.ScalarAttributeType(typ),
		})
		kind := types.KeyTypeHash
		if i > 0 {
			kind = types.KeyTypeRange
		}
		d.KeySchema = append(d.KeySchema, types.KeySchemaElement{AttributeName: &name, KeyType: kind})
	}
	return d
}

func ttlOf(status types.TimeToLiveStatus, attribute string) types.TimeToLiveDescription {
	return types.TimeToLiveDescription{TimeToLiveStatus: status, AttributeName: &attribute}
}

func TestCheckTable(t *testing.T) {
	good := tableOf(types.TableStatusActive, "id:S")
	on := ttlOf(types.TimeToLiveStatusEnabled, "expires")
	for _, tt := range []struct {
		name  string
		table *types.TableDescription
		ttl   types.TimeToLiveDescription
		want  []string // the problems
	}{
		{"good", good, on, nil},
		{"updating", tableOf(types.TableStatusUpdating, "id:S"), on, nil},
		{"TTL enabling", good, ttlOf(types.TimeToLiveStatusEnabling, "expires"), nil},
		{"missing", nil, on, []string{
			"it does not exist in this region: create it with CreateTable, or correct Config.Table or the region",
		}},
		{"key name", tableOf(types.TableStatusActive, "pk:S"), on, []string{
			`its key is "pk" and not "id": set Config.KeyAttribute to "pk", or use another table`,
		}},
		{"key type", tableOf(types.TableStatusActive, "id:N"), on, []string{
			`its key "id" is of type N and not S: use another table, as a key cannot be changed`,
		}},
		{"sort key", tableOf(types.TableStatusActive, "id:S", "sk:N"), on, []string{
			`it has a sort key, "sk", and sessions have none: use another table, as a key cannot be changed`,
		}},
		{"TTL off", good, types.TimeToLiveDescription{TimeToLiveStatus: types.TimeToLiveStatusDisabled}, []string{
			`TTL is off, so expired sessions would be kept for ever: switch it on for attribute "expires", as CreateTable does`,
		}},
		{"TTL on another", good, ttlOf(types.TimeToLiveStatusEnabled, "ttl"), []string{
			`TTL is on attribute "ttl" and not on "expires": set Config.ExpiresAttribute to "ttl", or switch TTL off, and on again for "expires"`,
		}},
		{"TTL disabling", good, ttlOf(types.TimeToLiveStatusDisabling, "expires"), []string{
			`TTL on attribute "expires" is being switched off: wait until it is, an hour at most, and switch it on for "expires", as CreateTable does`,
		}},
		{"creating", tableOf(types.TableStatusCreating, "id:S"), on, []string{
			"it is still being created: wait until it is ACTIVE",
		}},
		{"deleting", tableOf(types.TableStatusDeleting, "id:S"), on, []string{
			"it is being deleted: wait until it is gone, and create it again",
		}},
		{"no KMS key", tableOf(types.TableStatusInaccessibleEncryptionCredentials, "id:S"), on, []string{
			"DynamoDB cannot use the KMS key that encrypts it: enable the key, and its grants",
		}},
		{"archived", tableOf(types.TableStatusArchived, "id:S"), on, []string{
			"its status is ARCHIVED: it must be ACTIVE",
		}},
		{"everything", tableOf(types.TableStatusArchived, "pk:B", "sk:S"), ttlOf(types.TimeToLiveStatusEnabled, "ttl"), []string{
			"its status is ARCHIVED: it must be ACTIVE",
			`its key is "pk" and not "id": set Config.KeyAttribute to "pk", or use another table`,
			`its key "pk" is of type B and not S: use another table, as a key cannot be changed`,
			`it has a sort key, "sk", and sessions have none: use another table, as a key cannot be changed`,
			`TTL is on attribute "ttl" and not on "expires": set Config.ExpiresAttribute to "ttl", or switch TTL off, and on again for "expires"`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newTables()
			f.table, f.ttl, f.creating = tt.table, tt.ttl, 1000
			err := newBackend(t, f, Config{}).CheckTable(context.Background())
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var te *TableError
			if !errors.As(err, &te) {
				t.Fatalf("%v", err)
			}
			if te.Table != "sessions" || !slices.Equal(te.Problems, tt.want) {
				t.Errorf("got  %q\nwant %q", te.Problems, tt.want)
			}
			if !strings.HasPrefix(err.Error(), `dynamodb: table "sessions": `+strings.Join(tt.want, "; ")) {
				t.Error(err)
			}
			if tt.table == nil && !isMissing(err) {
				t.Error("the error of DynamoDB cannot be reached")
			}
			for _, op := range f.sent {
				if op != "DescribeTable" && op != "DescribeTimeToLive" {
					t.Errorf("sent %s", op)
				}
			}
		})
	}
}

func TestCheckTableNotAllowed(t *testing.T) {
	denied := apiFault(400, "AccessDeniedException", "")
	for i, op := range []string{"DescribeTable", "DescribeTimeToLive"} {
		f := newTables()
		f.table = tableOf(types.TableStatusActive, "pk:S")
		f.fail(make([]fault, i)...)
		f.fail(fault{lost: denied})
		err := newBackend(t, f, Config{}).CheckTable(context.Background())
		if !errors.Is(err, denied) || !strings.Contains(err.Error(), "grant them dynamodb:"+op) {
			t.Errorf("%v", err)
		}
		if i == 1 && !strings.Contains(err.Error(), `its key is "pk"`) {
			t.Errorf("what is known is not said: %v", err)
		}
	}
}

func TestCreateTable(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name     string
		set      func(*tables)
		requests string
		words    string // "" if it succeeds
	}{
		{
			"new", func(*tables) {},
			"DescribeTable CreateTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{"exists", func(f *tables) {
			f.table, f.ttl = tableOf(types.TableStatusActive, "id:S"), ttlOf(types.TimeToLiveStatusEnabled, "expires")
		}, "DescribeTable DescribeTable DescribeTimeToLive", ""},
		{
			"exists without TTL", func(f *tables) { f.table = tableOf(types.TableStatusActive, "id:S") },
			"DescribeTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{"somebody else creates it", func(f *tables) {
			f.fail(fault{then: func() { f.table = tableOf(types.TableStatusCreating, "id:S") }})
		}, "DescribeTable CreateTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", ""},
		{
			"the response is lost", func(f *tables) { f.fail(fault{}, fault{after: errReset}) },
			"DescribeTable CreateTable CreateTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{
			"the response about TTL is lost", func(f *tables) { f.fail(fault{}, fault{}, fault{}, fault{}, fault{after: errReset}) },
			"DescribeTable CreateTable DescribeTable DescribeTimeToLive UpdateTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{
			"the table is busy", func(f *tables) { f.busy = 1 },
			"DescribeTable CreateTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{
			"not known everywhere yet", func(f *tables) { f.hidden = 1 },
			"DescribeTable CreateTable DescribeTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "",
		},
		{"TTL was changed a moment ago", func(f *tables) {
			f.table = tableOf(types.TableStatusActive, "id:S")
			f.fail(fault{}, fault{}, fault{}, fault{lost: apiFault(400, "ValidationException", "modified multiple times")})
		}, "DescribeTable DescribeTable DescribeTimeToLive UpdateTimeToLive DescribeTimeToLive", "modified multiple times"},
		{
			"wrong key", func(f *tables) { f.table = tableOf(types.TableStatusActive, "pk:S") },
			"DescribeTable DescribeTable", `its key is "pk"`,
		},
		{"wrong TTL", func(f *tables) {
			f.table, f.ttl = tableOf(types.TableStatusActive, "id:S"), ttlOf(types.TimeToLiveStatusEnabled, "ttl")
		}, "DescribeTable DescribeTable DescribeTimeToLive", `TTL is on attribute "ttl"`},
		{"TTL is being switched off", func(f *tables) {
			f.table, f.ttl = tableOf(types.TableStatusActive, "id:S"), ttlOf(types.TimeToLiveStatusDisabling, "expires")
		}, "DescribeTable DescribeTable DescribeTimeToLive", "is being switched off"},
		{
			"deleting", func(f *tables) { f.table = tableOf(types.TableStatusDeleting, "id:S") },
			"DescribeTable DescribeTable", "is being deleted",
		},
		{
			"not allowed", func(f *tables) { f.fail(fault{}, fault{lost: apiFault(400, "AccessDeniedException", "")}) },
			"DescribeTable CreateTable", "grant them dynamodb:CreateTable",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newTables()
			tt.set(f)
			err := newBackend(t, f, quick(Config{})).CreateTable(ctx, TableOptions{})
			if tt.words == "" && err != nil || tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("%v", err)
			}
			if got := f.requests(); got != tt.requests {
				t.Errorf("requests:\n%s, want\n%s", got, tt.requests)
			}
		})
	}
}

func TestTableOptions(t *testing.T) {
	ctx := context.Background()
	f := newTables()
	b := newBackend(t, f, Config{Table: "other", KeyAttribute: "k", ExpiresAttribute: "ttl"})
	err := b.CreateTable(ctx, TableOptions{ReadCapacity: 2, WriteCapacity: 3, DeletionProtection: true, Tags: map[string]string{"b": "2", "a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	in := f.created
	if *in.TableName != "other" || *in.KeySchema[0].AttributeName != "k" || aws.ToString(f.ttl.AttributeName) != "ttl" {
		t.Error("the names of Config are not used")
	}
	if in.BillingMode != types.BillingModeProvisioned || *in.ProvisionedThroughput.ReadCapacityUnits != 2 || *in.ProvisionedThroughput.WriteCapacityUnits != 3 {
		t.Errorf("%v %+v", in.BillingMode, in.ProvisionedThroughput)
	}
	if !*in.DeletionProtectionEnabled || len(in.Tags) != 2 || *in.Tags[0].Key != "a" || *in.Tags[0].Value != "1" {
		t.Errorf("%+v", in)
	}

	f = newTables()
	if err := newBackend(t, f, Config{}).CreateTable(ctx, TableOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.created.BillingMode != types.BillingModePayPerRequest || f.created.ProvisionedThroughput != nil || f.created.DeletionProtectionEnabled != nil {
		t.Errorf("%+v", f.created)
	}

	for _, o := range []TableOptions{{ReadCapacity: 1}, {WriteCapacity: 1}, {ReadCapacity: -1, WriteCapacity: 1}, {ReadCapacity: -1, WriteCapacity: -1}} {
		f := newTables()
		if err := newBackend(t, f, Config{}).CreateTable(ctx, o); err == nil || f.count() > 0 {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestClientWithoutTables(t *testing.T) {
	b := newBackend(t, newFake(), Config{})
	for _, err := range []error{b.CheckTable(context.Background()), b.CreateTable(context.Background(), TableOptions{})} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the client, a %T, cannot manage tables", newFake())) {
			t.Errorf("%v", err)
		}
	}
}
