-- copy: all that Redis has of an organization, of one moment, to be compared with SQL. Changes nothing.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: none.
-- Answers: absent; or copy, known (1, 0), offset, position, number of the state's fields, each: name, value;
--   then the open holds as `open_holds` answers them.

local function copy(keys, args)
  local call = organization_call(keys, {list = {'-', '0'}, at = 0})
  no_more(args)

  local org = load_organization(call)
  if not org then return {'absent'} end
  local state = redis.call('HGETALL', call.state)
  local answer = {'copy', org.known and 1 or 0, org.offset, org.position, #state / 2}
  for _, item in ipairs(state) do answer[#answer + 1] = item end
  add_open_holds(call, answer)
  return answer
end

register('copy', copy, READS)
