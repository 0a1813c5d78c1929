// Package redis keeps sessions in Redis or Valkey, and locks them there.
//
// # Commands
//
// One session is one key. Load is one HMGET on that key, in one trip to the
// server and back; Save, Touch, Delete, Acquire, Extend and Release are one
// EVALSHA each. Acquire reads and Save unlocks, so a read and write under a
// lock is two. A Load that finds a lock, or nothing, asks once more with a
// script, which knows the clock of the server; so does every Load of a client
// that may read from replicas, instead of the HMGET. The first call of its
// kind to a server that does not know the script costs one more, an EVAL. Each
// retry is one more. For the operator there is List, which goes through all
// keys with SCAN.
//
// A script takes the server about twice as long as HMGET or HSET would alone:
// Redis 7.0 carried out more than 100,000 a second on one core, with 700 bytes
// of data.
//
// # The hash
//
//	data     the encoded session
//	created  start of the session in epoch milliseconds
//	expires  deadline in epoch milliseconds
//	version  tokens of the last writes, 8 bytes each, newest first
//	written  time of the last write in epoch milliseconds
//	lock     token of the last lock; missing if there was none yet
//	until    end of its lease in epoch milliseconds; 0 once it was ended
//
// Fields that this package does not know are left alone, also by a Save. A
// hash without expires or version was not written by this package, and is
// refused with [session.ErrDecode]; so is a key that is not a hash. Neither
// is changed, except by Delete.
//
// A session that is written now and then has two tokens, one that is written
// all the time up to 128, which is 1 KiB.
//
// # Clocks
//
// Deadlines and leases are judged by the clock of the server, inside the
// script. A lease is a duration from now there, so clocks that differ do no
// harm to locks: what this package returns as LockedUntil is counted from the
// clock of this machine. Expires is a point in time, made by the Manager: keep
// the clocks of all machines within a second of each other.
//
// Redis removes a key by itself one minute after its deadline. Until then the
// record is dead, and takes room, so that a retry finds the write that it
// repeats.
//
// # Sweeping
//
// There is nothing to sweep, so Backend is no [admin.Sweeper]: every session
// has a time to live, and Redis removes it soon after the minute, whether
// anybody asks for it or not. One that stays was made to, with PERSIST, or was
// not written by this package: [Backend.List] shows these, with an Expires long
// past or as Foreign.
//
// # Retries and contexts
//
// The client retries as its options say: MaxRetries, MinRetryBackoff and
// MaxRetryBackoff, and ReadTimeout for one attempt, 5 s by default. For
// sessions 1 s is plenty, and 2 ms to 100 ms between attempts.
//
// A write draws a random token, which becomes the first one in the version.
// When the response to a write is lost, its retry finds the token in the
// version, and succeeds without writing again. If the token is not there, and
// would have to be, the call is a conflict. In the cases left nobody can know,
// and the error says so and is none of the sentinels: a lost response followed
// by 128 or more writes of others, or by 50 s, before the retry; and a retry
// that finds the record as it was, but locked, as the first attempt may still
// be under way, and arrive when the lock has been freed. A Save that creates is
// not retried at all once it may have been carried out, as it could arrive
// after a Delete: the Manager then makes the session under another key.
// A reply that no script makes, such as that of a proxy, counts as none.
// Locks have tokens for the same reason. An Acquire that arrives when its caller
// has given up locks until ttl from then, unless its lock was the last one and
// has been freed.
//
// A call ends with its context. go-redis does not look at a context while it
// waits for an answer, except, with ContextTimeoutEnabled, at its deadline. So
// a call with a context that can end works in a goroutine, and leaves it
// behind if the context ends first. It ends with the answer, or with the
// client's timeouts, and there are never more than the client has connections.
// Set ContextTimeoutEnabled: connections are then free again sooner. Closing
// the client ends all of them.
//
// # Waiting for a lock
//
// Waiters poll with Load. They are not woken by messages. Ten clients with
// connections of their own, in one process, that each wanted one lock for
// 5 ms, took:
//
//	MinRetry  MaxRetry  in all   commands per lock
//	10 ms     50 ms     140 ms   5
//	5 ms      20 ms      96 ms   6
//	2 ms      10 ms      81 ms   8
//	1 ms      5 ms       67 ms   10
//	PUBLISH on unlock    59 ms   8
//
// Messages would cost every process a connection and a goroutine for as long
// as it runs, and wake all waiters for one lock; they can be lost, so polling
// would stay. A read costs no money here: with locks on Redis set MinRetry to
// 2 ms and MaxRetry to 10 ms instead.
//
// # What a failover means
//
// Replication is asynchronous. A write that the server has confirmed is lost
// if the server fails before a replica has it, typically the last fraction of
// a second: a session may be as it was a moment ago, one deleted then may be
// back, and one created then may be missing. The same holds for a restart,
// according to the persistence: nothing is left without it, up to a second is
// lost with appendonly and appendfsync everysec, nothing with appendfsync
// always. min-replicas-to-write narrows it; a failed write then says so.
//
// A lock may be lost in the same way, and two may then believe to hold it.
// Their writes do not mix: the version is in the same hash, so the one whose
// version is not stored any more is refused. That is also why there is no
// Redlock here, which asks several servers: it makes losing a lock less likely,
// and never guards the data. The lock and the data are in one place.
//
// A replica that is read from would show old states. Scripts always go to
// masters, also with ReadOnly, RouteByLatency and RouteRandomly in the options
// of a cluster client. A plain redis.Client asks the server that it was given:
// with Sentinel make it with redis.NewFailoverClient.
//
// # Eviction
//
// When maxmemory is reached, maxmemory-policy decides. With noeviction writes
// fail, and say so. Every other policy throws sessions away that are in use,
// the volatile ones too since every session has a time to live: a visitor is
// logged out, and no error is seen anywhere. Use noeviction, and a server that
// is not a cache for something else.
//
// # When the memory is full
//
// With noeviction a server that has reached maxmemory refuses what could take
// more: new sessions, changes and locks fail with its error. Sessions that are
// there are still read, their deadlines are moved, their locks renewed and
// freed, and they can be ended and deleted.
//
// # Servers
//
// Redis 5 or later, and Valkey. Tested with Redis 7.0. Every script works on
// one key that it declares, so a cluster is fine, and spreads the sessions. A
// server or proxy without EVAL and EVALSHA is not.
//
// # Permissions
//
// The user of the client needs, besides what go-redis sends to set up a
// connection:
//
//	~session:* +eval +evalsha +time +exists +hmget +hset +pexpireat +del
//
// [Backend.List] changes nothing, and needs
//
//	~session:* +scan +eval +evalsha +time +exists +hmget +hexists +hstrlen
//
// SCAN names the keys of others too, whatever the user may do with them.
package redisstore
