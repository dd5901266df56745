"""Text as a model may be shown it: nothing invisible, and an estimate of its tokens.

intake → [text] → batcher → claude
"""

from __future__ import annotations

import re

_LINE_ENDS = re.compile("\r\n?|[\u0085\u2028\u2029]")
_UNSHOWN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls, but not tab and newline
    "\xad\u061c\u180e"  # soft hyphen, Arabic letter mark, Mongolian vowel separator
    "\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi overrides and isolates
    "\ud800-\udfff\ufeff\ufff9-\ufffb\ufffe\uffff"  # surrogates, byte order mark, annotations
    "\U000e0000-\U000e0fff"  # tags and variation selectors that carry hidden text
    "]"
)
_CHARS_PER_TOKEN = 2.5
"""Of tokenizers from Opus 4.7 on (all 5.x models), for Latin text; older ones need fewer tokens."""
_EXTRA_BYTES_PER_TOKEN = 3


def clean(text: str) -> str:
    """Without control, bidi, surrogate and other invisible characters; every line end becomes a newline.

    Joiners stay: Persian, Indic scripts and emoji need them.
    """
    if text.isprintable():
        return text
    return _UNSHOWN.sub("", _LINE_ENDS.sub("\n", text))


def estimate_tokens(text: str) -> int:
    """About how many input tokens a model reads this as; never 0. Scripts of many bytes a character cost more."""
    chars = len(text)
    extra_bytes = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - chars
    return int(chars / _CHARS_PER_TOKEN) + extra_bytes // _EXTRA_BYTES_PER_TOKEN + 1
