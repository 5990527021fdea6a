"""Push functions: functions of the configuration file that run in another program, behind a URL."""
