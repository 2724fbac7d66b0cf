-- The primary's own keys, all beginning with its prefix, for example `tollkeeper-primary:{0}`:
--   :epoch     hash: epoch, phase (recovering, open), library, run_id, replication_id, lease_until (microseconds)
--   :emitters  hash: emitter -> started, answered (has re-asserted its holds in this epoch), retired
--   :noted:EMITTER  set: the organizations in which it may hold
--   :asked     sorted set: organizations to be warmed, by when that was asked (microseconds)

local function load_primary(prefix)
  local found = redis.call('HMGET', prefix .. ':epoch', 'library', 'epoch', 'phase', 'lease_until')
  return {
    library = found[1] or nil,
    epoch = tonumber(found[2] or '0'),
    phase = found[3] or nil,
    lease_until = tonumber(found[4] or '0'),
  }
end

local function untrusted(primary, cause)
  return {'untrusted', cause, primary.epoch}
end

-- Exactly one version of this library decides at any moment: the one that the epoch key names.
local function not_in_force(primary)
  if not primary.library then return untrusted(primary, 'absent') end
  if primary.library ~= LIBRARY then return untrusted(primary, 'superseded') end
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

local function ask_to_warm(call)
  redis.call('ZADD', call.prefix .. ':asked', 'NX', digits(call.now), call.organization)
end
