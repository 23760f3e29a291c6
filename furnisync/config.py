"""Settings: their sources, allowed values and defaults.

Precedence, highest first:

| source                              | for                                         |
| ----------------------------------- | ------------------------------------------- |
| the environment                     | key, URLs, proxies, home                    |
| `.env` in the current folder        | the same                                    |
| `.env` in the home                  | the same, except the home                   |
| `furnisync.toml` in the home        | everything else                             |
| the defaults of the classes below   | settings that are not set                   |
"""

import hashlib
import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from dotenv import dotenv_values

from furnisync.clock import OFFSET_VARIABLE
from furnisync.errors import ConfigError

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10**15)]

ImageSize = Literal["75x75", "170x135", "570xN", "794xN", "1140xN", "1588xN", "fullxfull"]
SIZES: tuple[ImageSize, ...] = (
    "75x75", "170x135", "570xN", "794xN", "1140xN", "1588xN", "fullxfull",
)  # fmt: skip
"""The CDN's sizes, smallest first."""

Mode = Literal["slow", "fast"]
BuyerIds = Literal["keep", "hash", "drop"]

OLDER_TOOL = "older-tool"
"""Folder of a home where `import` keeps old files whose names furnisync needs."""
_NETWORK = re.compile(r"(?i:https?|all|no)_(proxy|PROXY)|SSL_CERT_(FILE|DIR)")
PORTS = range(1, 65_536)
_ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[!-~]*)?")
_PORT = re.compile(r"(?<=[^:]):(\d+)$")
_WITH_COLON = re.compile(
    r"^[ \t]*(?:export[ \t]+)?((?:ETSY|FURNISYNC)_[A-Z_]+)[ \t]*:", re.MULTILINE
)


class QuotaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the API's two limits are used (`[quota]`)."""

    slow_per_second: Positive = 1.0
    fast_per_second: Positive = 90.0
    images_share_percent: Percent = 60.0
    reserve_percent: Percent = 1.0
    spread_s: Positive = 21_600.0


class ImageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is downloaded and how fast (`[images]`)."""

    size: ImageSize = "570xN"
    which: Literal["all", "primary"] = "all"
    slow_per_second: Positive = 5.0
    slow_connections: Count = 4
    fast_per_second: NotNegative = 0.0
    fast_connections: Count = 16
    max_bytes: Count = 50_000_000
    max_pixels: Count = 150_000_000
    timeout_s: Positive = 60.0
    min_free_mb: NotNegative = 1000.0
    outage_patience_s: Positive = 600.0
    metadata_every_s: Positive = 300.0


class CrawlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When listings and shops are read again (`[crawl]`)."""

    cycle_days: Positive = 30.0
    refresh_days: Positive = 30.0
    look_every_s: Positive = 3600.0
    root_taxonomy_id: Count = 967


class DataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When shops are synced again, and which fields are kept (`[data]`).

    The lists of fields take the API's names; None keeps the fields that the first user selected.
    """

    sync_days: Positive = 14.0
    static_days: Positive = 182.0
    gone_days: Positive = 90.0
    reviews_days: Positive = 14.0
    reviews_quiet_days: Positive = 84.0
    reviews_share_percent: Percent = 30.0
    buyer_user_id: BuyerIds = "keep"
    retention_days: NotNegative = 0.0
    shop_fields: tuple[str, ...] | None = None
    listing_fields: tuple[str, ...] | None = None
    review_fields: tuple[str, ...] | None = None


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the client waits and tries again (`[api]`)."""

    timeout_s: Positive = 30.0
    attempts: Count = 5
    connections: Count = 40
    clock_patience_s: Positive = 600.0
    outage_patience_s: Positive = 600.0


class NoticeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who receives notices (`[notices]`); without urls nobody does."""

    urls: tuple[str, ...] = ()
    weekly_digest: bool = False

    def __repr__(self) -> str:
        return f"NoticeSettings({len(self.urls)} urls, hidden)"  # they hold passwords and tokens

    __str__ = __repr__


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything in `furnisync.toml`."""

    quota: QuotaSettings = QuotaSettings()
    images: ImageSettings = ImageSettings()
    crawl: CrawlSettings = CrawlSettings()
    data: DataSettings = DataSettings()
    api: ApiSettings = ApiSettings()
    notices: NoticeSettings = NoticeSettings()


class ApiKey(msgspec.Struct, frozen=True):
    """The two halves of the key. Its `repr` shows neither."""

    keystring: str
    shared_secret: str

    def header(self) -> str:
        """The value of `x-api-key`."""
        return f"{self.keystring}:{self.shared_secret}"

    def fingerprint(self) -> str:
        """Identifies a key without revealing it."""
        return hashlib.sha256(self.keystring.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return "ApiKey(hidden)"

    __str__ = __repr__


class Environment(msgspec.Struct, frozen=True):
    """What comes from the environment or `.env`.

    Attributes:
        network: the variables that name proxies and certificates, unchecked: `http/network.py`
            checks them before the first request.
    """

    home: Path
    api_url: str
    cdn_hosts: frozenset[str]
    key: ApiKey | None
    network: Mapping[str, str] = {}

    def require_key(self) -> ApiKey:
        """The key.

        Raises:
            ConfigError: one or both halves are missing.
        """
        if self.key is None:
            raise ConfigError(
                "ETSY_API_KEY is not set: put ETSY_API_KEY=... and ETSY_SHARED_SECRET=..."
                f" (both are on etsy.com/developers/your-apps) into {self.home / '.env'}"
                " or the environment."
            )
        return self.key


class HomeFiles(msgspec.Struct, frozen=True):
    """The files of a home; with `test` all of them differ from production, except the ledger."""

    home: Path
    test: bool = False

    def _named(self, stem: str, suffix: str = "") -> Path:
        return self.home / f"{stem}{'_test' if self.test else ''}{suffix}"

    @property
    def images(self) -> Path:
        """The folder of image files."""
        return self._named("images")

    @property
    def metadata(self) -> Path:
        """`image_metadata.json`."""
        return self._named("image_metadata", ".json")

    @property
    def catalog(self) -> Path:
        """The state of image sync."""
        return self._named("catalog", ".db")

    @property
    def history(self) -> Path:
        """The output of data sync."""
        return self._named("etsy_data", ".db")

    @property
    def plan(self) -> Path:
        """The crawl plan."""
        return self._named("furniture_taxonomy_config", ".json")

    @property
    def quota(self) -> Path:
        """The ledger, shared by test and production: both spend the same quota."""
        return self.home / "quota.db"

    @property
    def settings(self) -> Path:
        """`furnisync.toml`."""
        return self.home / "furnisync.toml"

    @property
    def notices(self) -> Path:
        """Which notices were sent, and when."""
        return self._named(".notices", ".json")

    @property
    def buyer_key(self) -> Path:
        """The random key that hashes buyers' ids, the same for test and production."""
        return self.home / ".buyer_key"

    def outbox(self, job: str) -> Path:
        """What the batch answers of a job hold for the other one."""
        return self._named(f"{job}_outbox", ".db")

    def lock(self, job: str) -> Path:
        """The lock file of a job."""
        return self._named(f".{job}", ".lock")


def read_environment(environ: Mapping[str, str] | None = None) -> Environment:
    """Read the environment and `.env`. This creates and changes nothing.

    Raises:
        ConfigError: half a key, or an invalid URL or offset.
    """
    given = os.environ if environ is None else environ
    _check_offset(given)
    here = Path.cwd()
    values = {**_dotenv(here), **given}
    home = Path(values.get("FURNISYNC_HOME") or ".").expanduser().resolve()
    if home != here.resolve():  # a named pipe can be read only once
        values = {**_dotenv(home), **values}
    return Environment(
        home=home,
        api_url=_api_url(values),
        cdn_hosts=_cdn_hosts(values),
        key=_key(values, home),
        network={name: value for name, value in values.items() if _NETWORK.fullmatch(name)},
    )


def _dotenv(folder: Path) -> dict[str, str]:
    path = folder / ".env"
    try:
        text = path.read_text("utf-8")  # a named pipe is read until its writer closes it
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"{path} cannot be read ({reason}): it must be a text file of NAME=value lines."
        ) from error
    if (wrong := _WITH_COLON.search(text)) is not None:
        raise ConfigError(
            f"{path} has a line {wrong[1]}: with a colon: write {wrong[1]}=value instead."
        )
    found = dotenv_values(stream=StringIO(text))
    return {name: value for name, value in found.items() if value is not None}


def exposed_secrets(home: Path) -> list[Path]:
    """The `.env` files that we read and that other users of this machine can read too."""
    found = {folder / ".env" for folder in (Path.cwd(), home)}
    return sorted(path for path in found if path.is_file() and path.stat().st_mode & 0o077)


def _check_offset(values: Mapping[str, str]) -> None:
    text = values.get(OFFSET_VARIABLE, "0")
    try:
        right = abs(float(text)) < 1e10
    except ValueError:
        right = False
    if not right:
        raise ConfigError(f"{OFFSET_VARIABLE} is {text!r}: it must be a number of seconds.")


def _api_url(values: Mapping[str, str]) -> str:
    url = values.get("ETSY_API_URL") or "https://api.etsy.com/v3/application"
    match = _ADDRESS.fullmatch(url)
    if match is None or int((match[2] or ":1")[1:]) not in PORTS:
        raise ConfigError(
            f"ETSY_API_URL is {url!r}: it must be an address that begins with https:// or http://."
        )
    return url.rstrip("/")


def _cdn_hosts(values: Mapping[str, str]) -> frozenset[str]:
    named = values.get("ETSY_CDN_HOSTS") or "i.etsystatic.com"
    hosts = frozenset(host.strip().lower() for host in named.split(",") if host.strip())
    wrong = [host for host in hosts if "/" in host or "@" in host or " " in host]
    wrong += [host for host in hosts if (port := _PORT.search(host)) and int(port[1]) not in PORTS]
    if wrong or not hosts:
        raise ConfigError(
            f"ETSY_CDN_HOSTS is {named!r}: it takes hosts or host:port, separated by commas,"
            " without http:// and without a path."
        )
    return hosts


def _key(values: Mapping[str, str], home: Path) -> ApiKey | None:
    keystring = (values.get("ETSY_API_KEY") or "").strip()
    secret = (values.get("ETSY_SHARED_SECRET") or "").strip()
    if not keystring and not secret:
        return None
    for name, value in (("ETSY_API_KEY", keystring), ("ETSY_SHARED_SECRET", secret)):
        if ":" in value:
            raise ConfigError(
                f"{name} has a colon: put the part before it into ETSY_API_KEY and the part after"
                " it into ETSY_SHARED_SECRET."
            )
        if not value:
            raise ConfigError(
                f"{name} is not set: Etsy wants both halves of the key, put the missing one"
                f" into {home / '.env'} or the environment."
            )
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ConfigError(
                f"{name} holds a character that no Etsy key has: copy it again from"
                " etsy.com/developers/your-apps."
            )
    return ApiKey(keystring, secret)


def read_settings(path: Path) -> Settings:
    """Read `furnisync.toml`, or return the defaults if there is none.

    Raises:
        ConfigError: invalid TOML, an unknown name or a value out of range; names file and setting.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Settings)
    except FileNotFoundError:
        return Settings()
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{path} has an error: {error}. Correct that line or delete it for the default."
        ) from error
