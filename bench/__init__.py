"""Measures what the project promises, against the sandbox; `python -m bench` prints one table."""
