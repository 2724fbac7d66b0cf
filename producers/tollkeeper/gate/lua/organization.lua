-- An organization's keys, in one slot:
--   tollkeeper:{ORGANIZATION}:state  hash, see below
--   tollkeeper:{ORGANIZATION}:holds  hash: hold id -> 'EPOCH GRANTED_AT HELD REQUEST', see holds.lua
--   tollkeeper:{ORGANIZATION}:marks  sorted set: ids of ended holds, by when they were issued (milliseconds)
--
-- Fields of the state; amounts in micro-USD, instants in microseconds since 1970:
--   epoch, known (1, 0), offset, position, floor
--   bounds           four instants: the previous, current and next period are between them, half-open
--   funding          prepaid, arrears
--   seats            the seat policy; every_member is the one known so far
--   levels           dimensions of the caps that bind, for example 'organization member'
--   nobody_until     until then SQL is taken to have no such organization, see deny.lua
--   oldest           ids issued before it (milliseconds) are refused: their marks may be gone
--   purchased, used  credits
--   held             in open holds of all periods
--   member M         1
--   cap SCOPE        a cap or 'unlimited'; SCOPE is DIMENSION/VALUE, or DIMENSION alone for the default
--   spent START SCOPE, held START SCOPE  of the period that begins at START
-- The fields `held…` are right only while the organization is known: `warm` counts them anew.

local HEAD = {
  'epoch', 'known', 'offset', 'position', 'floor', 'bounds', 'funding', 'seats', 'levels', 'oldest',
}

local function words_of(text)
  local words = {}
  for word in text:gmatch('%S+') do words[#words + 1] = word end
  return words
end

-- The first three arguments of every function on an organization: the primary's prefix, the call's epoch.
local function organization_call(keys, args)
  local organization = keys[1] and keys[1]:match('^tollkeeper:{([^{}%s]+)}:state$')
  if not organization or #keys ~= 3 then refuse_input('keys') end
  return {
    organization = organization,
    state = keys[1],
    holds = keys[2],
    marks = keys[3],
    prefix = next_word(args, 'primary'),
    epoch = next_whole(args, 'epoch'),
    now = clock(),
  }
end

-- Which period the instant lies in: 1, 2 or 3; nil when in none of them.
local function period_at(org, instant)
  for i = 1, #org.bounds - 1 do
    if org.bounds[i] <= instant and instant < org.bounds[i + 1] then return i end
  end
end

local function load_organization(call)
  local found = redis.call('HMGET', call.state, unpack(HEAD))
  if not found[1] then return nil end
  local org = {
    epoch = tonumber(found[1]),
    offset = tonumber(found[3] or '-1'),
    position = tonumber(found[4] or '0'),
    floor = tonumber(found[5] or '0'),
    bounds = {},
    funding = found[7],
    seats = found[8],
    levels = words_of(found[9] or ''),
    oldest = tonumber(found[10] or '0'),
  }
  for i, bound in ipairs(words_of(found[6] or '')) do org.bounds[i] = tonumber(bound) end
  -- Past the end of the next period nobody has said what is spent and capped.
  org.known = found[2] == '1' and period_at(org, call.now) ~= nil
  -- Until that is noted the clock may go back: what is held is counted on.
  org.is_counted = found[2] == '1'
  return org
end

-- It keeps its holds and marks; a snapshot older than itself or than this call would set it back.
local function become_unknown(call, org, position)
  local floor = math.max(position, org and org.position or 0, org and org.floor or 0)
  local epoch = math.max(call.epoch, org and org.epoch or 0)
  redis.call('HSET', call.state, 'epoch', digits(epoch), 'known', '0', 'floor', digits(floor))
  if org then org.epoch, org.known, org.is_counted, org.floor = epoch, false, false, floor end
end

-- Whether SQL was found to have no such organization, a short while ago.
local function is_nobody(call)
  local until_micros = redis.call('HGET', call.state, 'nobody_until')
  return until_micros and call.now < tonumber(until_micros)
end

-- Refuses a call of an older epoch; one of a newer epoch makes the organization unknown, whatever it is about.
local function older_epoch(call, org)
  if not org then return nil end
  if call.epoch < org.epoch then return {'stale', org.epoch} end
  if call.epoch > org.epoch then become_unknown(call, org, 0) end
end
