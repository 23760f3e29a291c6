"""Makes `time.sleep` work under libfaketime; Python reads this at its start.

Only `tools.try_dates` puts this folder on `PYTHONPATH`. Since Python 3.11 `time.sleep` waits until
an instant of the monotonic clock, and libfaketime 0.9.10, told to leave that clock alone, answers
`EINVAL`. Were that clock faked too, waits for locks would never end.
"""

import select
import time
from typing import SupportsFloat


def _sleep(duration: SupportsFloat, /) -> None:
    seconds = float(duration)
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep  # type: ignore[assignment]  # mypy wants its own parameter names
