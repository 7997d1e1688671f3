local t = {}
for n = 1, 20000 do t[n] = (n * 7919) % 10007 end
table.sort(t)
for n = 2, #t do assert(t[n - 1] <= t[n]) end
assert(string.format("%.14g %q %5.1f", 0.1, "a\nb", 2.25) == '0.1 "a\\\nb"   2.2')
local ok, message = pcall(error, { code = 7 })
assert(not ok and message.code == 7)
local co = coroutine.wrap(function(...) for _, v in ipairs({ ... }) do coroutine.yield(v) end end)
assert(co(1, 2) == 1 and co() == 2)
assert(("hello world"):gsub("o", "0") == "hell0 w0rld")
assert(math.tointeger(2 ^ 53) == 9007199254740992 and 7 // 2 == 3 and -7 % 3 == 2)
assert(load("return 1 << 40")() == 1099511627776)
local weak = setmetatable({}, { __mode = "k" })
for _ = 1, 1000 do weak[{}] = true end
collectgarbage()
assert(next(weak) == nil)
print("all right")
