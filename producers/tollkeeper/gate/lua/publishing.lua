-- What product services are told through Redis: the rate cards, and what to do when the gate can't know.
-- All take the primary's epoch key as their one key; its other keys have the same hash tag.

local function next_kind(args)
  local kind = next_word(args, 'kind')
  for _, known in ipairs(KINDS) do
    if kind == known then return kind end
  end
  refuse_input('kind')
end

-- publish: replace what is published of a kind, unless that is of the same version or a newer one.
--
-- Keys: the primary's epoch. Arguments: epoch; kind (prices, policies); version (from 1); number of items, each.
-- Answers: published (again for a retry); newer, the version that is published; untrusted.

local function publish(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  local kind, version = next_kind(args), next_whole(args, 'version')
  local items = next_list(args, 'items', next_word)
  no_more(args)
  if version == 0 then refuse_input('version') end

  local no = not_this(load_primary(prefix), epoch)
  if no then return no end
  local current = published_version(prefix, kind)
  if version < current then return {'newer', current} end
  if version == current then return {'published'} end
  redis.call('HSET', published_key(prefix, kind), 'version', digits(version), 'items', table.concat(items, ' '))
  return {'published'}
end

register('publish', publish, FREES)

-- published: what is published of a kind. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: kind (prices, policies).
-- Answers: published, version (0: nothing yet), items separated by spaces.

local function published(keys, args)
  local prefix = primary_call(keys)
  local kind = next_kind(args)
  no_more(args)

  local items = redis.call('HGET', published_key(prefix, kind), 'items') or ''
  return {'published', published_version(prefix, kind), items}
end

register('published', published, READS)

-- touch: this emitter lives; and what it has to follow, in one answer.
--
-- Keys: the primary's epoch. Arguments: emitter.
-- Answers: absent, now; or touched, number, phase, library, run id, replication id, lease until, now (microseconds),
--   standing (started, answered, retired, unlisted), version of the prices and of the policies (0: none yet);
--   untrusted with cause incarnation: this server isn't the one that the epoch is about.
-- One that another version of the functions has superseded lives as well, and may have open holds.

local function touch(keys, args)
  local prefix = primary_call(keys)
  local emitter = next_word(args, 'emitter')
  no_more(args)

  local answer = answer_epoch(prefix)
  if answer[1] == 'absent' then return answer end
  local primary = load_primary(prefix)
  if not is_about(keys[1], incarnation()) then return untrusted(primary, 'incarnation') end
  answer[1] = 'touched'
  answer[#answer + 1] = redis.call('HGET', prefix .. ':emitters', emitter) or 'unlisted'
  for _, kind in ipairs(KINDS) do answer[#answer + 1] = published_version(prefix, kind) end

  if same_layout(primary) then redis.call('ZADD', prefix .. ':seen', 'XX', digits(clock()), emitter) end
  return answer
end

register('touch', touch, FREES)
