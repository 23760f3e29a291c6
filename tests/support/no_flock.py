"""Runs furnisync as on a disk without file locks: `no_flock.py flock,lockf arguments...`.

The named functions of `fcntl` refuse as the system does on such a disk; the others are real.
"""

import errno
import fcntl
import os
import sys

lacking = sys.argv.pop(1).split(",")


def refuse(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


for name in lacking:
    setattr(fcntl, name, refuse)


if __name__ == "__main__":
    from furnisync.cli.app import main

    main()
