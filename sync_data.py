"""Data sync under the name that the user knows; the same as `furnisync data`."""

from furnisync.cli.app import data_script

if __name__ == "__main__":
    data_script()
