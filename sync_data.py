"""Data sync under the name that the user knows; the same as `furnisync data`."""

import sys

try:
    from furnisync.cli.app import data_script
except ModuleNotFoundError as error:
    sys.stderr.write(
        f"{error.name} is not installed for this Python: run `make setup`, then"
        " `./venv/bin/python sync_data.py`.\n"
    )
    sys.exit(2)

if __name__ == "__main__":
    data_script()
