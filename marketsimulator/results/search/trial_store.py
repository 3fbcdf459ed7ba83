"""Store of finished trials in an SQLite storage of Optuna, from which a killed search resumes.

Each training span has a study, `span 1`, `span 2`, …; `optuna-dashboard sqlite:///search.sqlite`
shows them. A trial is written in one transaction after its run, so a killed process leaves only
complete trials.
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
from foundation.errors import InputError, to_one_line

STORAGE_FILE = "search.sqlite"
IDENTITY_ATTRIBUTE = "identity"  # attribute of a study: digest of the search
RETURNS_ATTRIBUTE = "returns"  # attribute of a trial: daily returns on the training span
FORECASTER_ATTRIBUTE = "forecaster"  # attribute of a trial: name of the forecaster


class TrialResult(NamedTuple):
    """Result of one trial.

    returns: [D] daily returns on the training span.
    forecaster: name of the forecaster.
    """

    returns: Array
    forecaster: str

    @classmethod
    def from_stored(cls, trial: FrozenTrial) -> TrialResult:
        """Read the result of a stored trial."""
        returns = np.array(trial.user_attrs[RETURNS_ATTRIBUTE], dtype=np.float64)
        return cls(returns, trial.user_attrs[FORECASTER_ATTRIBUTE])


class TrialStore:
    """Finished trials by training span.

    folder: output folder of the search.
    identity: digest of everything except the number of trials that determines a search.
    Raises `InputError` if the folder contains another search, or a file that Optuna cannot read.
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
                f"output: cannot open {path}: {to_one_line(str(getattr(error, 'orig', error)))};"
                " choose another folder, or set overwrite=true"
            ) from error

    def load_study(self, span_number: int) -> optuna.Study:
        """Return the study of a training span, created if it does not exist."""
        study = optuna.create_study(
            storage=self._storage,
            study_name=f"span {span_number}",
            direction="maximize",
            load_if_exists=True,
        )
        if IDENTITY_ATTRIBUTE not in study.user_attrs:
            study.set_user_attr(IDENTITY_ATTRIBUTE, self._identity)
        if study.user_attrs[IDENTITY_ATTRIBUTE] != self._identity:
            self._refuse_folder("another search, with other bars, settings, space, spans or seed")
        return study

    def finished_trials(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the finished trials of a study, in the order of their draws."""
        return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def refuse_different_params(self, stored: FrozenTrial, params: Mapping[str, Any]) -> None:
        """Raise `InputError` if a stored trial differs from the trial drawn at its position."""
        if stored.params != params:
            self._refuse_folder("trials drawn by another version of Optuna")

    def add_trial(
        self,
        study: optuna.Study,
        params: dict[str, Any],
        distributions: Mapping[str, BaseDistribution],
        objective_value: float,
        result: TrialResult,
    ) -> None:
        """Write a finished trial: its drawn values, objective and result."""
        study.add_trial(
            create_trial(
                params=params,
                distributions=dict(distributions),
                value=objective_value,
                user_attrs={
                    RETURNS_ATTRIBUTE: result.returns.tolist(),
                    FORECASTER_ATTRIBUTE: result.forecaster,
                },
            )
        )

    def close(self) -> None:
        """Close the SQLite file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _refuse_folder(self, content: str) -> None:
        raise InputError(
            f"output: {self._folder} contains {content}; choose another folder, or set"
            " overwrite=true"
        )
