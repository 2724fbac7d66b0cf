-- extend: raise what an open hold reserves, in the hold's own period. A total, so that a retry raises nothing.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: primary's prefix, epoch; hold id, amount (micro-USD, what is to be held in all).
-- Answers as `hold` does; hold_id with cause foreign, absent (or ended), period (older than the previous one).

local function raise(call, primary, org, id, open, amount)
  local now_in, its = period_at(org, call.now), period_at(org, open.granted_at)
  if not its or its < now_in - 1 then return {'hold_id', 'period'} end
  local no = refusal(call, org, open.request, amount - open.held, its)
  if no then return no end

  local change = amount - open.held
  open.held = amount
  store_hold(call, id, open)
  add_held(call, org, open, change)
  return granted(call, primary, open)
end

local function extend(keys, args)
  local call = organization_call(keys, args)
  local id, parsed = next_id(args, 'hold_id')
  local amount = next_whole(args, 'amount')
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call)
  local no = not_in_force(primary) or older_epoch(call, org) or not_granting(call, primary, parsed.emitter)
  if no then return no end
  if parsed.organization ~= call.organization then return {'hold_id', 'foreign'} end
  local open = load_hold(call, id)
  if not open or open.epoch ~= call.epoch then return {'hold_id', 'absent'} end
  if amount <= open.held then return granted(call, primary, open) end
  if not org or not org.known then return answer_unknown(call, org) end
  return raise(call, primary, org, id, open, amount)
end

register('extend', extend, GRANTS)
