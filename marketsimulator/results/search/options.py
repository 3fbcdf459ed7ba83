"""Options of a walk-forward search."""

from __future__ import annotations

from typing import Any, Literal

from forecasting.chronos2.profile import RaySettings
from foundation.errors import InputError
from foundation.settings import setting, settings_class


@settings_class()
class SearchOptions:
    """Settings of a walk-forward search: search space, objective, spans, trials."""

    space: dict[str, Any] | None = setting(
        None,
        "search space: `setting: [low, high]` for a range (of integers if both are), "
        "`[low, high, log]` on a logarithmic scale, any other list or `{choices: [5, 50]}` for a "
        "choice",
    )
    trials: int = setting(50, "trials on each training span", ge=2, le=10_000)
    objective: Literal["sharpe", "log_growth"] = setting(
        "sharpe", "figure of the training span that the chosen settings maximise"
    )
    spans: int = setting(
        5, "number of spans of equal length; all but the first are test spans", ge=2, le=100
    )
    window: int | None = setting(
        None, "training spans before each test span; null: all earlier ones", ge=1, le=99
    )
    ledger: str | None = setting(None, "SQLite file of the trial ledger; null: none")
    launcher: Literal["local", "ray"] = setting(
        "local", "`local` runs trials in this process, `ray` on a Ray cluster"
    )
    workers: int | None = setting(None, "threads of `local`; null: one per core", ge=1, le=1024)
    ray: RaySettings = setting(RaySettings(), "Ray cluster, and the resources of a task")

    def __post_init__(self) -> None:
        if self.window is not None and self.window >= self.spans:
            raise InputError(
                f"window: {self.window} must be below spans={self.spans}: the last test span has"
                f" {self.spans - 1} spans before it"
            )
