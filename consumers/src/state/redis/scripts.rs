//! The scripts. In each, `P` is the prefix with its colon (passed as a key, so that an access rule
//! for keys admits it), `now` the server's clock in microseconds, and `text` writes a number whole:
//! Lua's own way rounds a time.

/// Every script, by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Script {
    Claim,
    PassClaim,
    SetMark,
    ClearMark,
    MarksSince,
    TakeKey,
    FreeKey,
    Keys,
    Acquire,
    Renew,
    Release,
    InUse,
    Holders,
    Lease,
    GiveUp,
    Beat,
    Consumers,
    Leave,
    Prune,
}

const HEAD: &str = r"
local P = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function text(number) return string.format('%.0f', number) end
";

impl Script {
    /// What the server is given.
    pub fn text(self) -> String {
        let body = match self {
            Self::Claim => CLAIM,
            Self::PassClaim => PASS_CLAIM,
            Self::SetMark => SET_MARK,
            Self::ClearMark => CLEAR_MARK,
            Self::MarksSince => MARKS_SINCE,
            Self::TakeKey => TAKE_KEY,
            Self::FreeKey => FREE_KEY,
            Self::Keys => KEYS,
            Self::Acquire => ACQUIRE,
            Self::Renew => RENEW,
            Self::Release => RELEASE,
            Self::InUse => IN_USE,
            Self::Holders => HOLDERS,
            Self::Lease => LEASE,
            Self::GiveUp => GIVE_UP,
            Self::Beat => BEAT,
            Self::Consumers => CONSUMERS,
            Self::Leave => LEAVE,
            Self::Prune => PRUNE,
        };
        format!("{HEAD}{body}")
    }
}

/// key, execution, taking over, kept for ms -> nothing, or who has it.
const CLAIM: &str = r"
local key = P .. 'claim:' .. ARGV[1]
local by = redis.call('GET', key)
if by and by ~= ARGV[2] and ARGV[3] == '0' then return by end
if by ~= ARGV[2] then redis.call('SET', key, ARGV[2], 'PX', ARGV[4]) end
return false
";

/// key, from, to, kept for ms -> 1 when `to` has it now; one that was forgotten is nobody else's.
const PASS_CLAIM: &str = r"
local key = P .. 'claim:' .. ARGV[1]
local by = redis.call('GET', key)
if not by or by == ARGV[2] then redis.call('SET', key, ARGV[3], 'PX', ARGV[4]) end
return (not by or by == ARGV[2] or by == ARGV[3]) and 1 or 0
";

/// subject, body -> version.
const SET_MARK: &str = r"
local version = redis.call('INCR', P .. 'marks:version')
redis.call('HSET', P .. 'marks', ARGV[1], version .. ' ' .. text(now) .. ' 0 ' .. ARGV[2])
redis.call('ZADD', P .. 'marks:order', version, ARGV[1])
redis.call('ZREM', P .. 'marks:cleared', ARGV[1])
return version
";

/// subject, body -> version, or nothing when it was not set.
const CLEAR_MARK: &str = r"
local old = redis.call('HGET', P .. 'marks', ARGV[1])
if not old or string.match(old, '^%d+ %d+ 1 ') then return false end
local version = redis.call('INCR', P .. 'marks:version')
redis.call('HSET', P .. 'marks', ARGV[1], version .. ' ' .. text(now) .. ' 1 ' .. ARGV[2])
redis.call('ZADD', P .. 'marks:order', version, ARGV[1])
redis.call('ZADD', P .. 'marks:cleared', now, ARGV[1])
return version
";

/// version -> newest version, whether it is everything, the marks.
const MARKS_SINCE: &str = r"
local asked = tonumber(ARGV[1])
local newest = tonumber(redis.call('GET', P .. 'marks:version') or 0)
local forgotten = tonumber(redis.call('GET', P .. 'marks:forgotten') or 0)
local whole = asked == 0 or asked > newest or asked < forgotten
local from = whole and '-inf' or '(' .. ARGV[1]
local marks = {}
for _, subject in ipairs(redis.call('ZRANGEBYSCORE', P .. 'marks:order', from, '+inf')) do
  local mark = redis.call('HGET', P .. 'marks', subject)
  if mark and not (whole and string.match(mark, '^%d+ %d+ 1 ')) then marks[#marks + 1] = mark end
end
return { newest, whole and 1 or 0, marks }
";

/// name, job, microseconds, replace -> mine; or by, job, until; or replaced, job.
const TAKE_KEY: &str = r"
local key = P .. 'key:' .. ARGV[1]
local old, by, till = redis.call('GET', key), nil, nil
if old then
  by, till = string.match(old, '^(%S+) (%d+)$')
  if tonumber(till) <= now then old = false end
end
if old and by == ARGV[2] then return { 'mine' } end
if old and ARGV[4] == '0' then return { 'by', by, till } end
local fresh = now + tonumber(ARGV[3])
redis.call('SET', key, ARGV[2] .. ' ' .. text(fresh))
redis.call('PEXPIREAT', key, text(math.ceil(fresh / 1000)))
redis.call('ZADD', P .. 'keys', 0, ARGV[1])
redis.call('ZADD', P .. 'keys:until', text(fresh), ARGV[1])
if old then return { 'replaced', by } end
return { 'mine' }
";

/// name, job -> whether it was that job's.
const FREE_KEY: &str = r"
local key = P .. 'key:' .. ARGV[1]
local old = redis.call('GET', key)
if not old or string.match(old, '^(%S+)') ~= ARGV[2] then return 0 end
redis.call('DEL', key)
redis.call('ZREM', P .. 'keys', ARGV[1])
redis.call('ZREM', P .. 'keys:until', ARGV[1])
return 1
";

/// from, to, limit -> pairs of name and value.
const KEYS: &str = r"
local from, limit, found = ARGV[1], tonumber(ARGV[3]), {}
while #found < limit do
  local names = redis.call('ZRANGEBYLEX', P .. 'keys', from, ARGV[2], 'LIMIT', 0, limit)
  for _, name in ipairs(names) do
    local value = redis.call('GET', P .. 'key:' .. name)
    if value and tonumber(string.match(value, '(%d+)$')) > now and #found < limit then
      found[#found + 1] = { name, value }
    end
    from = '(' .. name
  end
  if #names < limit then break end
end
return found
";

/// owner, lease, then of each limit: name, at once or -1, every, ahead -> nothing, or which one is
/// in the way and for how many microseconds, 0 = unknown.
const ACQUIRE: &str = r"
local owner, till, nexts = ARGV[1], now + tonumber(ARGV[2]), {}
for at = 3, #ARGV, 4 do
  local set, number = P .. 'permits:' .. ARGV[at], (at + 1) / 4
  redis.call('ZREMRANGEBYSCORE', set, '-inf', text(now))
  if not redis.call('ZSCORE', set, owner) then
    local most, every = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    if most >= 0 and redis.call('ZCARD', set) >= most then return { number, 0 } end
    if every > 0 then
      local due = tonumber(redis.call('GET', P .. 'due:' .. ARGV[at]) or 0)
      local after = math.max(due, now) + every
      local over = after - now - tonumber(ARGV[at + 3])
      if over > 0 then return { number, over } end
      nexts[at] = after
    end
  end
end
for at = 3, #ARGV, 4 do
  local set = P .. 'permits:' .. ARGV[at]
  if nexts[at] then
    local kept = math.ceil((nexts[at] - now) / 1000) + 1000
    redis.call('SET', P .. 'due:' .. ARGV[at], text(nexts[at]), 'PX', text(kept))
  end
  redis.call('ZADD', set, text(till), owner)
  local last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', set, text(math.ceil(tonumber(last) / 1000)))
  redis.call('SADD', P .. 'owner:' .. owner, ARGV[at])
  -- Seen in lists for an hour.
  redis.call('ZADD', P .. 'limits', text(math.max(till, now + 3600000000)), ARGV[at])
end
-- What it has for longer is given back with the rest.
local own, ends = P .. 'owner:' .. owner, math.ceil(till / 1000)
if #ARGV > 2 and redis.call('PEXPIRETIME', own) < ends then redis.call('PEXPIREAT', own, text(ends)) end
return false
";

/// lease, owners -> those that have no permit any more.
const RENEW: &str = r"
local till, gone = now + tonumber(ARGV[1]), {}
for at = 2, #ARGV do
  local owner, kept = ARGV[at], false
  for _, name in ipairs(redis.call('SMEMBERS', P .. 'owner:' .. owner)) do
    local set = P .. 'permits:' .. name
    if redis.call('ZSCORE', set, owner) then
      redis.call('ZADD', set, text(till), owner)
      local last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')[2]
      redis.call('PEXPIREAT', set, text(math.ceil(tonumber(last) / 1000)))
      kept = true
    end
  end
  if kept then
    redis.call('PEXPIREAT', P .. 'owner:' .. owner, text(math.ceil(till / 1000)))
  else
    gone[#gone + 1] = owner
  end
end
return gone
";

/// owner.
const RELEASE: &str = r"
local own = P .. 'owner:' .. ARGV[1]
for _, name in ipairs(redis.call('SMEMBERS', own)) do
  redis.call('ZREM', P .. 'permits:' .. name, ARGV[1])
end
redis.call('DEL', own)
return false
";

/// how many -> of each limit: name, permits, microseconds until one is due.
const IN_USE: &str = r"
local found = {}
local names = redis.call('ZREVRANGEBYSCORE', P .. 'limits', '+inf', '-inf', 'LIMIT', 0, ARGV[1])
table.sort(names)
for at = 1, #names do
  local held = redis.call('ZCOUNT', P .. 'permits:' .. names[at], '(' .. text(now), '+inf')
  local due = tonumber(redis.call('GET', P .. 'due:' .. names[at]) or 0)
  found[at] = { names[at], held, math.max(due - now, 0) }
end
return found
";

/// name, how many -> owners of permits.
const HOLDERS: &str = r"
return redis.call('ZRANGEBYSCORE', P .. 'permits:' .. ARGV[1], '(' .. text(now), '+inf', 'LIMIT', 0, ARGV[2])
";

/// name, owner, microseconds -> epoch, or nothing.
const LEASE: &str = r"
local key = P .. 'lease:' .. ARGV[1]
local held = redis.call('HMGET', key, 'owner', 'epoch', 'until')
if held[1] and held[1] ~= ARGV[2] and tonumber(held[3]) > now then return false end
local epoch = tonumber(held[2] or 0)
if held[1] ~= ARGV[2] then epoch = epoch + 1 end
redis.call('HSET', key, 'owner', ARGV[2], 'epoch', epoch, 'until', text(now + tonumber(ARGV[3])))
return epoch
";

/// name, owner.
const GIVE_UP: &str = r"
local key = P .. 'lease:' .. ARGV[1]
if redis.call('HGET', key, 'owner') == ARGV[2] then redis.call('HSET', key, 'until', 0) end
return false
";

/// consumer, what it says.
const BEAT: &str = r"
redis.call('HSET', P .. 'presence', ARGV[1], ARGV[2])
redis.call('ZADD', P .. 'presence:at', text(now), ARGV[1])
return false
";

/// microseconds -> the clock, and pairs of time and text.
const CONSUMERS: &str = r"
local found = {}
local names = redis.call('ZRANGEBYSCORE', P .. 'presence:at', '(' .. text(now - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
for at = 1, #names, 2 do
  local said = redis.call('HGET', P .. 'presence', names[at])
  if said then found[#found + 1] = { text(tonumber(names[at + 1])), said } end
end
return { now, found }
";

/// consumer.
const LEAVE: &str = r"
redis.call('HDEL', P .. 'presence', ARGV[1])
redis.call('ZREM', P .. 'presence:at', ARGV[1])
return false
";

/// how many, microseconds for marks, for presence -> how many went.
const PRUNE: &str = r"
local gone = 0
local function old(set, till)
  local names = redis.call('ZRANGEBYSCORE', P .. set, '-inf', text(till), 'LIMIT', 0, ARGV[1])
  gone = gone + #names
  return names
end
local forgotten = tonumber(redis.call('GET', P .. 'marks:forgotten') or 0)
for _, subject in ipairs(old('marks:cleared', now - tonumber(ARGV[2]))) do
  forgotten = math.max(forgotten, tonumber(redis.call('ZSCORE', P .. 'marks:order', subject) or 0))
  redis.call('SET', P .. 'marks:forgotten', text(forgotten))
  redis.call('HDEL', P .. 'marks', subject)
  redis.call('ZREM', P .. 'marks:order', subject)
  redis.call('ZREM', P .. 'marks:cleared', subject)
end
for _, name in ipairs(old('keys:until', now)) do
  redis.call('DEL', P .. 'key:' .. name)
  redis.call('ZREM', P .. 'keys', name)
  redis.call('ZREM', P .. 'keys:until', name)
end
for _, name in ipairs(old('limits', now)) do
  -- Whoever has a permit renews it, but does not say so here.
  if redis.call('ZCOUNT', P .. 'permits:' .. name, '(' .. text(now), '+inf') > 0 then
    redis.call('ZADD', P .. 'limits', text(now + 3600000000), name)
    gone = gone - 1
  else
    redis.call('ZREM', P .. 'limits', name)
  end
end
for _, consumer in ipairs(old('presence:at', now - tonumber(ARGV[3]))) do
  redis.call('HDEL', P .. 'presence', consumer)
  redis.call('ZREM', P .. 'presence:at', consumer)
end
return gone
";
