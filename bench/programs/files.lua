-- Writes, reads, seeks, renames and removes many files; errors go through pcall.
--     lua files.lua DIRECTORY FILES
local directory, count = arg[1], tonumber(arg[2])
local function path(i) return string.format("%s/file-%05d.txt", directory, i) end

local seed = 42
local function random(n)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return seed // 65536 % n
end

local function check_sum(text, sum)
  for i = 1, #text, 7 do sum = (sum * 31 + text:byte(i)) % 4294967296 end
  return sum
end

local written = 0
for i = 1, count do
  local file <close> = assert(io.open(path(i), "w"))
  file:setvbuf(i % 3 == 0 and "no" or "full")
  for line = 1, random(60) do
    assert(file:write("line ", line, " of file ", i, ": ", string.rep("x", random(80)), "\n"))
  end
  written = written + file:seek()
end
print("written", written)

local lines, sum = 0, 0
for i = 1, count do
  for line in io.lines(path(i)) do
    lines = lines + 1
    sum = check_sum(line, sum)
  end
end
print("read", lines, sum)

for i = 1, count do -- change in place
  local file <close> = assert(io.open(path(i), "r+b"))
  local size = file:seek("end")
  for _ = 1, 20 do
    if size > 10 then
      file:seek("set", random(size - 10))
      assert(file:write("<", random(1000), ">"))
      file:seek("cur", -2)
      sum = check_sum(file:read(2), sum)
    end
  end
  file:seek("set", 0)
  sum = check_sum(file:read("a"), sum)
end
print("changed", sum)

for i = 1, count do -- append through one descriptor, read through another
  local out <close> = assert(io.open(path(i), "a"))
  local input <close> = assert(io.open(path(i)))
  out:write("the end of ", i, "\n")
  out:flush()
  input:seek("end", -4)
  sum = check_sum(input:read("l"), sum)
end
print("appended", sum)

local moved, removed = 0, 0
for i = 1, count do
  if i % 3 == 0 then
    assert(os.rename(path(i), path(i) .. ".moved"))
    moved = moved + 1
  elseif i % 5 == 0 then
    assert(os.remove(path(i)))
    removed = removed + 1
  end
end
print("moved", moved, "removed", removed)

local missing, messages = 0, {}
for i = 1, count do
  local ok, message = pcall(function()
    local file <close> = assert(io.open(path(i)))
    return file:read("n", "a")
  end)
  if not ok then
    missing = missing + 1
    messages[message:match(": ([%w ]+)$")] = true
  end
end
print("missing", missing, next(messages))

-- A coroutine that merges all files that are left, in order.
local merge = coroutine.wrap(function()
  for i = 1, count do
    local file = io.open(path(i)) or io.open(path(i) .. ".moved")
    if file then
      coroutine.yield(file:read("a"))
      file:close()
    end
  end
end)
local all <close> = assert(io.open(directory .. "/all.txt", "w"))
local bytes = 0
for text in merge do
  all:write(text)
  bytes = bytes + #text
end
print("merged", bytes, all:seek())
