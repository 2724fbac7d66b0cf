-- The list of emitters that may hold, and in which organizations.
-- All take the primary's epoch key as their one key; its other keys have the same hash tag.

-- list_emitters: what the log says about emitters. Retired is final, in whatever order the partitions tell it.
--
-- Keys: the primary's epoch. Arguments: epoch; number of started emitters, each; number of retired ones, each.
-- Answers: listed; untrusted.

local function list_emitters(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  local started = next_list(args, 'started', next_word)
  local retired = next_list(args, 'retired', next_word)
  no_more(args)

  local no = not_this(load_primary(prefix), epoch)
  if no then return no end
  local now = digits(clock())
  for _, emitter in ipairs(started) do
    local is_new = redis.call('HSETNX', prefix .. ':emitters', emitter, 'started') == 1
    -- As if seen: it has its time to be retired from now on.
    if is_new then redis.call('ZADD', prefix .. ':seen', now, emitter) end
  end
  for _, emitter in ipairs(retired) do retire(prefix, emitter) end
  return {'listed'}
end

register('list_emitters', list_emitters, FREES)

-- answer: this emitter has re-asserted all its open holds in this epoch.
--
-- Keys: the primary's epoch. Arguments: epoch; emitter.
-- Answers: answered (again for a retry); emitter; untrusted.

local function answer(keys, args)
  local prefix = primary_call(keys)
  local epoch, emitter = next_whole(args, 'epoch'), next_word(args, 'emitter')
  no_more(args)

  local no = not_this(load_primary(prefix), epoch) or not_listed(prefix, emitter)
  if no then return no end
  redis.call('HSET', prefix .. ':emitters', emitter, 'answered')
  return {'answered'}
end

register('answer', answer, FREES)

-- note: this emitter is about to hold in these organizations, or to re-assert holds there.
--
-- Keys: the primary's epoch. Arguments: epoch; emitter; number of organizations, each.
-- Answers: noted; emitter; untrusted.

local function note(keys, args)
  local prefix = primary_call(keys)
  local epoch, emitter = next_whole(args, 'epoch'), next_word(args, 'emitter')
  local organizations = next_list(args, 'organizations', next_word)
  no_more(args)

  local no = not_this(load_primary(prefix), epoch) or not_listed(prefix, emitter)
  if no then return no end
  for _, organization in ipairs(organizations) do
    redis.call('SADD', prefix .. ':noted:' .. emitter, organization)
  end
  return {'noted'}
end

register('note', note, GRANTS)

-- strike_notes: these organizations were made unknown after this emitter's retirement; they are asked to be warmed,
-- so that its holds there go with or without traffic.
--
-- Keys: the primary's epoch. Arguments: epoch; emitter; number of organizations, each.
-- Answers: struck; emitter with cause listed: it isn't retired; untrusted.

local function strike_notes(keys, args)
  local prefix = primary_call(keys)
  local epoch, emitter = next_whole(args, 'epoch'), next_word(args, 'emitter')
  local organizations = next_list(args, 'organizations', next_word)
  no_more(args)

  local no = not_this(load_primary(prefix), epoch)
  if no then return no end
  if redis.call('HGET', prefix .. ':emitters', emitter) ~= 'retired' then return {'emitter', 'listed'} end
  local now = clock()
  for _, organization in ipairs(organizations) do
    redis.call('SREM', prefix .. ':left:' .. emitter, organization)
    ask_to_warm({prefix = prefix, organization = organization, now = now})
  end
  return {'struck'}
end

register('strike_notes', strike_notes, FREES)

-- emitter: how this emitter stands, and the organizations noted for it. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: emitter.
-- Answers: emitter, standing (started, answered, retired, unlisted), each organization.

local function emitter(keys, args)
  local prefix = primary_call(keys)
  local name = next_word(args, 'emitter')
  no_more(args)

  local standing = redis.call('HGET', prefix .. ':emitters', name) or 'unlisted'
  local kind = standing == 'retired' and ':left:' or ':noted:'
  local noted = redis.call('SMEMBERS', prefix .. kind .. name)
  table.sort(noted)
  local answer = {'emitter', standing}
  for _, organization in ipairs(noted) do answer[#answer + 1] = organization end
  return answer
end

register('emitter', emitter, READS)

-- emitters: all that may hold, or may as soon as they have answered; longest unseen first. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: none.
-- Answers: emitters, now, then of each: emitter, standing (started, answered), seen at (microseconds).

local function emitters(keys, args)
  local prefix = primary_call(keys)
  no_more(args)

  local answer = {'emitters', clock()}
  local seen = redis.call('ZRANGE', prefix .. ':seen', 0, -1, 'WITHSCORES')
  for i = 1, #seen, 2 do
    answer[#answer + 1] = seen[i]
    answer[#answer + 1] = redis.call('HGET', prefix .. ':emitters', seen[i])
    answer[#answer + 1] = tonumber(seen[i + 1])
  end
  return answer
end

register('emitters', emitters, READS)

-- asked: the organizations that wait to be warmed, longest first. Changes nothing.
--
-- Keys: the primary's epoch. Arguments: how many at most.
-- Answers: asked, each organization.

local function asked(keys, args)
  local prefix = primary_call(keys)
  local count = next_whole(args, 'count')
  no_more(args)
  if count == 0 or count > 1000 then refuse_input('count') end

  return {'asked', unpack(redis.call('ZRANGE', prefix .. ':asked', 0, count - 1))}
end

register('asked', asked, READS)

-- strike_asked: these organizations need no warming, for example since there are none of that name.
--
-- Keys: the primary's epoch. Arguments: epoch; number of organizations, each.
-- Answers: struck; untrusted.

local function strike_asked(keys, args)
  local prefix = primary_call(keys)
  local epoch = next_whole(args, 'epoch')
  local organizations = next_list(args, 'organizations', next_word)
  no_more(args)

  local no = not_this(load_primary(prefix), epoch)
  if no then return no end
  for _, organization in ipairs(organizations) do
    redis.call('ZREM', prefix .. ':asked', organization)
  end
  return {'struck'}
end

register('strike_asked', strike_asked, FREES)
