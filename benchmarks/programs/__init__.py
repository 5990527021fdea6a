"""Programs that run as processes: functions for raincheck, tasks for the peer, and bare servers."""
