-- The life of an epoch: begun as recovering, opened when every emitter has answered, renewed as a lease.
-- All take the primary's epoch key as their one key; its other keys have the same hash tag.

local function primary_call(keys)
  local prefix = keys[1] and keys[1]:match('^(tollkeeper%-primary:{[^{}%s]+}):epoch$')
  if not prefix or #keys ~= 1 then refuse_input('keys') end
  return prefix
end

-- Refused: another version decides, or this is not the call's epoch.
local function not_this(primary, epoch)
  return not_in_force(primary) or not_in_epoch(primary, epoch)
end

-- begin_epoch: trust this incarnation of Redis under a new number, with nobody listed yet.
--
-- Keys: the primary's epoch. Arguments: epoch, run id, replication id.
-- Answers: begun (again for a retry); stale, the key's epoch.

local function begin_epoch(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  local run_id, replication_id = next_word(args, 'run_id'), next_word(args, 'replication_id')
  no_more(args)

  local found = redis.call('HMGET', keys[1], 'epoch', 'run_id', 'replication_id', 'library')
  local current = tonumber(found[1] or '0')
  if epoch < current then return {'stale', current} end
  if epoch == current then
    local is_same = found[2] == run_id and found[3] == replication_id and found[4] == LIBRARY
    return is_same and {'begun'} or {'stale', current}
  end

  for _, emitter in ipairs(redis.call('HKEYS', prefix .. ':emitters')) do
    redis.call('UNLINK', prefix .. ':noted:' .. emitter)
  end
  -- What a restored server had in them may be older than what SQL has, or of another history.
  for _, kind in ipairs(KINDS) do redis.call('DEL', published_key(prefix, kind)) end
  redis.call('DEL', keys[1], prefix .. ':emitters', prefix .. ':seen')
  redis.call('HSET', keys[1], 'epoch', digits(epoch), 'phase', 'recovering', 'library', LIBRARY,
    'run_id', run_id, 'replication_id', replication_id)
  return {'begun'}
end

register('begin_epoch', begin_epoch, FREES)

-- open_epoch: end the recovery. SQL's row was opened before.
--
-- Keys: the primary's epoch. Arguments: epoch.
-- Answers: opened (again for a retry); waiting, each emitter that is listed and neither answered nor was retired;
--   untrusted.

local function open_epoch(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  no_more(args)

  local primary = load_primary(prefix)
  local no = not_this(primary, epoch)
  if no then return no end
  if primary.phase == 'open' then return {'opened'} end
  local waiting = {'waiting'}
  local listed = redis.call('HGETALL', prefix .. ':emitters')
  for i = 1, #listed, 2 do
    if listed[i + 1] == 'started' then waiting[#waiting + 1] = listed[i] end
  end
  if #waiting > 1 then return waiting end
  redis.call('HSET', keys[1], 'phase', 'open')
  return {'opened'}
end

register('open_epoch', open_epoch, FREES)

-- renew: prolong the lease, which counts from before SQL's row was read: a call that comes late prolongs nothing.
--
-- Keys: the primary's epoch. Arguments: epoch, run id, replication id (of the server, as the caller sees it),
--   asked at (Redis' clock as it was asked before the row was read, microseconds), length (microseconds).
-- Answers: renewed, lease until (microseconds); untrusted (with cause incarnation or clock, too).

local function renew(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  local run_id, replication_id = next_word(args, 'run_id'), next_word(args, 'replication_id')
  local asked_at, length = next_whole(args, 'asked_at'), next_whole(args, 'length')
  no_more(args)

  local primary = load_primary(prefix)
  local no = not_this(primary, epoch)
  if no then return no end
  local found = redis.call('HMGET', keys[1], 'run_id', 'replication_id')
  if found[1] ~= run_id or found[2] ~= replication_id then return untrusted(primary, 'incarnation') end
  -- Asked of another server, or the clock was set back since.
  if asked_at > clock() then return untrusted(primary, 'clock') end
  local lease_until = math.max(primary.lease_until, asked_at + length)
  redis.call('HSET', keys[1], 'lease_until', digits(lease_until))
  return {'renewed', lease_until}
end

register('renew', renew, FREES)

-- take_over: from here on this version of the library decides, and the one before it doesn't.
--
-- Keys: the primary's epoch. Arguments: epoch.
-- Answers: taken_over (again for a retry); untrusted, with cause layout when the other keeps its data differently.

local function take_over(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  no_more(args)

  local primary = load_primary(prefix)
  if not primary.library then return untrusted(primary, 'absent') end
  local no = not_in_epoch(primary, epoch)
  if no then return no end
  if not same_layout(primary) then return untrusted(primary, 'layout') end
  redis.call('HSET', keys[1], 'library', LIBRARY)
  return {'taken_over'}
end

register('take_over', take_over, FREES)

-- epoch: the epoch key as it is now. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: none.
-- Answers: absent, now; or epoch, number, phase, library, run id, replication id, lease until, now (microseconds).

local function answer_epoch(key)
  local found = redis.call(
    'HMGET', key, 'epoch', 'phase', 'library', 'run_id', 'replication_id', 'lease_until')
  if not found[1] then return {'absent', clock()} end
  local lease_until = tonumber(found[6] or '0')
  return {'epoch', tonumber(found[1]), found[2], found[3], found[4], found[5], lease_until, clock()}
end

local function epoch(keys, args)
  primary_call(keys)
  no_more(args)

  return answer_epoch(keys[1])
end

register('epoch', epoch, READS)
