// Package dynamodb keeps sessions in a table of Amazon DynamoDB.
//
// # Requests and costs
//
// A session is one item. Every call sends one request:
//
//	Load     GetItem      1 RCU per 4 KB of the item, half with EventuallyConsistentReads
//	Save     UpdateItem   1 WCU per KB of the larger of the old and the new item
//	  ending DeleteItem   1 WCU per KB of the item, for a Save whose Expires has passed
//	Touch    UpdateItem   1 WCU per KB of the item, although it changes one attribute only
//	Delete   DeleteItem   1 WCU per KB of the item, 1 if there is none
//	Acquire  UpdateItem   1 WCU per KB of the item; it also reads the item, at no cost
//	Extend   UpdateItem   1 WCU per KB of the item
//	Release  UpdateItem   1 WCU per KB of the item
//
// Sizes are rounded up. DynamoDB bills an UpdateItem whose condition fails like
// one that succeeds. Each retry is one more request, and is billed if it reached
// the table. A call sends two requests in these cases:
//
//   - An eventually consistent read finds no item, or an expired one. A
//     consistent read follows.
//   - A Save with KeepLater finds a later Expires. The Save is sent again, and
//     leaves Expires as it is.
//   - A Release that was to move Expires finds that a Touch has moved it. The
//     Release is sent again, and only frees the lock.
//   - A call other than Load and Extend finds an expired item. It removes the
//     item with a DeleteItem before it returns.
//   - A refusal comes without the stored item. A GetItem follows, to tell a
//     missing record from an engine that ignores
//     ReturnValuesOnConditionCheckFailure. This ends with the first item that
//     comes with a refusal; DynamoDB always sends it.
//
// # The item
//
//	id          S  the key
//	data        B  the encoded session; S with DataType String
//	expires     N  deadline in epoch seconds, rounded up; the TTL attribute of the table
//	created     N  start of the session in epoch milliseconds
//	version     B  tokens of the last 16 writes, 8 bytes each, newest first
//	lock        B  16 random bytes that name the lock; absent if the record is free
//	lock_until  N  end of the lease in epoch milliseconds, rounded up
//
// [Config] can change the names. This package leaves other attributes alone. An
// item is not one of this package if it lacks one of the first five attributes,
// has one of another type, or has a lock of another form. Reading such an item
// fails with [session.ErrDecode], and a Save conflicts with it. An item without a
// version is never written to.
//
// TTL deletes expired items days late. Until then no call treats an expired item
// as a live one: the conditions of Save and Touch contain the time of this
// machine, and the Manager checks the deadline after a Load. A Save that was sent
// before the deadline and arrives after it contains a time at which the session
// was live. So a call that is about to report an expired session removes it
// first, on condition that it is still expired. A clock that is ahead ends
// sessions early, for all machines. Keep the clocks of all machines within a
// second of each other.
//
// # Locks
//
// A lock is the two lock attributes of the item. Acquire sets them and returns
// the record. The holder's Save writes the record and removes them, so a locked
// read, change and write is two requests. The Save of any other client has the
// condition that there is no lock or that its lease has run out. The version of a
// holder names the lock. After the lock was freed or taken over, no request of
// the former holder can be applied.
//
// Conditions of DynamoDB have no clock of their own, so the clocks of the
// machines decide when a lease ends. If two of them differ, the lease ends
// earlier or later by that difference for one of them. That costs a former holder
// its write, or the next holder some time, but never loses stored data. Acquire
// counts a lease from before it sends the request. Choose a lease that is longer
// than the difference of the clocks and the pauses of a process together. A
// renewal begins when a third of the lease has passed, and should survive
// attempts that hang for AttemptTimeout. With its default of 2 s, a lease of 5 s,
// the default of session.LockConfig, survives one such attempt, and one of 10 s
// survives three.
//
// An Acquire that finds a lock is billed like a write of the item. A Load is the
// cheaper way to see whether the lock is free, and the Manager uses it while it
// waits. To break a lock by hand, remove the attribute lock from the item. The
// next request of the holder then fails with [session.ErrConflict].
//
// If the response to an Acquire is lost and the call then ends, for example with
// the context of the caller, the record may stay locked until the lease runs out.
//
// # Retries
//
// Each call switches the retries of the SDK off, even for a client that the
// caller made, and uses those of [Config] instead. They are few and short, and
// never pass the deadline of the context.
//
// A write draws a random token, which becomes the first one in the version. If
// the response to a write is lost and its retry is refused, the stored item shows
// what happened. If the item has the token, the first attempt was applied, and
// the call succeeds. If it does not, and its version reaches back to the one that
// the caller read, the call fails with a conflict. If others wrote 16 times or
// more before the retry, it does not reach back, and nothing tells. The error
// then says so, and is not [session.ErrConflict].
//
// A request whose response was lost may still be in flight, and may arrive after
// the call has ended. Nothing that the call has reported becomes untrue by that.
// For example, a retry may find the record unchanged but locked. It does not fail
// with [session.ErrLocked], because the lock may be freed before the first
// attempt arrives. The error says that it is not known whether the write was
// applied. For a create no condition helps, because the first attempt could
// arrive after a Delete. So a create fails, and is not sent again, after an
// attempt that may have been applied. The Manager then creates the session under
// another key, and no client has the first one.
//
// A proxy may answer in place of DynamoDB, with a page or with an empty body. So
// an answer counts only if it has status 200, the Content-Type of the request,
// and a JSON object with an expected member. After any other answer the request
// is retried as if the response was lost.
//
// Acquire draws the 16 bytes of its lock, so its retry recognises them and
// succeeds with the lease of the first attempt. An attempt that arrives late
// locks the record until ttl after it was sent, and not longer. The retry of an
// Extend renews the lease once more. The retry of a Release succeeds if the lock
// is gone.
//
// # Sweeping
//
// TTL removes expired items at no cost, within a few days. [Backend.Sweep]
// removes them now. It reads the whole table in parallel, and deletes each
// expired item with a request of its own. The condition of that request is that
// the item is still expired, was written by this package and is not locked. So an
// item that was renewed or locked meanwhile stays.
//
//	reading    Scan        0.5 RCU per 4 KB of everything in the table
//	deleting   DeleteItem  1 WCU per KB of each item, even if it is refused
//
// The other ways to delete are no better. BatchWriteItem has no conditions. A
// transaction costs twice the units. BatchExecuteStatement with 25 conditional
// deletes took 0.7 to 0.8 of the time of as many parallel DeleteItems, on
// DynamoDB Local. It needs another permission, and DynamoDB Local does not report
// what it costs. As every deletion is a request of its own, a throttled one is
// retried alone, and there are no unprocessed items.
//
// A sweep can have a budget in capacity units per second, which it keeps by the
// costs that the answers report. A sweep that was stopped can go on from the
// Checkpoint of its last report, and reads only the pages that were not finished.
//
// [Backend.List] reads the table in the same way, for tools. Config.OnRequest is
// told the cost of each request.
//
// # Beside PHP
//
// With Config.PHP, pages in PHP use the table too, by the session handler of the AWS
// SDK for PHP. The requests and their costs are the same: 1 to read, 2 for a read and
// a change, with or without a lock. The item then has one attribute more, and others
// can be missing:
//
//	data        absent if the session has no values
//	created     absent if only PHP has written the item; the session begins now
//	version     absent if only PHP has written the item
//	lock        N for a lock of PHP's, which has no end
//	private     the data of a record that is no session, which PHP is not to see
//
// The stock handler writes without a condition, and leaves the version as it is. So
// beside it, and for items without a version, Save has the condition that the data
// is as it was read. The request then has the old data too, which costs no units, and
// so has the Version. [PHPConnection] says what that handler can undo all the same.
//
// A lock of PHP's counts until this process has seen it for PHPConfig.ForeignLease. A
// call that finds it then sends one request more. PHP that locks waits for a lock of
// this package as for one of its own.
//
// # Options of the PHP session handler
//
// Without Config.PHP, a table that was set up for the session handler of the AWS SDK
// for PHP can be used. The items of that handler cannot, and are recognised by their
// lack of a version.
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
//	                            Not needed against lost updates, as every Save is
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
// An application needs dynamodb:GetItem, dynamodb:UpdateItem and
// dynamodb:DeleteItem on the table. [Backend.Sweep] needs dynamodb:Scan, and
// dynamodb:DeleteItem unless DryRun is set. [Backend.List] needs dynamodb:Scan.
// [Backend.CheckTable] needs dynamodb:DescribeTable and
// dynamodb:DescribeTimeToLive. [Backend.CreateTable] needs these two,
// dynamodb:CreateTable, dynamodb:UpdateTimeToLive, and dynamodb:TagResource if
// there are tags.
//
// # Global tables
//
// Conditions hold within one region. If regions replicate a global table
// asynchronously, the last writer wins between them. Send all requests of a
// session to one region.
package dynamodb
