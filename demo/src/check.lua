-- Fails unless the interpreter computes, matches, sorts and uses the mathematics library as it should.
local words = {}
for word in ("old snow outlasts its season"):gmatch("%a+") do words[#words + 1] = word end
table.sort(words)
assert(table.concat(words, " ") == "its old outlasts season snow")
assert(string.format("%.6f", math.sin(1) + math.exp(0.5)) == "2.490192")
assert(2 ^ 0.5 == math.sqrt(2) and 7 // 2 == 3)
print(_VERSION .. " works")
