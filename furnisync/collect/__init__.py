"""Data sync: which shops are due, what to fetch of them, what to append to the history."""
