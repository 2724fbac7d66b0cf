-- hold: reserve money for one call, or say everything that stands against it.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch; emitter, hold id, amount (micro-USD), member, surface,
--   number of further scopes, each as DIMENSION/VALUE.
-- Answers, instants in microseconds, amounts in micro-USD:
--   granted   granted at, held, now, lease until
--   refused   now, end of the period (0: there is no such organization), then of each reason: name, scope,
--             cap or 'unlimited', spent, held
--   unknown   and asks for the organization to be warmed, as it does in the last period of which it is known
--   untrusted cause (absent, superseded, epoch, recovering, lease), the primary's epoch
--   stale     the organization's epoch
--   emitter   cause (unlisted, retired, unnoted)
--   hold_id   cause (foreign, other_request, used, age)

local function out_of_age(call, org, issued)
  local newest = call.now / 1000 + ID_AGE_MILLIS
  if is_too_old(call, org, issued) or issued > newest then return {'hold_id', 'age'} end
end

-- The same id with the same request gives the same answer again; nil: this id was not used yet.
local function seen_before(call, primary, org, id, issued, request, hold)
  if hold and hold.epoch == call.epoch then
    if hold.request.text ~= request.text then return {'hold_id', 'other_request'} end
    return granted(call, primary, hold.granted_at, hold.held)
  end
  local no = out_of_age(call, org, issued)
  if no then return no end
  if redis.call('ZSCORE', call.marks, id) then return {'hold_id', 'used'} end
end

local function answer_unknown(call, org)
  if is_nobody(call) then
    return {'refused', call.now, 0, 'organization', 'organization/' .. call.organization, '', '', ''}
  end
  if org then become_unknown(call, org, 0) end
  ask_to_warm(call)
  return {'unknown'}
end

-- What must hold before anything is granted to this emitter here, whatever it costs.
local function not_granting(call, primary, emitter)
  return not_in_epoch(primary, call.epoch)
    or not_open(primary)
    or not_leased(primary, call.now)
    or not_noted(call.prefix, emitter, call.organization)
end

local function hold(keys, args)
  local call = organization_call_now(keys, args)
  local emitter = next_text(args, 'emitter')
  local id, issued, its_organization, its_emitter = next_id(args, 'hold_id')
  local request, asked = next_request(id, args)
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call, request.fields)
  local no = not_in_force(primary) or older_epoch(call, org) or not_granting(call, primary, emitter)
  if no then return no end
  if its_organization ~= call.organization or its_emitter ~= emitter then return {'hold_id', 'foreign'} end
  local before = org and hold_of(id, org.found[OWN_FIELDS + HOLD_PLACE])
  local seen = seen_before(call, primary, org, id, issued, request, before)
  if seen then return seen end
  local period = known_period(call, org)
  if not period then return answer_unknown(call, org) end
  if period == LAST_PERIOD then ask_to_warm(call) end
  no = refusal(call, org, request, asked, period)
  if no then return no end

  drop_old_marks(call, org)
  local text = hold_text(call.epoch, call.now, asked, request)
  redis.call('HSET', call.state, request.fields[HOLD_PLACE], text, unpack(with_held(org, request, period, asked)))
  return granted(call, primary, call.now, asked)
end

register('hold', hold, GRANTS)
