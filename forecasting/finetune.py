"""Fine-tune a Chronos-2 checkpoint on bars of one's own, kept only where it has proved itself.

    python -m forecasting.finetune --symbols BTCUSD ETHUSD --data-dir DIR … --output DIR
    [--model amazon/chronos-2] [--lora 8] [--start D] [--end D]

--symbols SYMBOL …   whose bars it is fine-tuned on
--data-dir DIR …     folders of bar files; none: the synthetic market
--zone ZONE          of stamps that say none; none: those are refused
--start, --end       New York dates, inclusive, or instants with a zone
--output DIR         folder of report and model
--overwrite          write into a folder that holds something else
--model MODEL        folder or hub id of the base; none: the shipped checkpoint
--lora RANK          train adapters of this rank (needs the extra finetune); none: all weights
--context BARS       own bars that a forecast sees
--steps N            batches of each fold
--batch N            windows in each
--rate R             learning rate at its highest; none: 1e-4, of adapters 5e-4
--seed N             of batches and adapters
--folds N            parts of the span, at least 2
--every N            steps between saved states
--device DEVICE      auto, cpu, cuda or cuda:N

The span is cut into consecutive folds. For each but the first the base is fine-tuned on the folds
before, and its forecasts and the base's, both calibrated, are scored on the fold. Where the loss
falls by more than two standard errors over all folds, the weights of the last are written to
DIR/model, a checkpoint like any other (forecaster.model=DIR/model), with a card beside them.
Otherwise nothing is written but the report, finetune.json and finetune.md. What is stopped goes on
with the same line.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("forecasting.finetune", __doc__)

import argparse
import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from forecasting.calibration.forecaster import CalibratedForecaster
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.checkpoint import SHIPPED, Checkpoint, checkpoint
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile
from forecasting.chronos2.tuning import Examples, TuningSettings, check_base, fine_tune
from forecasting.finetune_report import Fold, Verdict, card_json, card_markdown
from forecasting.forecast import Progress, silent
from forecasting.scores import common_forecasts, score_frame
from foundation import VERSION
from foundation.command import Parser, log_to_file, one_line_errors
from foundation.counts import counted
from foundation.errors import InputError
from foundation.files import check_output, staged_file, write_whole
from foundation.progress import ProgressBar
from foundation.sample_size import FEWEST_WEEKS
from trainingdata.bars import Bars
from trainingdata.instants import Unzoned
from trainingdata.source import DataSettings, Span, span_of

STEPS = (1, 6, 24)  # that are scored
MIN_EXAMPLES = 500  # windows with a known outcome before the first fold that is judged
CARD = "finetune.json"
CARD_TEXT = "finetune.md"
MODEL = "model"  # folder of the output that the checkpoint lies in
WORK = ".finetune"  # folder of the output that a run goes on from
SCORES = "scores.parquet"


@dataclass(frozen=True, eq=False, slots=True)
class Tuning:
    """A fine-tuning run.

    base: that training begins with; nobody may write over it meanwhile.
    bars: of the user.
    span: first and last issue of the forecasts that are trained on or judged.
    folds: parts of the span, at least 2.
    settings: of the training.
    """

    base: Checkpoint
    bars: Bars
    span: Span
    folds: int
    settings: TuningSettings

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise InputError(f"folds: {self.folds} is below 2")
        check_base(self.base, self.settings.context)

    def edges(self) -> list[np.datetime64]:
        """[folds] the instants at which the folds after the first begin, and the span's end.

        Raises
        ------
        InputError
            where there are too few bars for so many folds.
        """
        first, last = self.span
        examples = Examples.of(self.bars.until(last), first, self.settings.context)
        shares = np.arange(1, self.folds) / self.folds
        needed = MIN_EXAMPLES * self.folds
        if len(examples) < needed:
            raise InputError(
                f"symbols, start: {counted(len(examples), 'forecast')} with a context of"
                f" {self.settings.context} bars and a known outcome, and {needed:,} are needed for"
                f" {self.folds} folds; take more symbols, start earlier, or take fewer folds"
            )
        issued = np.sort(examples.issued_at).astype("int64")
        places = (shares * len(issued)).astype(int)
        inner = [np.datetime64(int(at), "ns") for at in issued[places]]
        edges = [*inner, min(last, self.bars.now)]
        week = np.timedelta64(7, "D")
        if edges[-1] - edges[0] < FEWEST_WEEKS * week or np.diff(edges).min() < week:
            raise InputError(
                f"start, end: the folds that are judged last less than {FEWEST_WEEKS} weeks, or one"
                " of them less than a week, within which no error can be told; start earlier, or"
                " take fewer folds"
            )
        return edges

    def examples(self, edge: np.datetime64) -> Examples:
        """Windows of the span whose outcomes are known at an instant."""
        return Examples.of(self.bars.until(edge), self.span[0], self.settings.context)

    def identity(self) -> str:
        """What says whether a run that was stopped can be gone on with."""
        # How often its state is saved makes no difference to it.
        settings = replace(self.settings, every=1)
        facts = {
            "base": self.base.digest,
            "data": bars_digest(self.bars),
            "span": [str(at) for at in self.span],
            "folds": self.folds,
            "settings": asdict(settings),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What the card says of the run beside its verdict."""
        packages = ["torch", "chronos-forecasting", "transformers", "safetensors"]
        if self.settings.lora is not None:
            packages.append("peft")
        settings = {**asdict(self.settings), "rate": self.settings.highest_rate}
        settings["lora"] = self.settings.lora or "none"
        return {
            "base": self.base.name,
            "base_digest": self.base.digest,
            "data": self.bars.source,
            "data_digest": bars_digest(self.bars),
            "symbols": list(self.bars.symbols),
            "settings": {**settings, "folds": self.folds},
            "versions": {
                "kelly-chronos": VERSION,
                "python": platform.python_version(),
                **{name: version(name) for name in packages},
            },
        }


def bars_digest(bars: Bars) -> str:
    """SHA-256 of symbols, instants and prices, in hex."""
    total = hashlib.sha256()
    for s, symbol in enumerate(bars.symbols):
        times, values = bars.real_bars(s)
        total.update(f"{symbol} {len(times)} ".encode())
        total.update(times.astype("datetime64[ns]").tobytes())
        total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()


def walk_forward(tuning: Tuning, work: Path, progress: Progress = silent) -> Verdict:
    """Fine-tune before each fold but the first, and judge on it.

    The weights of fold k, counted from 1, lie in `work/k/model` then.

    Parameters
    ----------
    work
        folder that a run which was stopped goes on from.

    Raises
    ------
    InputError
        for too few bars, or a saved state that cannot be used.
    """
    edges = tuning.edges()
    folds = []
    for number, (edge, end) in enumerate(pairwise(edges), start=1):
        place = work / str(number)
        place.mkdir(parents=True, exist_ok=True)
        examples = tuning.examples(edge)
        label = f"fold {number} of {len(edges) - 1}, steps"
        losses = fine_tune(tuning.base, examples, tuning.settings, place, progress, label)
        frame = _kept_scores(place / SCORES)
        if frame is None:
            frame = judge(tuning, edge, end, place / MODEL, work / "forecasts", progress)
            with staged_file(place / SCORES) as part:
                frame.to_parquet(part)
        first = np.datetime64(examples.issued_at.min())
        trained = (first, np.datetime64(examples.issued_at.max()))
        folds.append(Fold(trained, len(examples), (edge, end), losses, frame))
    return Verdict(tuple(folds))


def judge(
    tuning: Tuning,
    first: np.datetime64,
    last: np.datetime64,
    tuned: Path,
    cache: Path,
    progress: Progress = silent,
) -> pd.DataFrame:
    """The losses of base and fine-tuned model, calibrated and raw, on forecasts of one fold.

    Its columns are those of `Fold.frame`. Both learn their calibration from their own forecasts
    before the fold, as a run that begins there does: the fine-tuned model's from bars that it was
    trained on, as it is where the weights are put to use.

    Parameters
    ----------
    first, last
        of the fold: forecasts issued from `first` on whose outcomes are known by `last`.
    tuned
        folder of the fine-tuned checkpoint.
    cache
        folder that raw forecasts are kept in.
    """
    bars = tuning.bars.until(last)
    tables = []
    for folder in (tuning.base.folder, tuned):
        profile = Profile(
            model=str(folder),
            context_length=tuning.settings.context,
            device=tuning.settings.device,
        )
        raw = CachedForecaster(Chronos2Forecaster(profile), cache)
        tables.append(CalibratedForecaster(raw).forecast(bars, first, progress))
        tables.append(raw.forecast(bars, first, progress))
    rows = common_forecasts(tables, first, last)
    frames = []
    for table, numbers in zip(tables, rows, strict=True):
        frames.append(score_frame(bars, table, numbers, STEPS))
    names = ("base", "raw_base", "tuned", "raw_tuned")
    losses = {name: frame["loss"] for name, frame in zip(names, frames, strict=True)}
    joint = frames[0][["symbol", "kind", "week", "step"]].assign(**losses)
    return joint.dropna(ignore_index=True)


def _kept_scores(path: Path) -> pd.DataFrame | None:
    """The scores of a fold that was judged before; none where it was not."""
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ArrowException) as error:
        raise InputError(
            f"{path}: it cannot be read ({type(error).__name__}); remove it to judge the fold again"
        ) from error


def write_verdict(tuning: Tuning, verdict: Verdict, work: Path, output: Path) -> None:
    """Write the report, and where the weights are kept, the checkpoint with its card.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    facts = tuning.facts()
    cards = {CARD: card_json(facts, verdict), CARD_TEXT: card_markdown(facts, verdict)}
    writers: dict[str, Callable[[Path], object]] = {}
    for name, text in cards.items():
        writers[name] = partial(_write_text, text)
    if verdict.kept:
        weights: dict[str, Callable[[Path], object]] = {}
        for source in sorted((work / str(len(verdict.folds)) / MODEL).iterdir()):
            weights[source.name] = partial(shutil.copyfile, source)
        write_whole({**weights, **writers}, output / MODEL)
    write_whole(writers, output)


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Command line."""
    with one_line_errors("the same line goes on from the last saved state") as folders:
        _run(_parser().parse_args(), folders)


def _parser() -> Parser:
    default = TuningSettings()
    parser = Parser()
    parser.add_argument("--symbols", nargs="+", required=True)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--zone")
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--lora", type=int)
    parser.add_argument("--context", type=int, default=default.context)
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--every", type=int, default=default.every)
    parser.add_argument("--device", default=default.device)
    return parser


def _run(arguments: argparse.Namespace, folders: list[Path]) -> None:
    settings = TuningSettings(
        context=arguments.context,
        steps=arguments.steps,
        batch=arguments.batch,
        rate=arguments.rate,
        lora=arguments.lora,
        seed=arguments.seed,
        every=arguments.every,
        device=arguments.device,
    )
    output = arguments.output.expanduser()
    check_output(output, CARD, overwrite=arguments.overwrite, word="--overwrite")
    base = checkpoint(arguments.model or str(SHIPPED))
    zone = Unzoned(arguments.zone, "--zone").zone
    data = DataSettings(dir=tuple(arguments.data_dir), zone=zone)
    bars = data.bars(arguments.symbols, arguments.start, arguments.end, "--zone")
    span = span_of(bars, arguments.start, arguments.end)
    # What weights are copied from may be written over in the hours that this takes.
    with base.frozen() as frozen:
        tuning = Tuning(frozen, bars, span, arguments.folds, settings)
        tuning.edges()
        folders.append(output)
        log_to_file("finetune")
        work = output / WORK / tuning.identity()
        verdict = _walked(tuning, work)
        write_verdict(tuning, verdict, work, output)
    shutil.rmtree(output / WORK)
    print(verdict.sentence)  # noqa: T201
    print(_place_text(verdict, output))  # noqa: T201


def _walked(tuning: Tuning, work: Path) -> Verdict:
    """The verdict; a disk that is full, or a folder that is gone, is an error of the output."""
    try:
        with ProgressBar() as progress:
            return walk_forward(tuning, work, progress)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"output: {work} cannot be worked in: {reason}") from error


def _place_text(verdict: Verdict, output: Path) -> str:
    """Where what was written lies."""
    if verdict.kept:
        model = output / MODEL
        return f"Model: {model} (forecaster.model={model}). Report: {output / CARD_TEXT}"
    earlier = output / MODEL
    note = f"; {earlier}, of an earlier run, is left as it is" if earlier.exists() else ""
    return f"No model was written. Report: {output / CARD_TEXT}{note}"


if __name__ == "__main__":
    main()
