package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

// Client has the methods of [*redis.Client] and [*redis.ClusterClient] that
// every call of this package needs.
type Client interface {
	Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
	EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd
}

// doer is a Client that can send any command. The clients of go-redis can.
type doer interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

// processor is a Client that takes a command with options of its own, such as
// noRetry. The clients of go-redis do.
type processor interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}

// noRetry is a command that the client sends once. The client still follows a
// redirection to another server of a cluster.
type noRetry struct{ *redis.Cmd }

// NoRetry tells the client not to retry.
func (noRetry) NoRetry() bool { return true }

// checkClient refuses a client with which the package could not keep its
// promises.
func checkClient(client Client) error {
	var read, write time.Duration
	switch c := client.(type) {
	case nil:
		return errors.New("redisstore: the client is nil")
	case *redis.Ring:
		return errors.New("redisstore: a redis.Ring is not safe for sessions and locks: while a server is down, it looks for the keys of " +
			"that server on another one, which does not have them; use a redis.ClusterClient or redis.NewFailoverClient")
	case *redis.Client:
		read, write = c.Options().ReadTimeout, c.Options().WriteTimeout
	case *redis.ClusterClient:
		read, write = c.Options().ReadTimeout, c.Options().WriteTimeout
	default:
		return nil // the options of an unknown client are up to the caller
	}
	if read <= 0 || write <= 0 {
		return errors.New("redisstore: the client has ReadTimeout or WriteTimeout switched off: a call that its caller abandons would never end")
	}
	return nil
}

// readsMaster reports whether client is known to send read commands to a
// master. Scripts always go to a master.
func readsMaster(client Client) bool {
	switch c := client.(type) {
	case *redis.Client:
		return true
	case *redis.ClusterClient:
		return !c.Options().ReadOnly
	}
	return false
}

// keyspace is the set of keys with one prefix. A Backend and a Locker send
// every script through theirs.
type keyspace struct {
	client Client
	prefix string
}

// newKeyspace checks the arguments of a constructor. config is the type that
// has the prefix.
func newKeyspace(client Client, config, prefix string) (keyspace, error) {
	if err := checkClient(client); err != nil {
		return keyspace{}, err
	}
	const most = 128
	if len(prefix) > most {
		return keyspace{}, fmt.Errorf("redisstore: %s.Prefix has %d bytes; at most %d are allowed", config, len(prefix), most)
	}
	if _, tag, ok := strings.Cut(prefix, "{"); ok && strings.Contains(tag, "}") {
		return keyspace{}, fmt.Errorf("redisstore: %s.Prefix %q has a hash tag in braces, which would put all keys on one server of a cluster", config, prefix)
	}
	return keyspace{client: client, prefix: prefix}, nil
}

// run runs s on key. Its first argument is the one that counts the attempts.
func (k keyspace) run(ctx context.Context, s *script, key string, first string, rest ...any) (*reply, error) {
	return k.runLate(ctx, s, key, nil, first, rest...)
}

// runLate is run with a function that gets the reply if that arrives after ctx
// has ended and the call has returned.
func (k keyspace) runLate(ctx context.Context, s *script, key string, late func(*reply), first string, rest ...any) (*reply, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	c := &call{client: k.client, script: s, key: k.prefix + key, late: late}
	c.first.value = first
	c.args = append(append(make([]any, 0, 1+len(rest)), &c.first), rest...)
	r, err := c.run(ctx)
	if err == nil && r.status == statusForeign {
		return nil, fmt.Errorf("redisstore: %s: the hash was not written by this package: it has no expires or no version: %w", s.op, session.ErrDecode)
	}
	return r, err
}

// checkKey holds keys to the contract of session.Backend.
func checkKey(key string) error {
	const most = 512
	switch {
	case key == "":
		return errors.New("redisstore: the key is empty")
	case len(key) > most:
		return fmt.Errorf("redisstore: the key has %d bytes; at most %d are allowed", len(key), most)
	}
	return nil
}
