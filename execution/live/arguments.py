"""Arguments of the live command, `trade_stock_e2e.py`."""

from __future__ import annotations

from collections.abc import Sequence

from foundation.compose import is_override
from foundation.errors import invalid_choice_error
from foundation.shell import format_command

PREVIEW_ARGUMENT = "preview"  # the only word of the command line that is not a setting


def parse_live_overrides(arguments: Sequence[str]) -> list[str]:
    """Return the Hydra overrides (`key=value`) among the arguments of `trade_stock_e2e.py`.

    The argument `preview` becomes the override `mode=preview`. Any other argument is rejected.

    Raises
    ------
    InputError
        for an argument that is none of these.
    """
    words = []
    for word in arguments:
        if word == PREVIEW_ARGUMENT:
            continue
        if not is_override(word):
            also = (
                "a setting as key=value; for status, clear, kill:"
                f" `{format_command('python -m execution.live')}`"
            )
            raise invalid_choice_error(
                "word", word, (PREVIEW_ARGUMENT,), other_accepted_values=also
            )
        words.append(word)
    # A later word wins: with `preview`, nothing is sent, whatever other words follow.
    return [*words, f"mode={PREVIEW_ARGUMENT}"] if PREVIEW_ARGUMENT in arguments else words
