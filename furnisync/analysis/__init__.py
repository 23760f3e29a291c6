"""Frames over the history: values as known at a time, and panels of ids by dates."""

from furnisync.analysis.frames import asof, panel

__all__ = ["asof", "panel"]
