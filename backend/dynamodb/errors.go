package dynamodb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// failure is a request that failed for good.
type failure struct {
	op       operation
	attempts int
	unsure   bool   // an attempt may have been applied
	why      string // "" if not known
	ended    error  // of the context, or nil
	err      error  // of the last attempt
}

// callError returns the error that the caller sees. It wraps f.ended and f.err.
func (b *Backend) callError(f failure) error {
	var s strings.Builder
	fmt.Fprintf(&s, "dynamodb: %s on table %q: ", f.op, b.c.Table)
	if f.attempts > 1 {
		fmt.Fprintf(&s, "gave up after %d attempts: ", f.attempts)
	}
	if f.unsure {
		s.WriteString("it is not known whether it was applied: ")
	}
	if f.why != "" {
		s.WriteString(f.why + ": ")
	}
	if f.ended != nil {
		return fmt.Errorf("%s%w: %w", s.String(), f.ended, f.err)
	}
	return fmt.Errorf("%s%w", s.String(), f.err)
}

// explain returns the likely cause of err and what an operator can do, or "" if
// it does not know.
func (b *Backend) explain(op operation, err error) string {
	if noCredentials(err) {
		return "no AWS credentials were found: set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give the machine a role"
	}
	code, message := apiError(err)
	switch {
	case errors.Is(err, errImpostor):
		return "something else than DynamoDB has answered: check the endpoint, and proxies on the way"
	case isThrottle(err):
		return "throttled: the capacity of the table, of the account or of one busy item is used up"
	case code == "ResourceNotFoundException":
		return "there is no such table in " + b.place() + ": create it with CreateTable, or correct Config.Table or the region"
	case code == "AccessDeniedException":
		return fmt.Sprintf("the credentials do not allow it: grant them dynamodb:%s on the table", op)
	case code == "UnrecognizedClientException", code == "InvalidSignatureException",
		code == "ExpiredTokenException", code == "MissingAuthenticationTokenException":
		return "the AWS credentials are wrong or have expired"
	case code == "ValidationException" && strings.Contains(strings.ToLower(message), "key"):
		return fmt.Sprintf("the key of the table does not seem to be %q of type S: CheckTable tells", b.c.KeyAttribute)
	}
	return ""
}

// place names the region if it is known.
func (b *Backend) place() string {
	if b.region == "" {
		return "this region"
	}
	return "region " + b.region
}

// apiError returns the code and the message of an answer of DynamoDB, "" if err
// is none.
func apiError(err error) (code, message string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), api.ErrorMessage()
	}
	return "", ""
}

// itemTooLarge recognises the answer for an item that became too large because
// it has attributes that this package does not know.
func itemTooLarge(err error) bool {
	code, message := apiError(err)
	return code == "ValidationException" && strings.Contains(message, "Item size")
}
