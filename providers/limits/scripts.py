"""What the shared store does in one step for the limits of a provider row. Times are the server's own, in seconds.

Keys of a row: a hash with its clock and its brake, and beside it `:minute` and `:day` (calls and recipients by
bucket), `:calls` (leases of running calls), `:waiting` (tenants that lately had to wait) and `:seen:<second>` (calls
begun). A tenant's share of a shared row has a hash, windows and leases of the same form.
"""

from accounts.shared_state import Script

JITTER = 0.2
"""Seconds that a call may take longer to reach the service than the one before it, and still nobody who counts calls
in any one second sees more than the limit."""

STEP_EVERY = 2
"""Seconds between the steps by which a brake is let go."""

_COMMON = (
    f"""
local JITTER, STEP_EVERY, KEEP = {JITTER}, {STEP_EVERY}, 172800
"""
    + """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
local row = KEYS[1]

local function get(key, field) return tonumber(redis.call('HGET', key, field) or '') end
local function text(number) return string.format('%.6f', number) end

local function spacing(rate)
  if rate >= 1 then return (1 + JITTER) / math.floor(rate) end
  return 1 / rate + JITTER
end

-- The brake: calls a second at most while the service wants less than it might get; nil when it is off. It grows by
-- a step every two seconds, and is off when it lets through what went through before.
local freed = '0'
local function brake()
  local cut = get(row, 'cut')
  if not cut then return nil end
  local from = math.max(get(row, 'grown') or now, get(row, 'blocked') or 0)
  local steps = math.floor((now - from) / STEP_EVERY)
  if steps < 1 then return cut end
  cut = cut + steps * get(row, 'step')
  redis.call('HDEL', row, 'doubled')
  if cut >= get(row, 'top') then
    redis.call('HDEL', row, 'cut', 'step', 'top', 'grown')
    freed = '1'
    return nil
  end
  redis.call('HSET', row, 'cut', cut, 'grown', from + steps * STEP_EVERY)
  return cut
end

-- From this call to the next: calls a second are the row's limit, recipients a second the service's own.
local function interval(calls, recipients, cost)
  local cut = brake()
  local between = calls and spacing(calls) or 0
  if recipients then between = math.max(between, spacing(recipients) * math.max(cost, 1)) end
  return cut and math.max(between, 1 / cut) or between
end

local function see(count)
  local key = row .. ':seen:' .. math.floor(now)
  redis.call('INCRBY', key, count)
  redis.call('EXPIRE', key, 10)
end

-- A place in the queue of those sent away: they come back at the pace at which calls are let through, so that each
-- is looked at about once. A queue of more than ten minutes is not made longer: who comes then is sent away for ten
-- to twenty minutes.
local function place(scope, wait, pace)
  local back = math.max(get(scope, 'back') or 0, now + wait)
  if back - now - wait > 600 then return wait + 600 + redis.call('HINCRBY', scope, 'over', 7) % 600 end
  redis.call('HSET', scope, 'back', text(back + 1 / pace))
  redis.call('EXPIRE', scope, KEEP)
  redis.call('HSET', row, 'queue', text(math.max(get(row, 'queue') or 0, back)))
  return back - now
end
"""
)

ASK = Script(
    _COMMON
    + """
-- KEYS: row, tenant ('' where only one tenant can use the row), slots...
-- ARGV: recipients of this call, calls a second, a minute, recipients a day, calls at once; the service's own
-- recipients a second, a day, and those of the day when it was read; lease, its seconds, horizon, patience, tenant, at
-- most per slot...
local function arg(n) return tonumber(ARGV[n]) end
local cost, per_second, per_minute, per_day, concurrency = arg(1), arg(2), arg(3), arg(4), arg(5)
local quota_second, quota_day, quota_sent = arg(6), arg(7), arg(8)
local lease, lasts, horizon, patience, tenant = ARGV[9], arg(10), arg(11), arg(12), ARGV[13]
local shared = tenant ~= ''
local mine = shared and KEYS[2] or row

local n = 1
if shared then
  redis.call('ZREMRANGEBYSCORE', row .. ':waiting', '-inf', now)
  n = redis.call('ZCARD', row .. ':waiting')
  if not redis.call('ZSCORE', row .. ':waiting', tenant) then n = n + 1 end
end
local function share(limit) return math.max(1, math.ceil(limit / n)) end

local between = interval(per_second, quota_second, cost)

local function pace()
  local rates = {}
  if between > 0 then table.insert(rates, 1 / between) end
  if per_minute then table.insert(rates, per_minute / 60) end
  if concurrency then table.insert(rates, concurrency / (get(row, 'took') or 1)) end
  return (#rates > 0 and math.min(unpack(rates)) or 10) / n
end

local function refuse(wait, reason, patient)
  if shared then
    redis.call('ZADD', row .. ':waiting', now + 3, tenant)
    redis.call('EXPIRE', row .. ':waiting', 60)
  end
  if patient and wait <= patience then return {'hold', text(wait), reason, freed} end
  if reason ~= 'day' then wait = place(mine, wait, pace()) end
  return {'wait', text(wait), reason, freed}
end

local blocked = (get(row, 'blocked') or 0) - now
if blocked > 0 then return refuse(blocked, 'blocked') end

-- How long until `cost` more fit into the last `size` whole buckets and the present one; nil when they do.
local function full(key, width, size, limit, amount)
  local current = math.floor(now / width)
  local first = get(key, 'first') or current
  local total = get(key, 'total') or 0
  while first < current - size do
    total = total - (get(key, first) or 0)
    redis.call('HDEL', key, first)
    first = first + 1
  end
  redis.call('HSET', key, 'first', first, 'total', total)
  redis.call('EXPIRE', key, (size + 2) * width)
  if total + amount <= limit then return nil end
  while first < current and total + amount > limit do
    total = total - (get(key, first) or 0)
    first = first + 1
  end
  return (first + size) * width - now
end
local function count(key, width, amount)
  redis.call('HINCRBY', key, math.floor(now / width), amount)
  redis.call('HINCRBY', key, 'total', amount)
end

local windows = {}
if per_minute then table.insert(windows, {':minute', 1, 62, per_minute, 1, 'minute'}) end
if per_day then table.insert(windows, {':day', 300, 288, per_day, cost, 'day'}) end
for _, w in ipairs(windows) do
  local wait = full(row .. w[1], w[2], w[3], w[4], w[5])
  if shared then
    local other = full(mine .. w[1], w[2], w[3], n > 1 and share(w[4]) or w[4], w[5])
    wait = other and math.max(wait or 0, other) or wait
  end
  if wait then return refuse(wait, w[6]) end
end
if quota_day and quota_sent + (get(row, 'since') or 0) + cost > quota_day then return refuse(300, 'day') end

local function running(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return redis.call('ZCARD', key)
end
local leases = {}
if concurrency then
  leases = shared and {row .. ':calls', mine .. ':calls'} or {row .. ':calls'}
  if running(leases[1]) >= concurrency or (n > 1 and running(leases[2]) >= share(concurrency)) then
    return refuse(0.1, 'concurrency', true)
  end
end
for i = 3, #KEYS do
  if running(KEYS[i]) >= arg(11 + i) then return refuse(0.1, 'slot', true) end
  table.insert(leases, KEYS[i])
end

local start = now
if between > 0 then
  local clock = math.max(now, get(row, 'clock') or 0)
  local own = shared and math.max(now, get(mine, 'clock') or 0) or clock
  -- Who has had less than a share may book further ahead than the one whose calls fill the horizon.
  local reach = shared and own <= now and 2 * horizon or horizon
  start = n > 1 and math.max(clock, own) or clock
  if start - now > reach then return refuse(start - now - reach, 'second') end
  redis.call('HSET', row, 'clock', text(clock + between))
  if shared then redis.call('HSET', mine, 'clock', text(own + between * n)) end
end
for _, w in ipairs(windows) do
  count(row .. w[1], w[2], w[5])
  if shared then count(mine .. w[1], w[2], w[5]) end
end
for _, key in ipairs(leases) do
  redis.call('ZADD', key, now + lasts, lease)
  redis.call('EXPIRE', key, 2 * lasts)
end
if quota_day or quota_second then redis.call('HINCRBY', row, 'since', cost) end
see(1)
redis.call('EXPIRE', row, KEEP)
if shared then redis.call('EXPIRE', mine, KEEP) end
return {'go', text(start - now), between > 0 and '1' or '0', freed}
"""
)
"""Permission for one call: ['go', seconds until then, whether GO must be asked, freed], or ['hold' or 'wait', seconds,
reason, freed]. `freed` is '1' for the one caller that finds the brake gone off."""

GO = Script(
    _COMMON
    + """
-- KEYS: row. ARGV: recipients, calls a second, the service's recipients a second, the longest wait. The last word
-- before a call, whoever was late before it.
local between = interval(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[1]))
local blocked = (get(row, 'blocked') or 0) - now
if blocked > 0 then return {'wait', text(blocked), 'blocked', freed} end
local start = math.max(now, get(row, 'next') or 0)
if start - now > tonumber(ARGV[4]) then return {'wait', text(start - now), 'second', freed} end
redis.call('HSET', row, 'next', text(start + between))
redis.call('EXPIRE', row, KEEP)
return {'go', text(start - now), '0', freed}
"""
)
"""['go', seconds until the call may leave, …] or ['wait', seconds, reason, freed]."""

THROTTLED = Script(
    _COMMON
    + """
-- KEYS: row, scope of the queue. ARGV: what the service asked for ('' nothing), what to wait at first without it, age
-- of the call, calls a second of the row. The service said no: everybody waits, and goes on at half the rate.
local asked, first, age = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before = brake()
local last = get(row, 'cut_at') or 0
local doubled = get(row, 'doubled') or 0
local wait, set = asked or math.min(first * 2 ^ doubled, 300), '0'
-- Calls begun before the last cut say nothing new.
if now - last >= 1 and now - age >= last then
  local seen = 1
  for second = math.floor(now) - 3, math.floor(now) do
    seen = math.max(seen, tonumber(redis.call('GET', row .. ':seen:' .. second) or '0'))
  end
  local base = before or tonumber(ARGV[4]) or seen
  local from = math.min(base, seen)
  local top = get(row, 'top') or base
  redis.call('HSET', row, 'cut', text(math.max(from / 2, 0.05)), 'step', text(math.max(from / 10, top / 20)),
    'top', text(top), 'cut_at', text(now), 'grown', text(now), 'doubled', doubled + 1)
  set = before and '0' or '1'
end
if wait > 0 then
  redis.call('HSET', row, 'blocked', text(math.max(get(row, 'blocked') or 0, now + wait)))
end
redis.call('EXPIRE', row, KEEP)
local until_ = math.max((get(row, 'blocked') or 0) - now, 0)
local rate = get(row, 'cut') or 1
return {text(place(KEYS[2], until_, rate)), text(until_), text(rate), set}
"""
)
"""[seconds after which the message of the call may come back, seconds nobody may call, calls a second after that,
whether this was what put the brake on]."""

LOOK = Script(
    _COMMON
    + """
-- KEYS: row. ARGV: calls begun by this process since its last look.
if tonumber(ARGV[1]) > 0 then see(ARGV[1]) end
local braked = brake() and '1' or '0'
return {text((get(row, 'blocked') or 0) - now), braked, freed}
"""
)
"""[seconds nobody may call, whether the brake is on, freed]."""

DONE = Script(
    """
-- KEYS: row, leases... ARGV: lease, seconds the call took ('' when none was made).
for i = 2, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
local took = tonumber(ARGV[2])
if took then
  local known = tonumber(redis.call('HGET', KEYS[1], 'took') or '') or took
  redis.call('HSET', KEYS[1], 'took', math.max(0.01, 0.9 * known + 0.1 * took))
end
"""
)
"""A call has ended: what it occupied is free."""

RENEW = Script(
    """
-- KEYS: one per lease. ARGV: seconds, then the leases.
local now = tonumber(redis.call('TIME')[1])
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[1], ARGV[i + 1])
  redis.call('EXPIRE', key, 2 * ARGV[1])
end
"""
)
"""Leases last as long again."""

QUOTA = Script(
    """
-- KEYS: quota, row. ARGV: seconds it is kept, `since` when the reading began, then fields and values. What was sent
-- while the service was asked counts twice: it may or may not be in its answer.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
local since = tonumber(redis.call('HGET', KEYS[2], 'since') or '0')
redis.call('HSET', KEYS[2], 'since', math.max(0, since - ARGV[2]))
"""
)
"""Keep what a service said of its quota."""
