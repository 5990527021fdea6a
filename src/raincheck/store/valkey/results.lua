-- Reads large results. ARGV: their fields, each a job's id and a step. Returns their values, or nothing for those not there.
return read('HMGET', RESULTS, ARGV)
