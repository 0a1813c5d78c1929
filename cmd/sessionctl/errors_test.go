package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
	goredis "github.com/redis/go-redis/v9"
)

func TestNoAnswer(t *testing.T) {
	hangs := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hangs:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		close(hangs)
		silent.Close()
	})
	secret := httptest.NewTLSServer(http.NotFoundHandler())
	secret.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(secret.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)

	tests := []struct {
		name, args, want string
	}{
		{"no region", "", "No AWS region is set.\nSet --region or AWS_REGION, or a region in your AWS profile."},
		{"no credentials", "--region eu-west-1", "There are no AWS credentials: none in the environment, in a profile, or from the machine.\n" +
			"Set --profile or AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role."},
		{"no profile", "--profile shop", "There is no AWS profile \"shop\".\n" +
			"Correct --profile or AWS_PROFILE; \"aws configure list-profiles\" lists the existing ones."},
		{"nobody there", "--endpoint http://127.0.0.1:1", "Nothing answers at http://127.0.0.1:1: connection refused.\n" +
			"Start DynamoDB Local (docker run -p 8000:8000 amazon/dynamodb-local), or correct --endpoint."},
		{"no TLS", "--endpoint https" + strings.TrimPrefix(plain.URL, "http"), "https" + strings.TrimPrefix(plain.URL, "http") + " does not speak TLS.\n" +
			"Correct --endpoint: http:// is for a server without TLS, https:// for one with it."},
		{"unknown authority", "--endpoint " + secret.URL, "The certificate of " + secret.URL + " cannot be trusted: x509: certificate signed by unknown authority.\n" +
			"If it is your own proxy or server, put the certificate of its authority into AWS_CA_BUNDLE or SSL_CERT_FILE."},
		{"too slow", "--timeout 50ms --endpoint " + silent.URL, "Stopped: the time of --timeout is over.\nUse a longer --timeout, or none."},
		{"no Redis", "--redis redis://127.0.0.1:1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.want == "" {
				got := sessionctl(t.Context(), append([]string{"doctor"}, strings.Fields(tt.args)...)...)
				if got.code != codeFound || !strings.HasPrefix(got.stdout, "fail  endpoint     Nothing answers at 127.0.0.1:1: connection refused.\n") {
					t.Errorf("got %+v", got)
				}
				return
			}
			got := sessionctl(t.Context(), append([]string{"table", "check"}, strings.Fields(tt.args)...)...)
			if want := "sessionctl: " + tt.want + "\n"; got.code != codeFailed || got.stdout != "" || got.stderr != want {
				t.Errorf("got code %d, output %q and\n%swant\n%s", got.code, got.stdout, got.stderr, want)
			}
		})
	}
}

// redisError is an error reply of a server.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

var _ goredis.Error = redisError("")

// TestExplain has errors that cannot be had without leaving this machine.
func TestExplain(t *testing.T) {
	aws := &app{role: "sweeper", dynamo: &dynamoStore{table: "sessions", region: "eu-wset-1"}}
	redis := &app{redis: &redisStore{addr: "cache:6379"}}
	api := func(code, message string) error {
		return &smithy.OperationError{OperationName: "Scan", Err: &smithy.GenericAPIError{Code: code, Message: message}}
	}
	tests := []struct {
		name       string
		app        *app
		err        error
		what, todo string
	}{
		{
			"region", aws, &net.DNSError{Name: "dynamodb.eu-wset-1.amazonaws.com", IsNotFound: true},
			`The host name "dynamodb.eu-wset-1.amazonaws.com" is not known.`,
			`Is there a region "eu-wset-1"? Correct --region, or AWS_REGION, or check the network and its DNS.`,
		},
		{
			"missing table", aws, api("ResourceNotFoundException", ""),
			`There is no table "sessions" in eu-wset-1.`, `Create it with "sessionctl table create", or correct --table or --region.`,
		},
		{
			"key", aws, api("ValidationException", "The provided key element does not match the schema"),
			`The key of table "sessions" in eu-wset-1 does not seem to be "" of type S.`,
			`"sessionctl table check" prints its name; pass it with --key-attribute.`,
		},
		{
			"scan", aws, api("AccessDeniedException", "no"),
			`The AWS credentials do not allow dynamodb:Scan on table "sessions" in eu-wset-1.`,
			`Grant it: "sessionctl iam sweeper" prints the policy.`,
		},
		{"SSO", aws, &credentialsError{errors.New("refresh cached SSO token failed")}, `The AWS credentials could not be renewed: the SSO session has ended.`, `Run "aws sso login", with the same profile.`},
		{"session", aws, &credentialsError{errors.New("operation error STS: AssumeRole, ExpiredToken: x")}, `The AWS credentials have expired.`, `Get new ones, and try again.`},
		{"process", aws, &credentialsError{errors.New("exit status 1")}, `The AWS credentials could not be obtained.`, `Check --profile, AWS_PROFILE and the variables AWS_*. "aws sts get-caller-identity" tries them, and --verbose prints the cause.`},
		{
			"timeout", aws, fmt.Errorf("dynamodb: Scan: %w", context.DeadlineExceeded),
			`DynamoDB at eu-wset-1 did not answer in time.`, `Check the network: firewall, proxy, security group; and --region.`,
		},
		{
			"authority", aws, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			`The certificate of the endpoint of eu-wset-1 cannot be trusted: x509: certificate signed by unknown authority.`,
			`If it is your own proxy or server, put the certificate of its authority into AWS_CA_BUNDLE or SSL_CERT_FILE.`,
		},
		{"password", redis, redisError("NOAUTH Authentication required."), `Redis wants a password.`, `Put it into the URL, redis://user:password@host:port, preferably in REDIS_URL.`},
		{"user", redis, redisError("NOPERM User ann has no permissions to run the 'scan' command"), `The user of Redis may not do this: User ann has no permissions to run the 'scan' command.`, `Grant it: "sessionctl iam operator --backend redis" prints the rule.`},
		{"cluster", redis, redisError("MOVED 3999 127.0.0.1:6381"), `This Redis is part of a cluster.`, `Add --redis-cluster.`},
		{"slow Redis", redis, os.ErrDeadlineExceeded, `Redis at cache:6379 did not answer in time.`, `Check the network: firewall, proxy, security group; and --redis or REDIS_URL.`},
		{"file", aws, &os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}, `Open x: permission denied.`, ``},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if what, todo := tt.app.explain(t.Context(), tt.err); what != tt.what || todo != tt.todo {
				t.Errorf("got\n%s\n%s\nwant\n%s\n%s", what, todo, tt.what, tt.todo)
			}
		})
	}
}

// TestVerbose has the cause, and nothing that is a secret.
func TestVerbose(t *testing.T) {
	f := newFakeDynamoDB(t, map[string]answer{"": refuses(400, "AccessDeniedException", "User: arn:aws:iam::123456789012:user/ann is not authorized")})
	got := sessionctl(t.Context(), "table", "check", "-v", "--endpoint", f.URL)
	if got.code != codeFailed || !strings.Contains(got.stderr, "Cause: ") || !strings.Contains(got.stderr, "user/ann") {
		t.Errorf("got %+v", got)
	}
}

// TestStopped has a command that was told to end.
func TestStopped(t *testing.T) {
	f := newFakeDynamoDB(t, map[string]answer{})
	ctx, cancel := context.WithCancel(t.Context())
	f.does[""] = func(map[string]any) (int, any) {
		cancel()
		time.Sleep(10 * time.Millisecond)
		return http.StatusOK, object{}
	}
	got := sessionctl(ctx, "table", "check", "--endpoint", f.URL)
	if got.code != codeFailed || got.stderr != "sessionctl: Stopped before the end.\n" {
		t.Errorf("got %+v", got)
	}
}
