"""Fine-tuning: what it learns from, that it can be stopped, and what is kept of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from forecasting.chronos2 import tuning as tuning_module
from forecasting.chronos2.checkpoint import SHIPPED, WEIGHTS, checkpoint
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile
from forecasting.chronos2.tuning import STATE, Examples, TuningSettings, fine_tune
from forecasting.finetune import CARD, CARD_TEXT, MODEL, WORK, Tuning, judge, write_verdict
from forecasting.finetune_report import Fold, Gain, Verdict
from forecasting.forecast import HORIZON
from forecasting.scores import pinball
from foundation.errors import InputError
from tests.commands import Started, run_command
from tests.random_chronos2 import random_checkpoint
from trainingdata.bars import CLOSE, Bars
from trainingdata.synthetic import SyntheticMarket

QUICK = TuningSettings(context=32, steps=6, batch=16, rate=1e-2, every=2, device="cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("base"), dropout=0.1)


@pytest.fixture(scope="module")
def examples(market: Bars) -> Examples:
    return Examples.of(market, market.times[0], QUICK.context)


def bytes_of(place: Path) -> bytes:
    return (place / MODEL / WEIGHTS).read_bytes()


def test_an_example_is_the_returns_that_followed_in_units_known_before(market: Bars) -> None:
    one = market.between(0, len(market.times))
    examples = Examples.of(one, one.times[0], 32)
    context, futures, unit = (x.numpy() for x in examples.batch(np.array([0, 500])))
    closes = np.concatenate([one.real_bars(s)[1][:, CLOSE] for s in range(len(one.symbols))])
    for row, issuing in enumerate(examples.issuing[[0, 500]]):
        logs = np.log(closes)
        later = logs[issuing + 1 : issuing + 1 + HORIZON] - logs[issuing]
        np.testing.assert_allclose(futures[row, 0], later, atol=1e-6)
        np.testing.assert_allclose(
            np.log(context[row]), (logs - logs[issuing])[issuing - 31 : issuing + 1], atol=1e-6
        )
    # The first example's issuing bar is its symbol's 32nd: 31 returns are known by then.
    before = np.diff(np.log(closes[:32]))
    assert unit[0] == pytest.approx(np.sqrt(np.mean(before**2)), rel=1e-5)


def test_prices_a_thousandfold_are_the_same_examples(market: Bars, examples: Examples) -> None:
    dearer = replace_prices(market, 1000.0)
    other = Examples.of(dearer, dearer.times[0], QUICK.context)
    numbers = np.arange(0, len(examples), 97)
    for ours, theirs in zip(examples.batch(numbers), other.batch(numbers), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-7)


def replace_prices(bars: Bars, factor: float) -> Bars:
    values = bars.values.copy()
    values[:, :, :4] *= factor
    return Bars(bars.instruments, bars.times, values, bars.mask, bars.source)


def test_what_is_judged_changes_nothing_of_what_is_learned(
    market: Bars, base: Path, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    span = (market.times[0], market.now)
    edge = market.times[len(market.times) // 2]
    learned = [
        Tuning(checkpoint(str(base)), bars, span, 2, QUICK).examples(edge)
        for bars in (market, scrambled_after(market, edge))
    ]
    everything = np.arange(len(learned[0]))
    for ours, theirs in zip(*(each.batch(everything) for each in learned), strict=True):
        assert torch.equal(ours, theirs)
    # 24 own bars of a coin are a day, of a stock more.
    assert learned[0].issued_at.max() <= edge - np.timedelta64(HORIZON, "h")
    assert len(learned[0]) > 1000


def test_the_loss_is_of_log_returns_in_units_of_the_deviation(
    base: Path, examples: Examples, market: Bars, tmp_path: Path
) -> None:
    """The first step's, from the forecasts of the model that it begins with."""
    first = fine_tune(checkpoint(str(base)), examples, replace(QUICK, steps=1), tmp_path)[0]
    forecaster = Chronos2Forecaster(Profile(model=str(base), context_length=32, device="cpu"))
    windows = forecaster.windows(market, market.times[0])
    counts = np.array([len(closes) for closes in windows.closes])
    known = np.flatnonzero(windows.last + HORIZON < counts[windows.symbol])
    assert len(known) == len(examples)
    drawn = np.random.default_rng([QUICK.seed, 0]).integers(len(known), size=QUICK.batch)
    rows = known[drawn]
    quantiles = forecaster.answer(windows, rows, forecaster.profile)
    returns = np.log(quantiles / windows.price[rows, None, None])
    _, futures, unit = (x.double().numpy() for x in examples.batch(drawn))
    root = np.sqrt(np.arange(1, HORIZON + 1))
    steps = []
    for k in range(HORIZON):
        loss = pinball(returns[:, k], futures[:, 0, k]).mean(axis=1)
        steps.append((loss / (unit * root[k])).mean())
    assert first == pytest.approx(float(np.average(steps, weights=1 / root)), rel=1e-3)


def test_a_fold_is_judged_on_its_own_outcomes_alone_and_the_better_model_is_told(
    base: Path,
    market: Bars,
    tmp_path: Path,
    scrambled_after: Callable[[Bars, np.datetime64], Bars],
) -> None:
    begin, end = market.times[-300], market.times[-120]
    frames = []
    for name, bars in (("as is", market), ("scrambled", scrambled_after(market, end))):
        span = (market.times[0], market.now)
        tuning = Tuning(checkpoint(str(SHIPPED)), bars, span, 2, QUICK)
        frames.append(judge(tuning, begin, end, base, tmp_path / name))
    pd.testing.assert_frame_equal(*frames)
    # In place of a fine-tuned model stands one of random weights.
    frame = frames[0]
    assert frame["raw_tuned"].mean() > 1.2 * frame["raw_base"].mean()
    assert (frame["tuned"] - frame["base"]).abs().max() > 0
    assert set(frame["step"]) == {1, 6, 24}


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(
    base: Path, examples: Examples, tmp_path: Path
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for place in (whole, parted):
        place.mkdir()
    losses = fine_tune(checkpoint(str(base)), examples, QUICK, whole)

    def stop(work: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(checkpoint(str(base)), examples, QUICK, parted, stop)
    assert sorted(path.name for path in parted.iterdir()) == [STATE]
    begun: list[int] = []
    again = fine_tune(
        checkpoint(str(base)), examples, QUICK, parted, lambda _, done, total: begun.append(done)
    )
    assert begun[0] == 2, "the last saved state is gone on from"
    assert again == losses
    assert bytes_of(parted) == bytes_of(whole)
    assert bytes_of(whole) != (base / WEIGHTS).read_bytes()


def test_steps_lower_the_loss_that_they_are_taken_on(
    base: Path, examples: Examples, tmp_path: Path
) -> None:
    settings = replace(QUICK, steps=60, every=60)
    losses = fine_tune(checkpoint(str(base)), examples, settings, tmp_path)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_adapters_are_merged_into_a_checkpoint_like_any_other(
    base: Path, examples: Examples, tmp_path: Path, market: Bars
) -> None:
    pytest.importorskip("peft")
    fine_tune(checkpoint(str(base)), examples, replace(QUICK, lora=2), tmp_path)
    before = load_file(base / WEIGHTS)
    after = load_file(tmp_path / MODEL / WEIGHTS)
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(any(part in name for part in tuning_module.ADAPTED) for name in moved)
    held = load_file(tmp_path / STATE)
    assert all("lora" in name for name in held), "only adapters are saved on the way"
    answers = [
        Chronos2Forecaster(Profile(model=str(folder), context_length=32, device="cpu"))
        .forecast(market, market.now)
        .values
        for folder in (base, tmp_path / MODEL)
    ]
    assert np.isfinite(answers[1]).all()
    assert np.abs(answers[1] / answers[0] - 1).max() > 1e-4


def test_adapters_without_their_library_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"peft is not installed.*kelly-chronos\[finetune\]"):
        TuningSettings(lora=8)


@pytest.mark.parametrize("content", [b"", b"nothing of it", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_state_is_named_with_what_to_remove(
    content: bytes, base: Path, examples: Examples, tmp_path: Path
) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(InputError, match=r"state\.safetensors: the saved state.*remove"):
        fine_tune(checkpoint(str(base)), examples, QUICK, tmp_path)


def fold_of(saved: float, noise: float, seed: int, weeks: int = 30) -> Fold:
    """Losses of a fold whose fine-tuned model saves a share, on average."""
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(weeks), 40) + 100 * seed
    before = rng.uniform(0.5, 1.5, len(week))
    after = before * (1 - saved) - noise * np.repeat(rng.standard_normal(weeks), 40)
    table = {
        "symbol": "BTCUSD",
        "kind": "crypto",
        "week": week,
        "step": np.tile([1, 24], len(week) // 2),
        "base": before,
        "tuned": after,
        "raw_base": before,
        "raw_tuned": after,
    }
    instants = tuple(np.datetime64(f"2024-0{month}-01", "ns") for month in (1, 2, 3))
    frame = pd.DataFrame(table)
    return Fold(instants[:2], 1000, instants[1:], [1.0, 0.5], frame)


@pytest.mark.parametrize(
    ("folds", "kept"),
    [
        ([fold_of(0.01, 0.001, 1), fold_of(0.01, 0.001, 2)], True),
        ([fold_of(-0.01, 0.001, 1), fold_of(-0.01, 0.001, 2)], False),
        ([fold_of(0.0, 0.05, 1), fold_of(0.0, 0.05, 2)], False),
        # All in all it gains beyond error, but not on the fold of the weights that would be kept.
        ([fold_of(0.05, 0.001, 1), fold_of(-0.001, 0.0, 2)], False),
        # Three weeks tell no error.
        ([fold_of(0.01, 0.001, 1, weeks=3)], False),
    ],
)
def test_weights_are_kept_only_where_the_loss_falls_beyond_error(
    folds: list[Fold], kept: bool
) -> None:
    verdict = Verdict(tuple(folds))
    assert verdict.kept == kept
    assert ("is kept" in verdict.sentence) == kept
    assert ("the base stays" in verdict.sentence) != kept


def test_two_errors_are_asked_for_also_where_an_interval_is_narrower() -> None:
    """Student's t of 201 weeks ends at 1.97 errors."""
    assert not Gain(1.0, 0.99, 0.0199, 0.01, 0.0197).proved
    assert Gain(1.0, 0.99, 0.0201, 0.01, 0.0197).proved


def test_a_kept_model_has_its_card_and_loads_and_the_report_alone_stands_without(
    base: Path, market: Bars, tmp_path: Path
) -> None:
    tuning = Tuning(checkpoint(str(base)), market, (market.times[0], market.now), 2, QUICK)
    work = tmp_path / "work"
    random_checkpoint(work / "1" / MODEL)
    for name, saved in (("kept", 0.01), ("not", -0.01)):
        verdict = Verdict((fold_of(saved, 0.001, 1),))
        write_verdict(tuning, verdict, work, tmp_path / name)
    assert sorted(path.name for path in (tmp_path / "not").iterdir()) == [CARD, CARD_TEXT]
    kept = tmp_path / "kept" / MODEL
    names = sorted(path.name for path in kept.iterdir())
    assert names == ["config.json", CARD, CARD_TEXT, WEIGHTS]
    card = json.loads((kept / CARD).read_text())
    assert card["base_digest"] == checkpoint(str(base)).digest
    assert card["symbols"] == list(market.symbols)
    assert card["kept"] is True
    assert card["gains"]["all"]["saved"] == pytest.approx(0.01, rel=0.1)
    assert card["settings"]["seed"] == 0
    assert set(card["versions"]) >= {"torch", "transformers", "kelly-chronos"}
    assert "| calibrated, all folds |" in (kept / CARD_TEXT).read_text()
    Chronos2Forecaster(Profile(model=str(kept), context_length=32, device="cpu")).forecast(
        market, market.now
    )


SHORT = ["--symbols", "SYXUSD,SYYUSD", "--end", "2023-05-31", "--folds", "2", "--context", "32"]


ALL = ",".join(SyntheticMarket().symbols)


def test_what_gains_nothing_leaves_a_report_and_no_model(base: Path, tmp_path: Path) -> None:
    words = [*SHORT, "--model", str(base), "--steps", "2", "--batch", "8", "--rate", "1e-9"]
    command = ["-m", "forecasting.finetune", *words, "--output", "out"]
    done = run_command(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the base stays" in done.stdout
    assert "No model was written" in done.stdout
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [CARD, CARD_TEXT]
    report = json.loads((out / CARD).read_text())
    assert report["kept"] is False
    assert report["gains"]["all"]["before"] == pytest.approx(
        report["gains"]["all"]["after"], rel=1e-3
    )
    [fold] = report["folds"]
    assert fold["trained"][1] < fold["judged"][0] < fold["judged"][1]
    assert not (out / WORK).exists()


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_to_the_same_report(base: Path, tmp_path: Path) -> None:
    words = [*SHORT, "--model", str(base), "--steps", "60", "--batch", "32", "--every", "10"]
    command = ["-m", "forecasting.finetune", *words, "--output"]
    run = Started([*command, "killed"], cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(f"killed/{WORK}/*/1/{STATE}")):
        assert time.monotonic() < deadline
        assert run.running, run.errors
        time.sleep(0.001)
    run.kill()
    again = run_command([*command, "killed"], cwd=tmp_path)
    whole = run_command([*command, "whole"], cwd=tmp_path)
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr
    begun = re.search(r"steps (\d+) of 60", again.stderr)
    assert begun is not None
    assert int(begun[1]) >= 10, "from the saved state, not anew"
    reports = [(tmp_path / name / CARD).read_text() for name in ("killed", "whole")]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--folds", "1"], "folds: 1 is below 2"),
        (["--steps", "0"], "steps: 0 is outside"),
        (["--rate", "-1"], "rate: -1.0 is outside"),
        (["--lora", "0"], "lora: 0 is outside"),
        (["--context", "600"], "context: 600 exceeds the model's 512"),
        (["--folds", "40"], "20,000 are needed for 40 folds"),
        (["--end", "2023-02-20", "--folds", "2"], "less than 4 weeks"),
        (["--symbols", ALL, "--end", "2023-03-02", "--folds", "10"], "less than a week"),
        (["--model", "nowhere"], "nowhere is no folder and no hub id"),
        (["--model", "several"], "does not answer 24 steps in one pass"),
    ],
)
def test_what_cannot_be_tuned_is_one_line_and_leaves_nothing(
    words: list[str], says: str, tmp_path: Path
) -> None:
    if "several" in words:
        random_checkpoint(tmp_path / "several", max_output_patches=1)
    before = sorted(tmp_path.rglob("*"))
    command = ["-m", "forecasting.finetune", *SHORT, *words, "--output", "out"]
    done = run_command(command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert says in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_worked_in_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / WORK).write_text("a file in its place")
    command = ["-m", "forecasting.finetune", *SHORT, "--output", "out"]
    done = run_command(command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "cannot be worked in: Not a directory" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
