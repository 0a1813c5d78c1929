package dynamodb

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

func TestDefaults(t *testing.T) {
	want := Config{
		Table: "sessions", KeyAttribute: "id", DataAttribute: "data", ExpiresAttribute: "expires",
		CreatedAttribute: "created", VersionAttribute: "version",
		LockAttribute: "lock", LockUntilAttribute: "lock_until", MaxItemSize: 409600,
		MaxAttempts: 4, AttemptTimeout: 2 * time.Second, BackoffBase: 50 * time.Millisecond, MaxBackoff: time.Second,
	}
	if got := newBackend(t, newFake(), Config{}).c; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, tt := range []struct{ base, max, wantBase, wantMax time.Duration }{
		{0, time.Millisecond, time.Millisecond, time.Millisecond},
		{time.Minute, 0, time.Minute, time.Minute},
		{1, 0, 1, time.Second},
		{2, 3, 2, 3},
	} {
		c := newBackend(t, newFake(), Config{BackoffBase: tt.base, MaxBackoff: tt.max}).c
		if c.BackoffBase != tt.wantBase || c.MaxBackoff != tt.wantMax {
			t.Errorf("%+v became %v, %v", tt, c.BackoffBase, c.MaxBackoff)
		}
	}
}

func TestConfig(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		c     Config
		field string // in the error; "" if it is valid
	}{
		{Config{Table: "abc"}, ""},
		{Config{Table: long[:255]}, ""},
		{Config{Table: "a_b-c.D9"}, ""},
		{Config{Table: "ab"}, "Config.Table"},
		{Config{Table: long}, "Config.Table"},
		{Config{Table: "a/b"}, "Config.Table"},
		{Config{Table: "täble"}, "Config.Table"},
		{Config{Table: "arn:aws:dynamodb:eu-west-1:1:table/x"}, "Config.Table"},
		{Config{KeyAttribute: long[:255]}, ""},
		{Config{KeyAttribute: long}, "Config.KeyAttribute"},
		{Config{DataAttribute: long}, "Config.DataAttribute"},
		{Config{ExpiresAttribute: long}, "Config.ExpiresAttribute"},
		{Config{CreatedAttribute: long}, "Config.CreatedAttribute"},
		{Config{VersionAttribute: "\xff"}, "Config.VersionAttribute"},
		{Config{DataAttribute: "id"}, "Config.KeyAttribute and Config.DataAttribute"},
		{Config{CreatedAttribute: "x", VersionAttribute: "x"}, "Config.CreatedAttribute and Config.VersionAttribute"},
		{Config{PrivateAttribute: "p"}, ""},
		{Config{PHP: PHPConfig{SessionName: "X"}}, "Config.PHP has no Connection"},
		{Config{PHP: PHPConfig{AcceptLoss: true}}, "Config.PHP has no Connection"},
		{Config{PHP: PHPConfig{Connection: 4}}, "unknown Connection 4"},
		{Config{PHP: PHPConfig{Connection: -1}}, "unknown Connection -1"},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}}, ""},
		{Config{PHP: PHPConfig{Connection: StockLocking}}, ""},
		{Config{PHP: PHPConfig{Connection: StockUnlocked}}, "AcceptLoss"},
		{Config{PHP: PHPConfig{Connection: StockUnlocked, AcceptLoss: true}}, ""},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: "_S"}}, "SessionName"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: "12"}}, "SessionName"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: "a.b"}}, "SessionName"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: long}}, "SessionName"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: long[:255]}}, ""},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionName: "My-App_1"}}, ""},
		{Config{PHP: PHPConfig{Connection: StockLocking, SerializeHandler: "igbinary"}}, "SerializeHandler"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SerializeHandler: "php_serialize"}}, ""},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionLifetime: time.Millisecond}}, "SessionLifetime"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionLifetime: 1500 * time.Millisecond}}, "SessionLifetime"},
		{Config{PHP: PHPConfig{Connection: StockLocking, SessionLifetime: -time.Second}}, "SessionLifetime"},
		{Config{PHP: PHPConfig{Connection: StockLocking, ForeignLease: time.Millisecond}}, "ForeignLease"},
		{Config{PHP: PHPConfig{Connection: StockLocking, ForeignLease: -1}}, "ForeignLease"},
		{Config{PHP: PHPConfig{Connection: StockLocking}, LockAttribute: "l"}, "Config.LockAttribute"},
		{Config{PHP: PHPConfig{Connection: StockLocking}, VersionAttribute: "v", PrivateAttribute: "p"}, ""},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}, VersionAttribute: "v"}, "Config.VersionAttribute"},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}, CreatedAttribute: "v"}, "Config.CreatedAttribute"},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}, LockUntilAttribute: "v"}, "Config.LockUntilAttribute"},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}, PrivateAttribute: "v"}, "Config.PrivateAttribute"},
		{Config{PHP: PHPConfig{Connection: StockLocking}, PrivateAttribute: "data"}, "Config.DataAttribute and Config.PrivateAttribute"},
		{Config{PHP: PHPConfig{Connection: VersionedConnection}, KeyAttribute: "k", DataAttribute: "d", ExpiresAttribute: "e"}, ""},
		{Config{LockAttribute: long}, "Config.LockAttribute"},
		{Config{LockUntilAttribute: long}, "Config.LockUntilAttribute"},
		{Config{LockAttribute: "version"}, "Config.VersionAttribute and Config.LockAttribute"},
		{Config{LockUntilAttribute: "lock"}, "Config.LockAttribute and Config.LockUntilAttribute"},
		{Config{DataAttribute: "expires", ExpiresAttribute: "data"}, ""},
		{Config{DataType: 2}, "Config.DataType"},
		{Config{DataType: -1}, "Config.DataType"},
		{Config{MaxItemSize: -1}, "Config.MaxItemSize"},
		{Config{MaxItemSize: 409601}, "Config.MaxItemSize"},
		{Config{MaxItemSize: 409600}, ""},
		{Config{MaxAttempts: -1}, "Config.MaxAttempts"},
		{Config{AttemptTimeout: -1}, "Config.AttemptTimeout"},
		{Config{BackoffBase: -1}, "Config.BackoffBase"},
		{Config{MaxBackoff: -1}, "Config.MaxBackoff"},
		{Config{BackoffBase: 2, MaxBackoff: 1}, "Config.BackoffBase"},
	} {
		_, err := NewFromClient(newFake(), tt.c)
		if tt.field == "" && err != nil || tt.field != "" && (err == nil || !strings.Contains(err.Error(), tt.field)) {
			t.Errorf("%.200s: %v", fmt.Sprintf("%+v", tt.c), err)
		}
	}
	if _, err := NewFromClient(nil, Config{}); err == nil {
		t.Error("a nil client passes")
	}
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		cfg   aws.Config
		c     Config
		words string
	}{
		{aws.Config{Region: "eu-west-1", Credentials: credentials(nil)}, Config{}, ""},
		{aws.Config{BaseEndpoint: aws.String("http://127.0.0.1:8000"), Credentials: credentials(nil)}, Config{}, ""},
		{aws.Config{Region: "eu-west-1"}, Config{}, "Credentials"},
		{aws.Config{Credentials: credentials(nil)}, Config{}, "AWS_REGION"},
		{aws.Config{Region: "eu-west-1", Credentials: credentials(nil)}, Config{Table: "x"}, "Config.Table"},
	} {
		_, err := New(tt.cfg, tt.c)
		if tt.words == "" && err != nil || tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words)) {
			t.Errorf("want %q, got %v", tt.words, err)
		}
	}
}

// The retries of the SDK are off, even for a client that the caller made.
func TestClientsRetryerIsReplaced(t *testing.T) {
	cfg, n := answers(t, answer(500, "InternalServerError", ""))
	b := newBackend(t, dynamodb.NewFromConfig(cfg), quick(Config{MaxAttempts: 2}))
	if _, err := b.Load(context.Background(), key); err == nil {
		t.Error("no error")
	}
	if n.Load() != 2 {
		t.Errorf("%d requests, want 2", n.Load())
	}
}
