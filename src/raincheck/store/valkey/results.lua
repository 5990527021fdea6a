-- Reads large results. ARGV: their fields (job id and step). Returns the value of each, or nil.
return read('HMGET', RESULTS, ARGV)
