-- deny: remember for a while that SQL has no such organization: until then holds are refused by that reason.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch and phase ('recovering', 'open') of SQL's row as the snapshot read them;
--   position (the partition's next offset in that snapshot); for how long (microseconds).
-- Answers: denied; known (and left alone); below_floor, floor; not_open (SQL's row was not open yet); stale; untrusted.
-- Any `apply` ends it, and the first record of an organization brings one. Names that nobody has leave nothing behind.

local function deny(keys, args)
  local call = organization_call_now(keys, args)
  local snapshot = {phase = next_word(args, 'phase'), position = next_whole(args, 'position')}
  local length = next_whole(args, 'length')
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call, NO_FIELDS)
  local no = not_in_force(primary) or older_epoch(call, org) or known_already(call, org)
    or not_believing(call, primary, org, snapshot)
  if no then return no end

  redis.call('HSET', call.state, 'nobody_until', digits(call.now + length))
  if not org then
    become_unknown(call, nil, 0)
    redis.call('PEXPIRE', call.state, digits(math.ceil(length / 1000)))
  end
  redis.call('ZREM', call.prefix .. ':asked', call.organization)
  return {'denied'}
end

register('deny', deny, FREES)
