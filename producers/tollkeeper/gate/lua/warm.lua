-- warm: make an organization known, from one SQL snapshot. Nothing else does.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: primary's prefix, epoch and phase ('recovering', 'open') of SQL's row as the snapshot read them;
--   offset (of the organization's last folded record, '-' before its first), position (the partition's next
--   offset), four bounds of the previous, current and next period (microseconds);
--   funding ('prepaid', 'arrears'), seat policy ('every_member');
--   number of levels, each a dimension; number of caps, each: scope, cap (micro-USD or 'unlimited');
--   number of totals, each: start and end of its period (microseconds), scope, spent (micro-USD);
--   credits used, credits purchased (micro-USD);
--   number of members, each; number of retired emitters, each;
--   the holds that Redis was seen to have: number of settled ids, each; number of open ids, each.
-- Answers: warmed, number of holds kept, number dropped; known (and left alone); below_floor, floor;
--   not_open (SQL's row was not open yet); unexamined, number of holds that were not among those given;
--   elsewhere, now (Redis' clock is in none of the periods); stale; untrusted.

local function next_snapshot(args)
  local snapshot = {phase = next_word(args, 'phase'), bounds = {}}
  snapshot.offset = next_offset(args, 'offset')
  snapshot.position = next_whole(args, 'position')
  for i = 1, 4 do snapshot.bounds[i] = next_whole(args, 'bounds') end
  snapshot.funding = next_word(args, 'funding')
  snapshot.seats = next_word(args, 'seats')
  snapshot.levels = next_list(args, 'levels', next_word)
  snapshot.caps = next_list(args, 'caps', next_cap)
  snapshot.spent = next_list(args, 'spent', next_spent)
  snapshot.used = next_whole(args, 'used')
  snapshot.purchased = next_whole(args, 'purchased')
  snapshot.members = next_list(args, 'members', next_word)
  snapshot.retired = as_set(next_list(args, 'retired', next_word))
  snapshot.settled = as_set(next_list(args, 'settled', next_word))
  snapshot.open = as_set(next_list(args, 'open', next_word))
  return snapshot
end

-- Each level has a default, so that no scope is without a cap because somebody forgot it.
local function check_snapshot(snapshot)
  local defaults = {}
  for _, one in ipairs(snapshot.caps) do
    if one.cap == 'inherit' then refuse_input('caps') end
    if one.is_default then defaults[one.scope] = true end
  end
  for _, level in ipairs(snapshot.levels) do
    if not defaults[level] then refuse_input('caps') end
  end
  if #snapshot.levels == 0 then refuse_input('levels') end
  if snapshot.funding ~= 'prepaid' and snapshot.funding ~= 'arrears' then refuse_input('funding') end
  for i = 1, 3 do
    if snapshot.bounds[i] >= snapshot.bounds[i + 1] then refuse_input('bounds') end
  end
  if cuts_any_period(snapshot, snapshot.spent) then refuse_input('spent') end
end

-- What becomes of each hold in the table: those of this epoch stay that are neither settled nor of a retired emitter.
local function sort_holds(call, snapshot)
  local kept, dropped, unexamined = {}, {}, 0
  local ids = redis.call('HKEYS', call.holds)
  for _, id in ipairs(ids) do
    local hold = load_hold(call, id)
    hold.id, hold.parsed = id, parse_id(id)
    local is_retired = snapshot.retired[hold.parsed.emitter]
    if hold.epoch ~= call.epoch or snapshot.settled[id] or is_retired then
      dropped[#dropped + 1] = hold
    else
      if not snapshot.open[id] then unexamined = unexamined + 1 end
      kept[#kept + 1] = hold
    end
  end
  return kept, dropped, unexamined
end

local function install_snapshot(call, snapshot, org)
  local bounds = {}
  for i, bound in ipairs(snapshot.bounds) do bounds[i] = digits(bound) end
  redis.call('DEL', call.state)
  redis.call('HSET', call.state,
    'epoch', digits(call.epoch), 'known', '1', 'floor', digits(org.floor), 'oldest', digits(org.oldest),
    'offset', digits(snapshot.offset), 'position', digits(snapshot.position),
    'bounds', table.concat(bounds, ' '), 'levels', table.concat(snapshot.levels, ' '),
    'funding', snapshot.funding, 'seats', snapshot.seats)
  install_totals(call, snapshot, snapshot)
  install_caps(call, snapshot.caps)
  for _, member in ipairs(snapshot.members) do
    redis.call('HSET', call.state, 'member ' .. member, '1')
  end
end

-- What is known needs no snapshot, and nobody has to ask for one any more.
local function known_already(call, org)
  if not org or not org.known then return nil end
  redis.call('ZREM', call.prefix .. ':asked', call.organization)
  return {'known'}
end

-- What speaks against believing a snapshot, whatever it says.
local function not_believing(call, primary, org, snapshot)
  local no = not_in_epoch(primary, call.epoch) or not_open(primary)
  if no then return no end
  if snapshot.phase ~= 'open' then return {'not_open'} end
  if org and snapshot.position < org.floor then return {'below_floor', org.floor} end
end

-- Nil when the snapshot may be installed.
local function not_warming(call, primary, org, snapshot)
  local no = not_believing(call, primary, org, snapshot)
  if no then return no end
  if not period_at(snapshot, call.now) then return {'elsewhere', call.now} end
end

local function warm(keys, args)
  local call = organization_call(keys, args)
  local snapshot = next_snapshot(args)
  check_snapshot(snapshot)
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call)
  local no = not_in_force(primary) or older_epoch(call, org) or known_already(call, org)
  if no then return no end
  if org then become_unknown(call, org, 0) end
  org = org or {floor = 0, oldest = 0, known = false}
  no = not_warming(call, primary, org, snapshot)
  if no then return no end
  local kept, dropped, unexamined = sort_holds(call, snapshot)
  if unexamined > 0 then return {'unexamined', unexamined} end

  for _, hold in ipairs(dropped) do end_hold(call, org, hold.id, hold.parsed.issued) end
  install_snapshot(call, snapshot, org)
  for _, hold in ipairs(kept) do add_held(call, snapshot, hold, hold.held) end
  for emitter in pairs(snapshot.retired) do
    retire(call.prefix, emitter)
  end
  redis.call('ZREM', call.prefix .. ':asked', call.organization)
  return {'warmed', #kept, #dropped}
end

register('warm', warm, GRANTS)
