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

-- Whether the epoch is about this run of this history.
local function is_about(key, run_id, replication_id)
  local found = redis.call('HMGET', key, 'run_id', 'replication_id')
  return found[1] == run_id and found[2] == replication_id
end

-- The same primary with one thing changed.
local function changed(primary, name, value)
  local new = {}
  for field, old in pairs(primary) do new[field] = old end
  new[name] = value
  return new
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
  if digits(MOST) ~= EXACT then error('this server counts in 32 bits') end

  local primary = load_primary(prefix)
  if epoch < primary.epoch then return {'stale', primary.epoch} end
  if epoch == primary.epoch then
    local is_same = is_about(keys[1], run_id, replication_id) and primary.library == LIBRARY
    return is_same and {'begun'} or {'stale', primary.epoch}
  end

  for _, emitter in ipairs(redis.call('HKEYS', prefix .. ':emitters')) do
    redis.call('UNLINK', prefix .. ':noted:' .. emitter, prefix .. ':left:' .. emitter)
  end
  -- What a restored server had in them may be older than what SQL has, or of another history.
  for _, kind in ipairs(KINDS) do redis.call('DEL', published_key(prefix, kind)) end
  redis.call('DEL', keys[1], prefix .. ':emitters', prefix .. ':seen')
  redis.call('HSET', keys[1], 'run_id', run_id, 'replication_id', replication_id)
  store_primary(prefix, {epoch = epoch, phase = 'recovering', library = LIBRARY, lease_until = 0})
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
  for _, emitter in ipairs(redis.call('ZRANGE', prefix .. ':seen', 0, -1)) do -- the retired are many
    if redis.call('HGET', prefix .. ':emitters', emitter) == 'started' then waiting[#waiting + 1] = emitter end
  end
  if #waiting > 1 then return waiting end
  store_primary(prefix, changed(primary, 'phase', 'open'))
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
  if not is_about(keys[1], run_id, replication_id) then return untrusted(primary, 'incarnation') end
  -- Asked of another server, or the clock was set back since.
  if asked_at > clock() then return untrusted(primary, 'clock') end
  local lease_until = math.max(primary.lease_until, asked_at + length)
  store_primary(prefix, changed(primary, 'lease_until', lease_until))
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
  store_primary(prefix, changed(primary, 'library', LIBRARY))
  return {'taken_over'}
end

register('take_over', take_over, FREES)

-- epoch: the epoch key as it is now. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: none.
-- Answers: absent, now; or epoch, number, phase, library, run id, replication id, lease until, now (microseconds).

local function answer_epoch(prefix)
  local primary = load_primary(prefix)
  if not primary.library then return {'absent', clock()} end
  local ids = redis.call('HMGET', prefix .. ':epoch', 'run_id', 'replication_id')
  return {'epoch', primary.epoch, primary.phase, primary.library, ids[1], ids[2], primary.lease_until, clock()}
end

local function epoch(keys, args)
  local prefix = primary_call(keys)
  no_more(args)

  return answer_epoch(prefix)
end

register('epoch', epoch, READS)
