-- What all instances have of each account. Who reserves puts the own part in if everything fits, who
-- looks does so in any case, who peeks does not.
--
-- KEYS: the instances that live, the last deed, what is known of each instance, then each account.
-- ARGV: own id, own incarnation, "reserve", "look" or "peek", then of each account a question and the own part.
-- A question: [from, to, kept for ms, {measure, limit, wanted}...], in one list.
-- A part: [incarnation, version, running, bucket, 5 held, {bucket, 5 spent}...], in one list.
-- Measures: 1 USD, 2 input, 3 output, 4 calls, 5 metric, 6 input and output, 7 running.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local me, incarnation, looks = ARGV[1], tonumber(ARGV[2]), ARGV[3] ~= 'reserve'

local function text(number)
  return string.format('%.0f', number)
end

local lives, living = {}, 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now), '+inf')) do
  lives[id] = true
  living = living + 1
end
if not lives[me .. ':' .. ARGV[2]] then
  return {'gone'}
end

local function add(sum, part, at)
  for n = 1, 5 do
    sum[n] = sum[n] + part[at + n]
  end
end

-- Adds what was spent in a bucket; for who only asks whether it fits, all of it in the newest one.
local function spend(spent, bucket, part, at)
  local sum = spent[bucket]
  if not looks then
    sum = spent[1]
    spent.newest = math.max(spent.newest or bucket, bucket)
  end
  if not sum then
    sum = {0, 0, 0, 0, 0}
    spent[looks and bucket or 1] = sum
  end
  add(sum, part, at)
end

-- It lives again and put in all that its ledger knows: what it held before is settled there.
local function is_back(id, incarnation)
  local known = redis.call('HGET', KEYS[3], id)
  if not known then
    return false
  end
  local present, lease, synced = string.match(known, '^(%d+) (%d+) (%d+)')
  return present ~= text(incarnation) and tonumber(lease) > now and tonumber(synced) > 0
end

local function answer(running, held, spent)
  local words = {text(running)}
  for n = 1, 5 do
    words[#words + 1] = text(held[n])
  end
  for bucket, sum in pairs(spent) do
    if type(sum) == 'table' then
      words[#words + 1] = text(looks and bucket or spent.newest)
      for n = 1, 5 do
        words[#words + 1] = text(sum[n])
      end
    end
  end
  return table.concat(words, ' ')
end

local function fits(total, running, question)
  for n = 4, #question, 3 do
    local measure, limit, wanted = question[n], question[n + 1], question[n + 2]
    if measure == 5 then
      if total[5] - wanted >= limit or (wanted > 0 and total[5] > limit) then
        return false
      end
    else
      local taken = total[measure] or running
      if measure == 6 then
        taken = total[2] + total[3]
      end
      if taken > limit then
        return false
      end
    end
  end
  return true
end

-- Nobody is there for it, and nothing of it counts in any window that is kept.
local function is_past(part, lives, from, to, kept)
  if lives then
    return false
  end
  for b = 4, #part, 6 do
    if (part[b] >= from and part[b] < to) or part[b] > now - kept * 1000 then
      return false
    end
  end
  return true
end

local answers, stale, past, all_fit = {}, {}, {}, true
for n = 4, #KEYS do
  local at = 4 + (n - 4) * 2
  local question, own = cjson.decode(ARGV[at]), cjson.decode(ARGV[at + 1])
  local from, to = question[1], question[2]
  local held, spent, running, total = {0, 0, 0, 0, 0}, {}, 0, {0, 0, 0, 0, 0}
  local parts = redis.call('HGETALL', KEYS[n])
  for i = 1, #parts, 2 do
    local part = cjson.decode(parts[i + 1])
    if parts[i] == me then
      -- Whoever asks lives: what another incarnation put in is older, whatever clocks say.
      if part[1] == own[1] and part[2] >= own[2] then
        stale[n], own = true, part
      end
    else
      local it_lives = lives[parts[i] .. ':' .. text(part[1])]
      if is_past(part, it_lives, from, to, question[3]) then
        past[#past + 1] = {KEYS[n], parts[i]}
      end
      if it_lives then
        running = running + part[3]
        add(held, part, 4)
        add(total, part, 4)
      elseif part[4] >= from and part[4] < to and not is_back(parts[i], part[1]) then
        -- Nobody knows what the calls of one that is gone used: what they held counts as spent.
        spend(spent, part[4], part, 4)
        add(total, part, 4)
      end
      for b = 10, #part, 6 do
        if part[b] >= from and part[b] < to then
          spend(spent, part[b], part, b)
          add(total, part, b)
        end
      end
    end
  end
  answers[#answers + 1] = answer(running, held, spent)
  add(total, own, 4)
  for b = 10, #own, 6 do
    if own[b] >= from and own[b] < to then
      add(total, own, b)
    end
  end
  all_fit = all_fit and fits(total, running + own[3], question)
end

if (all_fit and not looks) or ARGV[3] == 'look' then
  for _, gone in ipairs(past) do
    redis.call('HDEL', gone[1], gone[2])
  end
  for n = 4, #KEYS do
    local at = 4 + (n - 4) * 2
    if not stale[n] then
      redis.call('HSET', KEYS[n], me, ARGV[at + 1])
    end
    redis.call('PEXPIRE', KEYS[n], text(cjson.decode(ARGV[at])[3]))
  end
end
return {all_fit and 'fits' or 'full', text(now), redis.call('GET', KEYS[2]) or '', text(living), unpack(answers)}
