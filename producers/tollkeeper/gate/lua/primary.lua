-- The primary's own keys, all beginning with its prefix, for example `tollkeeper-primary:{0}`:
--   :epoch     hash: epoch, phase (recovering, open), library, run_id, replication_id, lease_until (microseconds)
--   :emitters  hash: emitter -> started, answered (has re-asserted its holds in this epoch), retired
--   :seen      sorted set: those of them that are not retired, by when they were last seen (microseconds)
--   :noted:EMITTER  set: the organizations in which it may hold
--   :asked     sorted set: organizations to be warmed, by when that was asked (microseconds)
--   :bell      list: one word while something was asked and nobody has begun to wait since
--   :published:KIND  hash: version, items (separated by spaces)

local function load_primary(prefix)
  local found = redis.call('HMGET', prefix .. ':epoch', 'library', 'epoch', 'phase', 'lease_until')
  return {
    library = found[1] or nil,
    epoch = tonumber(found[2] or '0'),
    phase = found[3] or nil,
    lease_until = tonumber(found[4] or '0'),
  }
end

local KINDS = {'prices', 'policies'}

local function published_key(prefix, kind)
  return prefix .. ':published:' .. kind
end

local function published_version(prefix, kind)
  return tonumber(redis.call('HGET', published_key(prefix, kind), 'version') or '0')
end

local function untrusted(primary, cause)
  return {'untrusted', cause, primary.epoch}
end

-- Exactly one version of this library decides at any moment: the one that the epoch key names.
local function not_in_force(primary)
  if not primary.library then return untrusted(primary, 'absent') end
  if primary.library ~= LIBRARY then return untrusted(primary, 'superseded') end
end

-- Whether the version in force keeps its data as this one does.
local function same_layout(primary)
  return primary.library and primary.library:match('^%w+_%d+_') == LIBRARY:match('^%w+_%d+_')
end

local function not_in_epoch(primary, epoch)
  if primary.epoch ~= epoch then return untrusted(primary, 'epoch') end
end

local function not_open(primary)
  if primary.phase ~= 'open' then return untrusted(primary, 'recovering') end
end

-- An isolated primary can't be renewed, so it stops granting.
local function not_leased(primary, now)
  if primary.lease_until <= now then return untrusted(primary, 'lease') end
end

local function not_listed(prefix, emitter)
  local standing = redis.call('HGET', prefix .. ':emitters', emitter)
  if not standing then return {'emitter', 'unlisted'} end
  if standing == 'retired' then return {'emitter', 'retired'} end
end

-- Without the note nobody would find the holds of this emitter here when it is retired.
local function not_noted(prefix, emitter, organization)
  if redis.call('SISMEMBER', prefix .. ':noted:' .. emitter, organization) == 0 then
    return {'emitter', 'unnoted'}
  end
end

-- Final, whatever is said of it later.
local function retire(prefix, emitter)
  redis.call('HSET', prefix .. ':emitters', emitter, 'retired')
  redis.call('ZREM', prefix .. ':seen', emitter)
end

-- Who waits at the bell is woken; it holds one word at most, however long nobody waits.
local function ask_to_warm(call)
  local asked, bell = call.prefix .. ':asked', call.prefix .. ':bell'
  local is_new = redis.call('ZADD', asked, 'NX', digits(call.now), call.organization) == 1
  if is_new and redis.call('EXISTS', bell) == 0 then redis.call('RPUSH', bell, 'asked') end
end
