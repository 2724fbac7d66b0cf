-- What seldom changes of an organization, in one field that is parsed once for all calls:
--   BOUND BOUND BOUND BOUND FUNDING SEATS DIMENSION=CAP …
--   bounds   four instants: the previous, current and next period are between them, half-open
--   funding  prepaid, arrears
--   seats    the seat policy; every_member is the one known so far
--   levels   dimensions of the caps that bind, each with the default cap of its scopes (micro-USD or 'unlimited')

local NO_CAP = -1 -- of its own: the default holds
local MANY_TERMS = 1000 -- organizations of the same terms share one text
local parsed_terms, parsed_count = {}, 0

local function parse_terms(text)
  local words = {}
  for word in text:gmatch('%S+') do words[#words + 1] = word end
  local terms = {text = text, bounds = {}, funding = words[5], seats = words[6], levels = {}, defaults = {}}
  for i = 1, 4 do terms.bounds[i] = tonumber(words[i]) end
  for i = 7, #words do
    local level, cap = words[i]:match('^([^=]+)=(.+)$')
    terms.levels[#terms.levels + 1] = level
    terms.defaults[level] = cap == 'unlimited' and math.huge or tonumber(cap)
  end
  return terms
end

-- Shared by all calls: nobody may change it.
local function terms_of(text)
  if not text then return nil end
  local terms = parsed_terms[text]
  if not terms then
    if parsed_count == MANY_TERMS then parsed_terms, parsed_count = {}, 0 end
    terms = parse_terms(text)
    parsed_terms[text], parsed_count = terms, parsed_count + 1
  end
  return terms
end

-- A cap as text; infinite is unlimited.
local function cap_text(cap)
  return cap == math.huge and 'unlimited' or digits(cap)
end

local function terms_text(terms)
  local words = {}
  for i, bound in ipairs(terms.bounds) do words[i] = digits(bound) end
  words[5], words[6] = terms.funding, terms.seats
  for _, level in ipairs(terms.levels) do words[#words + 1] = level .. '=' .. cap_text(terms.defaults[level]) end
  return table.concat(words, ' ')
end

local LAST_PERIOD = 3

-- Which period the instant lies in: 1, 2 or 3; nil when in none of them.
local function period_at(terms, instant)
  local bounds = terms.bounds
  for i = 1, LAST_PERIOD do
    if bounds[i] <= instant and instant < bounds[i + 1] then return i end
  end
end
