"""The words of the live command line that are short for settings."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.compose import is_override
from foundation.errors import invalid_choice

PREVIEW = "preview"
QUANTITY = "quantity"


def words_of(arguments: Sequence[str]) -> list[str]:
    """Hydra overrides for the command line's words; one that is no setting is refused."""
    words = []
    for word in arguments[3:] if is_quantity(arguments) else arguments:
        if word == PREVIEW:
            continue
        if not is_override(word):
            also = "a setting as key=value (status, clear, kill: `python -m execution.live`)"
            raise invalid_choice("word", word, (PREVIEW, QUANTITY), also=also)
        words.append(word)
    # A later word wins: beside whatever else a preview is asked for, nothing is sent.
    return [*words, f"mode={PREVIEW}"] if PREVIEW in arguments else words


def is_quantity(arguments: Sequence[str]) -> bool:
    return list(arguments[:1]) == [QUANTITY]
