"""`python -m furnisync.sandbox`: run an imitation of Etsy until told to end."""

from __future__ import annotations

from furnisync.sandbox.options import parse_options

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the sandbox with the given command line."""
    options = parse_options(argv)
    # Only now: web server and numpy would be half of the start of every other command.
    from furnisync.sandbox.server.server import run  # noqa: PLC0415

    run(options)


if __name__ == "__main__":
    main()
