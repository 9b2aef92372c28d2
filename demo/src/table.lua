-- Sizes as lines (name, plain, bzip2, lz4) to JSON with percentages.
local rows = {}
for line in io.lines() do
  local name, plain, bzip2, lz4 = line:match("^(%S+)\t(%d+)\t(%d+)\t(%d+)$")
  rows[#rows + 1] = string.format('{"file":"%s","bzip2":%.1f,"lz4":%.1f}', name, 100 * bzip2 / plain, 100 * lz4 / plain)
end
print("[" .. table.concat(rows, ",") .. "]")
