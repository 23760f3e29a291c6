"""Read-only status of what runs and what is left."""
