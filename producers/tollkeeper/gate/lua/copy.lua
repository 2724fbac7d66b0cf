-- copy: all that Redis has of an organization, of one moment, to be compared with SQL. Changes nothing.
--
-- Keys: the organization's state, marks.
-- Arguments: none.
-- Answers: absent; or copy, known (1, 0), offset, position, number of names, each: name, value as text; then the
--   open holds as `open_holds` answers them. Names: epoch, floor, oldest, purchased, used, held; bounds, funding,
--   seats, levels; cap SCOPE (of a dimension: the default); spent START SCOPE, held START SCOPE (of the period that
--   begins at START); member M.

local function terms_shown(terms, add)
  local bounds = {}
  for i, bound in ipairs(terms.bounds) do bounds[i] = digits(bound) end
  add('bounds', table.concat(bounds, ' '))
  add('funding', terms.funding)
  add('seats', terms.seats)
  add('levels', table.concat(terms.levels, ' '))
  for _, level in ipairs(terms.levels) do add('cap ' .. level, cap_text(terms.defaults[level])) end
end

local function record_shown(terms, scope, record, before, add)
  local cap = record[before + CAP]
  if cap ~= NO_CAP then add('cap ' .. scope, cap_text(cap)) end
  for period = 1, #terms.bounds - 1 do
    local start, at = digits(terms.bounds[period]), spent_at(before, period)
    add('spent ' .. start .. ' ' .. scope, digits(record[at]))
    add('held ' .. start .. ' ' .. scope, digits(record[at + 1]))
  end
  if record[before + MEMBER] == 1 then add('member ' .. scope:match('/(.*)$'), '1') end
end

local function state_shown(call, org, add)
  local numbers = {epoch = EPOCH, floor = FLOOR, oldest = OLDEST, purchased = PURCHASED, used = USED, held = HELD}
  for name, place in pairs(numbers) do add(name, digits(org[place])) end
  if not org.terms then return end
  terms_shown(org.terms, add)
  record_shown(org.terms, 'organization/' .. call.organization, org, BEFORE_OWN, add)
  local state = redis.call('HGETALL', call.state)
  for i = 1, #state, 2 do
    local scope = state[i]:match('^scope (.*)$')
    if scope then record_shown(org.terms, scope, unpacked(state[i + 1]), 0, add) end
  end
end

local function copy(keys, args)
  local call = organization_call_now(keys, {list = {'-', '0'}, at = 0})
  no_more(args)

  local org = load_organization(call, NO_FIELDS)
  if not org then return {'absent'} end
  local answer = {'copy', known_period(call, org) and 1 or 0, org[OFFSET], org[POSITION], 0}
  state_shown(call, org, function(name, value)
    answer[5] = answer[5] + 1
    answer[#answer + 1], answer[#answer + 2] = name, value
  end)
  return add_open_holds(call, answer)
end

register('copy', copy, READS)
