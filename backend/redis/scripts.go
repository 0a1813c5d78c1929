package redisstore

// Each script of the Backend works on one key, so that it runs on a cluster,
// and reads the clock of the server. The record is a hash:
//
//	data     the encoded session
//	created  start of the session, in epoch milliseconds
//	expires  deadline, in epoch milliseconds
//	version  tokens of the last writes, 8 bytes each, newest first
//	written  time of the last write, in epoch milliseconds
//	lock     token of the last lock; missing if there was none yet
//	until    end of its lease, in epoch milliseconds; 0 once the lock was ended
//
// Up to 128 tokens are kept. The first write after a minute without writes
// drops all but the newest: by then every caller has stopped retrying. So a
// retry within a minute finds the token of its first attempt, unless more than
// 127 other writes came between.
//
// A reply is a status and then the fields of its layout, see reply.go.

// head reads the fields that the scripts decide by. A hash without expires or
// version is foreign, and no script changes it.
//
// keep makes the key last for a minute after the deadline, so that a retry
// still finds the write that it repeats. A script that only moves times, or
// ends the record, calls keep before HSET: a server with a full memory refuses
// HSET as the first write of a script, but not as a later one.
const head = `
local key = KEYS[1]
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local f = redis.call('HMGET', key, 'expires', 'version', 'lock', 'until', 'written')
local expires, version, lock = f[1] and tonumber(f[1]), f[2], f[3]
local till = f[4] and tonumber(f[4]) or 0
local there = expires and version
if not there and redis.call('EXISTS', key) == 1 then return {'foreign'} end
local live = there and expires > now
local newest = there and string.sub(version, 1, 8)
local covered = there and #version < 1024 and 1 or 0
local left = math.max(0, math.ceil(till - now))
local function brief(status) return {status, left, false, false, f[1], newest, covered} end
local function full(status)
	local d = redis.call('HMGET', key, 'data', 'created')
	return {status, left, d[1], d[2], f[1], newest, covered}
end
local function whole(n) return string.format('%.0f', n) end
local function keep(deadline) redis.call('PEXPIREAT', key, whole(math.max(deadline, now) + 60000)) end
`

var (
	// The arguments are the names of the fields.
	readCommand = &script{op: "Load", command: "HMGET", replies: replies{"": hashFields}}

	loadScript = newScript("Load", false, replies{statusOK: recordFields, statusNone: noFields}, `
local f = redis.call('HMGET', KEYS[1], 'until', 'data', 'created', 'expires', 'version')
if not (f[4] and f[5]) and redis.call('EXISTS', KEYS[1]) == 0 then return {'none'} end
local left, till = 0, f[1] and tonumber(f[1]) or 0
if till > 0 then
	local t = redis.call('TIME')
	left = math.max(0, math.ceil(till - t[1] * 1000 - t[2] / 1000))
end
return {'ok', left, f[2], f[3], f[4], f[5] and string.sub(f[5], 1, 8)}
`)

	// Arguments: token, version that was read, lock that is held, data,
	// created, expires, with a plus before it if a later stored one stays. The
	// plus is not an argument of its own: with more arguments, a server that
	// requires a password refuses the command without saying why.
	saveScript = newScript("Save", true, replies{
		statusOK: noFields, statusNone: noFields, statusForeign: noFields, statusLocked: decisionFields, statusConflict: decisionFields,
	}, head+`
local token, old, mine = ARGV[1], ARGV[2], ARGV[3]
local keeps, deadline = string.match(ARGV[6], '^(%+?)(.*)$')
if there and string.find(version, token, 1, true) then return {'ok'} end
if there and old ~= '' and string.find(version, old, 1, true) then covered = 1 end
if keeps ~= '' and live and expires > tonumber(deadline) then deadline = f[1] end
local ends = old ~= '' and tonumber(deadline) <= now
if live then
	if mine ~= '' then
		if lock ~= mine or till == 0 or newest ~= old then return full('conflict') end
	elseif left > 0 then
		return brief('locked')
	elseif newest ~= old then
		return full('conflict')
	end
elseif old ~= '' and not (ends and newest == old) then
	return {'none'}
end
if ends then keep(now) end
local past = ''
if there then
	local written = f[5] and tonumber(f[5]) or 0
	past = string.sub(version, 1, now - written < 60000 and 1016 or 8)
end
redis.call('HSET', key, 'data', ARGV[4], 'created', ARGV[5], 'expires', deadline, 'version', token .. past, 'written', whole(now))
if lock then redis.call('HSET', key, 'until', '0') end
keep(tonumber(deadline))
return {'ok'}
`)

	createScript = saveScript.sentOnce()

	// Argument: expires.
	touchScript = newScript("Touch", true, replies{statusOK: noFields, statusNone: noFields, statusForeign: noFields}, head+`
if not live then return {'none'} end
local deadline = tonumber(ARGV[1])
if deadline > expires then
	keep(deadline)
	redis.call('HSET', key, 'expires', ARGV[1])
end
return {'ok'}
`)

	deleteScript = newScript("Delete", true, replies{statusOK: noFields}, `
redis.call('DEL', KEYS[1])
return {'ok'}
`)

	// Arguments: lock, ttl. If the lock was ended already, this is a late copy
	// of a request that has succeeded, or a retry before which another client
	// ended it.
	acquireScript = newScript("Acquire", true, replies{
		statusOK: decisionFields, statusNone: noFields, statusForeign: noFields, statusEnded: noFields, statusLocked: decisionFields,
	}, head+`
if not live then return {'none'} end
if lock == ARGV[1] then
	if till == 0 then return {'ended'} end
elseif left > 0 then
	return brief('locked')
end
redis.call('HSET', key, 'lock', ARGV[1], 'until', whole(math.ceil(now + ARGV[2])))
return full('ok')
`)

	// Arguments: lock, ttl.
	extendScript = newScript("Extend", true, replies{
		statusOK: noFields, statusNone: noFields, statusForeign: noFields, statusConflict: noFields,
	}, head+`
if not live then return {'none'} end
if lock ~= ARGV[1] or left == 0 then return {'conflict'} end
keep(expires)
redis.call('HSET', key, 'until', whole(math.ceil(now + ARGV[2])))
return {'ok'}
`)

	// Arguments: lock, expires.
	releaseScript = newScript("Release", true, replies{
		statusOK: noFields, statusNone: noFields, statusForeign: noFields, statusConflict: decisionFields,
	}, head+`
if not live then return {'none'} end
if lock ~= ARGV[1] or till == 0 then return brief('conflict') end
local deadline = tonumber(ARGV[2])
keep(math.max(deadline, expires))
redis.call('HSET', key, 'until', '0')
if deadline > expires then redis.call('HSET', key, 'expires', ARGV[2]) end
return {'ok'}
`)
)
