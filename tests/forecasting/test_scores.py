"""Scores by hand and by property, and the commands that report them."""

# Private access: a calibrated forecaster does not show the settings of its base.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from forecasting.baseline import Garch, HistoricalQuantiles, Oracle, RandomWalk
from forecasting.calibration.forecaster import CalibratedForecaster
from forecasting.chronos2.profile import SymbolSettings, read_symbol_settings
from forecasting.evaluate import (
    build_compared,
    evaluate,
    evaluation_file_writers,
    render_terminal_parts,
)
from forecasting.forecast import LEVELS, MEDIAN_INDEX, has_look_ahead
from forecasting.scores import (
    CRPS_WEIGHTS,
    clustered_mean,
    gain_over_baseline,
    interval_score,
    pinball_loss,
    probability_integral_transform,
    rank_correlation,
    score_forecasts,
    select_common_forecasts,
    summarise_scores,
)
from forecasting.settings import EvaluationSettings, ForecasterSettings
from foundation.console import open_terminal, print_renderables
from foundation.errors import DataError, InputError
from foundation.files import write_files_atomically
from tests.e2e.refused import answer_of, refusal_of
from tests.support.latest import latest
from tests.support.messages import check_message, refused
from tests.support.pages import without_scripts
from trainingdata.bars import Bars
from trainingdata.source import DataSettings

NORMAL = norm.ppf(LEVELS)


def test_pinball_and_interval_scores_match_hand_calculation() -> None:
    loss = pinball_loss(np.zeros((1, len(LEVELS))), np.array([2.0]))
    np.testing.assert_allclose(loss[0], 2 * np.array(LEVELS))
    assert interval_score(np.array([-1.0]), np.array([1.0]), np.array([1.5]), 0.8)[
        0
    ] == pytest.approx(2 + 10 * 0.5)


@given(seed=st.integers(0, 2**16), wrong=st.floats(0.3, 3.0), shift=st.floats(-1.5, 1.5))
def test_pinball_and_interval_scores_are_proper(seed: int, wrong: float, shift: float) -> None:
    """Both scores are proper: no other spread or median has a lower expected loss."""
    y = np.random.default_rng(seed).normal(size=4000)
    true, other = (np.tile(q, (len(y), 1)) for q in (NORMAL, shift + wrong * NORMAL))
    for score in (
        lambda q: pinball_loss(q, y).mean(axis=1),
        lambda q: interval_score(q[:, 2], q[:, 18], y, 0.8),
    ):
        gain = score(true) - score(other)
        assert gain.mean() < 3 * gain.std() / np.sqrt(len(y))


def test_crps_of_a_normal_matches_its_closed_form() -> None:
    """σ/√π for a standard normal forecast of itself (Gneiting and Raftery 2007), less the tails
    beyond 1 and 99 %.
    """
    y = norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    crps = float((pinball_loss(np.tile(NORMAL, (len(y), 1)), y) @ CRPS_WEIGHTS).mean())
    assert crps == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)


def test_pit_of_true_distribution_is_uniform() -> None:
    y = np.random.default_rng(1).normal(size=20_000)
    pit = probability_integral_transform(np.tile(NORMAL, (len(y), 1)), y)
    inside = pit[(pit > 0) & (pit < 1)]
    assert (
        np.abs(
            np.quantile(inside, [0.1, 0.25, 0.5, 0.75, 0.9]) - [0.108, 0.255, 0.5, 0.745, 0.892]
        ).max()
        < 0.02
    )
    assert probability_integral_transform(NORMAL[None], NORMAL[MEDIAN_INDEX : MEDIAN_INDEX + 1])[
        0
    ] == pytest.approx(0.5)
    assert probability_integral_transform(NORMAL[None], np.array([-9.0]))[0] == 0
    assert probability_integral_transform(NORMAL[None], np.array([9.0]))[0] == 1


def test_standard_error_treats_each_week_as_one_observation() -> None:
    """For values that repeat within a week, a naive standard error is √n too small."""
    rng = np.random.default_rng(2)
    weekly = rng.normal(size=200)
    values = pd.Series(np.repeat(weekly, 50))
    week = pd.Series(np.repeat(np.arange(200), 50))
    mean, error = clustered_mean(values, week)
    assert mean == pytest.approx(weekly.mean())
    assert error == pytest.approx(weekly.std(ddof=1) / np.sqrt(200), rel=1e-6)
    instants = np.datetime64("2024-01-05T21:00", "ns") + week * np.timedelta64(7, "D")
    lost = pd.DataFrame({"loss": values * 0 + 1, "week": instants})
    assert gain_over_baseline(lost, lost.assign(loss=2.0))["mean"] == pytest.approx(0.5)
    assert np.isnan(clustered_mean(values[:10], week[:10])[1])


def test_rank_correlation_is_nan_for_constant_forecasts() -> None:
    rng = np.random.default_rng(3)
    x = pd.Series(rng.normal(size=5000))
    y = 0.2 * x + rng.normal(size=5000)
    week = pd.Series(np.arange(5000) // 50)
    mean, error = rank_correlation(x, y, week)
    assert mean == pytest.approx(x.corr(y, method="spearman"), abs=1e-9)
    assert 0.005 < error < 0.03
    assert all(np.isnan(v) for v in rank_correlation(x * 0, y, week))


def test_forecasts_without_known_outcome_have_no_score(market: Bars) -> None:
    table = RandomWalk().forecast(market, market.times[-300])
    rows = np.arange(len(table.windows))
    frame = score_forecasts(market, table, rows, (1, 24))
    assert len(frame) == 2 * len(rows)
    unknown = frame[frame["loss"].isna()]
    assert len(unknown) == len(market.symbols) * 25
    one = frame[(frame["step"] == 1) & (frame["symbol"] == "SYXUSD")].iloc[5]
    times, values = market.bars_of_symbol(market.symbols.index("SYXUSD"))
    k = int(np.searchsorted(times, one["issued_at"].to_datetime64()))
    move = np.log(values[k + 1, 3] / values[k, 3])
    unit = np.sqrt(np.mean(np.diff(np.log(values[k - 100 : k + 1, 3])) ** 2))
    quantiles = np.log(
        latest(table, times[k]).values[market.symbols.index("SYXUSD"), 0] / values[k, 3]
    )
    assert one["loss"] == pytest.approx(
        pinball_loss(quantiles[None].astype(float), np.array([move])).mean() / unit, rel=1e-3
    )


@pytest.mark.slow
def test_baselines_have_nominal_coverage_but_no_skill(market: Bars) -> None:
    """On a synthetic market all baselines have nominal coverage and none has an edge."""
    tables = [
        f.forecast(market, market.times[-700])
        for f in (
            RandomWalk(),
            RandomWalk(sample_variance_share=0.5),
            HistoricalQuantiles(),
            Garch(),
            Oracle(),
        )
    ]
    rows = select_common_forecasts(tables, market.times[-700], market.last_instant)
    frames = [score_forecasts(market, t, r, (1, 6)) for t, r in zip(tables, rows, strict=True)]
    known = np.logical_and.reduce([f["loss"].notna() for f in frames])
    for table, frame in zip(tables, frames, strict=True):
        figures = summarise_scores(frame[known])
        if has_look_ahead(table.name):
            assert figures["information"] > 0.95
            assert figures["loss"] < 0.05
        else:
            assert 0.72 < figures["inside80"] < 0.88
            assert 0.2 < figures["loss"] < 0.35
    assert len({len(f) for f in frames}) == 1


def test_mixed_forecast_variance_averages_its_components(market: Bars) -> None:
    widths = [
        np.log(
            f.forecast(market, market.times[-50]).all_quantiles[:, 0, -1]
            / f.forecast(market, market.times[-50]).price
        )
        for f in (
            RandomWalk(),
            RandomWalk(sample_variance_share=0.5),
            RandomWalk(sample_variance_share=1.0),
        )
    ]
    np.testing.assert_allclose(widths[1] ** 2, (widths[0] ** 2 + widths[2] ** 2) / 2, rtol=1e-3)


def test_historical_quantiles_match_hand_calculation(market: Bars) -> None:
    table = HistoricalQuantiles().forecast(market, market.last_instant)
    closes = table.windows.contexts(np.array([0]))[0]
    moves = np.log(closes[3:] / closes[:-3])
    expected = closes[-1] * np.exp(np.quantile(moves, LEVELS))
    np.testing.assert_allclose(table.quantiles[np.array([0])][0, 2], expected, rtol=1e-6)


@pytest.mark.slow
def test_evaluation_scores_all_forecasters_on_common_forecasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataSettings(start="2024-01-02", end="2024-05-31")
    settings = EvaluationSettings(
        symbols=("SYA", "SYXUSD"),
        start="2024-04-15",
        steps=(1, 6),
        baselines=("ewma", "mix"),
        data=data,
        forecaster=ForecasterSettings(kind="historical"),
    )
    evaluation = evaluate(settings)
    assert evaluation.forecaster_name == "historical, calibrated"
    assert [*evaluation.score_frames][1:4] == ["ewma, calibrated", "mix, calibrated", "historical"]
    counts = {len(frame) for frame in evaluation.score_frames.values()}
    assert len(counts) == 1
    figures = evaluation.build_figures()
    write_files_atomically(evaluation_file_writers(evaluation, figures), tmp_path / "made")
    kept = json.loads((tmp_path / "made" / "evaluation.json").read_text())
    assert kept["groups"]["crypto"]["1"]["skill"]
    page = (tmp_path / "made" / "evaluation.html").read_text()
    for word in ("rank correlation", "Gain by step, coins", "synthetic market"):
        assert word in page
    print_renderables(open_terminal(), render_terminal_parts(figures))
    printed = " ".join(capsys.readouterr().out.split())
    assert "gain on ewma" in printed
    assert "<script" not in without_scripts(page)
    ours = figures["groups"]["stock"]["all"]["historical, calibrated"]
    assert (
        ours["forecasts"]
        == (evaluation.score_frames[evaluation.forecaster_name]["kind"] == "stock").sum()
    )


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["ewma, calibrated", "mix, calibrated", "ewma", "mix"]),
        (
            {"forecaster": ForecasterSettings(kind="historical", calibrated=False)},
            ["historical", "ewma", "mix"],
        ),
        (
            {"forecaster": ForecasterSettings(kind="historical")},
            [
                *("historical, calibrated", "ewma, calibrated", "mix, calibrated"),
                *("historical", "ewma", "mix"),
            ],
        ),
    ],
)
def test_calibrated_forecaster_is_compared_with_calibrated_baselines(
    changes: dict[str, Any], names: list[str]
) -> None:
    """The evaluated forecaster is first, and a baseline with its name does not replace it."""
    first = ForecasterSettings(kind="ewma", context_length=64)
    settings = EvaluationSettings(**{"forecaster": first, "baselines": ("ewma", "mix"), **changes})
    built = build_compared(settings, ("SYA",))
    assert [each.name for each in built] == names
    if not changes:
        assert isinstance(built[0], CalibratedForecaster)
        assert built[0].base == first._build_uncalibrated(("SYA",))


def test_an_evaluation_without_outcomes_is_refused() -> None:
    data = DataSettings(start="2024-01-02", end="2024-03-29")
    settings = EvaluationSettings(
        symbols=("SYA",), start="2024-03-28T19:00Z", steps=(24,), baselines=("ewma",), data=data,
        forecaster=ForecasterSettings(kind="ewma"),
    )  # fmt: skip
    with refused(InputError):
        evaluate(settings)


def test_asset_class_without_outcomes_has_no_score_row() -> None:
    data = DataSettings(start="2024-01-02", end="2024-03-28")
    settings = EvaluationSettings(
        symbols=("SYA", "SYXUSD"), start="2024-03-26", steps=(1, 24), baselines=("ewma",),
        data=data, forecaster=ForecasterSettings(kind="mix"),
    )  # fmt: skip
    groups = evaluate(settings).build_figures()["groups"]
    assert {"1", "24"} <= groups["crypto"].keys()
    assert "1" in groups["stock"]
    assert "24" not in groups["stock"]


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["forecasting.batch", "symbols=[NVDA]"], ("NVDA",)),
        (
            ["forecasting.batch", "data.dir=.", "output=NVDA.parquet", "overwrite=true"],
            ("output", "data.dir"),
        ),
        (["forecasting.batch", "forecaster=ewma"], ("output",)),
        (["forecasting.batch", "start=2023-01-02", "end=2023-01-03", "output=f.parquet"], ()),
        (["forecasting.evaluate", "steps=[0]"], ("steps", "0")),
    ],
)
def test_invalid_command_input_gives_one_line_error(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_message(refusal_of(*words), *facts)
    assert [p.name for p in tmp_path.iterdir() if p.name != "logs"] == []


@pytest.mark.slow
def test_batch_file_matches_its_documented_format(tmp_path: Path) -> None:
    span = ("start=2024-02-12", "end=2024-02-20", "symbols=[SYA,SYXUSD]")
    words = (*span, "forecaster=oracle", "data.end=2024-02-20", "output=f.parquet")
    code, _, said = answer_of("forecasting.batch", *words, cwd=tmp_path)
    assert code == 0, said
    frame = pd.read_parquet(tmp_path / "f.parquet")
    assert list(frame.columns) == ["symbol", "issued_at", "step", "target_at", "level", "value"]
    assert str(frame["issued_at"].dtype) == str(frame["target_at"].dtype) == "datetime64[ns, UTC]"
    assert (frame["value"].dtype, frame["step"].dtype) == (np.float32, np.int8)
    assert set(frame["level"]) == set(LEVELS), "0.1 is 0.1"
    assert np.isfinite(frame["value"]).all(), "a step without a forecast has no row"
    assert frame["issued_at"].min() >= pd.Timestamp("2024-02-12T05:00Z")
    key = ["issued_at", "symbol", "step", "level"]
    assert frame[key].astype({"symbol": str}).apply(tuple, axis=1).is_monotonic_increasing
    assert (
        frame.groupby(["symbol", "issued_at", "step"], observed=True)["value"].diff().dropna() >= 0
    ).all()
    coin = frame[frame["symbol"] == "SYXUSD"]
    assert (coin["target_at"] - coin["issued_at"] == pd.to_timedelta(coin["step"], unit="h")).all()
    friday = frame[
        (frame["symbol"] == "SYA") & (frame["issued_at"] == pd.Timestamp("2024-02-16T20:30Z"))
    ]
    assert friday["target_at"].min() == pd.Timestamp("2024-02-16T21:00Z")
    assert sorted(friday["target_at"].unique())[1] == pd.Timestamp("2024-02-20T15:30Z"), (
        "the Monday is a holiday"
    )


def test_symbol_settings_are_read_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "NVDA.json").write_text('{"context_length": 64, "augmentation": "log"}')
    settings = SymbolSettings(context_length=64, augmentation="log")
    assert read_symbol_settings(tmp_path, ["AAPL", "NVDA"]) == {"NVDA": settings}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"context_length": "many"}', "context_length"),
        ('{"context": 100}', "context"),
        ('{"augmentation": "square"}', "augmentation"),
        ('{"prediction_length": 25}', "prediction_length"),
        ('{"context_length": 100', "file"),
        ("\x00", "file"),
    ],
)
def test_malformed_symbol_settings_error_names_file_and_field(
    text: str, field: str, tmp_path: Path
) -> None:
    (tmp_path / "NVDA.json").write_text(text)
    with refused(DataError, "NVDA.json", field):
        read_symbol_settings(tmp_path, ["NVDA"])
