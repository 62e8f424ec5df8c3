-- Asks Doorward about a request before HAProxy sends it to the application. HAProxy 2.6 or newer; no other Lua needed.
--
--   http-request lua.doorward URL HEADERS
--
-- URL is Doorward's endpoint `forward`, HEADERS the identity headers that the application is to get, with commas between.
-- Who may pass has txn.doorward set to true; everybody else gets Doorward's answer: the way to the sign-in, 401 or 403. Without
-- an answer, or after an error in here, txn.doorward is not set: the configuration has to refuse then.
--
--   http-response lua.doorward_cookies
--
-- gives the browser the cookies of a session that was refreshed on the way, and none of that name from the application. An
-- answer with them is for one browser, whatever the application says of it.

local TIMEOUT = 30000 -- milliseconds; Doorward itself waits for its provider

-- What the question repeats of the request. X-Forwarded-* are those that the configuration has set.
local REPEATED = {
    "accept", "accept-language", "authorization", "content-type", "cookie", "dpop", "host", "origin", "sec-fetch-dest",
    "sec-fetch-mode", "sec-fetch-site", "sec-purpose", "traceparent", "tracestate", "upgrade", "user-agent", "x-forwarded-for",
    "x-forwarded-host", "x-forwarded-method", "x-forwarded-proto", "x-forwarded-uri", "x-requested-with",
}

-- What an answer does not hand on: it is about the connection, or HAProxy writes it.
local NOT_HANDED_ON = { ["connection"] = true, ["content-length"] = true, ["keep-alive"] = true, ["transfer-encoding"] = true }

-- Values of HAProxy's tables, which count from 0 or from 1.
local function all(values)
    local list = {}
    if values then
        if values[0] then list[1] = values[0] end
        for _, value in ipairs(values) do list[#list + 1] = value end
    end
    return list
end

local function question(headers)
    local asked = {}
    for _, name in ipairs(REPEATED) do
        local values = all(headers[name])
        if #values > 0 then asked[name] = values end
    end
    return asked
end

-- Whether a cookie, or the line that sets one, is Doorward's. A browser sends what `=NAME=x` sets as `NAME=x`.
local function is_own(cookie)
    local name = cookie:match("^%s*=?%s*([^=;%s]*)"):gsub("^__Host%-", "")
    return name == "doorward" or name:sub(1, 9) == "doorward."
end

-- The application does not get the session itself.
local function foreign_cookies(headers)
    local kept = {}
    for _, line in ipairs(all(headers["cookie"])) do
        for pair in line:gmatch("[^;]+") do
            if not is_own(pair) then kept[#kept + 1] = pair:match("^%s*(.-)%s*$") end
        end
    end
    return kept
end

local function refuse(txn, answer)
    local reply = txn:reply({ status = answer.status })
    for name, values in pairs(answer.headers) do
        if not NOT_HANDED_ON[name] then
            for _, value in ipairs(all(values)) do reply:add_header(name, value) end
        end
    end
    reply:set_body(answer.body or "")
    txn:done(reply)
end

core.register_action("doorward", { "http-req" }, function(txn, url, identity)
    local headers = txn.http:req_get_headers()
    local answer = core.httpclient():get({ url = url, headers = question(headers), timeout = TIMEOUT })
    if answer.status == 0 then return end
    if answer.status ~= 200 then return refuse(txn, answer) end

    for name in identity:gmatch("[^,]+") do
        txn.http:req_del_header(name)
        for _, value in ipairs(all(answer.headers[name:lower()])) do
            if value ~= "" then txn.http:req_add_header(name, value) end
        end
    end
    -- What Doorward presents to the application, or nothing in place of a token that was for Doorward.
    if answer.headers["authorization"] then
        txn.http:req_del_header("authorization")
        for _, value in ipairs(all(answer.headers["authorization"])) do
            if value ~= "" then txn.http:req_add_header("authorization", value) end
        end
    end
    local cookies = foreign_cookies(headers)
    txn.http:req_del_header("cookie")
    if #cookies > 0 then txn.http:req_add_header("cookie", table.concat(cookies, "; ")) end
    txn:set_priv(all(answer.headers["set-cookie"]))
    txn:set_var("txn.doorward", true)
end, 2)

core.register_action("doorward_cookies", { "http-res" }, function(txn)
    local set = all(txn.http:res_get_headers()["set-cookie"])
    txn.http:res_del_header("set-cookie")
    for _, line in ipairs(set) do
        if not is_own(line) then txn.http:res_add_header("set-cookie", line) end
    end
    local refreshed = txn:get_priv() or {}
    for _, line in ipairs(refreshed) do txn.http:res_add_header("set-cookie", line) end
    if #refreshed > 0 then txn.http:res_set_header("cache-control", "no-store") end
end)
