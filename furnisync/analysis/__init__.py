"""Frames over the history: values as of a time, and panels of ids by dates."""

from furnisync.extras import require_extra

require_extra("analysis")

from furnisync.analysis.frames import asof, panel  # noqa: E402 -- Polars is checked for first

__all__ = ["asof", "panel"]
