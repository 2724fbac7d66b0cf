-- The primary's own keys, all beginning with its prefix, for example `tollkeeper-primary:{0}`:
--   :epoch     hash: trust ('EPOCH PHASE LIBRARY LEASE_UNTIL', the phase is recovering or open, the lease in
--              microseconds), run_id, replication_id
--   :emitters  hash: emitter -> started, answered (has re-asserted its holds in this epoch), retired
--   :seen      sorted set: those of them that are not retired, by when they were last seen (microseconds)
--   :noted:EMITTER  set: the organizations in which it may hold; there is none of an emitter that isn't listed
--   :left:EMITTER   set: the same of one that was retired, until its holds there are gone
--   :asked     sorted set: organizations to be warmed, by when that was asked (microseconds)
--   :bell      list: one word while something was asked and nobody has begun to wait since
--   :published:KIND  hash: version, items (separated by spaces)

local parsed_trust -- of the last call: it changes once a second

local function load_primary(prefix)
  local text = redis.call('HGET', prefix .. ':epoch', 'trust')
  if not text then return {epoch = 0, lease_until = 0} end
  if not parsed_trust or parsed_trust.text ~= text then
    local epoch, phase, library, lease_until = text:match('^(%d+) (%a+) (%S+) (%d+)$')
    parsed_trust = {
      text = text,
      epoch = tonumber(epoch),
      phase = phase,
      library = library,
      lease_until = tonumber(lease_until),
    }
  end
  return parsed_trust
end

local function store_primary(prefix, primary)
  local words = {digits(primary.epoch), primary.phase, primary.library, digits(primary.lease_until)}
  redis.call('HSET', prefix .. ':epoch', 'trust', table.concat(words, ' '))
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

-- Without the note nobody would find the holds of this emitter here when it is retired. Who is noted is listed.
local function not_noted(prefix, emitter, organization)
  if redis.call('SISMEMBER', prefix .. ':noted:' .. emitter, organization) == 1 then return nil end
  return not_listed(prefix, emitter) or {'emitter', 'unnoted'}
end

-- Final, whatever is said of it later.
local function retire(prefix, emitter)
  redis.call('HSET', prefix .. ':emitters', emitter, 'retired')
  redis.call('ZREM', prefix .. ':seen', emitter)
  local noted = prefix .. ':noted:' .. emitter
  if redis.call('EXISTS', noted) == 1 then redis.call('RENAME', noted, prefix .. ':left:' .. emitter) end
end

-- Who waits at the bell is woken; it holds one word at most, however long nobody waits.
local function ask_to_warm(call)
  local asked, bell = call.prefix .. ':asked', call.prefix .. ':bell'
  local is_new = redis.call('ZADD', asked, 'NX', digits(call.now), call.organization) == 1
  if is_new and redis.call('EXISTS', bell) == 0 then redis.call('RPUSH', bell, 'asked') end
end
