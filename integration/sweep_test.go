package integration

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

type attributes = map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func epochSeconds(t time.Time) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(t.Unix(), 10)}
}

// sweptTable has the rows of a table, every other one of them expired.
type sweptTable struct {
	n, size int
	now     time.Time
}

func sweepTable(n, size int) sweptTable { return sweptTable{n, size, time.Now()} }

// cutoff lies between the expired rows and the live ones.
func (s sweptTable) cutoff() time.Time { return s.now.Add(-10 * time.Minute) }

func (s sweptTable) expired(i int) bool { return i%2 == 0 }

func (s sweptTable) key(i int) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	return hex.EncodeToString(sum[:16])
}

func (s sweptTable) item(i int) attributes {
	expires := s.now.Add(time.Hour)
	if s.expired(i) {
		expires = s.now.Add(-time.Hour)
	}
	version := make([]byte, 8)
	rand.Read(version) // never fails
	return attributes{
		"id": text(s.key(i)), "data": &types.AttributeValueMemberB{Value: make([]byte, s.size)},
		"expires": epochSeconds(expires), "version": &types.AttributeValueMemberB{Value: version},
		"created": &types.AttributeValueMemberN{Value: strconv.FormatInt(expires.Add(-2*time.Hour).UnixMilli(), 10)},
	}
}

func (s sweptTable) items() func(yield func(attributes) bool) {
	return func(yield func(attributes) bool) {
		for i := range s.n {
			if !yield(s.item(i)) {
				return
			}
		}
	}
}

// fill puts items into a table.
func fill(t testing.TB, table string, items func(func(attributes) bool)) {
	t.Helper()
	db := sdk.NewFromConfig(awsConfig(local.Endpoint), func(o *sdk.Options) { o.HTTPClient = keptOpen })
	batches := make(chan []types.WriteRequest)
	var writers sync.WaitGroup
	var once sync.Once
	var failed error
	for range 8 {
		writers.Go(func() {
			for batch := range batches {
				out, err := db.BatchWriteItem(t.Context(), &sdk.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}})
				if err == nil && len(out.UnprocessedItems) > 0 {
					err = errors.New("unprocessed items")
				}
				if err != nil {
					once.Do(func() { failed = err })
				}
			}
		})
	}
	var batch []types.WriteRequest
	for it := range items {
		if batch = append(batch, types.WriteRequest{PutRequest: &types.PutRequest{Item: it}}); len(batch) == 25 {
			batches <- batch
			batch = nil
		}
	}
	if len(batch) > 0 {
		batches <- batch
	}
	close(batches)
	writers.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
}

// keysOf reads the keys of a table.
func keysOf(t testing.TB, table string) map[string]bool {
	t.Helper()
	const segments = 64
	keys := map[string]bool{}
	var mu sync.Mutex
	var readers sync.WaitGroup
	for n := range segments {
		readers.Go(func() {
			pages := sdk.NewScanPaginator(client(), &sdk.ScanInput{
				TableName: &table, ProjectionExpression: aws.String("id"), ConsistentRead: aws.Bool(true),
				Segment: aws.Int32(int32(n)), TotalSegments: aws.Int32(segments),
			})
			for pages.HasMorePages() {
				out, err := pages.NextPage(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, it := range out.Items {
					keys[it["id"].(*types.AttributeValueMemberS).Value] = true
				}
				mu.Unlock()
			}
		})
	}
	readers.Wait()
	return keys
}

var _ = []any{context.Background, fmt.Sprint, maps.Keys[map[int]int], slices.Sorted[int], strings.Cut}

// newSweptTable makes a table without TTL: DynamoDB Local deletes a few expired
// items each second, which would be taken for the sweep's work.
func newSweptTable(t testing.TB) dynamodb.Config {
	t.Helper()
	c := dynamodb.Config{Table: tableName(t), AttemptTimeout: time.Minute}
	_, err := client().CreateTable(t.Context(), &sdk.CreateTableInput{
		TableName: &c.Table, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
