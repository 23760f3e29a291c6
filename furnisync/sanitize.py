"""Text from outside (titles, names, error messages) made safe to print on a line.

Anyone can name a shop or a listing. A terminal executes escape sequences, a log has one entry a
line, and right-to-left text can make one name look like another. None of these characters
is needed to read a name, so they are escaped. The databases keep the original text.
"""

import re

__all__ = ["plain"]

# C0 and C1 controls, line and paragraph separators, marks and overrides of direction.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str, keep: str = "") -> str:
    r"""The text with control characters escaped, as `\x1b`.

    Args:
        text: from anywhere.
        keep: characters that stay, such as a line break in a text of ours.
    """
    return _UNSAFE.sub(lambda found: _shown(found[0], keep), text)


def _shown(letter: str, keep: str) -> str:
    return letter if letter in keep else letter.encode("unicode_escape").decode()
