// Package dynamodb keeps sessions in a table of Amazon DynamoDB.
//
// # Requests and what they cost
//
// One session is one item. Every call is one request:
//
//	Load     GetItem      1 RCU per 4 KB of the item, half with EventuallyConsistentReads
//	Save     UpdateItem   1 WCU per KB of the larger of the old and the new item
//	  ending DeleteItem   1 WCU per KB of the item, for a Save whose Expires has passed
//	Touch    UpdateItem   1 WCU per KB of the item, though it moves one attribute only
//	Delete   DeleteItem   1 WCU per KB of the item, 1 if there is none
//	Acquire  UpdateItem   1 WCU per KB of the item; reading it with that is free
//	Extend   UpdateItem   1 WCU per KB of the item
//	Release  UpdateItem   1 WCU per KB of the item
//
// Sizes are rounded up. An UpdateItem that is refused because its condition
// does not hold is billed like one that succeeded. Each retry is one more
// request, and billed if it reached the table. A refusal that comes without
// the stored item costs one GetItem more, to tell a missing record from an
// engine that ignores ReturnValuesOnConditionCheckFailure, until the first
// item has come with a refusal: DynamoDB sends it always. There are three more
// cases of two requests: an eventually consistent read that finds nothing, or
// what has expired, is followed by a consistent one; a Save with KeepLater that
// finds a later Expires is sent again; and a call that finds an expired item,
// other than Load and Extend, removes it with a DeleteItem before it says so.
//
// # The item
//
//	id          S  the key
//	data        B  the encoded session; S with DataType String
//	expires     N  deadline in epoch seconds, rounded up; the table's TTL attribute
//	created     N  start of the session in epoch milliseconds
//	version     B  tokens of the last 16 writes, 8 bytes each, newest first
//	lock        B  16 random bytes of the lock's holder; none if it is free
//	lock_until  N  end of the lease in epoch milliseconds, rounded up
//
// The names can be changed in [Config]. Attributes that this package does not
// know are left alone. An item that lacks one of the first five, has one of
// another type, or has a lock that is not like this, was not written by this
// package: reading it fails with [session.ErrDecode], and a Save conflicts
// with it. One without a version is never written to, whatever else it has.
//
// TTL deletes expired items days late. No call takes an expired item for a
// live one until then: Save and Touch carry the clock of this machine in
// their condition, and the Manager looks at the deadline after a Load. A Save
// that was sent before the deadline, and arrives after it, carries a time at
// which the session was alive. So whoever is told that it has expired removes
// it first, on condition that it still has. A clock that is ahead ends sessions
// early, and for everybody: keep the clocks of all machines within a second of
// each other.
//
// # Locks
//
// A lock is the two lock attributes of the item itself. Acquire sets them and
// returns the record, and the holder's Save writes and removes them: a locked
// read, change and write is two requests. Everybody else's Save carries "no
// lock, or its lease has run out" in its condition. A holder has a version of
// its own, which names the lock: once the lock is gone, taken over or freed,
// nothing it sends can be applied.
//
// DynamoDB has no clock for conditions, so a lease is judged by the clocks of
// the machines. If two of them differ, a lease ends earlier or later by the
// difference for one of them. That costs a former holder its write, or the
// next one some time, and never what is stored. Acquire counts a lease from
// before its request is sent. Choose it longer than the difference of the
// clocks and the pauses of a process together, and so that a renewal, which
// begins when a third has passed, survives an attempt that hangs for
// AttemptTimeout: with the default of 2 s, the default of session.LockConfig, 5 s,
// survives one, and 10 s three.
//
// An Acquire that finds a lock is billed like a write of the item, so ask Load
// whether the lock has been freed, as the Manager does while it waits. To break
// a lock by hand, remove the attribute lock from the item: the holder's next
// request then fails with [session.ErrConflict].
//
// If the response to an Acquire is lost and the call then ends, with the
// caller's context for example, the record may stay locked until the lease has
// run out.
//
// # Retries
//
// The retries of the SDK are switched off for each call, also for a client
// that the caller made, and replaced by those of [Config]: few, short, and
// never past the deadline of the caller's context.
//
// A write draws a random token, which becomes the first one in the version.
// When the response to a write is lost, and its retry is refused, the stored
// item says what happened: if it has the token, the first attempt was
// applied, and the call succeeds. If it does not, and shows what came after
// the version that the caller had read, the call is a conflict. In the one
// case left, a lost response followed by 16 or more writes of others
// before the retry, nobody can know: the error says so, and is not
// [session.ErrConflict].
//
// A request whose response did not come may still be under way, and arrive
// when its sender has given up. Nothing that was said by then is undone by it.
// A retry that finds the record as it was, but locked, does not fail with
// [session.ErrLocked], as the lock may be freed before the first attempt
// arrives: the error says that it is not known whether it was applied. No
// condition helps a create, which could arrive after a Delete. So it is not
// sent again once an attempt may have been applied, and fails; the Manager then
// makes the session under another key, as nobody has the first one.
//
// What answers in the place of DynamoDB, a proxy with a page or with nothing,
// is not taken for DynamoDB: an answer has status 200, the Content-Type of the
// request, and a JSON object with what was asked for. Anything else is retried
// like an answer that was lost.
//
// Acquire draws the 16 bytes of its lock, so that its retry recognises it and
// succeeds with the lease that the first attempt got. An attempt that arrives
// late locks until ttl after it was sent, and not longer. The retry of an Extend
// renews once more. The retry of a Release that finds the lock gone succeeds.
//
// # Sweeping
//
// TTL removes expired items at no cost, within a few days. [Backend.Sweep]
// removes them now. It reads the whole table in parallel, and deletes what it
// finds in requests of their own, each on condition that the item is still
// expired, still ours and not locked: what is renewed or locked in between
// stays.
//
//	reading    Scan        0.5 RCU per 4 KB of everything in the table
//	deleting   DeleteItem  1 WCU per KB of each item, also if it is refused
//
// The other ways to delete are no better. BatchWriteItem takes no conditions.
// A transaction costs twice the units. 25 conditional deletes in one
// BatchExecuteStatement took 0.7 to 0.8 of the time of as many DeleteItems in
// parallel, on DynamoDB Local; they need another permission, and no answer of
// DynamoDB Local says what they cost. As every deletion is a request, one that
// is throttled is sent again alone: there are no unprocessed items.
//
// A budget in capacity units per second is kept from what the answers say. A
// sweep that was stopped goes on from the Checkpoint of its last report; what
// had been finished is not read again.
//
// [Backend.List] reads the table in the same way, for tools. Config.OnRequest
// sees what each request has cost.
//
// # Options of the PHP session handler
//
// Tables that were set up for the session handler of the AWS SDK for PHP can
// be used; its items cannot, and are told apart by their lack of a version.
//
//	table_name                  Config.Table, same default "sessions"
//	hash_key                    Config.KeyAttribute, same default "id"
//	data_attribute              Config.DataAttribute, same default "data"
//	data_attribute_type         Config.DataType: "binary" is Binary, our default,
//	                            as the default codec is binary; "string" is String
//	session_lifetime            an option of the session.Manager
//	session_lifetime_attribute  Config.ExpiresAttribute, same default "expires"
//	consistent_read             the opposite of Config.EventuallyConsistentReads,
//	                            same default
//	locking                     true is Mode Exclusive of the session.Manager.
//	                            Not needed against lost updates: every Save is
//	                            conditional
//	max_lock_wait_time          MaxWait of session.LockConfig, same default 10 s
//	min_lock_retry_microtime    MinRetry of session.LockConfig, same default 10 ms
//	max_lock_retry_microtime    MaxRetry of session.LockConfig, same default 50 ms
//	batch_config                admin.SweepOptions, for a sweep; TTL needs none:
//	    batch_size              BatchSize, same default 25
//	    pool_size               Workers
//	    before                  BeforeBatch, which can delay and skip a batch
//	    error                   OnError
//
// # Permissions
//
// The application needs dynamodb:GetItem, dynamodb:UpdateItem and
// dynamodb:DeleteItem on the table. [Backend.Sweep] needs dynamodb:Scan and
// dynamodb:DeleteItem, only Scan with DryRun; [Backend.List] needs
// dynamodb:Scan. [Backend.CheckTable] needs
// dynamodb:DescribeTable and dynamodb:DescribeTimeToLive, and
// [Backend.CreateTable] these two, dynamodb:CreateTable and
// dynamodb:UpdateTimeToLive (and dynamodb:TagResource for tags).
//
// # Global tables
//
// Conditions hold within one region. In a global table that is replicated
// asynchronously the last writer wins between regions: send all requests of
// a session to one region.
package dynamodb
