"""The download queue is the catalog: each image row says where it stands and when to try it.

| status   | meaning                                             | tried again                    |
| -------- | --------------------------------------------------- | ------------------------------ |
| pending  | wanted, not here yet                                | now, or soon after a failure   |
| done     | whole under its final name                          | when a larger size is wanted,  |
|          |                                                     | once if many shops have it too |
| gone     | the CDN no longer has it (404, 410)                 | when batch names it again      |
| bad      | the answer is no image, or its url is refused       | weekly at first, growing, and  |
|          |                                                     | when the settings no longer    |
|          |                                                     | refuse it                      |
| failed   | could not be fetched in several tries               | hourly at first, growing       |
| unwanted | known, but the settings want only the primary image | when the settings want it      |

Why a try failed is a code in `reason` with its `reason_detail` (`image_job.ImageReason`).
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from furnisync.catalog.counters import counted_by_set
from furnisync.catalog.listings import ImageRow
from furnisync.catalog.purge import purged_among
from furnisync.catalog.run_scope import WITHIN_SCOPE
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import HOUR_S
from furnisync.image_job import REFUSED_BY_SETTINGS, ImageJob, ImageOutcome, ImageReason, ReasonCode
from furnisync.sqlite.rows import insert_many

QUICK_RETRIES_S = (2, 10, 30)
"""Waits before an image counts as failed: a momentary fault passes by itself."""
FAILED_RETRY_MAX_S = 7 * 24 * HOUR_S
BAD_RETRY_S = 7 * 24 * HOUR_S
BAD_RETRY_MAX_S = 8 * BAD_RETRY_S
BAD_QUICK_TRIES = 2

Which = Literal["all", "primary"]


class Shown(msgspec.Struct, frozen=True):
    """The images of a listing by batch, in the order of their rank.

    Attributes:
        whole: they are all that the listing shows.
    """

    listing_id: int
    images: Sequence[ImageRow]
    whole: bool = False


def add_images(
    connection: sqlite3.Connection, shown: Sequence[Shown], which: Which, now: int
) -> None:
    """Record the images that batch gave; new ones, and named again ones, are queued.

    If they are all that a listing shows, its others lose their rank. Files are kept. Only what
    differs is written.
    """
    purged = purged_among(connection, {one.listing_id: None for one in shown})
    shown = [one for one in shown if one.listing_id not in purged]
    known = _known_images(connection, [one.listing_id for one in shown])
    new: dict[str, list[tuple[object, ...]]] = {}
    again, moved, unlisted = [], [], []
    with counted_by_set(connection) as changes:
        for one in shown:
            for place, image in enumerate(one.images):
                key = (one.listing_id, image.image_id)
                status, next_try = queue_state(which, now, is_first=place == 0)
                before = known.pop(key, None)
                if before is None:
                    row = (*key, image.rank, image.url, status, next_try)
                    new.setdefault(status, []).append(row)
                elif before.is_named_again(image.url) and before[1:] != (image.url, status):
                    again.append((image.rank, image.url, status, next_try, *key))
                    changes[f"images.{before.status}"] -= 1
                    changes[f"images.{status}"] += 1
                elif (before.rank, before.url) != (image.rank, image.url):
                    moved.append((image.rank, image.url, *key))
        whole = {one.listing_id for one in shown if one.whole}
        unlisted = [key for key, row in known.items() if row.rank is not None and key[0] in whole]
        for status, rows in new.items():
            changes[f"images.{status}"] += insert_many(connection, _ADD_IMAGE, rows)
        connection.executemany(
            "UPDATE images SET rank = ?, url = ?, status = ?, next_try = ?, attempts = 0"
            f" {_OF_IMAGE}",
            again,
        )
        connection.executemany(f"UPDATE images SET rank = ?, url = ? {_OF_IMAGE}", moved)
        connection.executemany(f"UPDATE images SET rank = NULL {_OF_IMAGE}", unlisted)


_OF_IMAGE = "WHERE listing_id = ? AND image_id = ?"
_ADD_IMAGE = "INSERT INTO images (listing_id, image_id, rank, url, status, next_try)"


class _KnownImage(NamedTuple):
    rank: int | None
    url: str
    status: str

    def is_named_again(self, url: str) -> bool:
        """Whether an image that batch shows is to be queued (again)."""
        return self.status in {"unwanted", "gone"} or (self.url != url and self.status != "done")


def _known_images(
    connection: sqlite3.Connection, listing_ids: Sequence[int]
) -> dict[tuple[int, int], _KnownImage]:
    rows = connection.execute(
        "SELECT listing_id, image_id, rank, url, status FROM images"
        " WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(listing_ids),),
    )
    return {(row[0], row[1]): _KnownImage(row[2], row[3], row[4]) for row in rows}


def queue_state(which: Which, now: int, *, is_first: bool) -> tuple[str, int | None]:
    """Status and `next_try` of a new image: queued, unless the settings want only the first."""
    return ("pending", now) if which == "all" or is_first else ("unwanted", None)


def claim_images(
    connection: sqlite3.Connection,
    now: int,
    in_flight: Collection[tuple[int, int]],
    limit: int,
    *,
    restricted: bool = False,
) -> list[ImageJob]:
    """Up to `limit` images that are due, longest due first, none of those in flight.

    Claims are in the caller's memory only, so that a kill leaves nothing to undo. If `restricted`,
    only those of listings in `run_scope`. Urls are as the API gave them.
    """
    within = WITHIN_SCOPE if restricted else ""
    rows = connection.execute(
        "SELECT listing_id, image_id, url, sha256,"
        " done_at IS NULL AND attempts = 0 AND reason IS NULL, attempts,"
        " (SELECT shop_id FROM listings WHERE listings.listing_id = images.listing_id)"
        " FROM images INDEXED BY images_queue WHERE next_try IS NOT NULL"
        f" AND next_try <= :now {within} ORDER BY next_try LIMIT :limit",
        {"now": now, "limit": limit + len(in_flight)},
    )
    found = (ImageJob(row[0], row[1], row[2], row[3], bool(row[4]), *row[5:]) for row in rows)
    return [job for job in found if job.key not in in_flight][:limit]


def recent_held(
    connection: sqlite3.Connection, size: str, but_not: bytes | None, limit: int
) -> list[ImageJob]:
    """Images that came lately in this size and that we hold, none with these bytes."""
    rows = connection.execute(
        "SELECT listing_id, image_id, url, sha256 FROM images"
        " WHERE done_at IS NOT NULL AND status = 'done' AND size = ? AND sha256 IS NOT ?"
        " AND url <> '' ORDER BY done_at DESC LIMIT ?",
        (size, but_not, limit),
    )
    return [ImageJob(*row) for row in rows]


def next_image_due(connection: sqlite3.Connection, *, restricted: bool = False) -> int | None:
    """When the next image is due (unix seconds), None where none waits."""
    within = WITHIN_SCOPE if restricted else ""
    row = connection.execute(
        f"SELECT min(next_try) FROM images WHERE next_try IS NOT NULL {within}",
    ).fetchone()
    return None if row[0] is None else int(row[0])


def record_outcomes(
    connection: sqlite3.Connection, outcomes: Iterable[ImageOutcome], size: str, now: int
) -> None:
    """Record how jobs ended: done with a file of this size, or when to try again."""
    done = []
    for one in outcomes:
        if one.result == "done":
            done.append(
                (one.file, size, one.size_bytes, one.width, one.height, one.sha256, now,
                 *one.job.key)
            )  # fmt: skip
        else:
            _record_miss(connection, one, now)
    connection.executemany(
        "UPDATE images SET status = 'done', next_try = NULL, attempts = 0, reason = NULL,"
        " reason_detail = NULL, file = ?, size = ?, bytes = ?, width = ?, height = ?,"
        " sha256 = ?, done_at = ? WHERE listing_id = ? AND image_id = ?",
        done,
    )


def fetch_again(
    connection: sqlite3.Connection, images: Iterable[tuple[int, int]], reason: ReasonCode, at: int
) -> None:
    """Fetch doubtful images once more at a time (unix seconds); their files stay until then."""
    connection.executemany(
        "UPDATE images SET next_try = ?, reason = ? WHERE listing_id = ? AND image_id = ?"
        " AND status = 'done'",
        [(at, reason, *key) for key in images],
    )


def _record_miss(connection: sqlite3.Connection, outcome: ImageOutcome, now: int) -> None:
    row = connection.execute(
        "SELECT attempts + 1, file FROM images WHERE listing_id = ? AND image_id = ?",
        outcome.job.key,
    ).fetchone()
    if row is None:
        return
    attempts, file = row
    status, next_try = _next_try(outcome.result, attempts, now)
    if file is not None and status != "pending":
        # The larger size is not available (now); we keep the smaller one.
        status = "done"
    reason = outcome.reason
    connection.execute(
        "UPDATE images SET status = ?, next_try = ?, attempts = ?, reason = ?, reason_detail = ?"
        " WHERE listing_id = ? AND image_id = ?",
        (
            status,
            next_try,
            attempts,
            reason and reason.code,
            reason and reason.detail,
            *outcome.job.key,
        ),
    )


def _next_try(result: str, attempts: int, now: int) -> tuple[str, int | None]:
    """Status and time of the next try after so many attempts."""
    if result == "gone":
        return "gone", None
    if result == "bad":
        if attempts < BAD_QUICK_TRIES:
            return "pending", now + QUICK_RETRIES_S[attempts - 1]
        beyond = min(attempts - BAD_QUICK_TRIES, 12)
        return "bad", now + min(BAD_RETRY_S * 2**beyond, BAD_RETRY_MAX_S)
    if attempts <= len(QUICK_RETRIES_S):
        return "pending", now + QUICK_RETRIES_S[attempts - 1]
    beyond = min(attempts - len(QUICK_RETRIES_S) - 1, 12)
    return "failed", now + min(HOUR_S * 2**beyond, FAILED_RETRY_MAX_S)


def apply_wanted(
    connection: sqlite3.Connection, size: str, which: Which, larger_than: Collection[str], now: int
) -> int:
    """Adapt the queue to the settings, where they changed since the last run.

    Args:
        connection: inside a transaction.
        size: the CDN size that is wanted now.
        which: all images of a listing, or only the first.
        larger_than: the sizes that `size` is larger than; images of those are fetched again.
        now: unix seconds.

    Returns:
        how many images were queued by the change.
    """
    wanted = f"{which} {size}"
    if get_meta(connection, "wanted") == wanted:
        return 0
    smaller = f"size IN ({','.join('?' * len(larger_than))})"
    due = smaller if which == "all" else f"{smaller} AND {_IS_FIRST}"
    queued = _apply_which(connection, which, now)
    # A larger size was queued and is no longer wanted: the file that we hold is enough.
    connection.execute(
        "UPDATE images SET status = 'done', next_try = NULL, attempts = 0, reason = NULL,"
        " reason_detail = NULL"
        f" WHERE file IS NOT NULL AND next_try IS NOT NULL AND ({due}) IS NOT TRUE",
        tuple(larger_than),
    )
    queued += connection.execute(
        "UPDATE images SET status = 'pending', next_try = ?, attempts = 0"
        f" WHERE file IS NOT NULL AND {due}",
        (now, *larger_than),
    ).rowcount
    set_meta(connection, "wanted", wanted)
    return queued


_IS_FIRST = "rank = (SELECT min(rank) FROM images AS f WHERE f.listing_id = images.listing_id)"


def _apply_which(connection: sqlite3.Connection, which: Which, now: int) -> int:
    if which == "all":
        return connection.execute(
            "UPDATE images SET status = 'pending', next_try = ? WHERE status = 'unwanted'", (now,)
        ).rowcount
    connection.execute(
        "UPDATE images SET status = 'unwanted', next_try = NULL"
        f" WHERE status IN ('pending', 'failed') AND file IS NULL AND ({_IS_FIRST}) IS NOT TRUE"
    )
    return 0


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
    # The words of the partial index: from `status = 'bad'` alone SQLite does not infer them.
    return connection.execute(
        "UPDATE images INDEXED BY images_trouble SET status = 'pending', next_try = ?, attempts = 0"
        " WHERE status IN ('gone', 'bad', 'failed') AND status = 'bad'"
        f" AND reason IN ({','.join('?' * len(REFUSED_BY_SETTINGS))})",
        (now, *REFUSED_BY_SETTINGS),
    ).rowcount


def count_troubles(
    connection: sqlite3.Connection, limit: int
) -> list[tuple[str, ImageReason | None, int]]:
    """Images that are not here, by status and reason: the most frequent, with their numbers."""
    rows = connection.execute(
        "SELECT status, reason, reason_detail, count(*) AS number FROM images"
        " WHERE status IN ('gone', 'bad', 'failed') GROUP BY status, reason, reason_detail"
        " ORDER BY number DESC LIMIT ?",
        (limit,),
    )
    return [
        (status, None if code is None else ImageReason(ReasonCode(code), detail or ""), number)
        for status, code, detail, number in rows
    ]


def recent_files(connection: sqlite3.Connection, since: int) -> list[tuple[int, int, str, bytes]]:
    """Files whose rows were written since a time: (listing_id, image_id, file, sha256)."""
    rows = connection.execute(
        "SELECT listing_id, image_id, file, sha256 FROM images"
        " WHERE done_at >= ? AND file NOT NULL",
        (since,),
    )
    return [tuple(row) for row in rows]


def requeue(
    connection: sqlite3.Connection, images: Iterable[tuple[int, int]], reason: ReasonCode, now: int
) -> None:
    """Fetch these images again, since their files are not what their rows say."""
    connection.executemany(
        "UPDATE images SET status = 'pending', next_try = ?, attempts = 0, reason = ?,"
        " reason_detail = NULL, file = NULL, size = NULL, bytes = NULL, sha256 = NULL"
        " WHERE listing_id = ? AND image_id = ?",
        [(now, reason, listing_id, image_id) for listing_id, image_id in images],
    )
