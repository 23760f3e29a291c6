"""`python -m furnisync.sandbox`: run a local fake Etsy until it is stopped."""

from __future__ import annotations

from furnisync.sandbox.options import parse_options

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the sandbox with the given command line."""
    options = parse_options(argv)
    # Imported here: web server and numpy would double the start time of every other command.
    from furnisync.sandbox.server.server import run  # noqa: PLC0415 -- as above

    run(options)


if __name__ == "__main__":
    main()
