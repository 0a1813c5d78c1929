package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
)

// This file is the same in backend/redis and lock/redis, which are modules of
// their own; a test of lock/redis holds it to that.

// Client has the calls of [*redis.Client] and [*redis.ClusterClient] that this
// package needs.
type Client interface {
	Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd
	EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd
}

// doer is a Client that sends any command. Those of go-redis do.
type doer interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

// processor is a Client that takes any command. Those of go-redis do.
type processor interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}

// once is a command that the client does not retry. It still follows a
// redirection to another server of a cluster.
type once struct{ *redis.Cmd }

// NoRetry is what the client asks.
func (once) NoRetry() bool { return true }

// checkClient refuses clients with which a promise could not be held.
func checkClient(client Client) error {
	var read, write time.Duration
	switch c := client.(type) {
	case nil:
		return errors.New("redis: the client is nil")
	case *redis.Ring:
		return errors.New("redis: a redis.Ring is not safe for sessions and locks: while a server is down it looks for their keys on another, " +
			"where they are missing; use a redis.ClusterClient, or a client made by redis.NewFailoverClient")
	case *redis.Client:
		read, write = c.Options().ReadTimeout, c.Options().WriteTimeout
	case *redis.ClusterClient:
		read, write = c.Options().ReadTimeout, c.Options().WriteTimeout
	default:
		return nil // not known, so the caller's to know
	}
	if read <= 0 || write <= 0 {
		return errors.New("redis: ReadTimeout or WriteTimeout of the client is switched off: a call that is given up would never end")
	}
	return nil
}

// checkPrefix refuses what cannot be put before all keys.
func checkPrefix(prefix string) error {
	if len(prefix) > 128 {
		return fmt.Errorf("redis: Config.Prefix has %d bytes, more than 128", len(prefix))
	}
	if _, tag, ok := strings.Cut(prefix, "{"); ok && strings.Contains(tag, "}") {
		return fmt.Errorf("redis: Config.Prefix %q has a hash tag in braces, which would put all keys on one server of a cluster", prefix)
	}
	return nil
}

// checkKey holds keys to the contract of session.Backend.
func checkKey(key string) error {
	const most = 512
	switch {
	case key == "":
		return errors.New("redis: the key is empty")
	case len(key) > most:
		return fmt.Errorf("redis: the key has %d bytes, more than %d", len(key), most)
	}
	return nil
}

// script is a Lua script, run by its hash, or a command.
type script struct {
	op      string // for error texts
	src     string
	sha1    string
	command string // instead of a script
	writes  bool
	once    bool    // not to be sent again after an attempt that may have been carried out
	replies replies // of a script
}

// replies has the number of fields of each reply, by status.
type replies map[string]int

func newScript(op string, writes bool, replies replies, src string) *script {
	return &script{op: op, src: src, sha1: redis.NewScript(src).Hash(), writes: writes, replies: replies}
}

// check refuses a reply that s does not make, but something between here and
// the server, such as a proxy.
func (s *script) check(fields []any, args int) error {
	want := args // of a command, which has a field for each
	if s.command == "" {
		status, ok := (&reply{fields: fields}).field(0)
		if want = s.replies[status]; !ok {
			want = 0
		}
	}
	if len(fields) == 0 || len(fields) != want {
		return fmt.Errorf("a reply of %d fields: %w", len(fields), errImpostor)
	}
	return nil
}

var errImpostor = errors.New("the reply is not one to what was sent")

// counted is an argument that counts how often it goes out to a server. The
// client retries on its own and does not tell; but a refusal means something
// else after a first attempt that may have been applied.
type counted struct {
	value string
	n     atomic.Int32
	most  atomic.Int32 // that n may be, 0 for any number
}

// MarshalBinary is what the client calls to send an argument.
func (c *counted) MarshalBinary() ([]byte, error) {
	if most := c.most.Load(); most > 0 && c.n.Load() >= most {
		return nil, errors.New("the first attempt may have been carried out, and there must be no second one")
	}
	c.n.Add(1)
	return []byte(c.value), nil
}

func (c *counted) String() string { return c.value }

// reply is what a script returned.
type reply struct {
	fields []any
	retry  bool      // an earlier attempt may have been applied
	sent   time.Time // not later than the first attempt
}

// status is the first field of every reply.
func (r *reply) status() string { return r.text(0) }

// text returns field i, "" if it is not there.
func (r *reply) text(i int) string {
	s, _ := r.field(i)
	return s
}

func (r *reply) field(i int) (string, bool) {
	if i >= len(r.fields) {
		return "", false
	}
	s, ok := r.fields[i].(string)
	return s, ok
}

// millis returns field i, a whole number of milliseconds.
func (r *reply) millis(i int) time.Duration {
	if i >= len(r.fields) {
		return 0
	}
	n, _ := r.fields[i].(int64)
	return time.Duration(n) * time.Millisecond
}

// run runs s on one key. late, if not nil, is given a reply that came after
// ctx had ended, when the caller was gone.
//
// The client bounds its reads by timeouts, and by the deadline of ctx if it is
// told to, but never looks whether ctx was cancelled. So it works in a
// goroutine, which may outlive the call. There are not more of these than the
// client has connections: waiting for one ends with ctx.
func run(ctx context.Context, client Client, s *script, key string, late func(*reply), first string, rest ...any) (*reply, error) {
	if err := contextError(ctx); err != nil {
		return nil, fmt.Errorf("redis: %s: not sent: %w", s.op, err)
	}
	arg := &counted{value: first}
	args := make([]any, 0, 1+len(rest))
	args = append(append(args, arg), rest...)
	if ctx.Done() == nil {
		return send(ctx, client, s, key, arg, args)
	}

	type result struct {
		reply *reply
		err   error
	}
	done := make(chan result)
	go func() {
		r, err := send(ctx, client, s, key, arg, args)
		select {
		case done <- result{r, err}:
		case <-ctx.Done():
			if err == nil && late != nil {
				late(r)
			}
		}
	}()
	select {
	case r := <-done:
		return r.reply, r.err
	case <-ctx.Done():
		return nil, s.fail(arg.n.Load(), arg.n.Load() > 0, "", contextError(ctx))
	}
}

func send(ctx context.Context, client Client, s *script, key string, arg *counted, args []any) (*reply, error) {
	r := &reply{sent: time.Now()}
	known := int32(1) // attempts of which it is known what became of them
	cmd := s.send(ctx, client, "evalsha", key, arg, args)
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		known++
		cmd = s.send(ctx, client, "eval", key, arg, args)
	}
	fields, err := cmd.Slice()
	r.fields, r.retry = fields, arg.n.Load() > known && !s.once
	if err == nil {
		err = s.check(fields, len(args))
	}
	if err == nil {
		return r, nil
	}
	if errors.Is(err, redis.Nil) {
		err = errImpostor // no script of ours returns that
	}
	err = withoutKey(err, key)
	if says(err, "WRONGTYPE") {
		return nil, fmt.Errorf("redis: %s: the key holds something else than this package stores: %w: %w", s.op, session.ErrDecode, err)
	}
	var answered redis.Error
	attempts := arg.n.Load() - known + 1
	unsure := r.retry || attempts > 0 && !errors.As(err, &answered)
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done() // the read has the same deadline, and may be a little ahead
	}
	if ctxErr := contextError(ctx); ctxErr != nil {
		return nil, s.fail(attempts, unsure, "", fmt.Errorf("%w: %w", ctxErr, err))
	}
	return nil, s.fail(attempts, unsure, explain(err), err)
}

// send sends s once, or as often as the client thinks fit.
func (s *script) send(ctx context.Context, client Client, how, key string, arg *counted, args []any) *redis.Cmd {
	if c, ok := client.(doer); ok && s.command != "" {
		return c.Do(ctx, append([]any{s.command, key}, args...)...)
	}
	script := s.sha1
	if how == "eval" {
		script = s.src
	}
	if s.once {
		if c, ok := client.(processor); ok {
			cmd := once{redis.NewCmd(ctx, append([]any{how, script, 1, key}, args...)...)}
			_ = c.Process(ctx, cmd) // the error is in cmd as well
			return cmd.Cmd
		}
		arg.most.Store(arg.n.Load() + 1)
	}
	if how == "eval" {
		return client.Eval(ctx, script, []string{key}, args...)
	}
	return client.EvalSha(ctx, script, []string{key}, args...)
}

// fail puts together what the caller sees of a failed call. All of err can be
// reached through it.
func (s *script) fail(attempts int32, unsure bool, why string, err error) error {
	var text strings.Builder
	text.WriteString("redis: " + s.op + ": ")
	if attempts > 1 {
		fmt.Fprintf(&text, "gave up after %d attempts: ", attempts)
	}
	if unsure && s.writes {
		text.WriteString("it is not known whether it was applied: ")
	}
	if why != "" {
		text.WriteString(why + ": ")
	}
	return fmt.Errorf("%s%w", text.String(), err)
}

// contextError returns why ctx has ended, with its cause if it was given one.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// says reports whether a server answered with an error of this code. Servers
// before Redis 7 wrap errors of the commands in a script.
func says(err error, code string) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	text, code := answer.Error(), code+" "
	return strings.HasPrefix(text, code) || strings.Contains(text, ": "+code) || strings.Contains(text, "-"+code)
}

// explain says what an operator can do about err, "" if nothing is known.
func explain(err error) string {
	for _, e := range []struct{ code, words string }{
		{"READONLY", "the server is a replica: a failover is under way, or the client has the address of a replica"},
		{"LOADING", "the server has started and is still loading its data"},
		{"MASTERDOWN", "the server is a replica that has lost its master"},
		{"CLUSTERDOWN", "a part of the cluster has no master, or not all slots are served"},
		{"TRYAGAIN", "the slot of the key is being moved"},
		{"MOVED", "the server is part of a cluster: make the client with redis.NewClusterClient"},
		{"NOAUTH", "the server wants a user or password: set Username and Password in the options of the client"},
		{"WRONGPASS", "the server does not accept Username and Password of the client"},
		{"NOPERM", "the user of the client is not allowed to: see Permissions in the documentation of this package"},
		{"OOM", "the server has reached maxmemory and may evict nothing: give it more, or have a look at what fills it"},
		{"MISCONF", "the server cannot write to its disk, and refuses changes until it can"},
		{"NOREPLICAS", "the server has fewer replicas than its min-replicas-to-write"},
		{"BUSY", "the server is blocked by a script of somebody that does not end: see SCRIPT KILL"},
		{"ERR max number of clients", "the server has as many connections as its maxclients allows"},
		{"ERR unknown command", "the server does not run scripts: EVAL and EVALSHA must be allowed, not renamed"},
	} {
		if says(err, e.code) {
			return e.words
		}
	}
	switch {
	case errors.Is(err, redis.ErrPoolTimeout):
		return "all connections of the client were in use: raise PoolSize, or look for what keeps them"
	case errors.Is(err, redis.ErrClosed):
		return "the client was closed"
	}
	return ""
}

// answer is an error of a server, with less text.
type answer string

func (a answer) Error() string { return string(a) }

// RedisError makes it a [redis.Error].
func (a answer) RedisError() {}

// withoutKey removes the key, and other arguments, from what a server that
// does not know a command says.
func withoutKey(err error, key string) error {
	var from redis.Error
	if !errors.As(err, &from) {
		return err
	}
	text, _, cut := strings.Cut(from.Error(), ", with args beginning with")
	if cut || strings.Contains(text, key) {
		return answer(strings.ReplaceAll(text, key, "..."))
	}
	return err
}

const tokenSize = 8 // bytes

// newToken draws what tells one write, or one lock, from all others.
func newToken() string {
	var t [tokenSize]byte
	rand.Read(t[:]) // never fails
	return string(t[:])
}

// lease returns ttl in milliseconds, rounded up.
func lease(ttl time.Duration) (int64, error) {
	if ttl <= 0 {
		return 0, fmt.Errorf("redis: a lock for %v: it must be for longer than 0", ttl)
	}
	return int64((ttl-1)/time.Millisecond) + 1, nil
}
