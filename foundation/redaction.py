"""Secrets taken out of a text before anybody sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping

SHORTEST = 8  # letters of a secret; what is shorter is a word, or a practice server's
UNMISTAKABLE = 16  # letters from which on no ordinary word holds a secret by chance
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")


def redacted(text: str, secrets: Mapping[str, str]) -> str:
    """The text with the name of each secret in its place, and no password in an address.

    A secret shorter than 8 letters stays: a key `x` would take the letter out of every word. One
    shorter than 16 goes where it stands alone, and a longer one wherever it is.

    secrets: by what stands in their place.
    """
    for name, secret in sorted(secrets.items(), key=lambda item: -len(item[1])):
        if len(secret) >= UNMISTAKABLE:
            text = text.replace(secret, name)
        elif len(secret) >= SHORTEST:
            alone = rf"(?<![^\W_]){re.escape(secret)}(?![^\W_])"
            text = re.sub(alone, name, text)
    return _IN_ADDRESS.sub("[secret]@", text)
