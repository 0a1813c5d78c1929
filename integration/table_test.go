package integration

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

func TestCreateTable(t *testing.T) {
	b, _ := connect(t, dynamodb.Config{Table: tableName(t)})
	var missing *dynamodb.TableError
	if err := b.CheckTable(t.Context()); !errors.As(err, &missing) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("CheckTable without a table: %v", err)
	}
	// Several instances of an application that start at once.
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if err := b.CreateTable(t.Context(), dynamodb.TableOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := b.CheckTable(t.Context()); err != nil {
		t.Error(err)
	}
	save(t, b, key, record("kept"))
	if err := b.CreateTable(t.Context(), dynamodb.TableOptions{}); err != nil {
		t.Errorf("again: %v", err)
	}
	if got := load(t, b, key); string(got.Data) != "kept" {
		t.Errorf("CreateTable changed a session: %+v", got)
	}
}

func TestCreateTableOptions(t *testing.T) {
	name := tableName(t)
	b, _ := connect(t, dynamodb.Config{Table: name, KeyAttribute: "PK", ExpiresAttribute: "ttl"})
	if err := b.CreateTable(t.Context(), dynamodb.TableOptions{ReadCapacity: 3, WriteCapacity: 2}); err != nil {
		t.Fatal(err)
	}
	if err := b.CheckTable(t.Context()); err != nil {
		t.Error(err)
	}
	out, err := client().DescribeTable(t.Context(), &sdk.DescribeTableInput{TableName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Table.ProvisionedThroughput; aws.ToInt64(got.ReadCapacityUnits) != 3 || aws.ToInt64(got.WriteCapacityUnits) != 2 {
		t.Errorf("got throughput %+v", got)
	}
	if got := aws.ToString(out.Table.KeySchema[0].AttributeName); got != "PK" {
		t.Errorf("got key %q", got)
	}
	ttl, err := client().DescribeTimeToLive(t.Context(), &sdk.DescribeTimeToLiveInput{TableName: &name})
	if err != nil {
		t.Fatal(err)
	}
	if got := ttl.TimeToLiveDescription; aws.ToString(got.AttributeName) != "ttl" || got.TimeToLiveStatus != types.TimeToLiveStatusEnabled {
		t.Errorf("got TTL %+v", got)
	}
}

func TestWrongTable(t *testing.T) {
	type attribute struct {
		name  string
		kind  types.ScalarAttributeType
		usage types.KeyType
	}
	id := attribute{"id", types.ScalarAttributeTypeS, types.KeyTypeHash}
	tests := []struct {
		name   string
		schema []attribute
		ttl    string   // the attribute with TTL
		want   []string // in the problem that CheckTable names
		mended bool     // CreateTable repairs it
	}{
		{"key name", []attribute{{"sid", id.kind, id.usage}}, "expires", []string{`"sid"`, `"id"`, "KeyAttribute"}, false},
		{"key type", []attribute{{"id", types.ScalarAttributeTypeN, id.usage}}, "expires", []string{`"id"`, "type N"}, false},
		{"sort key", []attribute{id, {"at", id.kind, types.KeyTypeRange}}, "expires", []string{"sort key", `"at"`}, false},
		{"no TTL", []attribute{id}, "", []string{"TTL is off", `"expires"`}, true},
		{"other TTL", []attribute{id}, "ttl", []string{"TTL", `"ttl"`, `"expires"`, "ExpiresAttribute"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := &sdk.CreateTableInput{TableName: aws.String(tableName(t)), BillingMode: types.BillingModePayPerRequest}
			for _, a := range tt.schema {
				in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &a.name, AttributeType: a.kind})
				in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &a.name, KeyType: a.usage})
			}
			if _, err := client().CreateTable(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if tt.ttl != "" {
				_, err := client().UpdateTimeToLive(t.Context(), &sdk.UpdateTimeToLiveInput{
					TableName:               in.TableName,
					TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: &tt.ttl, Enabled: aws.Bool(true)},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			b, _ := connect(t, dynamodb.Config{Table: *in.TableName})
			says := func(call string, err error) {
				t.Helper()
				var wrong *dynamodb.TableError
				if !errors.As(err, &wrong) || len(wrong.Problems) != 1 {
					t.Fatalf("%s: got %v, want one problem", call, err)
				}
				for _, want := range tt.want {
					if !strings.Contains(wrong.Problems[0], want) {
						t.Errorf("%s: %q does not say %s", call, wrong.Problems[0], want)
					}
				}
			}
			says("CheckTable", b.CheckTable(t.Context()))
			err := b.CreateTable(t.Context(), dynamodb.TableOptions{})
			if tt.mended {
				if err != nil {
					t.Errorf("CreateTable: %v", err)
				}
				if err := b.CheckTable(t.Context()); err != nil {
					t.Errorf("CheckTable after CreateTable: %v", err)
				}
				return
			}
			says("CreateTable", err)
			says("CheckTable after CreateTable", b.CheckTable(t.Context()))
		})
	}
}
