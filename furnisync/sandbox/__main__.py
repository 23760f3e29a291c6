"""`python -m furnisync.sandbox`: run an imitation of Etsy until told to end."""

from __future__ import annotations

from furnisync.sandbox.options import parse_options
from furnisync.sandbox.server import run

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Run the sandbox with the given command line."""
    run(parse_options(argv))


if __name__ == "__main__":
    main()
