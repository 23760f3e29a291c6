"""The download queue is the catalogue: each image row says where it stands and when to try it.

| status   | meaning                                             | tried again                    |
| -------- | --------------------------------------------------- | ------------------------------ |
| pending  | wanted, not here yet                                | now, or soon after a failure   |
| done     | whole under its final name                          | when a larger size is wanted   |
| gone     | the CDN knows it no more (404, 410)                 | when batch names it again      |
| bad      | what came is no image, or its url is refused        | weekly, a few times, and when  |
|          |                                                     | the settings refuse it no more |
| failed   | could not be fetched in several tries               | hourly at first, growing       |
| unwanted | known, but the settings want only the primary image | when the settings want it      |
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from furnisync.catalog.listings import ImageRow
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import HOUR_S

QUICK_RETRIES_S = (2, 10, 30)
"""Pauses before an image that failed counts as failed: a fault of the moment passes by itself."""
FAILED_RETRY_MAX_S = 7 * 24 * HOUR_S
BAD_RETRY_S = 7 * 24 * HOUR_S
BAD_QUICK_TRIES = 2
BAD_TRIES_MAX = 5
REFUSED_BY_SETTINGS = ("host refused:", "redirect to ", "larger than ", "too many pixels:")
"""How the reasons begin that other settings would do away with."""

Which = Literal["all", "primary"]


class Claim(msgspec.Struct, frozen=True):
    """An image to fetch.

    Attributes:
        sha256: of the file that we hold of it, where we do.
        untouched: it was neither tried nor held before.
    """

    listing_id: int
    image_id: int
    url: str
    sha256: bytes | None
    untouched: bool


class Fetched(msgspec.Struct, frozen=True):
    """How the try to fetch an image ended; file facts only where `verdict` is done."""

    listing_id: int
    image_id: int
    verdict: Literal["done", "gone", "bad", "failed"]
    reason: str | None = None
    file: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: bytes | None = None


def add_images(
    connection: sqlite3.Connection,
    listing_id: int,
    images: Sequence[ImageRow],
    which: Which,
    now: int,
) -> None:
    """Record the images that batch told of a listing; what is new, or named anew, is queued.

    Images that the listing shows no more stay as they are: files are kept.
    """
    rows = []
    for place, image in enumerate(images):
        status, next_try = queue_state(which, now, is_first=place == 0)
        rows.append((listing_id, image.image_id, image.rank, image.url, status, next_try))
    anew = "(status IN ('unwanted', 'gone') OR url <> excluded.url AND status <> 'done')"
    connection.executemany(
        "INSERT INTO images (listing_id, image_id, rank, url, status, next_try)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rank = excluded.rank,"
        f" status = CASE WHEN {anew} THEN excluded.status ELSE status END,"
        f" next_try = CASE WHEN {anew} THEN excluded.next_try ELSE next_try END,"
        f" attempts = CASE WHEN {anew} THEN 0 ELSE attempts END,"
        " url = excluded.url",
        rows,
    )


def queue_state(which: Which, now: int, *, is_first: bool) -> tuple[str, int | None]:
    """Status and `next_try` of a new image: queued, unless the settings want only the first."""
    return ("pending", now) if which == "all" or is_first else ("unwanted", None)


def claim_images(
    connection: sqlite3.Connection,
    now: int,
    in_flight: Collection[tuple[int, int]],
    limit: int,
    scope: Collection[int] | None = None,
) -> list[Claim]:
    """Up to `limit` images that are due, longest due first, none of those in flight.

    Claims live in the caller's memory only, so that a kill leaves nothing to undo. `scope`
    restricts them to some listings.
    """
    within = "" if scope is None else "AND listing_id IN (SELECT value FROM json_each(:scope))"
    rows = connection.execute(
        "SELECT listing_id, image_id, url, sha256,"
        " done_at IS NULL AND attempts = 0 AND reason IS NULL"
        " FROM images WHERE next_try IS NOT NULL"
        f" AND next_try <= :now {within} ORDER BY next_try LIMIT :limit",
        {
            "now": now,
            "limit": limit + len(in_flight),
            "scope": json.dumps(sorted(scope or ())),
        },
    )
    found = (Claim(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows)
    return [one for one in found if (one.listing_id, one.image_id) not in in_flight][:limit]


def next_image_due(
    connection: sqlite3.Connection, scope: Collection[int] | None = None
) -> int | None:
    """When the next image is due (unix seconds), None where none waits."""
    within = "" if scope is None else "AND listing_id IN (SELECT value FROM json_each(:scope))"
    row = connection.execute(
        f"SELECT min(next_try) FROM images WHERE next_try IS NOT NULL {within}",
        {"scope": json.dumps(sorted(scope or ()))},
    ).fetchone()
    return None if row[0] is None else int(row[0])


def record_fetched(
    connection: sqlite3.Connection, fetched: Iterable[Fetched], size: str, now: int
) -> None:
    """Record how fetches ended: done, or when to try again as the kind deserves."""
    done = []
    for one in fetched:
        if one.verdict == "done":
            done.append(
                (one.file, size, one.size_bytes, one.width, one.height, one.sha256, now,
                 one.listing_id, one.image_id)
            )  # fmt: skip
        else:
            _record_miss(connection, one, now)
    connection.executemany(
        "UPDATE images SET status = 'done', next_try = NULL, attempts = 0, reason = NULL,"
        " file = ?, size = ?, bytes = ?, width = ?, height = ?, sha256 = ?, done_at = ?"
        " WHERE listing_id = ? AND image_id = ?",
        done,
    )


def _record_miss(connection: sqlite3.Connection, one: Fetched, now: int) -> None:
    key = (one.listing_id, one.image_id)
    row = connection.execute(
        "SELECT attempts + 1, file FROM images WHERE listing_id = ? AND image_id = ?", key
    ).fetchone()
    if row is None:
        return
    attempts, file = row
    status, next_try = _next_try(one.verdict, attempts, now)
    if file is not None and status != "pending":
        # The larger size cannot be had (now); the smaller one that we hold remains.
        status = "done"
    connection.execute(
        "UPDATE images SET status = ?, next_try = ?, attempts = ?, reason = ?"
        " WHERE listing_id = ? AND image_id = ?",
        (status, next_try, attempts, one.reason, *key),
    )


def _next_try(verdict: str, attempts: int, now: int) -> tuple[str, int | None]:
    """Status and time of the next try after so many attempts."""
    if verdict == "gone":
        return "gone", None
    if verdict == "bad":
        if attempts < BAD_QUICK_TRIES:
            return "pending", now + QUICK_RETRIES_S[attempts - 1]
        return "bad", now + BAD_RETRY_S if attempts < BAD_TRIES_MAX else None
    if attempts <= len(QUICK_RETRIES_S):
        return "pending", now + QUICK_RETRIES_S[attempts - 1]
    beyond = min(attempts - len(QUICK_RETRIES_S) - 1, 12)
    return "failed", now + min(HOUR_S * 2**beyond, FAILED_RETRY_MAX_S)


def apply_wanted(
    connection: sqlite3.Connection, size: str, which: Which, larger_than: Collection[str], now: int
) -> int:
    """Bring the queue in line with the settings, where they changed since the last run.

    Args:
        connection: inside a transaction.
        size: the CDN size that is wanted now.
        which: all images of a listing or the first shown only.
        larger_than: the sizes that `size` is larger than; files of those are fetched anew.
        now: unix seconds.

    Returns:
        how many images were queued by the change.
    """
    wanted = f"{which} {size}"
    if get_meta(connection, "wanted") == wanted:
        return 0
    queued = 0
    smaller = f"size IN ({','.join('?' * len(larger_than))})"
    first = "rank = (SELECT min(rank) FROM images AS f WHERE f.listing_id = images.listing_id)"
    due = smaller if which == "all" else f"{smaller} AND {first}"
    if which == "all":
        queued += connection.execute(
            "UPDATE images SET status = 'pending', next_try = ? WHERE status = 'unwanted'", (now,)
        ).rowcount
    else:
        connection.execute(
            "UPDATE images SET status = 'unwanted', next_try = NULL"
            f" WHERE status IN ('pending', 'failed') AND file IS NULL AND NOT ({first})"
        )
    # What was to be fetched in a size that is wanted no more: the file that we hold will do.
    connection.execute(
        "UPDATE images SET status = 'done', next_try = NULL, attempts = 0, reason = NULL"
        f" WHERE file IS NOT NULL AND next_try IS NOT NULL AND NOT ({due})",
        tuple(larger_than),
    )
    queued += connection.execute(
        "UPDATE images SET status = 'pending', next_try = ?, attempts = 0"
        f" WHERE file IS NOT NULL AND {due}",
        (now, *larger_than),
    ).rowcount
    set_meta(connection, "wanted", wanted)
    return queued


def apply_refusals(connection: sqlite3.Connection, refusing: str, now: int) -> int:
    """Queue again what our own settings refused, where those changed since the last run.

    Args:
        connection: inside a transaction.
        refusing: the settings that refuse images, as text.
        now: unix seconds.

    Returns:
        how many images were queued.
    """
    if get_meta(connection, "refusing") == refusing:
        return 0
    set_meta(connection, "refusing", refusing)
    return sum(
        connection.execute(
            "UPDATE images SET status = 'pending', next_try = ?, attempts = 0"
            " WHERE status = 'bad' AND reason >= ? AND reason < ?",
            (now, words, words + chr(0x10FFFF)),
        ).rowcount
        for words in REFUSED_BY_SETTINGS
    )


def recent_files(connection: sqlite3.Connection, since: int) -> list[tuple[int, int, str, bytes]]:
    """Files whose rows were written since a time: (listing_id, image_id, file, sha256)."""
    rows = connection.execute(
        "SELECT listing_id, image_id, file, sha256 FROM images"
        " WHERE done_at >= ? AND file NOT NULL",
        (since,),
    )
    return [tuple(row) for row in rows]


def requeue(
    connection: sqlite3.Connection, images: Iterable[tuple[int, int]], reason: str, now: int
) -> None:
    """Fetch these images anew, since their files are not what their rows say."""
    connection.executemany(
        "UPDATE images SET status = 'pending', next_try = ?, attempts = 0, reason = ?,"
        " file = NULL, size = NULL, bytes = NULL, sha256 = NULL"
        " WHERE listing_id = ? AND image_id = ?",
        [(now, reason, listing_id, image_id) for listing_id, image_id in images],
    )
