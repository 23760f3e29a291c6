"""Text from outside (titles, names, words of an answer) made safe to print on a line.

Anybody may name a shop or a listing. A terminal obeys escape sequences, a log believes line breaks,
and text that runs from right to left can make one name look like another. None of these letters
is needed to read a name, so they are shown instead of obeyed. The databases keep what was sent.
"""

import re

__all__ = ["plain"]

# C0 and C1 controls, line and paragraph separators, marks and overrides of direction.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str, keep: str = "") -> str:
    r"""The text with whatever a terminal or a log would obey written out, as `\x1b`.

    Args:
        text: from anywhere.
        keep: letters that may stay, such as a line break in a text of ours.
    """
    return _UNSAFE.sub(lambda found: _shown(found[0], keep), text)


def _shown(letter: str, keep: str) -> str:
    return letter if letter in keep else letter.encode("unicode_escape").decode()
