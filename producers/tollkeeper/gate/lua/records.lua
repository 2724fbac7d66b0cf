-- What a scope may spend, has spent and holds: its own cap (micro-USD; infinite is unlimited, -1 is none, so that
-- its dimension's default holds), then spent and held (micro-USD) of the previous, current and next period, and
-- whether it is a member (1, 0). As doubles: the organization's own among its numbers, any other's in its field.

local RECORD, RECORD_LAST = '<dddddddd', 8
local CAP, MEMBER = 1, 8

local function unpacked(text)
  if not text then return {NO_CAP, 0, 0, 0, 0, 0, 0, 0} end
  return {struct.unpack(RECORD, text)}
end

local function packed(record)
  return struct.pack(RECORD, unpack(record, 1, RECORD_LAST))
end

-- Where a period's spent is, in a record with so many numbers before it; what is held follows.
local function spent_at(before, period)
  return before + 2 * period
end

-- The record of a request's scope of this level, how many numbers are before it, and its field. The organization's
-- own has no field. Nil where the request names no scope of the level. Read where that wasn't done with the others.
local function record_at(org, request, level)
  if level == 'organization' then return org, BEFORE_OWN, nil end
  local place = request.places[level]
  if not place then return nil end
  local found, at, field = org.found, OWN_FIELDS + place, request.fields[place]
  if found[at] == nil then found[at] = redis.call('HGET', org.state, field) end
  if type(found[at]) ~= 'table' then found[at] = unpacked(found[at]) end
  return found[at], 0, field
end

-- Cap, spent and held of a request's scope of this level in a period, and whether it names one.
local function level_standing(org, request, level, period)
  local record, before = record_at(org, request, level)
  local default = org.terms.defaults[level]
  if not record then return default, 0, 0, false end
  local cap, at = record[before + CAP], spent_at(before, period)
  return cap == NO_CAP and default or cap, record[at], record[at + 1], true
end

-- The same of the credits.
local function credits_standing(org)
  return org.terms.funding == 'arrears' and math.huge or org[PURCHASED], org[USED], org[HELD]
end

local NO_LEVELS = {}

-- Changes what is held of the credits, and in the period of each level that the request names. Answers the fields
-- of the state that say so, with their values in turn. Of a period that is none of the three only credits are left.
local function with_held(org, request, period, change)
  org[HELD] = org[HELD] + change
  local written, count = {'numbers', nil, nil, nil}, 2 -- room enough: a table that grows costs more than its content
  local levels = period and org.terms.levels or NO_LEVELS
  for i = 1, #levels do
    local record, before, field = record_at(org, request, levels[i])
    if record then
      local held_at = spent_at(before, period) + 1
      record[held_at] = record[held_at] + change
    end
    if field then
      written[count + 1], written[count + 2] = field, packed(record)
      count = count + 2
    end
  end
  written[2] = numbers_of(org)
  return written
end

local WORDS_AT_ONCE = 2000 -- even; Lua hands on about 8,000 at most

-- Hands the words on in parts: `work` is called with those of each.
local function in_parts(words, work)
  for first = 1, #words, WORDS_AT_ONCE do
    work(unpack(words, first, math.min(first + WORDS_AT_ONCE - 1, #words)))
  end
end

-- Fields and their values, in turn.
local function write_fields(call, words)
  in_parts(words, function(...) redis.call('HSET', call.state, ...) end)
end
