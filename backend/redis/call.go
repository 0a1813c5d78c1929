package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

// script is a Lua script, which the server runs by its hash, or a command.
type script struct {
	op      string // the method that runs it, for error texts
	src     string
	sha1    string
	command string // if set, it is sent in place of a script
	writes  bool
	once    bool // it must not be sent again once the server may have run it
	replies replies
}

func newScript(op string, writes bool, replies replies, src string) *script {
	return &script{op: op, src: src, sha1: redis.NewScript(src).Hash(), writes: writes, replies: replies}
}

// sentOnce returns a copy of s that is not sent again once the server may have
// run it.
func (s script) sentOnce() *script {
	s.once = true
	return &s
}

// counted is an argument that counts how often the client sends it. The client
// retries without telling, and a refusal means something else after an attempt
// that the server may have applied.
type counted struct {
	value string
	n     atomic.Int32
	most  atomic.Int32 // the highest n allowed, 0 for any
}

// MarshalBinary is called by the client each time it sends the argument.
func (c *counted) MarshalBinary() ([]byte, error) {
	if most := c.most.Load(); most > 0 && c.n.Load() >= most {
		return nil, errors.New("the server may have applied the first attempt, so there must be no second one")
	}
	c.n.Add(1)
	return []byte(c.value), nil
}

func (c *counted) String() string { return c.value }

// call is one run of a script on one key.
type call struct {
	client Client
	script *script
	key    string // with the prefix
	first  counted
	args   []any        // of the script; the first is &first
	late   func(*reply) // gets a reply that arrives after run has returned; may be nil
}

// run sends the script and waits for the reply, but not longer than ctx lasts.
//
// The client limits its reads by its timeouts, and by the deadline of ctx if
// its options say so, but does not notice a cancelled ctx. So it works in a
// goroutine that may outlive the call. There are never more of these than the
// client has connections, because waiting for a connection ends with ctx.
func (c *call) run(ctx context.Context) (*reply, error) {
	if err := contextError(ctx); err != nil {
		return nil, fmt.Errorf("redisstore: %s: not sent: %w", c.script.op, err)
	}
	if ctx.Done() == nil {
		return c.send(ctx)
	}

	type result struct {
		reply *reply
		err   error
	}
	done := make(chan result)
	go func() {
		r, err := c.send(ctx)
		select {
		case done <- result{r, err}:
		case <-ctx.Done():
			if err == nil && c.late != nil {
				c.late(r)
			}
		}
	}()
	select {
	case r := <-done:
		return r.reply, r.err
	case <-ctx.Done():
		return nil, c.fail(c.first.n.Load(), c.first.n.Load() > 0, "", contextError(ctx))
	}
}

// send sends the script, with its source if the server does not know its hash,
// and parses the reply.
func (c *call) send(ctx context.Context) (*reply, error) {
	sent := time.Now()
	settled := int32(1) // attempts with a known outcome
	cmd := c.attempt(ctx, "evalsha")
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		settled++
		cmd = c.attempt(ctx, "eval")
	}
	retry := c.first.n.Load() > settled && !c.script.once
	fields, err := cmd.Slice()
	if err == nil {
		var r *reply
		if r, err = c.script.parse(fields); err == nil {
			r.retry, r.sent = retry, sent
			return r, nil
		}
	}
	if errors.Is(err, redis.Nil) {
		err = errNotOurs // no script of this package returns nil
	}
	err = withoutKey(err, c.key)
	if says(err, "WRONGTYPE") {
		return nil, fmt.Errorf("redisstore: %s: the value at the key was not written by this package: %w: %w", c.script.op, session.ErrDecode, err)
	}
	var answered redis.Error
	attempts := c.first.n.Load() - settled + 1
	unsure := retry || attempts > 0 && !errors.As(err, &answered)
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the read has the same deadline and may end a little earlier
	}
	if ctxErr := contextError(ctx); ctxErr != nil {
		return nil, c.fail(attempts, unsure, "", fmt.Errorf("%w: %w", ctxErr, err))
	}
	return nil, c.fail(attempts, unsure, explain(err), err)
}

// attempt sends the script once, or as often as the client retries if that is
// allowed. how is evalsha or eval.
func (c *call) attempt(ctx context.Context, how string) *redis.Cmd {
	s := c.script
	if client, ok := c.client.(doer); ok && s.command != "" {
		return client.Do(ctx, append([]any{s.command, c.key}, c.args...)...)
	}
	text := s.sha1
	if how == "eval" {
		text = s.src
	}
	if s.once {
		if client, ok := c.client.(processor); ok {
			cmd := noRetry{redis.NewCmd(ctx, append([]any{how, text, 1, c.key}, c.args...)...)}
			_ = client.Process(ctx, cmd) // cmd has the error, too
			return cmd.Cmd
		}
		c.first.most.Store(c.first.n.Load() + 1)
	}
	if how == "eval" {
		return c.client.Eval(ctx, text, []string{c.key}, c.args...)
	}
	return c.client.EvalSha(ctx, text, []string{c.key}, c.args...)
}

// fail returns the error of a failed call. It wraps err.
func (c *call) fail(attempts int32, unsure bool, why string, err error) error {
	var text strings.Builder
	text.WriteString("redisstore: " + c.script.op + ": ")
	if attempts > 1 {
		fmt.Fprintf(&text, "gave up after %d attempts: ", attempts)
	}
	if unsure && c.script.writes {
		text.WriteString("it is not known whether it was applied: ")
	}
	if why != "" {
		text.WriteString(why + ": ")
	}
	return fmt.Errorf("%s%w", text.String(), err)
}

// contextError returns the error of ctx, and its cause if it has one.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// giveBack releases a lock that arrived when its caller had gone. If release
// fails, the lock ends with its lease.
func giveBack(ctx context.Context, release func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	release(ctx)
}
