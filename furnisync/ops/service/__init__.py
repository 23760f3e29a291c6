"""Both syncs as services of launchd or systemd."""
