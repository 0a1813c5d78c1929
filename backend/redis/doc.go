// Package redisstore stores sessions in Redis or Valkey, and locks them there.
//
// The import path ends in redis, as the paths of the other backends end in the
// name of their store. The package is called redisstore because a program that
// uses it also imports go-redis, and that package is called redis:
//
//	import (
//		"github.com/redis/go-redis/v9"
//		redisstore "github.com/seed-a7bee19b/session/backend/redis"
//	)
//
// A [Backend] stores sessions and locks them. A [Locker] only makes locks, for
// sessions in a [session.Backend] that cannot lock.
//
// # Commands
//
// One session is one key. Load is one HMGET, in one round trip. Save, Touch,
// Delete, Acquire, Extend and Release are one EVALSHA each. Acquire reads the
// session and Save unlocks it, so a read and a write under a lock are two
// commands. A Load that finds a lock, no session, or a hash that this package
// did not write needs a second command: a script that knows the clock of the
// server. If the client may read from replicas, every Load uses that script in
// place of HMGET. The first use of a script on a server that does not know it
// costs one more command, an EVAL. Each retry is one more command. List, for
// operators, goes through all keys with SCAN.
//
// A script takes the server about twice as long as HMGET or HSET alone. Redis
// 7.0 ran more than 100,000 scripts a second on one core, with 700 bytes of
// data.
//
// # The hash
//
//	data     the encoded session
//	created  start of the session, in epoch milliseconds
//	expires  deadline, in epoch milliseconds
//	version  tokens of the last writes, 8 bytes each, newest first
//	written  time of the last write, in epoch milliseconds
//	lock     token of the last lock; missing if there was none yet
//	until    end of its lease, in epoch milliseconds; 0 once the lock was ended
//
// The package ignores other fields, and Save keeps them. It refuses a hash
// without expires or version, and a key that is not a hash, with
// [session.ErrDecode]: it did not write them. Only Delete changes such a key.
//
// A session that is written now and then has two tokens. One that is written
// all the time has up to 128, which take 1 KiB.
//
// # Clocks
//
// The scripts judge deadlines and leases by the clock of the server. A lease
// is a duration that starts at the server, so clocks that differ do not harm
// locks. The package counts LockedUntil, which it returns, from the clock of
// this machine. Expires is a point in time that the Manager computes: keep the
// clocks of all machines within a second of each other.
//
// Redis removes a key one minute after its deadline. Until then the record is
// dead but still uses memory, so that a retry finds the write that it repeats.
//
// # Sweeping
//
// Backend is no [admin.Sweeper], because there is nothing to sweep. Every
// session has a time to live, and Redis removes it soon after the minute by
// itself. A key stays only if PERSIST was used on it, or if this package did
// not write it. [Backend.List] shows such keys, with an Expires long past or as
// Foreign.
//
// # Retries and contexts
//
// The client retries as its options say: MaxRetries, MinRetryBackoff,
// MaxRetryBackoff, and ReadTimeout for one attempt, 5 s by default. For
// sessions, a ReadTimeout of 1 s and a backoff of 2 ms to 100 ms are enough.
//
// Each write draws a random token, which becomes the first in the version. If
// the response to a write is lost, the retry finds the token and succeeds
// without writing again. If the token is not there, but would have to be, the
// call fails with a conflict. In three cases the outcome is unknown; the call
// then fails with an error that says so and is none of the sentinels:
//
//   - The response was lost, and 128 or more other writes, or 50 s, passed
//     before the retry.
//   - The retry finds the record unchanged but locked. The first attempt may
//     still be in flight, and arrive after the lock was freed.
//   - The Save was to create, and the server may have run it. Such a Save is
//     not retried, because the retry could arrive after a Delete. The Manager
//     then stores the session under another key.
//
// A reply that no script of this package makes, for example one of a proxy,
// counts as no reply.
//
// Locks have tokens for the same reason. If an Acquire arrives after its
// caller has given up, it locks the record for ttl from then, unless its lock
// was the last one on the record and was freed already.
//
// A call returns when its context ends. go-redis does not look at a context
// while it waits for a response; with ContextTimeoutEnabled it looks at the
// deadline. So a call with a context that can end works in a goroutine, and
// leaves the goroutine behind if the context ends first. The goroutine ends
// with the response, or with the timeouts of the client, and there are never
// more of them than the client has connections. Set ContextTimeoutEnabled: it
// frees connections earlier. Closing the client ends all of them.
//
// # Waiting for a lock
//
// Waiters poll with Load; no message wakes them. Ten clients in one process,
// each with connections of its own, wanted one lock for 5 ms each. It took:
//
//	MinRetry  MaxRetry  in all   commands per lock
//	10 ms     50 ms     140 ms   5
//	5 ms      20 ms      96 ms   6
//	2 ms      10 ms      81 ms   8
//	1 ms      5 ms       67 ms   10
//	PUBLISH on unlock    59 ms   8
//
// Messages would cost every process a connection and a goroutine for as long
// as it runs, and would wake all waiters for one lock. They can be lost, so
// waiters would have to poll as well. A read costs no money on Redis: with locks
// there, set MinRetry to 2 ms and MaxRetry to 10 ms.
//
// # Locks for another Backend
//
// A lock of a [Locker] is one key. Acquire, Extend and Release are one EVALSHA
// each on that key, with the same rules for an EVAL, for retries and for
// contexts. The key holds a random token of 8 bytes, which only the holder
// knows. Redis removes the key when the lease ends, by the clock of the server.
//
// Such a lock puts requests in order, so that they need not be repeated after
// a conflict. It does not protect the data. The version check of the Backend
// protects it, always. A lock is lost if its holder stops for longer than
// the lease, if a server fails before its replica has received the lock, or if
// a server without persistence restarts. Two holders then work at the same
// time, and the later Save fails with a conflict.
//
// A retry after a lost response finds the token of the first attempt and
// succeeds. One case remains: an Acquire times out on its first attempt,
// succeeds with its retry, and its first attempt arrives only after Release.
// Then the lock is taken once more, until that lease ends.
//
// # What a failover means
//
// Replication is asynchronous. If a server fails before a replica has a write,
// the write is lost although the server has confirmed it; typically that is the
// last fraction of a second. A session may then be as it was a moment before, a
// deleted session may be back, and a new one may be missing. After a restart
// the same holds, depending on persistence: without persistence everything is
// lost, with appendonly and appendfsync everysec up to a second, with
// appendfsync always nothing. min-replicas-to-write makes the loss smaller; a
// write that fails because of it says so.
//
// A lock may be lost in the same way, and two clients may then both believe
// that they hold it. Their writes do not mix. The version is in the same hash,
// and a Save whose version is no longer stored is refused. For that reason
// there is no Redlock here, which asks several servers: it makes the loss of a
// lock less likely at several times the cost, and the version check would still
// be needed.
//
// Reads from a replica would return old states. Scripts always go to masters,
// also with ReadOnly, RouteByLatency and RouteRandomly in the options of a
// cluster client. A plain redis.Client asks the server whose address it has:
// with Sentinel, make the client with redis.NewFailoverClient.
//
// # Eviction
//
// When a server reaches maxmemory, its maxmemory-policy decides. With
// noeviction, writes fail with an error that says so. Every other policy
// removes sessions and locks that are in use, the volatile ones too, because
// every session has a time to live; volatile-ttl removes short leases first.
// The visitor is logged out, and no error is returned anywhere. Use noeviction,
// and a server that is not a cache for something else.
//
// # When the memory is full
//
// With noeviction, a server that has reached maxmemory refuses what could need
// more memory: new sessions, changes, and new locks fail with its error. It
// still reads sessions, moves their deadlines, renews and frees their locks,
// and ends and deletes them.
//
// # Servers
//
// Redis 5 or later, and Valkey. The tests use Redis 7.0. Each script works on
// one key, which it declares, so a cluster works and spreads the sessions over
// its servers. A server or proxy without EVAL and EVALSHA does not work.
//
// # Permissions
//
// The user of the client needs these permissions, besides those for the
// commands with which go-redis sets up a connection. A Backend needs
//
//	~session:* +eval +evalsha +time +exists +hmget +hset +pexpireat +del
//
// [Backend.List] changes nothing, and needs
//
//	~session:* +scan +eval +evalsha +time +exists +hmget +hexists +hstrlen
//
// SCAN returns the keys of other applications too, whatever the user may do
// with them. A [Locker] needs
//
//	~lock:* +eval +evalsha +get +set +pttl +pexpire +del
package redisstore
