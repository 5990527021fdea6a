"""Schedules: jobs that are submitted again and again, by cron expression or interval.

`definition` checks what a caller says, `declared` has what code and the app's file declare, `timetable`
says when a schedule fires, `scheduler` keeps and fires them.
"""
