-- reassert: an emitter's open holds of one organization, while the primary is recovering.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch; emitter; number of holds, each: hold id, granted at (microseconds),
--   held (micro-USD), then the request as `hold` got it: amount (micro-USD), member, surface, number of
--   further scopes, each as DIMENSION/VALUE.
-- Answers: reasserted, number of holds that are in the table now; stale; untrusted (with cause open, too);
--   emitter; hold_id with cause foreign.

local function not_recovering(primary)
  if primary.phase ~= 'recovering' then return untrusted(primary, 'open') end
end

local function next_open_hold(call, args, emitter)
  local id, issued, its_organization, its_emitter = next_id(args, 'holds')
  local granted_at, held = next_whole(args, 'holds'), next_whole(args, 'holds')
  return {
    id = id,
    issued = issued,
    epoch = call.epoch,
    granted_at = granted_at,
    held = held,
    request = (next_request(id, args)),
    is_foreign = its_organization ~= call.organization or its_emitter ~= emitter,
  }
end

local function any_foreign(holds)
  for _, one in ipairs(holds) do
    if one.is_foreign then return {'hold_id', 'foreign'} end
  end
end

-- A mark is final: this one was released or settled after its emitter had sent it. The oldest marks may be gone.
local function has_ended(call, org, one)
  if redis.call('ZSCORE', call.marks, one.id) then return true end
  local may_be_gone = org and one.issued < org[OLDEST]
  return may_be_gone and redis.call('HEXISTS', call.state, 'hold ' .. one.id) == 0
end

local function reassert(keys, args)
  local call = organization_call(keys, args)
  local emitter = next_word(args, 'emitter')
  local holds = next_list(args, 'holds', function() return next_open_hold(call, args, emitter) end)
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call, NO_FIELDS)
  local no = not_in_force(primary) or older_epoch(call, org) or not_in_epoch(primary, call.epoch)
    or not_recovering(primary) or not_noted(call.prefix, emitter, call.organization) or any_foreign(holds)
  if no then return no end

  if not org then become_unknown(call, nil, 0) end
  redis.call('PERSIST', call.state)
  local kept = 0
  for _, one in ipairs(holds) do
    if not has_ended(call, org, one) then
      redis.call('HSET', call.state, 'hold ' .. one.id, hold_text(one.epoch, one.granted_at, one.held, one.request))
      kept = kept + 1
    end
  end
  return {'reasserted', kept}
end

register('reassert', reassert, GRANTS)
