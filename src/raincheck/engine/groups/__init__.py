"""Groups: named sets of jobs that are triggered together, and what follows once all have ended.

A run of a group is a job itself, whose first step gathers the results of the others: what holds for
jobs (durable, once, cancelled, retried, kept for a while) holds for runs.
"""
