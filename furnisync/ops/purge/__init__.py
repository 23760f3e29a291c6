"""Removes data for good, on request or by retention."""
