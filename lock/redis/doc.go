// Package redis makes locks in Redis or Valkey, for sessions that are kept in
// a [session.Backend] which does not lock.
//
// Sessions that are in Redis themselves do not need it: the backend in
// session/backend/redis locks a record in the command that reads it.
//
// # Commands
//
// One lock is one key, and every call is one EVALSHA on it: Acquire, Extend,
// Release. The first call of its kind to a server that does not know the
// script costs one more, an EVAL. Each retry is one more. The key holds a
// random token of 8 bytes, which only the holder knows, and is removed by Redis
// when the lease ends. Its end is judged by the clock of the server.
//
// # What a lock is good for
//
// It puts requests into an order, so that they do not have to be done again
// after a conflict. It does not guard the data: that does the version check of
// the Backend, always. A lock is lost when its holder is stopped for longer
// than the lease, and when a server fails before its replica has heard of the
// lock, since replication is asynchronous, or is restarted without
// persistence. Two then work at the same time, and the later of their Saves
// is refused as a conflict. Because of this there is no Redlock here, which
// asks several servers: it makes losing a lock less likely at several times
// the cost, and the version check would still have to be there.
//
// With any maxmemory-policy but noeviction a full server throws locks away,
// and shorter leases first with volatile-ttl. Use noeviction.
//
// # Retries and contexts
//
// The client retries as its options say. A retry after a lost response finds
// the token of the first attempt, and succeeds. No token helps against a
// request to lock that was given up, succeeded in its retry, and comes through
// only after Release: the lock is then taken once more, until its lease ends.
// A reply that no script makes, such as that of a proxy, counts as none.
//
// A call ends with its context. go-redis does not look at a context while it
// waits for an answer, except, with ContextTimeoutEnabled, at its deadline. So
// a call with a context that can end works in a goroutine, and leaves it
// behind if the context ends first. It ends with the answer, or with the
// client's timeouts, and there are never more than the client has connections.
//
// # Servers and permissions
//
// Redis 5 or later, and Valkey; tested with Redis 7.0. Every script works on
// one key that it declares, so a cluster is fine. The user of the client
// needs, besides what go-redis sends to set up a connection:
//
//	~lock:* +eval +evalsha +get +set +pttl +pexpire +del
package redis
