"""Train a policy network that chooses the side and size of orders in event contracts.

    python -m event_contracts.train steps=5000000 episode.reward=log_wealth [key=value …]

The output folder has `checkpoint.safetensors`, rewritten every `checkpoint_steps` steps, and
`updates.jsonl` with the statistics of every update. `resume=OUTPUT/checkpoint.safetensors`
continues a run that was stopped.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("event_contracts.train")

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from event_contracts.settings import TrainingSettings
from event_contracts.simulation.recorded import list_event_tickers, recorded_markets
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.policies import RESUMED_FROM_KEY, read_checkpoint
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Array
from foundation.cli import Result
from foundation.errors import InputError
from foundation.files import check_output_file, check_output_folder
from foundation.formatting import format_count
from foundation.shell import format_command

if TYPE_CHECKING:
    from event_contracts.simulation.learner import Learner

CHECKPOINT_FILE = "checkpoint.safetensors"
UPDATE_STATISTICS_FILE = "updates.jsonl"


def load_training_sessions(settings: TrainingSettings) -> list[Array] | None:
    """Return the sessions [T, F] of the first recorded events; None to train on synthetic ones."""
    if settings.folder is None:
        return None
    markets = recorded_markets(settings.folder)
    first = list_event_tickers(markets, settings.train_events, "train_events")[
        : settings.train_events
    ]
    return [market.session for market in markets if market.event in first]


def train(settings: TrainingSettings, progress: Progress = no_progress) -> Learner:
    """Train a network, write checkpoints to the output folder, and return the learner.

    progress: callback with the name of the work, the steps done and the total number of steps.
    """
    import torch

    from event_contracts.simulation.learner import build_learner

    output = Path(settings.output).expanduser()
    check_output_folder(output)
    for name in (CHECKPOINT_FILE, UPDATE_STATISTICS_FILE):
        check_output_file(output / name, "output")
    earlier = None if settings.resume is None else read_checkpoint(settings.resume)[1]
    _refuse_to_overwrite(output, settings.resume)
    sessions = load_training_sessions(settings)
    # More threads slow such small networks down.
    torch.set_num_threads(1)
    env = VectorKalshiEnv(settings.markets, sessions, **settings.episode.as_keyword_arguments())
    given = json.loads(json.dumps(asdict(settings), default=str))
    if earlier is not None:
        # Sessions of the earlier run count as seen.
        given[RESUMED_FROM_KEY] = dict(earlier.settings)
    learner = build_learner(env, settings.learner, settings.seed, training_settings=given)
    if settings.resume is not None:
        learner.load(Path(settings.resume))
        if learner.steps_done >= settings.steps:
            raise InputError(
                f"steps: {settings.steps:,} is the total of all runs, but {settings.resume} has"
                f" {format_count(learner.steps_done, 'step')} already; raise steps"
            )
    try:
        _train_and_save(learner, settings, output, progress)
    except OSError as error:
        raise InputError(f"output: {output} cannot be written: {error.strerror}") from error
    return learner


def _train_and_save(
    learner: Learner, settings: TrainingSettings, output: Path, progress: Progress
) -> None:
    saved = learner.steps_done

    def save_update(steps: int, figures: dict[str, float]) -> None:
        nonlocal saved
        with (output / UPDATE_STATISTICS_FILE).open("a") as file:
            file.write(json.dumps({"steps": steps, **figures}) + "\n")
        if steps - saved >= settings.checkpoint_steps:
            learner.save(output / CHECKPOINT_FILE)
            saved = steps
        progress("training", min(steps, settings.steps), settings.steps)

    learner.learn(settings.steps, save_update)
    learner.save(output / CHECKPOINT_FILE)


def _refuse_to_overwrite(output: Path, resume: str | None) -> None:
    """Raise InputError if the output folder has a checkpoint that this run does not resume."""
    there = output / CHECKPOINT_FILE
    if there.exists() and (resume is None or not there.samefile(resume)):
        raise InputError(
            f"output: {there} exists; choose another folder or continue with resume={there}"
        )


def run(settings: TrainingSettings, progress: Progress) -> Result:
    learner = train(settings, progress)
    return Result(
        closing_lines=[
            f"Trained for {format_count(learner.steps_done, 'step')}, in rounds of"
            f" {settings.steps_per_update:,}; checkpoint"
            f" {Path(settings.output) / CHECKPOINT_FILE}. Compare it with others:"
            f" {format_command('python -m event_contracts.compare')}"
        ]
    )
