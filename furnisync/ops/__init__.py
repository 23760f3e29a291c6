"""Operations: services, other machines, backup, purge, checks, notices."""
