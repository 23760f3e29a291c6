"""The weekly digest: the state of a home in a few lines."""

import shutil
from collections.abc import Sequence

from furnisync.clock import Clock
from furnisync.config import HomeFiles, Settings
from furnisync.errors import DatabaseUnusable
from furnisync.ops.notify.alerts import Alert
from furnisync.status.history import read_data_status
from furnisync.status.images import read_status

TROUBLES = 5


def write_digest(files: HomeFiles, settings: Settings, clock: Clock, found: Sequence[Alert]) -> str:
    """What there is, what is left to do, what is wrong."""
    lines = [*_images(files, clock), *_history(files, settings, clock)]
    lines.append(f"Free on the disk: {shutil.disk_usage(files.home).free / 1e9:,.0f} GB")
    lines += [f"WRONG: {one.message}" for one in found] or ["Nothing is wrong."]
    return "\n".join(lines)


def _images(files: HomeFiles, clock: Clock) -> list[str]:
    try:
        status = read_status(files, clock)
    except DatabaseUnusable:
        return ["No image sync yet."]
    images = status.images
    words = (
        f"Image sync {'runs' if status.pid else 'does not run'}: {sum(status.listings.values()):,}"
        f" listings of {status.shops:,} shops, {images.get('done', 0):,} images"
        f" ({status.image_bytes / 1e9:,.1f} GB), {images.get('pending', 0):,} to come"
    )
    lines = [words]
    quota = status.quota
    if quota is not None and quota.limit_per_day is not None:
        lines.append(f"Calls: {quota.used_last_day:,} of {quota.limit_per_day:,} in 24 hours")
    return lines + [
        f"{one.number:,} {one.what}: {one.reason}" for one in status.troubles[:TROUBLES]
    ]


def _history(files: HomeFiles, settings: Settings, clock: Clock) -> list[str]:
    try:
        status = read_data_status(files, settings.data, clock)
    except DatabaseUnusable:
        return ["No data sync yet."]
    words = (
        f"Data sync {'runs' if status.pid else 'does not run'}: {status.synced:,} of"
        f" {status.shops:,} shops synced, {status.waiting:,} wait, {status.behind_days:g} days"
        " behind"
    )
    return [words]
