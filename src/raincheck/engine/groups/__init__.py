"""Groups: named sets of jobs that are triggered together, with functions that follow once all have ended.

`definitions` declares and checks groups, `runs` triggers them, `gatherer` collects the results, `documents`
shows both. A run of a group is a job itself, whose first step gathers the results of the others: what holds
for jobs (durable, recorded once, cancelled, retried, kept for a time) holds for runs.
"""
