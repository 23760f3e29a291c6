"""Image sync under the name that the user knows; the same as `furnisync images`."""

from furnisync.cli.app import images_script

if __name__ == "__main__":
    images_script()
