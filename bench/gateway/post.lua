-- Posts the file that is named after `--`, and ends with a line of JSON for the benchmark.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.body = file:read("*a")
   file:close()
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
end

function done(summary)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local line = '{"requests": %d, "bytes": %d, "micros": %d, "errors": %d}\n'
   io.write(string.format(line, summary.requests, summary.bytes, summary.duration, failed))
end
