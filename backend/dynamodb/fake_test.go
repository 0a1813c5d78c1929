package dynamodb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type item = map[string]types.AttributeValue

// fake is a DynamoDB with one table. It evaluates the expressions of this package,
// and fails on demand.
type fake struct {
	mu     sync.Mutex
	items  map[string]item
	sent   []string // the operations, in order
	faults []fault  // one for each request to come
	rule   func(op string) fault

	reading    func(consistent bool) // called before a read
	keyName    string
	withoutOld bool         // ignores ALL_OLD, like some look-alikes
	down       bool         // fails everything
	ahead      atomic.Int64 // how far its clients' clocks are, in ns

	unbilled   bool         // leaves out ConsumedCapacity
	pageBytes  int          // of a Scan; 0: 1 MB
	underWay   atomic.Int32 // requests
	mostAtOnce atomic.Int32

	lastUpdate *dynamodb.UpdateItemInput
	lastGet    *dynamodb.GetItemInput
	lastDelete *dynamodb.DeleteItemInput
	scans      []dynamodb.ScanInput
	scanned    int // items
}

// fault describes the failure of one request. The zero fault is none.
type fault struct {
	lost  error  // fails with it, and is not applied
	after error  // is applied, and fails with it
	first func() // runs before the request
	hang  bool   // is not applied, and never answered
	mute  bool   // is applied, and never answered
	then  func() // runs when the request is over

	// late is called with a function that applies the request. The sender sees
	// the connection break.
	late func(apply func())
}

func newFake() *fake { return &fake{items: make(map[string]item), keyName: "id"} }

func (f *fake) fail(faults ...fault) { f.faults = append(f.faults, faults...) }

// do runs one request under the next fault.
func (f *fake) do(ctx context.Context, op string, apply func() error) error {
	n := f.underWay.Add(1)
	defer f.underWay.Add(-1)
	for most := f.mostAtOnce.Load(); n > most && !f.mostAtOnce.CompareAndSwap(most, n); most = f.mostAtOnce.Load() {
		continue
	}
	f.mu.Lock()
	var ft fault
	if len(f.faults) > 0 {
		ft, f.faults = f.faults[0], f.faults[1:]
	}
	if f.rule != nil {
		ft = f.rule(op)
	}
	f.sent = append(f.sent, op)
	if ft.first != nil {
		f.mu.Unlock()
		ft.first()
		f.mu.Lock()
	}
	var err error
	switch {
	case ft.hang:
	case f.down:
		err = sdkError(op, 500, &types.InternalServerError{})
	case ft.lost != nil:
		err = ft.lost
	case ft.late != nil:
		ft.late(func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			_ = apply() // nobody hears of it
		})
		err = errReset
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
		if f.reading != nil {
			f.reading(*in.ConsistentRead)
		}
		it, ok := f.items[f.keyOf(in.Key)]
		units := float64(max(1, (itemSize(it)+4095)/4096))
		if !*in.ConsistentRead {
			units /= 2
		}
		out.ConsumedCapacity = f.bill(in.ReturnConsumedCapacity, units)
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
	sent := *in
	sent.ExpressionAttributeValues = maps.Clone(in.ExpressionAttributeValues) // they change until a late one is applied
	in = &sent
	out := &dynamodb.UpdateItemOutput{}
	err := f.do(ctx, "UpdateItem", func() error {
		f.lastUpdate = in
		err := checkPlaceholders(*in.UpdateExpression+" "+*in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
		if err != nil {
			return err
		}
		key := f.keyOf(in.Key)
		old, exists := f.items[key]
		if !holds(*in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues, old) {
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
		out.ConsumedCapacity = f.bill(in.ReturnConsumedCapacity, float64((max(itemSize(old), itemSize(it))+1023)/1024))
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
	sent := *in
	sent.ExpressionAttributeValues = maps.Clone(in.ExpressionAttributeValues)
	in = &sent
	out := &dynamodb.DeleteItemOutput{}
	err := f.do(ctx, "DeleteItem", func() error {
		f.lastDelete = in
		old, exists := f.items[f.keyOf(in.Key)]
		if in.ConditionExpression != nil {
			err := checkPlaceholders(*in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues)
			if err != nil {
				return err
			}
			if !holds(*in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues, old) {
				failed := &types.ConditionalCheckFailedException{}
				if exists && !f.withoutOld {
					failed.Item = copiedItem(old)
				}
				return sdkError("DeleteItem", 400, failed)
			}
		}
		delete(f.items, f.keyOf(in.Key))
		out.ConsumedCapacity = f.bill(in.ReturnConsumedCapacity, float64(max(1, (itemSize(old)+1023)/1024)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Scan reads the items of a segment in the order of their keys.
func (f *fake) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	out := &dynamodb.ScanOutput{}
	err := f.do(ctx, "Scan", func() error {
		f.scans = append(f.scans, *in)
		projection, filter := aws.ToString(in.ProjectionExpression), aws.ToString(in.FilterExpression)
		if err := checkPlaceholders(projection+" "+filter, in.ExpressionAttributeNames, in.ExpressionAttributeValues); err != nil {
			return err
		}
		start := ""
		if in.ExclusiveStartKey != nil {
			start = f.keyOf(in.ExclusiveStartKey)
		}
		var keys []string
		for k := range f.items {
			if k > start && f.segment(k, int(aws.ToInt32(in.TotalSegments))) == int(aws.ToInt32(in.Segment)) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		size := 0
		for _, k := range keys {
			it := f.items[k]
			size += itemSize(it)
			out.ScannedCount++
			if filter == "" || holds(filter, in.ExpressionAttributeNames, in.ExpressionAttributeValues, it) {
				found := copiedItem(it)
				if projection != "" {
					maps.DeleteFunc(found, func(name string, _ types.AttributeValue) bool {
						return !slices.ContainsFunc(strings.Split(projection, ", "), func(p string) bool { return in.ExpressionAttributeNames[p] == name })
					})
				}
				out.Items = append(out.Items, found)
				out.Count++
			}
			// Like DynamoDB, the fake does not know whether that was the last one.
			if out.ScannedCount == aws.ToInt32(in.Limit) || size >= cmp.Or(f.pageBytes, 1<<20) {
				out.LastEvaluatedKey = item{f.keyName: &types.AttributeValueMemberS{Value: k}}
				break
			}
		}
		f.scanned += int(out.ScannedCount)
		out.ConsumedCapacity = f.bill(in.ReturnConsumedCapacity, float64(max(1, (size+4095)/4096))/2)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (f *fake) segment(key string, of int) int {
	if of == 0 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum32() % uint32(of))
}

func (f *fake) bill(asked types.ReturnConsumedCapacity, units float64) *types.ConsumedCapacity {
	if asked != types.ReturnConsumedCapacityTotal || f.unbilled {
		return nil
	}
	return &types.ConsumedCapacity{CapacityUnits: &units}
}

func (f *fake) keyOf(key item) string { return key[f.keyName].(*types.AttributeValueMemberS).Value }

// copied returns a value without shared memory, as if it came over a wire.
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

// checkPlaceholders refuses unused and unknown placeholders, as DynamoDB does.
func checkPlaceholders(expressions string, names map[string]string, values item) error {
	used := map[string]bool{}
	for _, word := range strings.FieldsFunc(expressions, func(r rune) bool {
		return strings.ContainsRune(" ,()=<>", r)
	}) {
		if strings.HasPrefix(word, "#") || strings.HasPrefix(word, ":") {
			used[word] = true
		}
	}
	given := map[string]bool{}
	for k := range names {
		given[k] = true
	}
	for k := range values {
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

var conditionTokens = regexp.MustCompile(`attribute_(?:not_)?exists\(#\w+\)|(?:attribute_type|begins_with)\(#\w+, :\w+\)|NOT|#\w+ [<=>]+ :\w+|AND|OR|[()]|\S+`)

// holds evaluates a condition.
func holds(condition string, names map[string]string, values, it item) bool {
	tokens := conditionTokens.FindAllString(condition, -1)
	next := func(want string) bool {
		if len(tokens) == 0 || want != "" && tokens[0] != want {
			return false
		}
		tokens = tokens[1:]
		return true
	}
	var or, one func() bool
	one = func() bool {
		if next("NOT") {
			return !one()
		}
		if next("(") {
			result := or()
			if !next(")") {
				panic("no ) in " + condition)
			}
			return result
		}
		clause := tokens[0]
		next("")
		return clauseHolds(clause, names, values, it)
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

func clauseHolds(clause string, names map[string]string, values, it item) bool {
	if name, ok := strings.CutPrefix(clause, "attribute_not_exists("); ok {
		return it[names[strings.TrimSuffix(name, ")")]] == nil
	}
	if name, ok := strings.CutPrefix(clause, "attribute_exists("); ok {
		return it[names[strings.TrimSuffix(name, ")")]] != nil
	}
	if function, arguments, ok := strings.Cut(strings.TrimSuffix(clause, ")"), "("); ok {
		name, value, _ := strings.Cut(arguments, ", ")
		want := values[value].(*types.AttributeValueMemberS).Value
		switch v := it[names[name]].(type) {
		case *types.AttributeValueMemberS:
			return function == "begins_with" && strings.HasPrefix(v.Value, want) || function == "attribute_type" && want == "S"
		case *types.AttributeValueMemberN:
			return function == "attribute_type" && want == "N"
		case *types.AttributeValueMemberB:
			return function == "attribute_type" && want == "B"
		}
		return false
	}
	words := strings.Fields(clause)
	if len(words) != 3 {
		panic("unknown clause " + clause)
	}
	left, right := it[names[words[0]]], values[words[2]]
	switch l := left.(type) {
	case *types.AttributeValueMemberB:
		r, ok := right.(*types.AttributeValueMemberB)
		return ok && words[1] == "=" && string(l.Value) == string(r.Value)
	case *types.AttributeValueMemberS:
		r, ok := right.(*types.AttributeValueMemberS)
		return ok && words[1] == "=" && l.Value == r.Value
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
		case "=":
			return a == b
		}
	}
	return false
}

// sdkError wraps err as the SDK does.
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

// quick returns c with retries that take hardly any time.
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
