"""Reproducible random numbers: they depend only on their arguments."""

from __future__ import annotations

__all__ = ["mix", "share_of"]

_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """Return 64 well-mixed bits from `parts` (splitmix64, chained)."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def share_of(*parts: int) -> float:
    """Return a number in [0, 1) from `parts`."""
    return mix(*parts) / 2**64
