"""Reader of the results folder of a run: its summary, settings and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from foundation.errors import DataError, InputError
from foundation.files import SUMMARY_FILES, check_file_digests
from foundation.settings import read_plain_yaml
from marketsimulator.table_columns import INSTANT_COLUMNS, TEXT_COLUMNS

SUMMARY_FILE, CONFIG_FILE = "summary.json", "config.yaml"
_RUN_FOLDER_HINT = "give the results folder of a backtest (for a live account, use its status page)"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Results folder of a backtest or of a replay; a replay has no summary.

    path: path of the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            what = "a file" if self.path.exists() else "not found"
            raise InputError(f"RUN: {self.path} is {what}; give the results folder of a backtest")
        check_file_digests(self.path, "RUN")
        if not any((self.path / mark).is_file() for mark in SUMMARY_FILES):
            raise InputError(
                f"RUN: {self.path} contains no {SUMMARY_FILE}; give the results folder"
                " of a backtest"
            )

    def read_summary(self) -> dict[str, Any]:
        path = self.path / SUMMARY_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON: {error}; repeat the run") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not the summary of a backtest: expected a JSON object")
        return content

    def read_settings(self) -> dict[str, Any]:
        """Read the settings in `config.yaml`; return an empty dict if there is no such file."""
        path = self.path / CONFIG_FILE
        if not path.is_file():
            return {}
        try:
            content: Any = read_plain_yaml(path)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{path}: cannot be read: {first_line(error)}") from None
        if not isinstance(content, dict):
            raise DataError(f"{path}: not a settings file: expected lines of key: value")
        return content

    def read_table(
        self, name: str, columns: Sequence[str], optional_columns: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Read columns of the file `NAME.parquet`; instants are UTC without a time zone.

        name: name of the table, such as `fills`.
        optional_columns: those of `columns` that older run folders lack; read as NaN or empty text.
        """
        path = self.path / f"{name}.parquet"
        try:
            frame = pd.read_parquet(path)
            missing = set(optional_columns).difference(frame.columns)
            frame = frame.assign(
                **{each: "" if each in TEXT_COLUMNS else np.nan for each in missing}
            )
            for column in set(columns).difference(frame.columns):
                raise ValueError(f"column {column} is missing")
            frame = frame[list(columns)]
            for column in set(columns).difference(INSTANT_COLUMNS, TEXT_COLUMNS):
                frame[column] = pd.to_numeric(frame[column])
            for column in set(columns).intersection(INSTANT_COLUMNS):
                instants = pd.DatetimeIndex(pd.to_datetime(frame[column], utc=True))
                frame[column] = instants.tz_localize(None).as_unit("ns")
        except FileNotFoundError:
            raise DataError(f"RUN: {path} does not exist; {_RUN_FOLDER_HINT}") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = first_line(error)
            raise DataError(f"RUN: {path}: cannot be read: {reason}; {_RUN_FOLDER_HINT}") from None
        return frame


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class without a message."""
    return next(iter(str(error).splitlines()), type(error).__name__)
