"""Standard output and error that cannot stop the work: what cannot be written is dropped.

A closed terminal, a full disk or a reader that has gone (`| head -1`) ends no sync and changes no
exit status.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

__all__ = ["shield_streams"]

LAST_STANDARD: Final = 2
"""The highest of the descriptors of standard input, output and error."""


class ShieldedFile(io.FileIO):
    """A descriptor that is written as long as that works."""

    def write(self, data: Buffer, /) -> int:
        """Write what can be written; the rest counts as written."""
        view = memoryview(data).cast("B")
        try:
            written = super().write(view)
        except OSError:
            return len(view)
        return len(view) if written is None else written  # None: it would block


def shield_streams() -> None:
    """Shield `sys.stdout` and `sys.stderr`; call it before anything is opened or written.

    A standard stream that was closed before the program began is opened on the null device, so that
    no database gets its descriptor.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD:
        pass
    os.close(opened)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is not None:
            old.flush()
        file = ShieldedFile(descriptor, "wb", closefd=False)
        unbuffered = getattr(old, "write_through", False)  # `python -u`
        stream = io.TextIOWrapper(
            file if unbuffered else io.BufferedWriter(file),
            encoding="utf-8" if old is None else old.encoding,
            errors="backslashreplace",
            line_buffering=file.isatty() or name == "stderr",
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
