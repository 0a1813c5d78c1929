package dynamodb

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
)

// callError puts together what the caller sees of a failed request. All of
// err and also can be reached through it.
func (b *Backend) callError(op operation, attempts int, why string, also, err error, applied bool) error {
	var s strings.Builder
	fmt.Fprintf(&s, "dynamodb: %s on table %q: ", op, b.c.Table)
	if attempts > 1 {
		fmt.Fprintf(&s, "gave up after %d attempts: ", attempts)
	}
	if applied {
		s.WriteString("it is not known whether it was applied: ")
	}
	if why != "" {
		s.WriteString(why + ": ")
	}
	if also != nil {
		return fmt.Errorf("%s%w: %w", s.String(), also, err)
	}
	return fmt.Errorf("%s%w", s.String(), err)
}

// explain says what an operator can do about err, "" if nothing is known.
func (b *Backend) explain(op operation, err error) string {
	if noCredentials(err) {
		return "no AWS credentials could be had: set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give the machine a role"
	}
	code, message := apiError(err)
	switch {
	case errors.Is(err, errImpostor):
		return "something in front of DynamoDB answers in its place: look at the endpoint, and at proxies on the way"
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

// place names the region, if it is known.
func (b *Backend) place() string {
	if b.region == "" {
		return "this region"
	}
	return "region " + b.region
}

// apiError returns what DynamoDB said, if it said something.
func apiError(err error) (code, message string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), api.ErrorMessage()
	}
	return "", ""
}

// itemTooLarge recognises the answer to an item that is larger than it looked
// from here, because it has attributes of others.
func itemTooLarge(err error) bool {
	code, message := apiError(err)
	return code == "ValidationException" && strings.Contains(message, "Item size")
}
