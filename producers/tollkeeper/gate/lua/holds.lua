-- The table of open holds, the marks of ended ones, and what both change in what is held.
-- A hold is stored as three doubles (epoch, granted at in microseconds, held in micro-USD) and its request's text.

local HOLD = '<ddd'
local ID_AGE_MILLIS = 3600000 -- an hour: far more than any retry, and than two clocks that are kept differ
local MARKS_STEP_MILLIS = 100 -- how often the oldest marks go, if any hold is granted
local MARKS_AT_ONCE = 100 -- in one step, so that no call takes long: more than come in the meantime

-- An id is ORGANIZATION/EMITTER/ISSUED/SUFFIX, ISSUED in milliseconds since 1970. Answers issued, organization,
-- emitter, and issued as text; nil for what is no id. Without patterns, which take as long for an id as Redis does
-- for a command.
local function parse_id(id)
  local first = id:find('/', 1, true)
  local second = first and id:find('/', first + 1, true)
  local third = second and id:find('/', second + 1, true)
  local is_one = third and first > 1 and second > first + 1 and third < #id and not id:find('/', third + 1, true)
  if not is_one then return nil end
  local issued = id:sub(second + 1, third - 1)
  return exact(issued), id:sub(1, first - 1), id:sub(first + 1, second - 1), issued
end

-- The id and what it says; its organization isn't the call's where somebody made it up.
local function next_id(args, name)
  local id = next_text(args, name)
  local issued, organization, emitter = parse_id(id)
  if not issued then refuse_input(name) end
  return id, issued, organization, emitter
end

local NO_SCOPES = {}

local function stored_request(id, text)
  local member, rest = text:match('^%d+ (%S+) %S+ ?(.*)$')
  if rest == '' then return request_of(id, text, member, NO_SCOPES) end
  local scopes = {}
  for scope in rest:gmatch('%S+') do scopes[#scopes + 1] = scope end
  return request_of(id, text, member, scopes)
end

-- As it is stored; nil for none.
local function hold_of(id, text)
  if not text then return nil end
  local epoch, granted_at, held, request_at = struct.unpack(HOLD, text)
  return {
    epoch = epoch,
    granted_at = granted_at,
    held = held,
    request = stored_request(id, text:sub(request_at)),
  }
end

-- What a stored hold holds, and since when; of its request only where it stands, since a fold looks at very many.
local function held_by(text)
  local epoch, granted_at, held, request_at = struct.unpack(HOLD, text)
  return {epoch = epoch, granted_at = granted_at, held = held, text = text, request_at = request_at}
end

-- Whether such a hold's request names a scope of this level, and the field of its record, of which the
-- organization's own has none.
local function held_field(hold, level)
  if level == 'organization' then return true, nil end
  local text = hold.text
  if level == 'member' then
    local before = text:find(' ', hold.request_at, true)
    return true, 'scope member/' .. text:sub(before + 1, text:find(' ', before + 1, true) - 1)
  end
  local request = stored_request('', text:sub(hold.request_at))
  local place = request.places[level]
  return place ~= nil, place and request.fields[place]
end

-- The organization and its open hold of this id, if there is one.
local function load_with_hold(call, id)
  local org = load_organization(call, {'hold ' .. id})
  return org, org and hold_of(id, org.found[OWN_FIELDS + HOLD_PLACE])
end

local function hold_text(epoch, granted_at, held, request)
  return struct.pack(HOLD, epoch, granted_at, held) .. request.text
end

-- Whether an id is too old to be told from those whose marks are gone; that never goes back with the clock.
local function is_too_old(call, org, issued)
  return issued < call.now / 1000 - ID_AGE_MILLIS or org ~= nil and issued < org[OLDEST]
end

-- An id is used once. Its mark may go when ids of its age are refused, which is to be written with `org`.
local function drop_old_marks(call, org)
  local oldest = math.floor(call.now / 1000) - ID_AGE_MILLIS
  if oldest < org[OLDEST] + MARKS_STEP_MILLIS then return end
  org[OLDEST] = oldest
  local gone = redis.call('ZCOUNT', call.marks, '-inf', '(' .. digits(oldest))
  if gone > 0 then redis.call('ZREMRANGEBYRANK', call.marks, 0, math.min(gone, MARKS_AT_ONCE) - 1) end
end

local function mark_as_used(call, id, issued)
  redis.call('ZADD', call.marks, digits(issued), id)
end

-- Marks the id as used, and frees what it holds, if anything.
local function end_hold(call, org, id, issued, hold)
  mark_as_used(call, id, issued)
  if not hold then return 0 end
  redis.call('HDEL', call.state, hold.request.fields[HOLD_PLACE])
  if org[KNOWN] == 1 then
    local period = period_at(org.terms, hold.granted_at)
    redis.call('HSET', call.state, unpack(with_held(org, hold.request, period, -hold.held)))
  end
  return hold.held
end

local SCANNED_AT_ONCE = 10000 -- fields; Redis looks at them, and hands on the holds alone

-- All open holds as they are stored, by id.
local function all_holds(call)
  local found, cursor = {}, '0'
  repeat
    local page = redis.call('HSCAN', call.state, cursor, 'MATCH', 'hold *', 'COUNT', SCANNED_AT_ONCE)
    cursor = page[1]
    for i = 1, #page[2], 2 do found[page[2][i]:sub(#'hold ' + 1)] = page[2][i + 1] end
  until cursor == '0'
  return found
end

local function granted(call, primary, granted_at, held)
  return {'granted', granted_at, held, call.now, primary.lease_until}
end
