"""The shared call budget: one ledger for all processes of a home."""
