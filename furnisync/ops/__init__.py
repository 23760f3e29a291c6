"""Living with it: services, other machines, backups, old data, checks."""
