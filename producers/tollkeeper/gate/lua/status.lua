-- status: what Redis has of an organization and one of its members, as of now. Changes nothing.
--
-- Keys: the organization's state, marks.
-- Arguments: member, surface (both for what a hold would be checked against), number of scopes, each.
-- Answers: absent; or status, known (1, 0), epoch, offset, position, floor, now, start and end of the period
--   (0 when unknown), whether it is a member (1, 0), then of each limit: name, scope, cap (micro-USD or
--   'unlimited'), spent, held (micro-USD).

local function status(keys, args)
  local call = organization_call_now(keys, {list = {'-', '0'}, at = 0})
  args.list = {'1', unpack(args.list)} -- a request needs an amount
  local request = next_request('-', args)
  no_more(args)

  local org = load_organization(call, request.fields)
  if not org then return {'absent'} end
  local period = known_period(call, org)
  local answer = {'status', period and 1 or 0, org[EPOCH], org[OFFSET], org[POSITION], org[FLOOR], call.now}
  local function add(...)
    for _, item in ipairs({...}) do answer[#answer + 1] = item end
  end
  if not period then
    add(0, 0, 0)
    return answer
  end
  add(org.terms.bounds[period], org.terms.bounds[period + 1], is_member(org, request) and 1 or 0)
  for _, level in ipairs(org.terms.levels) do
    local cap, spent, held = level_standing(org, request, level, period)
    add(level .. '_cap', scope_named(call, request, level), cap_text(cap), spent, held)
  end
  local cap, spent, held = credits_standing(org)
  add('credits', 'organization/' .. call.organization, cap_text(cap), spent, held)
  return answer
end

register('status', status, READS)

local function add_open_holds(call, answer)
  local texts, ids = all_holds(call), {}
  for id in pairs(texts) do ids[#ids + 1] = id end
  table.sort(ids)
  for _, id in ipairs(ids) do
    local one = hold_of(id, texts[id])
    local asked = one.request.text:match('^%d+')
    for _, item in ipairs({id, one.epoch, one.granted_at, one.held, asked, one.request.member}) do
      answer[#answer + 1] = item
    end
  end
  return answer
end

-- open_holds: the table of open holds, for a snapshot to be compared with and for people. Changes nothing.
--
-- Keys: the organization's state, marks.
-- Arguments: none.
-- Answers: holds, then of each: hold id, epoch, granted at (microseconds), held, asked (micro-USD), member.

local function open_holds(keys, args)
  local call = organization_call(keys, {list = {'-', '0'}, at = 0})
  no_more(args)

  return add_open_holds(call, {'holds'})
end

register('open_holds', open_holds, READS)
