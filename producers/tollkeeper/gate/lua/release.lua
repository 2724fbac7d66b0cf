-- release: free a hold whose call the provider did not begin to answer.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch; hold id.
-- Answers: released, freed (micro-USD, 0 when it had ended before); stale; untrusted; hold_id with cause foreign.
-- An id that never came is marked as used, since its `hold` may still be on the way.

local function release(keys, args)
  local call = organization_call(keys, args)
  local id, issued, its_organization = next_id(args, 'hold_id')
  no_more(args)

  local primary = load_primary(call.prefix)
  local org, open = load_with_hold(call, id)
  local no = not_in_force(primary) or older_epoch(call, org)
  if no then return no end
  if its_organization ~= call.organization then return {'hold_id', 'foreign'} end
  return {'released', end_hold(call, org, id, issued, open)}
end

register('release', release, FREES)
