-- What stands against holding an amount: a list of limits with their scopes, the same code for every level.

local ALL_SCOPES = {organization = true, member = true}

-- A request is stored as the text 'ASKED MEMBER SURFACE [DIMENSION/VALUE …]', and compared by it (amount in micro-USD).
local function request_of(call, text)
  local words = words_of(text)
  local request = {
    text = text,
    asked = tonumber(words[1]),
    member = words[2],
    scopes = {organization = 'organization/' .. call.organization, member = 'member/' .. words[2]},
  }
  for i = 4, #words do request.scopes[words[i]:match('^[^/]+')] = words[i] end
  return request
end

local function next_scope(args, name)
  local scope = next_word(args, name)
  local dimension = scope:match('^([a-z_]+)/.')
  if not dimension or ALL_SCOPES[dimension] then refuse_input(name) end
  return scope
end

-- Arguments: amount (micro-USD, at least 1), member, surface, number of further scopes, each as DIMENSION/VALUE.
local function next_request(call, args)
  local asked = next_whole(args, 'amount')
  if asked == 0 then refuse_input('amount') end
  local words = {digits(asked), next_word(args, 'member'), next_word(args, 'surface')}
  local named = {}
  for _, scope in ipairs(next_list(args, 'scopes', next_scope)) do
    -- Of two projects only one could be checked.
    local dimension = scope:match('^[^/]+')
    if named[dimension] then refuse_input('scopes') end
    named[dimension] = true
    words[#words + 1] = scope
  end
  return request_of(call, table.concat(words, ' '))
end

-- Each level's name, scope, cap, spent and held in the period; then the same of the credits, and if it is a member.
local function standings(call, org, request, period)
  local start = digits(org.bounds[period])
  local fields = {'member ' .. request.member, 'purchased', 'used', 'held'}
  for _, level in ipairs(org.levels) do
    local scope = request.scopes[level] or level
    fields[#fields + 1] = 'cap ' .. scope
    fields[#fields + 1] = 'cap ' .. level
    fields[#fields + 1] = 'spent ' .. start .. ' ' .. scope
    fields[#fields + 1] = 'held ' .. start .. ' ' .. scope
  end
  local found = redis.call('HMGET', call.state, unpack(fields))
  local rows = {}
  for i, level in ipairs(org.levels) do
    local at = 4 * i
    rows[i] = {
      name = level .. '_cap',
      scope = request.scopes[level] or level,
      -- Unlimited is said, never a missing key.
      cap = found[at + 1] or found[at + 2] or '0',
      spent = tonumber(found[at + 3] or '0'),
      held = tonumber(found[at + 4] or '0'),
      is_named = request.scopes[level] ~= nil,
    }
  end
  local credits = {
    name = 'credits',
    scope = 'organization/' .. call.organization,
    cap = org.funding == 'arrears' and 'unlimited' or found[2] or '0',
    spent = tonumber(found[3] or '0'),
    held = tonumber(found[4] or '0'),
    is_named = true,
  }
  return rows, credits, found[1] == '1'
end

-- Exact as long as the answer isn't negative; what was rounded below zero is negative all the same.
local function has_room(row, amount)
  return row.cap == 'unlimited' or amount <= tonumber(row.cap) - row.spent - row.held
end

-- Every reason (RULES R24): name, scope, cap, spent, held; empty where a reason has no amounts. Nil: no reason.
local function refusal(call, org, request, amount, period)
  local rows, credits, is_member = standings(call, org, request, period)
  -- The sums of held amounts must stay exact, too.
  if not has_room({cap = EXACT, spent = 0, held = credits.held}, amount) then refuse_input('amount') end
  local answer = {'refused', call.now, org.bounds[period + 1]}
  local function add(name, scope, cap, spent, held)
    for _, item in ipairs({name, scope, cap, spent, held}) do answer[#answer + 1] = item end
  end
  if not is_member then add('member', 'member/' .. request.member, '', '', '') end
  if org.seats ~= 'every_member' then add('seat', 'member/' .. request.member, '', '', '') end
  rows[#rows + 1] = credits
  for _, row in ipairs(rows) do
    if not row.is_named then
      add(row.scope, row.scope, '', '', '')
    elseif not has_room(row, amount) then
      add(row.name, row.scope, row.cap, row.spent, row.held)
    end
  end
  if #answer > 3 then return answer end
end
