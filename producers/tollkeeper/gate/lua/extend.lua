-- extend: raise what an open hold reserves, in the hold's own period. A total, so that a retry raises nothing.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch; hold id, amount (micro-USD, what is to be held in all).
-- Answers as `hold` does; hold_id with cause foreign, absent (or ended), period (older than the previous one).

local function raise(call, primary, org, now_in, open, amount)
  local its, change = period_at(org.terms, open.granted_at), amount - open.held
  if not its or its < now_in - 1 then return {'hold_id', 'period'} end
  local no = refusal(call, org, open.request, change, its)
  if no then return no end

  local text = hold_text(open.epoch, open.granted_at, amount, open.request)
  local written = with_held(org, open.request, its, change)
  redis.call('HSET', call.state, open.request.fields[HOLD_PLACE], text, unpack(written))
  return granted(call, primary, open.granted_at, amount)
end

local function extend(keys, args)
  local call = organization_call_now(keys, args)
  local id, _, its_organization, its_emitter = next_id(args, 'hold_id')
  local amount = next_whole(args, 'amount')
  no_more(args)

  local primary = load_primary(call.prefix)
  local org, open = load_with_hold(call, id)
  local no = not_in_force(primary) or older_epoch(call, org) or not_granting(call, primary, its_emitter)
  if no then return no end
  if its_organization ~= call.organization then return {'hold_id', 'foreign'} end
  if not open or open.epoch ~= call.epoch then return {'hold_id', 'absent'} end
  if amount <= open.held then return granted(call, primary, open.granted_at, open.held) end
  local now_in = known_period(call, org)
  if not now_in then return answer_unknown(call, org) end
  return raise(call, primary, org, now_in, open, amount)
end

register('extend', extend, GRANTS)
