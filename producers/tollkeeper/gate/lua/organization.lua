-- An organization's keys, in one slot:
--   tollkeeper:{ORGANIZATION}:state  hash, see below
--   tollkeeper:{ORGANIZATION}:marks  sorted set: ids of ended holds, by when they were issued (milliseconds)
--
-- Fields of the state; amounts in micro-USD, instants in microseconds since 1970:
--   numbers       doubles: epoch, known (1, 0), offset, position, floor; oldest (ids issued before it, in
--                 milliseconds, are refused: their marks may be gone); credits purchased, used, held in all open
--                 holds; then the organization's own record
--   scope SCOPE   the record of any other scope, see records.lua; SCOPE is DIMENSION/VALUE
--   terms         what seldom changes, see terms.lua
--   hold ID       an open hold, see holds.lua
--   nobody_until  until then SQL is taken to have no such organization, see deny.lua
-- What is held is right only while the organization is known: `warm` counts it anew. Numbers are kept as doubles,
-- since a hold took half of its time to read and write them as text; `copy` shows all of them.

local NUMBERS = '<ddddddddddddddddd'
local EPOCH, KNOWN, OFFSET, POSITION, FLOOR, OLDEST, PURCHASED, USED, HELD = 1, 2, 3, 4, 5, 6, 7, 8, 9
local BEFORE_OWN = 9 -- the numbers before the organization's own record
local LAST = 17

-- The first three arguments of every function on an organization: the primary's prefix, the call's epoch.
local function organization_call(keys, args)
  local organization = keys[1] and keys[1]:match('^tollkeeper:{([^{}%s]+)}:state$')
  if not organization or #keys ~= 2 then refuse_input('keys') end
  return {
    organization = organization,
    state = keys[1],
    marks = keys[2],
    prefix = next_text(args, 'primary'),
    epoch = next_whole(args, 'epoch'),
    now = nil, -- for those functions that look at the clock
  }
end

local function organization_call_now(keys, args)
  local call = organization_call(keys, args)
  call.now = clock()
  return call
end

local NO_FIELDS = {}
local OWN_FIELDS = 2 -- of `found`, before those that were asked for

-- Its numbers, terms, and in `found` the values of the fields that were asked for. Nil: Redis has nothing of it.
local function load_organization(call, fields)
  local found = redis.call('HMGET', call.state, 'numbers', 'terms', unpack(fields))
  if not found[1] then return nil end
  local terms = found[2] and terms_of(found[2])
  return {state = call.state, terms = terms, found = found, struct.unpack(NUMBERS, found[1])}
end

local function new_organization()
  return {0, 0, -1, 0, 0, 0, 0, 0, 0, NO_CAP, 0, 0, 0, 0, 0, 0, 0}
end

local function numbers_of(org)
  return struct.pack(NUMBERS, unpack(org, 1, LAST))
end

-- The period of now while the organization is known, else nil. Past the end of the next one nobody has said what
-- is spent and capped; until that is noted the clock may go back, so what is held is counted on.
local function known_period(call, org)
  return org and org[KNOWN] == 1 and period_at(org.terms, call.now) or nil
end

-- It keeps its holds and marks; a snapshot older than itself or than this call would set it back.
local function become_unknown(call, org, position)
  org = org or new_organization()
  org[KNOWN] = 0
  org[EPOCH] = math.max(call.epoch, org[EPOCH])
  org[FLOOR] = math.max(position, org[POSITION], org[FLOOR])
  redis.call('HSET', call.state, 'numbers', numbers_of(org))
end

-- Whether SQL was found to have no such organization, a short while ago.
local function is_nobody(call)
  local until_micros = redis.call('HGET', call.state, 'nobody_until')
  return until_micros and call.now < tonumber(until_micros)
end

-- Refuses a call of an older epoch; one of a newer epoch makes the organization unknown, whatever it is about.
local function older_epoch(call, org)
  if not org then return nil end
  if call.epoch < org[EPOCH] then return {'stale', org[EPOCH]} end
  if call.epoch > org[EPOCH] then become_unknown(call, org, 0) end
end
