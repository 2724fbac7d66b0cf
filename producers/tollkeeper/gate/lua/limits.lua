-- What stands against holding an amount: a list of limits with their scopes, the same code for every level.

-- Of the fields that decide on a request: the hold itself, then the record of each scope by its level.
local HOLD_PLACE = 1
local MEMBER_PLACES = {member = 2}

-- A request is stored as the text 'ASKED MEMBER SURFACE [DIMENSION/VALUE …]', and compared by it.
local function request_of(id, text, member, scopes)
  local fields, places = {'hold ' .. id, 'scope member/' .. member}, MEMBER_PLACES
  if #scopes > 0 then places = {member = 2} end
  for i = 1, #scopes do
    fields[#fields + 1] = 'scope ' .. scopes[i]
    places[scopes[i]:match('^[^/]+')] = #fields
  end
  return {text = text, member = member, fields = fields, places = places}
end

local function next_scope(args, name)
  local scope = next_word(args, name)
  local dimension = scope:match('^([a-z_]+)/.')
  if not dimension or dimension == 'organization' or dimension == 'member' then refuse_input(name) end
  return scope
end

-- Of two projects only one could be checked.
local function check_scopes(scopes)
  if #scopes < 2 then return end
  local named = {}
  for _, scope in ipairs(scopes) do
    local dimension = scope:match('^[^/]+')
    if named[dimension] then refuse_input('scopes') end
    named[dimension] = true
  end
end

-- Arguments: amount (micro-USD, at least 1), member, surface, number of further scopes, each as DIMENSION/VALUE.
-- Answers the request and its amount.
local function next_request(id, args)
  local asked = next_whole(args, 'amount')
  if asked == 0 then refuse_input('amount') end
  local amount, member, surface = args.list[args.at], next_word(args, 'member'), next_word(args, 'surface')
  local text, scopes = amount .. ' ' .. member .. ' ' .. surface, next_list(args, 'scopes', next_scope)
  if #scopes > 0 then text = text .. ' ' .. table.concat(scopes, ' ') end
  check_scopes(scopes)
  return request_of(id, text, member, scopes), asked
end

local function is_member(org, request)
  return record_at(org, request, 'member')[MEMBER] == 1
end

-- Exact as long as the answer isn't negative; what was rounded below zero is negative all the same.
local function has_room(amount, cap, spent, held)
  return amount <= cap - spent - held
end

-- Which scope of the level the request names; the level alone where it names none.
local function scope_named(call, request, level)
  if level == 'organization' then return 'organization/' .. call.organization end
  local place = request.places[level]
  return place and request.fields[place]:sub(#'scope ' + 1) or level
end

-- The list with one more reason: name, scope, cap, spent, held; empty where a reason has no amounts.
local function with_reason(found, name, scope, cap, spent, held)
  found = found or {}
  for _, item in ipairs({name, scope, cap or '', spent or '', held or ''}) do found[#found + 1] = item end
  return found
end

-- Every reason (RULES R24); nil when there is none.
local function reasons(call, org, request, amount, period)
  local found
  if not is_member(org, request) then found = with_reason(found, 'member', 'member/' .. request.member) end
  if org.terms.seats ~= 'every_member' then found = with_reason(found, 'seat', 'member/' .. request.member) end
  local levels = org.terms.levels
  for i = 1, #levels do
    local level = levels[i]
    local cap, spent, held, is_named = level_standing(org, request, level, period)
    if not is_named then
      found = with_reason(found, level, level)
    elseif not has_room(amount, cap, spent, held) then
      found = with_reason(found, level .. '_cap', scope_named(call, request, level), cap_text(cap), spent, held)
    end
  end
  local cap, spent, held = credits_standing(org)
  if not has_room(amount, cap, spent, held) then
    found = with_reason(found, 'credits', 'organization/' .. call.organization, cap_text(cap), spent, held)
  end
  return found
end

-- Nil: nothing stands against it.
local function refusal(call, org, request, amount, period)
  -- The sums of held amounts must stay exact, too.
  if amount > MOST - org[HELD] then refuse_input('amount') end
  local found = reasons(call, org, request, amount, period)
  if found then return {'refused', call.now, org.terms.bounds[period + 1], unpack(found)} end
end
