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

// errImpostor is the cause of an error after an answer that is not of DynamoDB,
// but of something in front of it, such as a proxy.
var errImpostor = errors.New("the answer is not one of DynamoDB")

// checkAnswers has the SDK take no answer for a success that is not one of
// DynamoDB. Left to itself it takes an empty one for "there is no item", and
// for "it is written".
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
		if err == nil && strings.HasPrefix(format, "application/x-amz-json-") { // the one of today
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
	// Behind it, the body is what DynamoDB wrote, uncompressed.
	return stack.Deserialize.Insert(check, "OperationDeserializer", middleware.After)
}

// members are those of which the answers have at least one. Only an answer
// about an item may have none.
var members = []string{
	"Item", "Attributes", "ConsumedCapacity", "ItemCollectionMetrics",
	"Items", "Count", "ScannedCount", "LastEvaluatedKey",
	"Table", "TableDescription", "TimeToLiveSpecification", "TimeToLiveDescription",
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// impostor tells what is wrong with the body of an answer that is no error.
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
