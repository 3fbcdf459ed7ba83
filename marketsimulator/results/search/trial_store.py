"""Finished trials of a search, in Optuna's own SQLite storage; a killed search resumes from them.

Each training span has a study, `span 1`, `span 2`, …; `optuna-dashboard sqlite:///search.sqlite`
shows them. A trial is written in one transaction once its run has ended, so a process that is
killed leaves whole trials only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from foundation.arrays import Array
from foundation.errors import InputError, one_line

STORAGE_FILE = "search.sqlite"
IDENTITY = "identity"  # attribute of a study: digest of the search
RETURNS = "returns"  # attribute of a trial: its daily returns on the training span
FORECASTER = "forecaster"  # attribute of a trial: the name of its forecaster


class TriedSettings(NamedTuple):
    """Result of one trial.

    returns: [D] daily returns on the training span.
    forecaster: name of the forecaster.
    """

    returns: Array
    forecaster: str

    @classmethod
    def from_stored(cls, trial: FrozenTrial) -> TriedSettings:
        """Read the result of a stored trial."""
        returns = np.array(trial.user_attrs[RETURNS], dtype=np.float64)
        return cls(returns, trial.user_attrs[FORECASTER])


class TrialStore:
    """Finished trials by training span.

    folder: output folder of the search.
    identity: digest of everything that determines a search but its number of trials.
    Raises `InputError` if the folder holds another search, or a file that is not Optuna's.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        path = folder / STORAGE_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._storage = RDBStorage(f"sqlite:///{path}")
        except (OSError, SQLAlchemyError, RuntimeError) as error:
            raise InputError(
                f"output: {path} cannot be used: {one_line(str(error), 120)}; name another folder,"
                " or say overwrite=true"
            ) from error

    def study(self, number: int) -> optuna.Study:
        """Return the stored study of a training span, created if there is none."""
        study = optuna.create_study(
            storage=self._storage,
            study_name=f"span {number}",
            direction="maximize",
            load_if_exists=True,
        )
        if IDENTITY not in study.user_attrs:
            study.set_user_attr(IDENTITY, self._identity)
        if study.user_attrs[IDENTITY] != self._identity:
            self._refuse("another search: its bars, settings, space, spans or seed differ")
        return study

    def finished(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the finished trials of a study, in the order of their draws."""
        return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def refuse_other_draw(self, stored: FrozenTrial, params: Mapping[str, Any]) -> None:
        """Raise `InputError` if a stored trial is not the one that is drawn in its place."""
        if stored.params != params:
            self._refuse("trials that another version of Optuna drew")

    def add(
        self,
        study: optuna.Study,
        params: dict[str, Any],
        distributions: Mapping[str, BaseDistribution],
        value: float,
        tried: TriedSettings,
    ) -> None:
        """Write a finished trial."""
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(distributions),
                value=value,
                user_attrs={RETURNS: tried.returns.tolist(), FORECASTER: tried.forecaster},
            )
        )

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _refuse(self, what: str) -> None:
        raise InputError(
            f"output: {self._folder} holds {what}; name another folder, or say overwrite=true"
        )
