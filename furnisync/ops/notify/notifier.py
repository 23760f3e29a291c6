"""Notices: each at most once a day, delivered by Apprise, remembered in a small file.

    alerts --> due? --> marked as sent, on the disk --> sent --> (not delivered: again in an hour)

A notice is marked before it is sent: a crash in between loses it for a day and causes no flood. The
file is shared by the syncs, so it is read and written as a whole under a lock.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from furnisync import durable, owned
from furnisync.clock import DAY_S, WEEK_S, Clock
from furnisync.config import HomeFiles, Settings
from furnisync.errors import MissingExtra
from furnisync.extras import require_extra
from furnisync.lockfile import exclusive
from furnisync.ops.notify.alerts import Alert, SyncMemory, read_alerts
from furnisync.sanitize import plain

log = logging.getLogger("furnisync")

RETRY_S: Final = 3600.0
DIGEST: Final = "digest"
_HEAD: Final = b'{"told":'
"""How the file begins, even if it is incomplete."""

HEADS: Final = {
    "key-refused": "the API key was refused",
    "clock-wrong": "the clock is wrong",
    "api-broken": "Etsy's API is broken",
    "cdn-broken": "the image server is broken",
    "quota-cut": "Etsy lowered the quota",
    "quota-spent": "the quota was spent earlier than planned",
    "images-away": "the image folder is missing",
    "images-unwritable": "the image folder cannot be written",
    "disk-low": "the disk is almost full",
    "sync-stalled": "a sync is stalled",
    "sync-crashed": "a sync has ended",
    "backup-failed": "a backup failed",
    "certificate-incomplete": "furniture was not read whole for a week",
}


class Memory(msgspec.Struct):
    """The content of the file.

    Attributes:
        sent: when each notice was sent last (unix seconds), by its key; `told` in the file.
        since: when the first check was made, for the first digest.
    """

    sent: dict[str, float] = msgspec.field(default_factory=dict, name="told")
    since: float | None = None
    life: SyncMemory = msgspec.field(default_factory=SyncMemory)


_memory = msgspec.json.Decoder(Memory)


@contextmanager
def remembering(files: HomeFiles) -> Iterator[Memory]:
    """The memory, locked for this process; written back at the end of the block."""
    path = files.notices
    with exclusive(path.with_suffix(".lock")):
        memory = _read(files)
        yield memory
        _write(path, msgspec.json.encode(memory))


def _write(path: Path, content: bytes) -> None:
    """Write the memory atomically; in place if the disk has no room for a second file.

    A full disk is when a notice matters most. A crash may damage the file then; `_read` discards a
    damaged one.
    """
    try:
        durable.write(path, content)
    except OSError:
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def _read(files: HomeFiles) -> Memory:
    content = b""
    try:
        content = files.notices.read_bytes()
        return _memory.decode(content)
    except FileNotFoundError:
        return Memory()
    except msgspec.DecodeError as error:
        if content and not content.startswith(_HEAD):
            owned.keep(files.notices, "is no memory of notices")
        else:  # not kept beside: the disk may be full
            log.warning("%s is damaged and is replaced: %s", files.notices, error)
        return Memory()


class Delivery(msgspec.Struct, frozen=True):
    """The result of sending a notice to one address; `where` hides passwords."""

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
    import apprise  # noqa: PLC0415 -- takes 0.3 s, and only sending needs it

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
            done.append(Delivery(where, bool(sent), "" if sent else _why_not()))
        except Exception as error:  # noqa: BLE001 -- code of a hundred services; a notice must not stop a sync
            done.append(Delivery(where, delivered=False, why=type(error).__name__))
    return done


def _why_not() -> str:
    """Apprise only says that it failed; it cannot use a SOCKS proxy without another package."""
    proxies = [value for name, value in os.environ.items() if name.lower().endswith("_proxy")]
    if any(one.startswith("socks") for one in proxies) and find_spec("socks") is None:
        return "notices through a SOCKS proxy need another package: run `pip install pysocks`"
    return "refused or not reached"


def title_of(words: str) -> str:
    """A title that names this computer."""
    return f"furnisync on {socket.gethostname()}: {words}"


class Notifier:
    """Sends what is wrong with a home to the addresses in the settings."""

    def __init__(self, files: HomeFiles, settings: Settings, clock: Clock) -> None:
        self._files = files
        self._settings = settings
        self._clock = clock

    @property
    def is_on(self) -> bool:
        """Whether the settings name an address."""
        return bool(self._settings.notices.urls)

    def look(self) -> list[tuple[Alert, list[Delivery]]]:
        """Check the home and send what is due.

        Returns:
            all alerts, with the deliveries of those that were sent now.
        """
        now = self._clock.now()
        with remembering(self._files) as memory:
            memory.since = memory.since or now
            found = read_alerts(self._files, self._settings, self._clock, memory.life)
            due = [one for one in found if self.is_on and _is_due(memory, one, now)]
            for one in due:
                memory.sent[one.key] = now
            digest_due = self._digest_due(memory, now)
            if digest_due:
                memory.sent[DIGEST] = now
        sent = {one.key: self._send(one.key, HEADS[one.kind], one.message) for one in due}
        if digest_due:
            self._send_digest(found)
        return [(one, sent.get(one.key, [])) for one in found]

    def _digest_due(self, memory: Memory, now: float) -> bool:
        last = memory.sent.get(DIGEST, memory.since or now)
        due = now - last >= WEEK_S or last > now  # written by a clock that was ahead
        return self.is_on and self._settings.notices.weekly_digest and due

    def _send_digest(self, found: Sequence[Alert]) -> None:
        from furnisync.ops.notify.digest import write_digest  # noqa: PLC0415 -- needed once a week

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
                memory.sent[key] = self._clock.now() - period_s + RETRY_S
        return done


def _is_due(memory: Memory, one: Alert, now: float) -> bool:
    last = memory.sent.get(one.key)
    if last is None or last > now:  # the clock was set back
        return True
    return now - last >= DAY_S and (one.at is None or one.at > last)


def notify_now(files: HomeFiles, settings: Settings, clock: Clock) -> None:
    """For jobs that failed, such as a backup: send what is due now. Never raises."""
    notifier = Notifier(files, settings, clock)
    if not notifier.is_on:
        return
    try:
        notifier.look()
    except Exception as error:  # noqa: BLE001 -- a notice must not fail the job that it is about
        log.warning("notices: the check failed (%s: %s)", type(error).__name__, error)
