package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/seed-a7bee19b/session"
)

// answers starts an HTTP server on loopback. It answers each request of the SDK
// with the next handler, and with the last one from then on.
func answers(t *testing.T, handlers ...http.HandlerFunc) (aws.Config, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		i := int(n.Add(1)) - 1
		handlers[min(i, len(handlers)-1)](w, r)
	}))
	t.Cleanup(srv.Close)
	return config(srv.URL), &n
}

func config(endpoint string) aws.Config {
	return aws.Config{
		Region:           "eu-north-1",
		BaseEndpoint:     &endpoint,
		Credentials:      credentials(nil),
		RetryMaxAttempts: 7, // ours count
	}
}

func credentials(err error) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, err
	})
}

func answer(status int, code, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		if code == "" {
			fmt.Fprint(w, message)
			return
		}
		fmt.Fprintf(w, `{"__type":"com.amazonaws.dynamodb.v20120810#%s","message":%q}`, code, message)
	}
}

var ok = answer(200, "", "{}")

// The client of the SDK, with the answers of a server: which requests are sent
// again, how often, and the error for the caller.
func TestThroughSDK(t *testing.T) {
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}
	closed := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte(`{"It`))
	}
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	throttled := answer(400, "ProvisionedThroughputExceededException", "slow down")

	for _, tt := range []struct {
		name     string
		handlers []http.HandlerFunc
		requests int
		words    string // in the error; "" if the call succeeds
		unknown  bool   // whether a write may have been applied
	}{
		{"throttled once", []http.HandlerFunc{throttled, ok}, 2, "", false},
		{"throttled for ever", []http.HandlerFunc{throttled}, 4, "gave up after 4 attempts: throttled", false},
		{"ThrottlingException", []http.HandlerFunc{answer(400, "ThrottlingException", ""), ok}, 2, "", false},
		{"RequestLimitExceeded", []http.HandlerFunc{answer(400, "RequestLimitExceeded", ""), ok}, 2, "", false},
		{"another region", []http.HandlerFunc{answer(400, "ReplicatedWriteConflictException", ""), ok}, 2, "", false},
		{"a transaction", []http.HandlerFunc{answer(400, "TransactionConflictException", ""), ok}, 2, "", false},
		{"500", []http.HandlerFunc{answer(500, "InternalServerError", ""), ok}, 2, "", false},
		{"500 for ever", []http.HandlerFunc{answer(500, "InternalServerError", "")}, 4, "InternalServerError", true},
		{"503 of a proxy", []http.HandlerFunc{answer(503, "", "<html>"), ok}, 2, "", false},
		{"429 of a proxy", []http.HandlerFunc{answer(429, "", "<html>"), ok}, 2, "", false},
		{"reset", []http.HandlerFunc{reset, ok}, 2, "", false},
		{"reset for ever", []http.HandlerFunc{reset}, 4, "gave up after 4 attempts", true},
		{"closed", []http.HandlerFunc{closed, ok}, 2, "", false},
		{"cut short", []http.HandlerFunc{cut, ok}, 2, "", false},
		{"not JSON", []http.HandlerFunc{answer(200, "", "<html>"), ok}, 2, "", false},
		{"hangs once", []http.HandlerFunc{hang, ok}, 2, "", false},
		{"hangs for ever", []http.HandlerFunc{hang}, 4, "no answer within 100ms", true},
		{"unknown, then refused", []http.HandlerFunc{reset, answer(400, "AccessDeniedException", "")}, 2, "it is not known whether it was applied", true},

		{
			"no table",
			[]http.HandlerFunc{answer(400, "ResourceNotFoundException", "")},
			1,
			"there is no such table in region eu-north-1: create it with CreateTable", false,
		},
		{"not allowed", []http.HandlerFunc{answer(400, "AccessDeniedException", "")}, 1, "grant them dynamodb:UpdateItem", false},
		{"wrong credentials", []http.HandlerFunc{answer(400, "UnrecognizedClientException", "")}, 1, "credentials are wrong or have expired", false},
		{"old credentials", []http.HandlerFunc{answer(400, "ExpiredTokenException", "")}, 1, "credentials are wrong or have expired", false},
		{
			"wrong key",
			[]http.HandlerFunc{answer(400, "ValidationException", "The provided key element does not match the schema")},
			1,
			`the key of the table does not seem to be "id" of type S: CheckTable tells`, false,
		},
		{"invalid", []http.HandlerFunc{answer(400, "ValidationException", "no")}, 1, "ValidationException", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, n := answers(t, tt.handlers...)
			c := quick(Config{AttemptTimeout: 5 * time.Second})
			if strings.HasPrefix(tt.name, "hangs") {
				c.AttemptTimeout = 100 * time.Millisecond
			}
			b, err := New(cfg, c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Save(context.Background(), key, replaced(record(""), "12345678", "1"))
			if int(n.Load()) != tt.requests {
				t.Errorf("%d requests, want %d", n.Load(), tt.requests)
			}
			if tt.words == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.HasPrefix(text, `dynamodb: UpdateItem on table "sessions": `) || !strings.Contains(text, tt.words) || strings.Contains(text, key) {
				t.Errorf("%v", err)
			}
			if strings.Contains(text, "not known whether it was applied") != tt.unknown {
				t.Errorf("may have been applied: want %v in %v", tt.unknown, err)
			}
			for _, sentinel := range []error{session.ErrNotFound, session.ErrConflict, session.ErrTooLarge, session.ErrEncode, session.ErrDecode} {
				if errors.Is(err, sentinel) {
					t.Errorf("the error is %v", sentinel)
				}
			}
			var op *smithy.OperationError
			if !errors.As(err, &op) {
				t.Error("the error of the SDK cannot be reached")
			}
		})
	}
}

// A Save that creates is sent again only after an attempt that was certainly not
// applied: somebody could delete the record before the first attempt arrives.
func TestCreateIsSentOnce(t *testing.T) {
	throttled := answer(400, "ProvisionedThroughputExceededException", "slow down")
	for _, tt := range []struct {
		name     string
		handlers []http.HandlerFunc
		requests int
		words    string // in the error; "" if the call succeeds
	}{
		{"throttled", []http.HandlerFunc{throttled, ok}, 2, ""},
		{"another region", []http.HandlerFunc{answer(400, "ReplicatedWriteConflictException", ""), ok}, 2, ""},
		{"throttled for ever", []http.HandlerFunc{throttled}, 4, "gave up after 4 attempts: throttled"},
		{"500", []http.HandlerFunc{answer(500, "InternalServerError", ""), ok}, 1, "not known whether it was applied"},
		{"503 of a proxy", []http.HandlerFunc{answer(503, "", "<html>"), ok}, 1, "not known whether it was applied"},
		{"closed", []http.HandlerFunc{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ok}, 1, "not known whether it was applied"},
		{"not DynamoDB", []http.HandlerFunc{answer(200, "", ""), ok}, 1, "not known whether it was applied"},
		{"hangs", []http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ok}, 1, "no answer within"},
		{"throttled, then 500", []http.HandlerFunc{throttled, answer(500, "InternalServerError", ""), ok}, 2, "not known whether it was applied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, n := answers(t, tt.handlers...)
			c := quick(Config{AttemptTimeout: 5 * time.Second})
			if tt.name == "hangs" {
				c.AttemptTimeout = 100 * time.Millisecond
			}
			b, err := New(cfg, c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Save(t.Context(), key, record("1"))
			if int(n.Load()) != tt.requests {
				t.Errorf("%d requests, want %d", n.Load(), tt.requests)
			}
			if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
			if errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrLocked) {
				t.Errorf("a sentinel: %v", err)
			}
		})
	}
}

// Errors from before a request is sent.
func TestNotSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	refusing := "http://" + l.Addr().String()

	none := config(refusing)
	none.Credentials = credentials(errors.New("no role"))
	bad := config("http://not a host")
	for _, tt := range []struct {
		name  string
		cfg   aws.Config
		words string
	}{
		{"no credentials", none, "no AWS credentials were found"},
		{"refused", config(refusing), "gave up after 4 attempts"},
		{"bad endpoint", bad, "not a host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := New(tt.cfg, quick(Config{}))
			if err != nil {
				t.Fatal(err)
			}
			_, err = b.Save(context.Background(), key, record("1"))
			if err == nil || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "not known") {
				t.Errorf("%v", err)
			}
			if again := strings.Contains(err.Error(), "attempts"); again != (tt.name == "refused") {
				t.Errorf("sent again: %v", again)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name           string
		err            error
		again, applied bool
	}{
		{"no such host", sdkError("GetItem", 0, &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}), false, false},
		{"DNS is down", sdkError("GetItem", 0, &net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}), true, false},
		{"dial", sdkError("GetItem", 0, &net.OpError{Op: "dial", Err: errors.New("no route")}), true, false},
		{"read", sdkError("GetItem", 0, &net.OpError{Op: "read", Err: errors.New("reset")}), true, true},
		{"EOF", sdkError("GetItem", 0, io.EOF), true, true},
		{"client fault without a status", &types.RequestLimitExceeded{}, true, false},
		{"server fault without a status", &types.InternalServerError{}, true, true},
		{"408", sdkError("GetItem", 408, &smithy.GenericAPIError{Code: "UnknownError"}), true, true},
		{"anything else", errors.New("out of cheese"), false, true},
	} {
		if again, applied := classify(tt.err); again != tt.again || applied != tt.applied {
			t.Errorf("%s: %v, %v, want %v, %v", tt.name, again, applied, tt.again, tt.applied)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := newBackend(t, newFake(), Config{BackoffBase: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond})
	for n, limit := range map[int]time.Duration{1: 10, 2: 20, 3: 40, 4: 50, 31: 50, 64: 50, 1000: 50} {
		var seen []time.Duration
		for range 200 {
			seen = append(seen, b.patience.backoff(n))
		}
		if slices.Min(seen) < 0 || slices.Max(seen) >= limit*time.Millisecond || slices.Max(seen) < limit*time.Millisecond/2 {
			t.Errorf("before retry %d: %v to %v, want up to %v", n, slices.Min(seen), slices.Max(seen), limit*time.Millisecond)
		}
	}
}
