"""A run as it lies in a folder: the one reader of its files, for all that asks about a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from foundation.config_files import plain_yaml
from foundation.errors import DataError, InputError
from foundation.files import RUN_MARKS, refuse_mixture

SUMMARY, CONFIG = "summary.json", "config.yaml"
INSTANTS = {"at", "booked_at", "until"}
TEXTS = {"symbol", "client_order_id", "side", "type", "tif", "reason", "binding"}
INSTEAD = {"booked_at": "at"}  # in fills of earlier runs, which do not say the row that counts them
NAMED = 5  # runs within a folder that a refusal names
_ADVICE = "name the folder of a backtest's results (the page of a live account has its reasons)"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run's results: a backtest's, or a replay's, which has no summary.

    Raises
    ------
    InputError
        for what is no folder of a run, and for files that are not all of one.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            what = "a file" if self.path.exists() else "not there"
            raise InputError(f"RUN: {self.path} is {what}; name the folder of a backtest's results")
        refuse_mixture(self.path, "RUN")
        if not any((self.path / mark).is_file() for mark in RUN_MARKS):
            raise InputError(self._without_summary())

    def _without_summary(self) -> str:
        within = sorted(each.parent.name for each in self.path.glob(f"*/{SUMMARY}"))
        more = f" and {len(within) - NAMED} more" if len(within) > NAMED else ""
        hint = f"; name one of its runs: {', '.join(within[:NAMED])}{more}" if within else ""
        return f"RUN: {self.path} holds no {SUMMARY}: it is no backtest's folder{hint}"

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`.

        Raises
        ------
        InputError
            for a folder without one, and for a file that is none.
        """
        path = self.path / SUMMARY
        if not path.is_file():
            raise InputError(self._without_summary())
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path}: no JSON: {error}") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: no summary of a backtest: an object is needed")
        return content

    def settings(self) -> dict[str, Any]:
        """The content of `config.yaml`; nothing where there is none.

        Raises
        ------
        DataError
            for a file that holds no settings.
        """
        path = self.path / CONFIG
        if not path.is_file():
            return {}
        try:
            content: Any = plain_yaml(path)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot be read: {_first_line(error)}") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: no settings: key: value is needed")
        return content

    def table(self, name: str, columns: Sequence[str]) -> pd.DataFrame:
        """Columns of `NAME.parquet`, its instants as UTC without a zone.

        Raises
        ------
        DataError
            for a file that is not there, or has not these columns.
        """
        path = self.path / f"{name}.parquet"
        try:
            frame = pd.read_parquet(path)
            for column in INSTEAD.keys() & set(columns) - set(frame):
                frame[column] = frame[INSTEAD[column]]
            frame = frame[list(columns)]
            for column in set(columns) - INSTANTS - TEXTS:
                frame[column] = pd.to_numeric(frame[column])
            for column in INSTANTS & set(columns):
                instants = pd.DatetimeIndex(pd.to_datetime(frame[column], utc=True))
                frame[column] = instants.tz_localize(None).as_unit("ns")
        except FileNotFoundError:
            raise DataError(f"RUN: {path}: there is none; {_ADVICE}") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = _first_line(error)
            raise DataError(f"RUN: {path}: cannot be read: {reason}; {_ADVICE}") from None
        return frame


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
