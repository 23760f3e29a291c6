"""Notices: each at most once a day, delivered by Apprise, remembered in a small file of its own.

    conditions --> due? --> marked as told, on the disk --> sent --> (not delivered: in an hour)

Marked before it is sent: a crash between the two costs a notice for a day, not a flood of them.
The file is read and written whole under a lock, beside and renamed, as several syncs share it.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from furnisync import owned
from furnisync.clock import DAY_S, WEEK_S, Clock
from furnisync.config import HomeFiles, Settings
from furnisync.errors import MissingExtra
from furnisync.extras import require_extra
from furnisync.lockfile import exclusive
from furnisync.ops.notify.alerts import Condition, Life, read_conditions
from furnisync.sanitize import plain

log = logging.getLogger("furnisync")

RETRY_S: Final = 3600.0
DIGEST: Final = "digest"
_HEAD: Final = b'{"told":'
"""How the file begins, torn or not."""

HEADS: Final = {
    "key-refused": "the API key was refused",
    "clock-wrong": "the clock is wrong",
    "quota-cut": "Etsy lowered the quota",
    "quota-spent": "the quota was spent earlier than planned",
    "images-away": "the image folder is not here",
    "images-unwritable": "the image folder cannot be written",
    "disk-low": "the disk is almost full",
    "sync-stalled": "a sync is stalled",
    "sync-crashed": "a sync has ended",
    "backup-failed": "a backup failed",
    "certificate-incomplete": "furniture was not read whole for a week",
}


class Memory(msgspec.Struct):
    """What the file holds.

    Attributes:
        told: when each notice was told last (unix seconds), by its key.
        since: when the first look was taken, for the first digest.
    """

    told: dict[str, float] = {}
    since: float | None = None
    life: Life = msgspec.field(default_factory=Life)


@contextmanager
def remembering(files: HomeFiles) -> Iterator[Memory]:
    """The memory, for this process alone; written back at the end of the block."""
    path = files.notices
    with exclusive(path.with_suffix(".lock")):
        memory = _read(files)
        yield memory
        _write(path, msgspec.json.encode(memory))


def _write(path: Path, content: bytes) -> None:
    """Write the memory whole or not at all; where the disk has no room for a second file, in place.

    That is when a notice matters most. A crash may tear it then; a torn one is begun anew.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            _put(file, content)
    except OSError:
        beside.unlink(missing_ok=True)
        with path.open("r+b") as file:
            _put(file, content)
    else:
        beside.replace(path)


def _put(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.truncate()
    file.flush()
    os.fsync(file.fileno())


def _read(files: HomeFiles) -> Memory:
    content = b""
    try:
        content = files.notices.read_bytes()
        return msgspec.json.decode(content, type=Memory)
    except FileNotFoundError:
        return Memory()
    except msgspec.DecodeError as error:
        if content and not content.startswith(_HEAD):
            owned.keep(files.notices, "is no memory of what was told")
        else:  # torn: its room may be all that there is
            log.warning("%s is damaged and begun anew: %s", files.notices, error)
        return Memory()


class Delivery(msgspec.Struct, frozen=True):
    """What became of a notice at one address; `where` hides passwords."""

    where: str
    delivered: bool
    why: str = ""


def deliver(urls: Sequence[str], title: str, body: str, *, calm: bool = False) -> list[Delivery]:
    """Send to each address; waits some seconds for one that does not answer. Never raises."""
    try:
        require_extra("notices")
    except MissingExtra as error:
        return [
            Delivery(f"address {number}", delivered=False, why=str(error))
            for number in range(1, len(urls) + 1)
        ]
    import apprise  # noqa: PLC0415 -- costs 0.3 s, and is needed where notices are sent only

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would name addresses in our log
    kind = apprise.NotifyType.INFO if calm else apprise.NotifyType.WARNING
    done = []
    for number, url in enumerate(urls, start=1):
        where = f"address {number}"
        try:
            target = apprise.Apprise.instantiate(url)
            if not isinstance(target, apprise.NotifyBase):
                done.append(Delivery(where, delivered=False, why="Apprise does not know this form"))
                continue
            where = str(target.url(privacy=True))  # type: ignore[no-untyped-call]  # Apprise leaves it untyped
            sent = target.notify(body=plain(body, "\n"), title=plain(title), notify_type=kind)
            done.append(Delivery(where, bool(sent), "" if sent else "refused or not reached"))
        except Exception as error:  # noqa: BLE001 -- a hundred services' code; a notice hurts nobody
            done.append(Delivery(where, delivered=False, why=type(error).__name__))
    return done


def title_of(words: str) -> str:
    """A title that says where it comes from."""
    return f"furnisync on {socket.gethostname()}: {words}"


class Notifier:
    """Tells what is wrong with a home to whom the settings name."""

    def __init__(self, files: HomeFiles, settings: Settings, clock: Clock) -> None:
        self._files = files
        self._settings = settings
        self._clock = clock

    @property
    def is_on(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._settings.notices.urls)

    def look(self) -> list[tuple[Condition, list[Delivery]]]:
        """Look at the home and tell what is due.

        Returns:
            all that is wrong, with the deliveries of what was told now.
        """
        now = self._clock.now()
        with remembering(self._files) as memory:
            memory.since = memory.since or now
            found = read_conditions(self._files, self._settings, self._clock, memory.life)
            due = [one for one in found if self.is_on and _is_due(memory, one, now)]
            for one in due:
                memory.told[one.key] = now
            digest_due = self._digest_due(memory, now)
            if digest_due:
                memory.told[DIGEST] = now
        told = {one.key: self._send(one.key, HEADS[one.kind], one.message) for one in due}
        if digest_due:
            self._send_digest(found)
        return [(one, told.get(one.key, [])) for one in found]

    def _digest_due(self, memory: Memory, now: float) -> bool:
        last = memory.told.get(DIGEST, memory.since or now)
        due = now - last >= WEEK_S or last > now  # a time ahead is of a clock that was wrong
        return self.is_on and self._settings.notices.weekly_digest and due

    def _send_digest(self, found: Sequence[Condition]) -> None:
        from furnisync.ops.notify.digest import write_digest  # noqa: PLC0415 -- once a week

        body = write_digest(self._files, self._settings, self._clock, found)
        self._send(DIGEST, "the week", body, calm=True, period_s=WEEK_S)

    def _send(
        self, key: str, head: str, body: str, *, calm: bool = False, period_s: float = DAY_S
    ) -> list[Delivery]:
        done = deliver(self._settings.notices.urls, title_of(head), body, calm=calm)
        for one in done:
            if not one.delivered:
                log.warning("a notice could not be delivered to %s: %s", one.where, one.why)
        if not any(one.delivered for one in done):
            with remembering(self._files) as memory:
                memory.told[key] = self._clock.now() - period_s + RETRY_S
        return done


def _is_due(memory: Memory, one: Condition, now: float) -> bool:
    last = memory.told.get(one.key)
    if last is None or last > now:  # the clock was set back
        return True
    return now - last >= DAY_S and (one.at is None or one.at > last)


def tell_at_once(files: HomeFiles, settings: Settings, clock: Clock) -> None:
    """For jobs that end badly, such as a backup: look now, if anybody is to be told. No raise."""
    notifier = Notifier(files, settings, clock)
    if not notifier.is_on:
        return
    try:
        notifier.look()
    except Exception as error:  # noqa: BLE001 -- a notice never hurts the job that it is about
        log.warning("notices: could not look (%s: %s)", type(error).__name__, error)
