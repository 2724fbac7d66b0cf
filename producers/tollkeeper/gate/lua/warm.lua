-- warm: make an organization known, from one SQL snapshot. Nothing else does.
--
-- Keys: the organization's state, marks.
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

local function next_level(args, name)
  local level = next_word(args, name)
  if not level:find('^[a-z_]+$') then refuse_input(name) end
  return level
end

local function next_terms(args)
  local terms = {bounds = {}, defaults = {}}
  for i = 1, 4 do terms.bounds[i] = next_whole(args, 'bounds') end
  terms.funding = next_word(args, 'funding')
  terms.seats = next_word(args, 'seats')
  terms.levels = next_list(args, 'levels', next_level)
  return terms
end

local function next_present(args, name)
  return {member = next_word(args, name), standing = 1}
end

local function next_snapshot(args)
  local snapshot = {phase = next_word(args, 'phase')}
  snapshot.offset = next_offset(args, 'offset')
  snapshot.position = next_whole(args, 'position')
  snapshot.terms = next_terms(args)
  snapshot.caps = next_list(args, 'caps', next_cap)
  snapshot.spent = next_list(args, 'spent', next_spent)
  snapshot.used = next_whole(args, 'used')
  snapshot.purchased = next_whole(args, 'purchased')
  snapshot.members = next_list(args, 'members', next_present)
  snapshot.retired = as_set(next_list(args, 'retired', next_word))
  snapshot.settled = as_set(next_list(args, 'settled', next_word))
  snapshot.open = as_set(next_list(args, 'open', next_word))
  for _, one in ipairs(snapshot.caps) do
    if one.cap == NO_CAP then refuse_input('caps') end
    if one.is_default then snapshot.terms.defaults[one.scope] = one.cap end
  end
  return snapshot
end

-- Each level has a default, so that no scope is without a cap because somebody forgot it.
local function check_terms(terms)
  for _, level in ipairs(terms.levels) do
    if not terms.defaults[level] then refuse_input('caps') end
  end
  if #terms.levels == 0 then refuse_input('levels') end
  if terms.funding ~= 'prepaid' and terms.funding ~= 'arrears' then refuse_input('funding') end
  for i = 1, 3 do
    if terms.bounds[i] >= terms.bounds[i + 1] then refuse_input('bounds') end
  end
end

-- What becomes of each hold in the table: those of this epoch stay that are neither settled nor of a retired emitter.
local function sort_holds(call, snapshot)
  local kept, dropped, unexamined = {}, {}, 0
  for id, text in pairs(all_holds(call)) do
    local hold = held_by(text)
    local issued, _, emitter = parse_id(id)
    hold.id, hold.issued = id, issued
    local is_retired = snapshot.retired[emitter]
    if hold.epoch ~= call.epoch or snapshot.settled[id] or is_retired then
      dropped[#dropped + 1] = hold
    else
      if not snapshot.open[id] then unexamined = unexamined + 1 end
      kept[#kept + 1] = hold
    end
  end
  return kept, dropped, unexamined
end

-- The organization as the snapshot shows it, with these holds, and the records of all other scopes.
local function organization_of(call, snapshot, before, kept)
  local org, records = new_organization(), {}
  org.terms = snapshot.terms
  org[EPOCH], org[KNOWN], org[FLOOR], org[OLDEST] = call.epoch, 1, before[FLOOR], before[OLDEST]
  org[OFFSET], org[POSITION] = snapshot.offset, snapshot.position
  org[PURCHASED], org[USED] = snapshot.purchased, snapshot.used
  local record_of = remembering(org, records, function() return unpacked(nil) end)
  put_into_records(call, org.terms, snapshot, record_of)
  add_held(org, kept, 1, record_of)
  return org, records
end

local function install_snapshot(call, snapshot, before, kept)
  local org, records = organization_of(call, snapshot, before, kept)
  local written = {'numbers', numbers_of(org), 'terms', terms_text(snapshot.terms)}
  for field, record in pairs(records) do
    written[#written + 1], written[#written + 2] = field, packed(record)
  end
  for _, hold in ipairs(kept) do
    written[#written + 1], written[#written + 2] = 'hold ' .. hold.id, hold.text
  end
  redis.call('UNLINK', call.state)
  write_fields(call, written)
end

-- What is known needs no snapshot, and nobody has to ask for one any more.
local function known_already(call, org)
  if not known_period(call, org) then return nil end
  redis.call('ZREM', call.prefix .. ':asked', call.organization)
  return {'known'}
end

-- In the last of its periods it needs one: else all that were warmed in one month would be unknown from one moment on.
local function needs_no_warming(call, org)
  if known_period(call, org) == LAST_PERIOD then return nil end
  return known_already(call, org)
end

-- What speaks against believing a snapshot, whatever it says.
local function not_believing(call, primary, org, snapshot)
  local no = not_in_epoch(primary, call.epoch) or not_open(primary)
  if no then return no end
  if snapshot.phase ~= 'open' then return {'not_open'} end
  if org and snapshot.position < org[FLOOR] then return {'below_floor', org[FLOOR]} end
end

-- Nil when the snapshot may be installed.
local function not_warming(call, primary, org, snapshot)
  local no = not_believing(call, primary, org, snapshot)
  if no then return no end
  if not period_at(snapshot.terms, call.now) then return {'elsewhere', call.now} end
end

local function warm(keys, args)
  local call = organization_call_now(keys, args)
  local snapshot = next_snapshot(args)
  check_terms(snapshot.terms)
  if cuts_any_period(snapshot.terms, snapshot.spent) then refuse_input('spent') end
  no_more(args)

  local primary = load_primary(call.prefix)
  local org = load_organization(call, NO_FIELDS)
  local no = not_in_force(primary) or older_epoch(call, org) or needs_no_warming(call, org)
  if no then return no end
  if org then become_unknown(call, org, 0) end
  org = org or new_organization()
  no = not_warming(call, primary, org, snapshot)
  if no then return no end
  local kept, dropped, unexamined = sort_holds(call, snapshot)
  if unexamined > 0 then return {'unexamined', unexamined} end

  for _, hold in ipairs(dropped) do mark_as_used(call, hold.id, hold.issued) end
  install_snapshot(call, snapshot, org, kept)
  for emitter in pairs(snapshot.retired) do
    retire(call.prefix, emitter)
  end
  redis.call('ZREM', call.prefix .. ':asked', call.organization)
  return {'warmed', #kept, #dropped}
end

register('warm', warm, GRANTS)
