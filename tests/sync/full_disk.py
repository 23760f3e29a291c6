"""Runs furnisync on a disk whose free space stands in a file: `full_disk.py FILE arguments...`."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

told = Path(sys.argv.pop(1))
shutil.disk_usage = lambda _: SimpleNamespace(free=int(told.read_text()))


from furnisync.cli.app import main  # noqa: E402

main()
