"""How fast the clock of a practice server runs."""

from __future__ import annotations

from foundation.errors import InputError


def speed_of(word: str) -> float | None:
    """Simulated seconds a second; None where the clock waits for a client.

    Raises
    ------
    InputError
        for a word that is neither `wait` nor a number above 0.
    """
    if word == "wait":
        return None
    try:
        speed = float(word)
    except ValueError:
        speed = float("nan")
    if not 0 < speed <= 1e6:
        raise InputError(f"--speed: {word} is neither wait nor a number above 0")
    return speed
