-- status: what Redis has of an organization and one of its members, as of now. Changes nothing.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: member, surface (both for what a hold would be checked against), number of scopes, each.
-- Answers: absent; or status, known (1, 0), epoch, offset, position, floor, now, start and end of the period
--   (0 when unknown), whether it is a member (1, 0), then of each limit: name, scope, cap (micro-USD or
--   'unlimited'), spent, held (micro-USD).

local function status(keys, args)
  local call = organization_call(keys, {list = {'-', '0'}, at = 0})
  args.list = {'1', unpack(args.list)} -- a request needs an amount
  local request = next_request(call, args)
  no_more(args)

  local org = load_organization(call)
  if not org then return {'absent'} end
  local answer = {'status', org.known and 1 or 0, org.epoch, org.offset, org.position, org.floor, call.now}
  local function add(...)
    for _, item in ipairs({...}) do answer[#answer + 1] = item end
  end
  if not org.known then
    add(0, 0, 0)
    return answer
  end
  local period = period_at(org, call.now)
  local rows, credits, is_member = standings(call, org, request, period)
  add(org.bounds[period], org.bounds[period + 1], is_member and 1 or 0)
  rows[#rows + 1] = credits
  for _, row in ipairs(rows) do add(row.name, row.scope, row.cap, row.spent, row.held) end
  return answer
end

register('status', status, READS)

local function add_open_holds(call, answer)
  local ids = redis.call('HKEYS', call.holds)
  table.sort(ids)
  for _, id in ipairs(ids) do
    local one = load_hold(call, id)
    for _, item in ipairs({id, one.epoch, one.granted_at, one.held, one.request.asked, one.request.member}) do
      answer[#answer + 1] = item
    end
  end
  return answer
end

-- open_holds: the table of open holds, for a snapshot to be compared with and for people. Changes nothing.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: none.
-- Answers: holds, then of each: hold id, epoch, granted at (microseconds), held, asked (micro-USD), member.

local function open_holds(keys, args)
  local call = organization_call(keys, {list = {'-', '0'}, at = 0})
  no_more(args)

  return add_open_holds(call, {'holds'})
end

register('open_holds', open_holds, READS)
