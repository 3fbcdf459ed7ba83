"""The words of the live command line that are short for settings."""

from __future__ import annotations

from collections.abc import Sequence


def words_of(arguments: Sequence[str]) -> list[str]:
    """Hydra overrides for the command line's words: `preview` and `account=venue` are short."""
    words = []
    for word in arguments:
        if word == "preview":
            continue
        if word.startswith("account="):
            words.append(f"account.source={word.removeprefix('account=')}")
        else:
            words.append(word)
    # A later word wins: beside whatever else a preview is asked for, nothing is sent.
    return [*words, "mode=dry", "account.source=venue"] if "preview" in arguments else words
