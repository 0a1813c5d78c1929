package sessionotel

import (
	"context"
	"errors"
	"io"
	"net"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/seed-a7bee19b/session"
)

// The sentinels and their error.type. The first that an error wraps applies.
var sentinels = []struct {
	err  error
	kind string
}{
	{session.ErrLockTimeout, "lock_timeout"},
	{session.ErrLockLost, "lock_lost"},
	{session.ErrTooLate, "too_late"},
	{session.ErrNotFound, "not_found"},
	{session.ErrConflict, "conflict"},
	{session.ErrLocked, "locked"},
	{session.ErrTooLarge, "too_large"},
	{session.ErrEncode, "encode"},
	{session.ErrDecode, "decode"},
	{session.ErrReadOnly, "read_only"},
}

// errorType returns the error.type of err. It is not the text of err, because an
// attribute should have few values.
func errorType(err error) attribute.KeyValue {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return semconv.ErrorTypeKey.String(s.kind)
		}
	}
	var (
		api     interface{ ErrorCode() string } // of the AWS SDK
		network net.Error
	)
	isNetwork := errors.As(err, &network)
	switch {
	case errors.As(err, &api) && api.ErrorCode() != "":
		return semconv.ErrorTypeKey.String(api.ErrorCode())
	case errors.Is(err, context.Canceled):
		return semconv.ErrorTypeKey.String("canceled")
	case errors.Is(err, context.DeadlineExceeded), isNetwork && network.Timeout():
		return semconv.ErrorTypeKey.String("timeout")
	case isNetwork, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return semconv.ErrorTypeKey.String("network")
	}
	return semconv.ErrorTypeOther
}
