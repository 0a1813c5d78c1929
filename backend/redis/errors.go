package redisstore

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// says reports whether err is an error with this code from a server. Servers
// before Redis 7 wrap the error of a command that a script ran.
func says(err error, code string) bool {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return false
	}
	text, code := answer.Error(), code+" "
	return strings.HasPrefix(text, code) || strings.Contains(text, ": "+code) || strings.Contains(text, "-"+code)
}

// explain tells an operator what err means and what to do about it. It returns
// "" for an error that it does not know.
func explain(err error) string {
	for _, e := range []struct{ code, words string }{
		{"READONLY", "the server is a replica: a failover is in progress, or the client has the address of a replica"},
		{"LOADING", "the server has started and is still loading its data"},
		{"MASTERDOWN", "the server is a replica that has lost its master"},
		{"CLUSTERDOWN", "a part of the cluster has no master, or some slots are not served"},
		{"TRYAGAIN", "the slot of the key is being moved"},
		{"MOVED", "the server is part of a cluster: make the client with redis.NewClusterClient"},
		{"NOAUTH", "the server requires a password: set Username and Password in the options of the client"},
		{"WRONGPASS", "the server does not accept the Username and Password of the client"},
		{"NOPERM", "the user of the client lacks a permission: see Permissions in the documentation of this package"},
		{"OOM", "the server has reached maxmemory and may not evict: raise maxmemory, or find out what fills it"},
		{"MISCONF", "the server cannot write to its disk, and refuses changes until it can"},
		{"NOREPLICAS", "the server has fewer replicas than its min-replicas-to-write"},
		{"BUSY", "another client's script blocks the server and does not end: see SCRIPT KILL"},
		{"ERR max number of clients", "the server has as many connections as its maxclients allows"},
		{"ERR unknown command", "the server does not run scripts: EVAL and EVALSHA must be allowed and not renamed"},
	} {
		if says(err, e.code) {
			return e.words
		}
	}
	switch {
	case errors.Is(err, redis.ErrPoolTimeout):
		return "all connections of the client were in use: raise PoolSize, or find out what holds them"
	case errors.Is(err, redis.ErrClosed):
		return "the client was closed"
	}
	return ""
}

// answer is the error of a server with a shorter text.
type answer string

func (a answer) Error() string { return string(a) }

// RedisError makes it a [redis.Error].
func (a answer) RedisError() {}

// withoutKey removes the key from the text of a server's error, and the other
// arguments, which a server quotes if it does not know the command.
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
