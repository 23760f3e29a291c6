"""A migration of the catalog: the prose in `images.reason` becomes a code and a detail.

The words are frozen here as older versions wrote them (`image_job.py` has those of today).
"""

import re
import sqlite3
from typing import Final

__all__ = ["add_reason_codes"]

_PROSE: Final = (
    ("empty body", "", "empty_body"),
    ("truncated: ", "", "truncated"),
    ("not an image: ", "", "not_an_image"),
    ("larger than ", " bytes", "too_large"),
    ("too many pixels: ", "", "too_many_pixels"),
    ("url refused: ", "", "url_refused"),
    ("host refused: ", " is not in ETSY_CDN_HOSTS", "host_refused"),
    ("redirect to ", " refused", "redirect_refused"),
    ("redirect without a target", "", "redirect_without_target"),
    ("redirected more than ", " times", "too_many_redirects"),
    ("disk full", "", "disk_full"),
    ("not written: ", "", "not_written"),
    ("the image folder is not here", "", "folder_away"),
    ("damaged when a run ended", "", "damaged"),
    ("not as its row said (verify)", "", "not_as_recorded"),
    ("an altered picture stood for it", "", "replaced_by_altered"),
    ("gone when the older tool asked", "", "gone_at_import"),
)
"""How the prose began and ended; what was between them is the detail."""
_STATUS: Final = re.compile(r"\d{3}(: .*)?", re.DOTALL)
_OTHER: Final = "transfer_failed"
"""libcurl's failures; its words are the whole detail."""


def add_reason_codes(connection: sqlite3.Connection) -> None:
    """Translate the reasons of all images, in one pass."""
    connection.execute("ALTER TABLE images ADD COLUMN reason_detail TEXT")
    connection.execute("DROP INDEX images_trouble")
    connection.create_function("code_of", 1, lambda prose: _translate(prose)[0], deterministic=True)
    connection.create_function(
        "detail_of", 1, lambda prose: _translate(prose)[1], deterministic=True
    )
    connection.execute(
        "UPDATE images SET reason = code_of(reason), reason_detail = detail_of(reason)"
        " WHERE reason IS NOT NULL"
    )
    connection.create_function("code_of", 1, None)
    connection.create_function("detail_of", 1, None)
    connection.execute(
        "CREATE INDEX images_trouble ON images (status, reason, reason_detail)"
        " WHERE status IN ('gone', 'bad', 'failed')"
    )


def _translate(prose: str) -> tuple[str, str]:
    for prefix, suffix, code in _PROSE:
        if prose.startswith(prefix):
            return code, prose.removeprefix(prefix).removesuffix(suffix)
    return ("http_status" if _STATUS.fullmatch(prose) else _OTHER), prose
