package dynamodb

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// throttles and transient recognise answers that ask to try again later.
var throttles = retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}

var transient = retry.IsErrorRetryables{
	retry.RetryableError{}, // the clock was wrong, and the SDK has corrected for it
	retry.RetryableErrorCode{Codes: retry.DefaultRetryableErrorCodes},
	retry.RetryableErrorCode{Codes: map[string]struct{}{
		"ReplicatedWriteConflictException": {}, // another region is writing
		"TransactionConflictException":     {}, // a transaction of another client is
	}},
}

// classify reports whether the request may be sent again, and whether it may
// have been applied in spite of err. If that is not known, it may have been.
func classify(err error) (again, applied bool) {
	var (
		api      smithy.APIError
		response interface{ HTTPStatusCode() int }
		status   int
	)
	if beforeSending(err) {
		return false, false
	}
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		refused := status >= 400 && status < 500 && status != http.StatusRequestTimeout
		if status == 0 {
			refused = api.ErrorFault() == smithy.FaultClient
		}
		again = isThrottle(err) || transient.IsErrorRetryable(err) == aws.TrueTernary ||
			status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout ||
			status == 0 && api.ErrorFault() == smithy.FaultServer
		return again, !refused
	}

	var (
		dns         *net.DNSError
		op          *net.OpError
		certificate *tls.CertificateVerificationError
		network     net.Error
		garbled     *smithy.DeserializationError
	)
	switch {
	case errors.As(err, &certificate):
		return false, false
	case errors.As(err, &dns):
		return !dns.IsNotFound, false
	case errors.As(err, &op) && op.Op == "dial":
		return true, false
	case errors.As(err, &network), errors.As(err, &garbled), status != 0,
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		retry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary:
		return true, true
	}
	return false, true
}

func isThrottle(err error) bool { return throttles.IsErrorThrottle(err) == aws.TrueTernary }

// beforeSending recognises errors of the SDK from before there is a request. An
// error about credentials may contain the answer of another service, so nothing
// else in it is looked at.
func beforeSending(err error) bool {
	var (
		params  smithy.InvalidParamsError
		encode  *smithy.SerializationError
		signing *v4.SigningError
		op      *smithy.OperationError
	)
	if noCredentials(err) || errors.As(err, &params) || errors.As(err, &encode) || errors.As(err, &signing) {
		return true
	}
	if !errors.As(err, &op) || op.Err == nil {
		return false
	}
	text := op.Err.Error()
	return strings.HasPrefix(text, "resolve auth scheme:") || strings.HasPrefix(text, "failed to resolve service endpoint")
}

// noCredentials goes by the text, as the SDK has no type for this error.
func noCredentials(err error) bool {
	var op *smithy.OperationError
	return errors.As(err, &op) && op.Err != nil && strings.HasPrefix(op.Err.Error(), "get identity:")
}
