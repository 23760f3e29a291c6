"""Buyers' ids in reviews: kept, hashed or dropped, before a row is written.

A hash is keyed with a random key of the home, because the ids are few enough to try all of them.
It has 63 bits (the column is INTEGER) with the highest one set, which no id of
Etsy's has. So a hash is never hashed again and never looks like an id.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from furnisync import durable
from furnisync.config import BuyerIds
from furnisync.errors import ConfigError
from furnisync.history.fields.values import Object, as_id

FIELD: Final = "buyer_user_id"
KEY_BYTES: Final = 32
_MARK: Final = 1 << 62


@dataclass(frozen=True)
class Buyers:
    """The rule for buyers' ids.

    Attributes:
        policy: from the settings.
        key: of the hash; None if this home has none.
    """

    policy: BuyerIds = "keep"
    key: bytes | None = field(default=None, repr=False)

    def hashed(self, buyer_user_id: int) -> int:
        """The hash of an id; a hash stays the same.

        Raises:
            ConfigError: there is no key.
        """
        if buyer_user_id >= _MARK:
            return buyer_user_id
        if self.key is None:
            raise ConfigError(
                "The key that hashed the buyers' ids is missing in this home: restore"
                " .buyer_key back from a backup."
            )
        digest = hashlib.blake2b(str(buyer_user_id).encode(), key=self.key, digest_size=8).digest()
        return int.from_bytes(digest) >> 2 | _MARK

    def forms(self, buyer_user_id: int) -> tuple[int, ...]:
        """All values that the column may have for this buyer, under any setting."""
        if self.key is None:
            return (buyer_user_id,)
        return tuple(dict.fromkeys((buyer_user_id, self.hashed(buyer_user_id))))

    def apply(self, review: Object) -> Object:
        """The review in the form that may be stored."""
        if self.policy == "keep" or review.get(FIELD) is None:
            return review
        return {**review, FIELD: self._stored(review[FIELD])}

    def _stored(self, sent: Any) -> int | None:
        # A value that is not an id is dropped too: it would be stored in the oddities.
        buyer_user_id = as_id(sent)
        if self.policy == "drop" or buyer_user_id is None:
            return None
        return self.hashed(buyer_user_id)


KEEP: Final = Buyers()


def read_buyers(path: Path, policy: BuyerIds, *, make_key: bool = False) -> Buyers:
    """The home's rule for buyers' ids.

    Args:
        path: the key's file; created, readable by its owner only, if a key is needed.
        policy: from the settings.
        make_key: a key is needed even if the settings do not hash.

    Raises:
        ConfigError: the file is not ours, or cannot be written.
    """
    try:
        if (policy == "hash" or make_key) and not path.exists():
            # Another process may do so at the same time: the first key stays.
            durable.create(path, os.urandom(KEY_BYTES), durable.PRIVATE)
        key = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used ({error.strerror}): correct its permissions."
        ) from error
    if key is not None and len(key) != KEY_BYTES:
        raise ConfigError(
            f"{path} does not contain the key that hashes buyers' ids: restore it from a"
            " backup, or delete it and accept that older hashes cannot be matched."
        )
    return Buyers(policy, key)
