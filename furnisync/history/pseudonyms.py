"""Buyers' ids in reviews: kept, hashed or dropped, before a row is written.

A hash is keyed with a random key of the home, since the ids themselves are few enough to be tried
one by one. It fills 63 bits (the column is INTEGER) and has the highest of them set, which no id of
Etsy's has: so a hash is never hashed again, and is never taken for an id.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from furnisync import durable
from furnisync.config import BuyerIds
from furnisync.errors import ConfigError
from furnisync.history.fields import Object, as_id

FIELD: Final = "buyer_user_id"
KEY_BYTES: Final = 32
_MARK: Final = 1 << 62


@dataclass(frozen=True)
class Buyers:
    """What becomes of a buyer's id.

    Attributes:
        policy: what the settings say.
        key: of the hash; None where this home has none.
    """

    policy: BuyerIds = "keep"
    key: bytes | None = field(default=None, repr=False)

    def hashed(self, buyer_user_id: int) -> int:
        """The hash of an id; of a hash it is the hash itself.

        Raises:
            ConfigError: there is no key.
        """
        if buyer_user_id >= _MARK:
            return buyer_user_id
        if self.key is None:
            raise ConfigError(
                "The key that buyers' ids were hashed with is not in this home any more: bring"
                " .buyer_key back from a backup."
            )
        digest = hashlib.blake2b(str(buyer_user_id).encode(), key=self.key, digest_size=8).digest()
        return int.from_bytes(digest) >> 2 | _MARK

    def forms(self, buyer_user_id: int) -> tuple[int, ...]:
        """All that may stand in the column for this buyer, whatever the setting was then."""
        if self.key is None:
            return (buyer_user_id,)
        return tuple(dict.fromkeys((buyer_user_id, self.hashed(buyer_user_id))))

    def apply(self, review: Object) -> Object:
        """The review as it may be stored."""
        if self.policy == "keep" or review.get(FIELD) is None:
            return review
        return {**review, FIELD: self._stored(review[FIELD])}

    def _stored(self, sent: Any) -> int | None:
        # What is no id goes too: it would be kept word for word among the oddities.
        buyer_user_id = as_id(sent)
        if self.policy == "drop" or buyer_user_id is None:
            return None
        return self.hashed(buyer_user_id)


KEEP: Final = Buyers()


def read_buyers(path: Path, policy: BuyerIds, *, make_key: bool = False) -> Buyers:
    """The home's rule for buyers' ids.

    Args:
        path: the key's file; made, readable by its owner only, where a key is needed.
        policy: as the settings say.
        make_key: a key is needed though the settings do not hash.

    Raises:
        ConfigError: the file is not one of ours, or cannot be written.
    """
    try:
        if (policy == "hash" or make_key) and not path.exists():
            # Another process may do so at the same time: the first key stays.
            durable.create(path, os.urandom(KEY_BYTES), durable.PRIVATE)
        key = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used ({error.strerror}): mend its permissions."
        ) from error
    if key is not None and len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} does not hold the key that buyers' ids are hashed with: bring it back from a"
            " backup, or delete it and accept that older hashes stand for themselves."
        )
    return Buyers(policy, key)
