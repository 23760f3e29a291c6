"""`python -m furnisync`."""

from furnisync.cli.app import main

if __name__ == "__main__":
    main()
