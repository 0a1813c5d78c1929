// Package dynamodb keeps sessions in a table of Amazon DynamoDB.
//
// # Requests and what they cost
//
// One session is one item. Every call is one request:
//
//	Load    GetItem      1 RCU per 4 KB of the item, half with EventuallyConsistentReads
//	Save    UpdateItem   1 WCU per KB of the larger of the old and the new item
//	Touch   UpdateItem   1 WCU per KB of the item, though it moves one attribute only
//	Delete  DeleteItem   1 WCU per KB of the item, 1 if there is none
//
// Sizes are rounded up. A Save or Touch that is refused because its condition
// does not hold is billed like one that succeeded. Each retry is one more
// request, and billed if it reached the table. A refusal that comes without
// the stored item costs one GetItem more, to tell a missing record from an
// engine that ignores ReturnValuesOnConditionCheckFailure, until the first
// item has come with a refusal: DynamoDB sends it always.
//
// # The item
//
//	id       S  the key
//	data     B  the encoded session; S with DataType String
//	expires  N  deadline in epoch seconds, rounded up; the table's TTL attribute
//	created  N  start of the session in epoch milliseconds
//	version  B  tokens of the last eight writes, 8 bytes each, newest first
//
// The names can be changed in [Config]. Attributes that this package does not
// know are left alone. An item that lacks one of the five, or has one of
// another type, was not written by this package: reading it fails with
// [session.ErrDecode], and a Save conflicts with it. One without a version is
// never written to, whatever else it has.
//
// TTL deletes expired items days late. No call takes an expired item for a
// live one until then: Save and Touch carry the clock of this machine in
// their condition, and the Manager looks at the deadline after a Load. Keep
// the clocks of all machines within a second of each other.
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
// case left, a lost response followed by eight or more writes of others
// before the retry, nobody can know: the error says so, and is not
// [session.ErrConflict].
//
// No condition helps against a create that was given up, succeeded in its
// retry, and comes through only after a Delete: it would create once more.
// The request would have to be under way for longer than the session lived.
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
//	locking                     not needed against lost updates: every Save is
//	                            conditional
//	max_lock_wait_time          locking only
//	min_lock_retry_microtime    locking only
//	max_lock_retry_microtime    locking only
//	batch_config                not needed: TTL removes what has expired, at no cost
//
// # Permissions
//
// The application needs dynamodb:GetItem, dynamodb:UpdateItem and
// dynamodb:DeleteItem on the table. [Backend.CheckTable] needs
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
