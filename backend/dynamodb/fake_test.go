package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type item = map[string]types.AttributeValue

// fake is a DynamoDB of one table that knows the expressions of this package,
// and can be told to fail.
type fake struct {
	mu     sync.Mutex
	items  map[string]item
	sent   []string // the operations, in order
	faults []fault  // one for each request to come

	keyName    string
	withoutOld bool         // ignores ALL_OLD, like some look-alikes
	down       bool         // fails everything
	ahead      atomic.Int64 // how far its clients' clocks are, in ns

	lastUpdate *dynamodb.UpdateItemInput
	lastGet    *dynamodb.GetItemInput
}

// fault is what happens to one request. The zero fault is none.
type fault struct {
	lost  error  // fails with it, and is not applied
	after error  // is applied, and fails with it
	hang  bool   // is not applied, and never answered
	mute  bool   // is applied, and never answered
	then  func() // runs when the request is over
}

func newFake() *fake { return &fake{items: make(map[string]item), keyName: "id"} }

func (f *fake) fail(faults ...fault) { f.faults = append(f.faults, faults...) }

// do runs one request under the next fault.
func (f *fake) do(ctx context.Context, op string, apply func() error) error {
	f.mu.Lock()
	f.sent = append(f.sent, op)
	var ft fault
	if len(f.faults) > 0 {
		ft, f.faults = f.faults[0], f.faults[1:]
	}
	var err error
	switch {
	case ft.hang:
	case f.down:
		err = sdkError(op, 500, &types.InternalServerError{})
	case ft.lost != nil:
		err = ft.lost
	default:
		if err = apply(); ft.after != nil {
			err = ft.after
		}
	}
	f.mu.Unlock()
	if ft.hang || ft.mute {
		<-ctx.Done()
		err = sdkError(op, 0, &smithy.CanceledError{Err: ctx.Err()})
	}
	if ft.then != nil {
		ft.then()
	}
	return err
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.sent)
}

func (f *fake) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.sent, " ")
}

func (f *fake) GetItem(ctx context.Context, in *dynamodb.GetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out := &dynamodb.GetItemOutput{}
	err := f.do(ctx, "GetItem", func() error {
		f.lastGet = in
		it, ok := f.items[f.keyOf(in.Key)]
		if !ok {
			return nil
		}
		out.Item = item{}
		for _, name := range strings.Split(*in.ProjectionExpression, ", ") {
			if v, ok := it[in.ExpressionAttributeNames[name]]; ok {
				out.Item[in.ExpressionAttributeNames[name]] = copied(v)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (f *fake) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	out := &dynamodb.UpdateItemOutput{}
	err := f.do(ctx, "UpdateItem", func() error {
		f.lastUpdate = in
		if err := checkPlaceholders(in); err != nil {
			return err
		}
		key := f.keyOf(in.Key)
		old, exists := f.items[key]
		if !holds(*in.ConditionExpression, in, old) {
			failed := &types.ConditionalCheckFailedException{}
			if exists && !f.withoutOld {
				failed.Item = copiedItem(old)
			}
			return sdkError("UpdateItem", 400, failed)
		}
		it := maps.Clone(old)
		if it == nil {
			it = maps.Clone(in.Key)
		}
		set, remove, _ := strings.Cut(*in.UpdateExpression, "REMOVE ")
		if set, ok := strings.CutPrefix(strings.TrimSpace(set), "SET "); ok {
			for _, assignment := range strings.Split(set, ", ") {
				name, value, _ := strings.Cut(assignment, " = ")
				it[in.ExpressionAttributeNames[name]] = copied(in.ExpressionAttributeValues[value])
			}
		}
		for _, name := range strings.Split(remove, ", ") {
			delete(it, in.ExpressionAttributeNames[name])
		}
		f.items[key] = it
		if in.ReturnValues == types.ReturnValueAllNew {
			out.Attributes = copiedItem(it)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (f *fake) DeleteItem(ctx context.Context, in *dynamodb.DeleteItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error) {
	err := f.do(ctx, "DeleteItem", func() error {
		delete(f.items, f.keyOf(in.Key))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &dynamodb.DeleteItemOutput{}, nil
}

func (f *fake) keyOf(key item) string { return key[f.keyName].(*types.AttributeValueMemberS).Value }

// copied is what goes over a wire.
func copied(v types.AttributeValue) types.AttributeValue {
	if b, ok := v.(*types.AttributeValueMemberB); ok {
		return &types.AttributeValueMemberB{Value: slices.Clone(b.Value)}
	}
	return v
}

func copiedItem(it item) item {
	c := item{}
	for name, v := range it {
		c[name] = copied(v)
	}
	return c
}

// checkPlaceholders refuses what DynamoDB refuses: unused and unknown ones.
func checkPlaceholders(in *dynamodb.UpdateItemInput) error {
	used := map[string]bool{}
	for _, word := range strings.FieldsFunc(*in.UpdateExpression+" "+*in.ConditionExpression, func(r rune) bool {
		return strings.ContainsRune(" ,()=<>", r)
	}) {
		if strings.HasPrefix(word, "#") || strings.HasPrefix(word, ":") {
			used[word] = true
		}
	}
	given := map[string]bool{}
	for k := range in.ExpressionAttributeNames {
		given[k] = true
	}
	for k := range in.ExpressionAttributeValues {
		given[k] = true
	}
	if !maps.Equal(used, given) {
		return sdkError("UpdateItem", 400, &smithy.GenericAPIError{
			Code:    "ValidationException",
			Message: fmt.Sprintf("placeholders used: %v, given: %v", used, given),
		})
	}
	return nil
}

var conditionTokens = regexp.MustCompile(`attribute_(?:not_)?exists\(#\w+\)|#\w+ [<=>]+ :\w+|AND|OR|[()]|\S+`)

// holds evaluates a condition.
func holds(condition string, in *dynamodb.UpdateItemInput, it item) bool {
	tokens := conditionTokens.FindAllString(condition, -1)
	next := func(want string) bool {
		if len(tokens) == 0 || want != "" && tokens[0] != want {
			return false
		}
		tokens = tokens[1:]
		return true
	}
	var or func() bool
	one := func() bool {
		if next("(") {
			result := or()
			if !next(")") {
				panic("no ) in " + condition)
			}
			return result
		}
		clause := tokens[0]
		next("")
		return clauseHolds(clause, in, it)
	}
	and := func() bool {
		result := one()
		for next("AND") {
			result = one() && result
		}
		return result
	}
	or = func() bool {
		result := and()
		for next("OR") {
			result = and() || result
		}
		return result
	}
	result := or()
	if len(tokens) > 0 {
		panic("left over in " + condition)
	}
	return result
}

func clauseHolds(clause string, in *dynamodb.UpdateItemInput, it item) bool {
	if name, ok := strings.CutPrefix(clause, "attribute_not_exists("); ok {
		return it[in.ExpressionAttributeNames[strings.TrimSuffix(name, ")")]] == nil
	}
	if name, ok := strings.CutPrefix(clause, "attribute_exists("); ok {
		return it[in.ExpressionAttributeNames[strings.TrimSuffix(name, ")")]] != nil
	}
	words := strings.Fields(clause)
	if len(words) != 3 {
		panic("unknown clause " + clause)
	}
	left, right := it[in.ExpressionAttributeNames[words[0]]], in.ExpressionAttributeValues[words[2]]
	switch l := left.(type) {
	case *types.AttributeValueMemberB:
		r, ok := right.(*types.AttributeValueMemberB)
		return ok && words[1] == "=" && string(l.Value) == string(r.Value)
	case *types.AttributeValueMemberN:
		r, ok := right.(*types.AttributeValueMemberN)
		if !ok {
			return false
		}
		a, _ := strconv.ParseFloat(l.Value, 64)
		b, _ := strconv.ParseFloat(r.Value, 64)
		switch words[1] {
		case "<":
			return a < b
		case "<=":
			return a <= b
		case ">":
			return a > b
		}
	}
	return false
}

// sdkError is err as the SDK hands it over.
func sdkError(op string, status int, err error) error {
	return &smithy.OperationError{ServiceID: "DynamoDB", OperationName: op, Err: &awshttp.ResponseError{
		RequestID: "REQUEST",
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      err,
		},
	}}
}

func apiFault(status int, code, message string) error {
	return sdkError("UpdateItem", status, &smithy.GenericAPIError{Code: code, Message: message})
}

var (
	errReset    = sdkError("UpdateItem", 0, &smithyhttp.RequestSendError{Err: errors.New("read: connection reset by peer")})
	errThrottle = sdkError("UpdateItem", 400, &types.ProvisionedThroughputExceededException{})
	errInternal = sdkError("UpdateItem", 500, &types.InternalServerError{})
)

// quick has retries that take no time worth mentioning.
func quick(c Config) Config {
	c.BackoffBase, c.MaxBackoff = 1, 1
	return c
}

func newBackend(t testing.TB, client Client, c Config) *Backend {
	t.Helper()
	b, err := NewFromClient(client, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
