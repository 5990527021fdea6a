"""Schedules: jobs that are submitted again and again, by cron expression or interval.

`definitions` declares and checks schedules, `timetable` computes their firings, `scheduler` stores and fires
them, `documents` shows them.
"""
