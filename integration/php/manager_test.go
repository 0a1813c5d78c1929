package php

import (
	"errors"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec/php"
)

// userName is the value of $_SESSION that says who is logged in.
const userName = "user"

var (
	counter = session.Key[int]{Name: "n"}
	goes    = session.Key[int]{Name: "go"}
)

// id1 and id2 are session IDs as PHP makes them.
const (
	id1 = "4n8sj0e3d2vq6h1ka7c5fbt9mg"
	id2 = "9mg4n8sj0e3d2vq6h1ka7c5fbt"
)

// manager returns a Manager beside PHP, and fills in cfg.
func manager(t *testing.T, table string, beside dynamodb.PHPConfig, cfg session.Config) *session.Manager {
	t.Helper()
	b, err := dynamodb.New(awsConfig(local.Endpoint), dynamodb.Config{
		Table:    table,
		DataType: dynamodb.String,
		PHP:      beside,
		// On a busy machine the engine may stall for seconds.
		AttemptTimeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 24 * time.Minute
	}
	if cfg.Lock.MaxWait == 0 {
		cfg.Lock.MaxWait = 2 * time.Minute
	}
	cfg.Codec = php.Codec{User: userName, UTF8: true}
	cfg.Cookie.Name = "PHPSESSID"
	cfg.Tokens = dynamodb.PHPTokens()
	cfg.StoreKey = dynamodb.PHPStoreKey("PHPSESSID")
	m, err := session.New(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// besideVersioned and besideStock are tables beside both kinds of connection.
var (
	besideVersioned = dynamodb.PHPConfig{Connection: dynamodb.VersionedConnection}
	besideStock     = dynamodb.PHPConfig{Connection: dynamodb.StockLocking}
)

// opened opens the session id.
func opened(t *testing.T, m *session.Manager, id string) *session.Session {
	t.Helper()
	s, err := m.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// saved opens the session id, changes and saves it.
func saved(t *testing.T, m *session.Manager, id string, change func(s *session.Session) error) *session.Session {
	t.Helper()
	s := opened(t, m, id)
	if err := errors.Join(change(s), s.Save(t.Context()), s.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s
}

func plusOne(n int) int { return n + 1 }

// add increases the counter of s.
func add(s *session.Session) error {
	_, err := counter.Update(s, plusOne)
	return err
}

// none checks that m knows no session id.
func none(t *testing.T, m *session.Manager, id string) {
	t.Helper()
	if s, err := m.Open(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the session of Go is there: %v, %v", s, err)
	}
}
