"""Workers that connect over HTTP: they register, claim, extend, finish and release attempts, and leave.

Servers hold no state for them: the registration, the leases and the attempts are in the store, so that each
call can go to another server. A call names an attempt by its lease, which must be in force and belong to the
worker that calls. `raincheck.core.lifecycle` decides what follows, as for all workers.
"""
