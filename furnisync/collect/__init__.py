"""Data sync: fetches the shops that are due and appends them to the history."""
