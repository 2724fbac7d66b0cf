-- The table of open holds, the marks of ended ones, and what both change in the sums of held amounts.

local ID_AGE_MILLIS = 3600000 -- an hour: far more than any retry, and than two clocks that are kept differ
local MARKS_A_SECOND = 1000 -- more than an organization's calls in one; also what one command takes

-- An id is ORGANIZATION/EMITTER/ISSUED/SUFFIX, ISSUED in milliseconds since 1970.
local function parse_id(id)
  local organization, emitter, issued = id:match('^([^/]+)/([^/]+)/(%d+)/[^/]+$')
  if not organization or not exact(issued) then return nil end
  return {organization = organization, emitter = emitter, issued = tonumber(issued)}
end

local function next_id(args, name)
  local id = next_word(args, name)
  return id, parse_id(id) or refuse_input(name)
end

local function load_hold(call, id)
  local text = redis.call('HGET', call.holds, id)
  if not text then return nil end
  local epoch, granted_at, held, request = text:match('^(%d+) (%d+) (%d+) (.+)$')
  return {
    epoch = tonumber(epoch),
    granted_at = tonumber(granted_at),
    held = tonumber(held),
    request = request_of(call, request),
  }
end

local function store_hold(call, id, hold)
  local numbers = {digits(hold.epoch), digits(hold.granted_at), digits(hold.held)}
  redis.call('HSET', call.holds, id, table.concat(numbers, ' ') .. ' ' .. hold.request.text)
end

-- Adds to what is held of the credits, and of each level in the hold's own period.
local function add_held(call, org, hold, change)
  local fields = {'held'}
  local period = period_at(org, hold.granted_at)
  local stem = period and 'held ' .. digits(org.bounds[period]) .. ' '
  for _, level in ipairs(org.levels) do
    local scope = hold.request.scopes[level]
    if stem and scope then fields[#fields + 1] = stem .. scope end
  end
  -- Two calls, however many levels there are.
  local sums, written = redis.call('HMGET', call.state, unpack(fields)), {}
  for i, field in ipairs(fields) do
    written[2 * i - 1], written[2 * i] = field, digits(tonumber(sums[i] or '0') + change)
  end
  redis.call('HSET', call.state, unpack(written))
end

-- The oldest time of issue (milliseconds) whose marks are all still there; it never goes back with the clock.
-- Whole seconds, so that it isn't written more often.
local function oldest_marked(call, org)
  return math.max(org and org.oldest or 0, math.floor(call.now / 1000000) * 1000 - ID_AGE_MILLIS)
end

-- An id is used once. Marks may go when ids of their age are refused; not all at once, so that no call takes long.
local function mark(call, org, id, issued)
  redis.call('ZADD', call.marks, digits(issued), id)
  local oldest = oldest_marked(call, org)
  if not org or oldest == org.oldest then return end
  org.oldest = oldest
  redis.call('HSET', call.state, 'oldest', digits(oldest))
  local gone = redis.call('ZRANGEBYSCORE', call.marks, '-inf', '(' .. digits(oldest), 'LIMIT', 0, MARKS_A_SECOND)
  if #gone > 0 then redis.call('ZREM', call.marks, unpack(gone)) end
end

-- Frees what is held, if anything is; answers how much.
local function end_hold(call, org, id, issued)
  local hold = load_hold(call, id)
  if hold then
    redis.call('HDEL', call.holds, id)
    if org and org.is_counted then add_held(call, org, hold, -hold.held) end
  end
  mark(call, org, id, issued)
  return hold and hold.held or 0
end

local function granted(call, primary, hold)
  return {'granted', hold.granted_at, hold.held, call.now, primary.lease_until}
end
