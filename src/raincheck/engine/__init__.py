"""The engine: the operations on jobs, groups and schedules that Python, HTTP, workers and the CLI share.

`raincheck.engine.engine.Engine` opens the store and makes the parts; each part is a module of its own.
"""
