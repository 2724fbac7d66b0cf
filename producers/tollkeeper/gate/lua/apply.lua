-- apply: move the organization from one folded record to a later one, with the totals of that fold.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: primary's prefix, epoch (as the fold's transaction read it);
--   previous offset and offset (of the organization's last folded record; '-' before its first),
--   position (the partition's next offset at that fold);
--   number of totals, each: start and end of its period (microseconds), scope, spent (micro-USD);
--   number of caps, each: scope, cap (micro-USD, 'unlimited', or 'inherit' the dimension's default);
--   credits used, credits purchased (micro-USD; '-' is unchanged);
--   number of members, each: member, 1 or 0;
--   number of settled hold ids, each.
-- Answers: applied; ignored, the organization's offset; unknown; stale; untrusted.

local function next_spent(args)
  return {
    start = next_whole(args, 'spent'),
    stop = next_whole(args, 'spent'),
    scope = next_word(args, 'spent'),
    micros = next_whole(args, 'spent'),
  }
end

local function next_cap(args)
  local scope, cap = next_word(args, 'caps'), next_word(args, 'caps')
  local is_default = not scope:find('/')
  if cap == 'inherit' and is_default then refuse_input('caps') end
  if cap ~= 'inherit' and cap ~= 'unlimited' then cap = digits(exact(cap) or refuse_input('caps')) end
  return {scope = scope, cap = cap, is_default = is_default}
end

local function next_member(args)
  local member, standing = next_word(args, 'members'), next_word(args, 'members')
  if standing ~= '0' and standing ~= '1' then refuse_input('members') end
  return {member = member, standing = standing}
end

-- Totals of periods that Redis doesn't hold are no part of its copy; half of one would be a wrong sum.
local function cuts_a_period(org, total)
  local first, last = org.bounds[1], org.bounds[#org.bounds]
  if total.stop <= first or total.start >= last then return false end
  local period = period_at(org, total.start)
  return not period or org.bounds[period] ~= total.start or org.bounds[period + 1] ~= total.stop
end

local function cuts_any_period(org, totals)
  for _, total in ipairs(totals) do
    if cuts_a_period(org, total) then return true end
  end
  return false
end

local function install_caps(call, caps)
  for _, one in ipairs(caps) do
    if one.cap == 'inherit' then
      redis.call('HDEL', call.state, 'cap ' .. one.scope)
    else
      redis.call('HSET', call.state, 'cap ' .. one.scope, one.cap)
    end
  end
end

local function install_members(call, members)
  for _, one in ipairs(members) do
    if one.standing == '1' then
      redis.call('HSET', call.state, 'member ' .. one.member, '1')
    else
      redis.call('HDEL', call.state, 'member ' .. one.member)
    end
  end
end

local function install_totals(call, org, fold)
  for _, total in ipairs(fold.spent) do
    if period_at(org, total.start) then
      local field = 'spent ' .. digits(total.start) .. ' ' .. total.scope
      redis.call('HSET', call.state, field, digits(total.micros))
    end
  end
  if fold.used then redis.call('HSET', call.state, 'used', digits(fold.used)) end
  if fold.purchased then redis.call('HSET', call.state, 'purchased', digits(fold.purchased)) end
end

-- Foreign systems choose ids of usage events as they like: what is no id of ours holds nothing.
local function settle(call, org, ids)
  for _, id in ipairs(ids) do
    local parsed = parse_id(id)
    if parsed and parsed.organization == call.organization then end_hold(call, org, id, parsed.issued) end
  end
end

-- A fold knows the organization: it is there, and what is written from here on has to stay.
local function forget_nobody(call)
  redis.call('HDEL', call.state, 'nobody_until')
  redis.call('PERSIST', call.state)
end

local function install(call, org, fold)
  install_totals(call, org, fold)
  install_caps(call, fold.caps)
  install_members(call, fold.members)
  settle(call, org, fold.settled)
  redis.call('HSET', call.state, 'offset', digits(fold.offset), 'position', digits(fold.position))
end

local function next_fold(args)
  return {
    previous = next_offset(args, 'previous'),
    offset = next_whole(args, 'offset'),
    position = next_whole(args, 'position'),
    spent = next_list(args, 'spent', next_spent),
    caps = next_list(args, 'caps', next_cap),
    used = next_change(args, 'used'),
    purchased = next_change(args, 'purchased'),
    members = next_list(args, 'members', next_member),
    settled = next_list(args, 'settled', next_word),
  }
end

local function apply(keys, args)
  local call = organization_call(keys, args)
  local fold = next_fold(args)
  if fold.previous >= fold.offset then refuse_input('previous') end
  no_more(args)

  local org = load_organization(call)
  local no = not_in_force(load_primary(call.prefix)) or older_epoch(call, org)
  if no then return no end
  if org and org.known then
    if org.offset >= fold.offset then return {'ignored', org.offset} end
    if org.offset == fold.previous and not cuts_any_period(org, fold.spent) then
      install(call, org, fold)
      return {'applied'}
    end
  end
  forget_nobody(call)
  become_unknown(call, org, fold.position)
  return {'unknown'}
end

register('apply', apply, FREES)

-- make_unknown: forget what is known of the organization, at this position of its partition.
--
-- Keys: the organization's state, holds, marks.
-- Arguments: primary's prefix, epoch; position.
-- Answers: unknown; stale; untrusted.

local function make_unknown(keys, args)
  local call = organization_call(keys, args)
  local position = next_whole(args, 'position')
  no_more(args)

  local org = load_organization(call)
  local no = not_in_force(load_primary(call.prefix)) or older_epoch(call, org)
  if no then return no end
  forget_nobody(call)
  become_unknown(call, org, position)
  return {'unknown'}
end

register('make_unknown', make_unknown, FREES)
