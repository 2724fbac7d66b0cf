-- apply: move the organization from one folded record to a later one, with the totals of that fold.
--
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch (as the fold's transaction read it);
--   previous offset and offset (of the organization's last folded record; '-' before its first),
--   position (the partition's next offset at that fold);
--   number of totals, each: start and end of its period (microseconds), scope, spent (micro-USD);
--   number of caps, each: scope, cap (micro-USD, 'unlimited', or 'inherit' the dimension's default);
--   credits used, credits purchased (micro-USD; '-' is unchanged);
--   number of members, each: member, 1 or 0;
--   settled hold ids, separated by spaces: there are many, and each argument costs both sides more than its bytes.
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
  local micros = cap == 'inherit' and NO_CAP or cap == 'unlimited' and math.huge or exact(cap)
  return {scope = scope, cap = micros or refuse_input('caps'), is_default = is_default}
end

local function next_member(args)
  local member, standing = next_word(args, 'members'), next_word(args, 'members')
  if standing ~= '0' and standing ~= '1' then refuse_input('members') end
  return {member = member, standing = tonumber(standing)}
end

-- Totals of periods that Redis doesn't hold are no part of its copy; half of one would be a wrong sum.
local function cuts_a_period(terms, total)
  local first, last = terms.bounds[1], terms.bounds[#terms.bounds]
  if total.stop <= first or total.start >= last then return false end
  local period = period_at(terms, total.start)
  return not period or terms.bounds[period] ~= total.start or terms.bounds[period + 1] ~= total.stop
end

local function cuts_any_period(terms, totals)
  for _, total in ipairs(totals) do
    if cuts_a_period(terms, total) then return true end
  end
  return false
end

-- What is said of scopes and members, put into their records, which `record_of` gives with how many numbers are
-- before each. Default caps are in the terms.
local function put_into_records(call, terms, news, record_of)
  local own = 'organization/' .. call.organization
  local function record_with(scope) return record_of(scope ~= own and 'scope ' .. scope or nil) end
  for _, total in ipairs(news.spent) do
    local period = period_at(terms, total.start)
    if period then
      local record, before = record_with(total.scope)
      record[spent_at(before, period)] = total.micros
    end
  end
  for _, one in ipairs(news.caps) do
    if not one.is_default then
      local record, before = record_with(one.scope)
      record[before + CAP] = one.cap
    end
  end
  for _, one in ipairs(news.members) do
    local record, before = record_with('member/' .. one.member)
    record[before + MEMBER] = one.standing
  end
end

-- Gives records: the organization's own, which is among its numbers and has no field, or a field's, which `load`
-- gives at first and which is remembered.
local function remembering(org, records, load)
  return function(field)
    if not field then return org, BEFORE_OWN end
    local record = records[field]
    if not record then
      record = load(field)
      records[field] = record
    end
    return record, 0
  end
end

-- The terms with the fold's default caps; those of dimensions that bind nowhere are no part of them.
local function terms_after(terms, fold)
  local new = parse_terms(terms.text)
  for _, one in ipairs(fold.caps) do
    if one.is_default and new.defaults[one.scope] then new.defaults[one.scope] = one.cap end
  end
  return terms_text(new)
end

-- Adds what these holds hold, of the credits and in each level's record; or takes it off where `sign` is -1.
local function add_held(org, holds, sign, record_of)
  for _, hold in ipairs(holds) do
    local held = sign * hold.held
    org[HELD] = org[HELD] + held
    local period = period_at(org.terms, hold.granted_at)
    for _, level in ipairs(period and org.terms.levels or NO_LEVELS) do
      local is_named, field = held_field(hold, level)
      if is_named then
        local record, before = record_of(field)
        local held_at = spent_at(before, period) + 1
        record[held_at] = record[held_at] + held
      end
    end
  end
end

-- The ids in the order given, each once: what their holds are stored under, and their marks, each as time and id.
-- Foreign systems choose ids of usage events as they like: what is no id of ours holds nothing.
local function ids_of_ours(call, ids)
  local fields, marks, seen = {}, {}, {}
  for id in ids:gmatch('%S+') do
    local issued, its_organization, _, text = parse_id(id)
    if issued and its_organization == call.organization and not seen[id] then
      seen[id] = true
      fields[#fields + 1] = 'hold ' .. id
      marks[#marks + 1], marks[#marks + 2] = text, id
    end
  end
  return fields, marks
end

-- Those of these fields that hold something.
local function holds_in(call, fields)
  local holds = {}
  in_parts(fields, function(...)
    for _, text in ipairs(redis.call('HMGET', call.state, ...)) do
      if text then holds[#holds + 1] = held_by(text) end
    end
  end)
  return holds
end

-- The fields of the state that the fold changes, with their values in turn; these holds end with it.
local function after_fold(call, org, fold, ended)
  local records = {}
  local record_of = remembering(org, records, function(field)
    return unpacked(redis.call('HGET', call.state, field))
  end)
  org[OFFSET], org[POSITION] = fold.offset, fold.position
  org[USED], org[PURCHASED] = fold.used or org[USED], fold.purchased or org[PURCHASED]
  put_into_records(call, org.terms, fold, record_of)
  add_held(org, ended, -1, record_of)
  local written = {'numbers', numbers_of(org)}
  if #fold.caps > 0 then written[3], written[4] = 'terms', terms_after(org.terms, fold) end
  for field, record in pairs(records) do
    written[#written + 1], written[#written + 2] = field, packed(record)
  end
  return written
end

-- A fold knows the organization: it is there, and what is written from here on has to stay.
local function forget_nobody(call)
  redis.call('HDEL', call.state, 'nobody_until')
  redis.call('PERSIST', call.state)
end

local function install(call, org, fold)
  local fields, marks = ids_of_ours(call, fold.settled)
  write_fields(call, after_fold(call, org, fold, holds_in(call, fields)))
  in_parts(fields, function(...) redis.call('HDEL', call.state, ...) end)
  in_parts(marks, function(...) redis.call('ZADD', call.marks, ...) end)
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
    settled = next_text(args, 'settled'),
  }
end

local function apply(keys, args)
  local call = organization_call_now(keys, args)
  local fold = next_fold(args)
  if fold.previous >= fold.offset then refuse_input('previous') end
  no_more(args)

  local org = load_organization(call, NO_FIELDS)
  local no = not_in_force(load_primary(call.prefix)) or older_epoch(call, org)
  if no then return no end
  if known_period(call, org) then
    if org[OFFSET] >= fold.offset then return {'ignored', org[OFFSET]} end
    if org[OFFSET] == fold.previous and not cuts_any_period(org.terms, fold.spent) then
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
-- Keys: the organization's state, marks.
-- Arguments: primary's prefix, epoch; position.
-- Answers: unknown; stale; untrusted.

local function make_unknown(keys, args)
  local call = organization_call(keys, args)
  local position = next_whole(args, 'position')
  no_more(args)

  local org = load_organization(call, NO_FIELDS)
  local no = not_in_force(load_primary(call.prefix)) or older_epoch(call, org)
  if no then return no end
  forget_nobody(call)
  become_unknown(call, org, position)
  return {'unknown'}
end

register('make_unknown', make_unknown, FREES)
