package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// errImpostor is the cause of an error after an answer that did not come from
// DynamoDB, but from a proxy in front of it, for example.
var errImpostor = errors.New("the answer is not one of DynamoDB")

// checkAnswers adds a middleware that refuses every success that is not an
// answer of DynamoDB. Without it the SDK reads an empty answer as "there is no
// item", and as "it is written".
func checkAnswers(stack *middleware.Stack) error {
	check := middleware.DeserializeMiddlewareFunc("SessionCheckAnswer", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (out middleware.DeserializeOutput, metadata middleware.Metadata, err error) {
		out, metadata, err = next.HandleDeserialize(ctx, in)
		response, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok || response.StatusCode >= 300 {
			return out, metadata, err
		}
		// DynamoDB answers in the format of the request.
		format := mediaType(response.Header)
		if request, ok := in.Request.(*smithyhttp.Request); !ok || response.StatusCode != http.StatusOK || format != mediaType(request.Header) {
			err := fmt.Errorf("%w: status %d, Content-Type %q", errImpostor, response.StatusCode, response.Header.Get("Content-Type"))
			return out, metadata, &smithy.DeserializationError{Err: err}
		}
		body, err := io.ReadAll(response.Body)
		if err == nil && strings.HasPrefix(format, "application/x-amz-json-") { // the only one today
			err = impostor(operation(middleware.GetOperationName(ctx)), body)
		}
		if err != nil {
			return out, metadata, &smithy.DeserializationError{Err: err}
		}
		response.Body = struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(body), response.Body}
		return out, metadata, nil
	})
	// At this place of the stack the body is not compressed.
	return stack.Deserialize.Insert(check, "OperationDeserializer", middleware.After)
}

// members are the names at the top of answers. Each answer has at least one of
// them, except that an answer about an item may be empty.
var members = []string{
	"Item", "Attributes", "ConsumedCapacity", "ItemCollectionMetrics",
	"Items", "Count", "ScannedCount", "LastEvaluatedKey",
	"Table", "TableDescription", "TimeToLiveSpecification", "TimeToLiveDescription",
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// impostor returns an error unless body is that of a successful answer to op.
func impostor(op operation, body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return fmt.Errorf("%w: no JSON object", errImpostor)
	}
	fine := op == opGetItem || op == opUpdateItem || op == opDeleteItem
	for d.More() {
		name, err := d.Token()
		if s, ok := name.(string); ok && slices.Contains(members, s) {
			return nil
		}
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return fmt.Errorf("%w: no JSON object", errImpostor)
		}
		fine = false
	}
	if _, err := d.Token(); err != nil || !fine {
		return fmt.Errorf("%w: another JSON object", errImpostor)
	}
	return nil
}
