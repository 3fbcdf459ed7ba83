"""What a replay keeps in its account's journal beside its passes: the settings that decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Json

from execution.journal.rows import Table, Whole
from foundation.database import Database


@dataclass(frozen=True, slots=True)
class _Settings:
    number: Whole
    settings: Json[Mapping[str, Any]]


_SETTINGS = Table("replay_settings", _Settings)


class ReplayBook:
    """The replay of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database
        _SETTINGS.create(database)

    def settings(self) -> dict[str, Any] | None:
        """The settings that it was begun with, as they were kept; none before that."""
        kept = _SETTINGS.last(self._database)
        return None if kept is None else dict(kept.settings)

    def keep(self, settings: Mapping[str, str]) -> None:
        """Write down the settings that it is begun with."""
        _SETTINGS.put(self._database, _Settings(1, settings))
