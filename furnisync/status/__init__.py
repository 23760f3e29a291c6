"""Read-only pictures of what runs and what is left."""
