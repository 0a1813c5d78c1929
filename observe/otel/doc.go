// Package sessionotel tells OpenTelemetry what a [session.Manager] does: a
// span for each call of the store, and metrics.
//
//	observer, err := sessionotel.New(sessionotel.Config{})
//	...
//	backend, err := dynamodb.New(cfg, dynamodb.Config{OnRequest: observer.Request})
//	...
//	manager, err := session.New(backend, session.Config{Observer: observer})
//
// It uses the API of OpenTelemetry only. What becomes of spans and metrics is
// up to the providers, which are the global ones unless [Config] names others.
//
// # Spans
//
// A call of the store is a span of kind INTERNAL, called "session.Load",
// "session.Save" and so on after the [observe.Op]. The backend gets its
// context, so what the AWS SDK or the Redis client traces goes under it. Its
// attribute session.outcome is as with the metrics. Only "error" makes it a
// failed span, with error.type and the text of the error, which has no key.
//
// For spans below these give the aws.Config an HTTPClient with the Transport
// of otelhttp, or a TracerProvider to the client; and go-redis a hook with
// redisotel.InstrumentTracing. Tell the latter WithDBStatement(false): without
// it, its spans have the keys and the data of sessions.
//
// # Metrics
//
// What the semantic conventions for database clients name has their name; it
// comes from [Observer.Request], so from a backend that tells its requests.
// The Redis client has an instrumentation of its own for that.
//
//	db.client.operation.duration  s, histogram
//	    The requests, each attempt of a call for itself.
//	    db.system.name, db.operation.name ("GetItem"), db.collection.name (the
//	    table), error.type if it failed. A refused condition is a failed request.
//	session.capacity.consumed  {capacity_unit}, counter
//	    The capacity units that the store has charged, as far as it told: not
//	    for a refused condition, nor for an answer that was lost.
//	    db.system.name, db.operation.name, db.collection.name,
//	    session.capacity.kind ("read" or "write")
//	session.request.retries  {request}, counter
//	    Requests that were sent again.
//	    db.system.name, db.operation.name, db.collection.name
//
// The rest comes from the Manager.
//
//	session.operation.duration  s, histogram
//	    The calls of the store, with their retries.
//	    session.operation ("Load"), session.outcome, error.type if that is "error".
//	    session.outcome is "ok", "not_found", "conflict" (others have changed
//	    the session since it was read; or the lock of an Extend or a Release
//	    is lost), "locked", "canceled" (the caller was gone) or "error". So the
//	    number of conflicts is that of operation Save and outcome conflict.
//	session.lock.wait  s, histogram
//	    How long a request in mode Exclusive waited for its lock.
//	    session.outcome, "error" if there was none in time; error.type
//	session.lock.losses  {lock}, counter
//	    Locks whose lease ran out, or was taken over, under their holder.
//	session.payload.size  By, histogram
//	    The sizes of encoded sessions as they are stored.
//	session.merges  {save}, counter
//	    Saves that succeeded after a conflict: no update was lost.
//	session.creations  {session}, counter
//	    New sessions that were stored.
//	session.rotations  {session}, counter
//	    Sessions that got a new ID, by Login or Rotate.
//	session.destructions  {session}, counter
//	    Sessions that were destroyed: log-outs.
//	session.expirations  {session}, counter
//	    Sessions that were found past their deadline. Those that nobody asked
//	    for any more, or that the store has deleted already, are not in it.
//	session.touch.savings  {write}, counter
//	    Requests that read and did not have to write the deadline, as
//	    TouchInterval had not passed.
//	session.touch.failures  {write}, counter
//	    Deadlines that could not be moved. The requests went on.
//	session.commit.failures  {request}, counter
//	    Requests whose session could not be saved by the Handler.
//	    session.late: false if the client got an error, true if it was too late
//	    for one; error.type
//	session.decode.failures  {session}, counter
//	    Stored sessions that do not decode.
//	session.token.refusals  {token}, counter
//	    Tokens of requests for which there was no session.
//	    session.reason: "malformed", "unknown" (destroyed, expired and deleted,
//	    or planted) or "moved" (to a new ID a moment ago)
//	session.token.duplicates  {request}, counter
//	    Requests with several tokens that are not alike: left over, or planted
//	    by a sibling host.
//	session.active  {session}, gauge
//	    Sessions in the store; only with [Config.Active].
//
// The values of error.type are "too_large", "encode", "decode", "read_only",
// "too_late", "not_found", "conflict", "locked", "lock_timeout", "lock_lost",
// "canceled", "timeout", "network", the code of the store's error where it has
// one ("ThrottlingException"), and "_OTHER".
//
// No ID, key or token is in any of these, nor anything else that has as many
// values as there are sessions.
package sessionotel
