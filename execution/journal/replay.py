"""What a replay keeps in its account's journal: the settings that decide, and its passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Json

from execution.journal.rows import Instant, Real, Table, Whole
from foundation.database import Database


@dataclass(frozen=True, slots=True)
class ReplayPass:
    """A pass that is over.

    at: instant by the server's clock.
    cash, equity: USD, after what the pass traded.
    left: instants that the server's clock still had.
    """

    at: Instant
    cash: Real
    equity: Real
    left: Whole


@dataclass(frozen=True, slots=True)
class _Settings:
    number: Whole
    settings: Json[Mapping[str, Any]]


_PASSES = Table("replay_passes", ReplayPass, renamed={"left": "instants_left"})
_SETTINGS = Table("replay_settings", _Settings)


class ReplayBook:
    """The replay of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database
        _PASSES.create(database)
        _SETTINGS.create(database)

    def settings(self) -> dict[str, Any] | None:
        """The settings that it was begun with, as they were kept; none before that."""
        kept = _SETTINGS.last(self._database)
        return None if kept is None else dict(kept.settings)

    def keep(self, settings: Mapping[str, str]) -> None:
        """Write down the settings that it is begun with."""
        _SETTINGS.put(self._database, _Settings(1, settings))

    def note(self, done: ReplayPass) -> None:
        """Write a pass down; of one instant the last word counts."""
        _PASSES.put(self._database, done)

    def passes(self) -> list[ReplayPass]:
        """All that were made, in the order of time."""
        return _PASSES.rows(self._database, "ORDER BY at")


def is_replayed(journal: Path) -> bool:
    """Whether a replay has made a pass in a journal."""
    return bool(_PASSES.rows_in(journal, "LIMIT 1"))
