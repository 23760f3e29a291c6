"""Logging: to the terminal above the bars, or as plain lines."""

import logging
import sys

from rich.console import Console
from rich.logging import RichHandler


def start_logging(console: Console) -> None:
    """Send the log of this package to the console; libraries speak from warnings on."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, rich_tracebacks=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s", "%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("furnisync").setLevel(logging.INFO)
    logging.getLogger("stamina").setLevel(logging.ERROR)
