-- Reads arguments. What is wrong with them is answered as {'invalid', name} before anything is read or written.

local EXACT, MOST = '9007199254740992', 9007199254740992 -- 2^53: beyond it a double skips integers

local function refuse_input(name)
  error({invalid = name})
end

-- `tostring` would print 14 digits, and '%.0f' takes four times as long.
local function digits(value)
  return string.format('%d', value)
end

local ONE_DIGIT = {
  ['0'] = 0, ['1'] = 1, ['2'] = 2, ['3'] = 3, ['4'] = 4, ['5'] = 5, ['6'] = 6, ['7'] = 7, ['8'] = 8, ['9'] = 9,
}

-- Compared as text: as numbers, 2^53 + 1 would pass for 2^53. A number has one text only.
local function exact(text)
  if #text == 1 then return ONE_DIGIT[text] end
  if #text > #EXACT or not text:find('^[1-9]%d*$') then return nil end
  if #text == #EXACT and text > EXACT then return nil end
  return tonumber(text)
end

-- What is only looked up or compared.
local function next_text(args, name)
  local at = args.at + 1
  local text = args.list[at]
  args.at = at
  return text or refuse_input(name)
end

-- What may be stored among other words, which spaces separate.
local function next_word(args, name)
  local text = next_text(args, name)
  return text:find('^%S+$') and text or refuse_input(name)
end

local function next_whole(args, name)
  return exact(next_text(args, name)) or refuse_input(name)
end

-- A log offset; '-' comes before the first, which is 0.
local function next_offset(args, name)
  local text = next_word(args, name)
  if text == '-' then return -1 end
  return exact(text) or refuse_input(name)
end

-- A whole number, or nil for '-', which leaves a total as it is.
local function next_change(args, name)
  local text = next_word(args, name)
  if text == '-' then return nil end
  return exact(text) or refuse_input(name)
end

local function next_list(args, name, next_item)
  local list = {}
  for i = 1, next_whole(args, name) do list[i] = next_item(args, name) end
  return list
end

local function as_set(list)
  local set = {}
  for _, item in ipairs(list) do set[item] = true end
  return set
end

local function no_more(args)
  if args.at ~= #args.list then refuse_input('arguments') end
end

-- Redis' own clock, in microseconds since 1970.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Which run of which history this server is: its run id and replication id.
local function incarnation()
  local told = redis.call('INFO', 'server') .. redis.call('INFO', 'replication')
  return told:match('\nrun_id:(%w+)'), told:match('\nmaster_replid:(%w+)')
end

local function register(name, decide, flags)
  local function answer(keys, list)
    local done, answered = pcall(decide, keys, {list = list, at = 0})
    if done then return answered end
    if type(answered) == 'table' and answered.invalid then return {'invalid', answered.invalid} end
    error(answered)
  end
  redis.register_function{function_name = LIBRARY .. '_' .. name, callback = answer, flags = flags}
end

-- Every function looks at the primary's keys beside the organization's: in a cluster another slot, same server.
local GRANTS = {'allow-cross-slot-keys'}
-- What frees money or closes the gate must work while the memory is full, too.
local FREES = {'allow-cross-slot-keys', 'allow-oom'}
local READS = {'allow-cross-slot-keys', 'no-writes'}
