package frameworks

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-a7bee19b/session"
)

// Connect has the Handler around the services. The session is saved when a unary
// method returns, and before the first message of a stream: after that, a login is
// too late, and other changes are saved when the method returns. If saving fails
// before the first byte, the ErrorHandler answers in place of the method, and a
// client takes the code from its status.
func Connect(m *session.Manager) http.Handler {
	count := func(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.Int32Value], error) {
		s, err := m.Get(ctx)
		if err != nil {
			return nil, coded(err)
		}
		n, err := visits.Update(s, next)
		return connect.NewResponse(wrapperspb.Int32(int32(n))), coded(err)
	}
	login := func(ctx context.Context, r *connect.Request[wrapperspb.StringValue]) (*connect.Response[emptypb.Empty], error) {
		s, err := m.Get(ctx)
		if err == nil {
			err = s.Login(r.Msg.Value) // after a check of the password
		}
		return connect.NewResponse(&emptypb.Empty{}), coded(err)
	}
	countdown := func(ctx context.Context, r *connect.Request[wrapperspb.Int32Value], stream *connect.ServerStream[wrapperspb.Int32Value]) error {
		s, err := m.Get(ctx)
		if err == nil {
			_, err = visits.Update(s, next)
		}
		for i := r.Msg.Value; err == nil && i > 0; i-- {
			err = stream.Send(wrapperspb.Int32(i))
		}
		return coded(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/count", connect.NewUnaryHandler("/count", count))
	mux.Handle("/login", connect.NewUnaryHandler("/login", login))
	mux.Handle("/countdown", connect.NewServerStreamHandler("/countdown", countdown))
	return m.Handler(mux)
}

// coded gives err the code of its status.
func coded(err error) error {
	if err == nil || connect.CodeOf(err) != connect.CodeUnknown {
		return err
	}
	switch session.Status(err) {
	case http.StatusConflict:
		return connect.NewError(connect.CodeAborted, err)
	case http.StatusUnauthorized:
		return connect.NewError(connect.CodeUnauthenticated, err)
	case http.StatusServiceUnavailable:
		return connect.NewError(connect.CodeUnavailable, err)
	}
	return connect.NewError(connect.CodeInternal, err)
}
