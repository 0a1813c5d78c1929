package redis

// The scripts. Each works on one key, so that it runs on a cluster, and reads
// the clock of the server. The record is a hash:
//
//	data     the encoded session
//	created  start of the session, epoch milliseconds
//	expires  deadline, epoch milliseconds
//	version  tokens of the last writes, 8 bytes each, newest first
//	written  time of the last one, epoch milliseconds
//	lock     token of the last lock; missing if there was none yet
//	until    end of its lease, epoch milliseconds; 0 once it was ended
//
// Up to 128 tokens are kept. All but the newest are dropped by the first write
// after a minute without any: who retried has given up by then. So a retry
// within a minute finds the token of its first attempt, unless there were more
// than 127 other writes since.
//
// A reply is a status, and then where it says so: milliseconds that the lock
// is live, data, created, expires, newest token, whether all tokens of the last
// minute are there.

// head reads what decides. Of a hash without expires and version nothing is
// known; it is never changed.
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
-- The key stays for a minute after the deadline, dead. So a retry still finds
-- the write that it repeats.
--
-- What only moves times, or ends the record, does this first: HSET is refused when the memory of the
-- server is full, but not in a script that has written already.
local function keep(deadline) redis.call('PEXPIREAT', key, whole(math.max(deadline, now) + 60000)) end
`

var (
	readCommand = &script{op: "Load", command: "HMGET"}

	loadScript = newScript("Load", false, replies{"ok": 6, "none": 1}, `
local f = redis.call('HMGET', KEYS[1], 'until', 'data', 'created', 'expires', 'version')
if not (f[4] and f[5]) and redis.call('EXISTS', KEYS[1]) == 0 then return {'none'} end
local left, till = 0, f[1] and tonumber(f[1]) or 0
if till > 0 then
	local t = redis.call('TIME')
	left = math.max(0, math.ceil(till - t[1] * 1000 - t[2] / 1000))
end
return {'ok', left, f[2], f[3], f[4], f[5] and string.sub(f[5], 1, 8)}
`)

	// token, version that was read, lock that is held, data, created, expires
	// with a plus if a later one stays: a server refuses more arguments of
	// somebody who has yet to give a password, and does not say why
	saveScript = newScript("Save", true, replies{"ok": 1, "none": 1, "foreign": 1, "locked": 7, "conflict": 7}, head+`
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

	// expires
	touchScript = newScript("Touch", true, replies{"ok": 1, "none": 1, "foreign": 1}, head+`
if not live then return {'none'} end
local deadline = tonumber(ARGV[1])
if deadline > expires then
	keep(deadline)
	redis.call('HSET', key, 'expires', ARGV[1])
end
return {'ok'}
`)

	deleteScript = newScript("Delete", true, replies{"ok": 1}, `
redis.call('DEL', KEYS[1])
return {'ok'}
`)

	// lock, ttl
	acquireScript = newScript("Acquire", true, replies{"ok": 7, "none": 1, "foreign": 1, "ended": 1, "locked": 7}, head+`
if not live then return {'none'} end
if lock == ARGV[1] then
	-- One's own. If it was ended, this is a late copy of a request that
	-- succeeded long ago, or others came in between.
	if till == 0 then return {'ended'} end
elseif left > 0 then
	return brief('locked')
end
redis.call('HSET', key, 'lock', ARGV[1], 'until', whole(math.ceil(now + ARGV[2])))
return full('ok')
`)

	// lock, ttl
	extendScript = newScript("Extend", true, replies{"ok": 1, "none": 1, "foreign": 1, "conflict": 1}, head+`
if not live then return {'none'} end
if lock ~= ARGV[1] or left == 0 then return {'conflict'} end
keep(expires)
redis.call('HSET', key, 'until', whole(math.ceil(now + ARGV[2])))
return {'ok'}
`)

	// lock, expires
	releaseScript = newScript("Release", true, replies{"ok": 1, "none": 1, "foreign": 1, "conflict": 7}, head+`
if not live then return {'none'} end
if lock ~= ARGV[1] or till == 0 then return brief('conflict') end
local deadline = tonumber(ARGV[2])
keep(math.max(deadline, expires))
redis.call('HSET', key, 'until', '0')
if deadline > expires then redis.call('HSET', key, 'expires', ARGV[2]) end
return {'ok'}
`)
)

// sentOnce returns s for what must not be sent again.
func (s script) sentOnce() *script {
	s.once = true
	return &s
}
