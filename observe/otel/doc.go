// Package sessionotel reports the calls and events of a [session.Manager] to
// OpenTelemetry: a span for each call of the store, and metrics.
//
//	observer, err := sessionotel.New(sessionotel.Config{})
//	...
//	backend, err := dynamodb.New(cfg, dynamodb.Config{OnRequest: observer.Request})
//	...
//	manager, err := session.New(backend, session.Config{Observer: observer})
//
// It uses only the API of OpenTelemetry. Spans and metrics go to the global
// providers, unless [Config] names others.
//
// # Spans
//
// A call of the store is a span of kind INTERNAL, called "session.Load",
// "session.Save" and so on after the [observe.Op]. The backend gets its
// context, so spans of the AWS SDK or the Redis client become its children. Its
// attribute session.outcome is that of the metrics. Only "error" makes it a
// failed span, with error.type and the text of the error, which contains no key.
//
// For such children, set an HTTPClient with the Transport of otelhttp in the
// aws.Config, or a TracerProvider in the client; for go-redis, call
// redisotel.InstrumentTracing with WithDBStatement(false). Without that option,
// its spans contain the keys and the data of sessions.
//
// # Metrics
//
// The following metrics come from [Observer.Request], so they need a backend that
// reports its requests; the Redis client has an instrumentation of its own for
// that. Metrics and attributes have the names of the semantic conventions for
// database clients, where those define one.
//
//	db.client.operation.duration  s, histogram
//	    Requests; each attempt of a call is one request.
//	    db.system.name, db.operation.name ("GetItem"), db.collection.name (the
//	    table), error.type if it failed. A refused condition is a failed request.
//	session.capacity.consumed  {capacity_unit}, counter
//	    The capacity units that the store reported. It reports none for a refused
//	    condition, and none are known if the response was lost.
//	    db.system.name, db.operation.name, db.collection.name,
//	    session.capacity.kind ("read" or "write")
//	session.request.retries  {request}, counter
//	    Requests that were sent again.
//	    db.system.name, db.operation.name, db.collection.name
//
// The other metrics come from the Manager.
//
//	session.operation.duration  s, histogram
//	    Calls of the store, including retries.
//	    session.operation ("Load"), session.outcome, error.type if that is "error".
//	    session.outcome is "ok", "not_found", "conflict" (another request has
//	    changed the session since it was read; or the lock of an Extend or a
//	    Release is lost), "locked", "canceled" (the caller was gone) or "error".
//	    For the number of conflicts, select operation Save and outcome conflict.
//	session.lock.wait  s, histogram
//	    How long a request in mode Exclusive waited for its lock.
//	    session.outcome, "error" if it was not acquired in time; error.type
//	session.lock.losses  {lock}, counter
//	    Locks whose lease ran out, or was taken over, while they were held.
//	session.payload.size  By, histogram
//	    The sizes of encoded sessions as they are stored.
//	session.merges  {save}, counter
//	    Saves that succeeded after a conflict: no update was lost.
//	session.creations  {session}, counter
//	    New sessions that were stored.
//	session.rotations  {session}, counter
//	    Sessions that got a new ID, by Login or Rotate.
//	session.destructions  {session}, counter
//	    Sessions that were destroyed: logouts.
//	session.expirations  {session}, counter
//	    Sessions that were found past their deadline. Sessions that no request
//	    asked for again, or that the store deleted first, are not counted.
//	session.touch.savings  {write}, counter
//	    Requests that only read, and did not write the deadline because
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
//	    Requests with several tokens that are not all equal: left over, or
//	    planted by a sibling host.
//	session.renewal.follows  {request}, counter
//	    Requests that went on under a new ID after a renewal.
//	session.renewal.failures  {session}, counter
//	    Sessions that could not get a new ID when it was time; the pages were
//	    served.
//	session.login.joins  {request}, counter
//	    Logins, and new authentications, that joined the session of another one
//	    of the same user, as after a double click.
//	session.active  {session}, gauge
//	    Sessions in the store; only with [Config.Active].
//
// The values of error.type are "too_large", "encode", "decode", "read_only",
// "too_late", "not_found", "conflict", "locked", "lock_timeout", "lock_lost",
// "canceled", "timeout", "network", the code of the store's error if it has
// one ("ThrottlingException"), and "_OTHER".
//
// No attribute contains an ID, a key or a token, or anything else that has as
// many values as there are sessions.
package sessionotel
