"""`forecasting.predict_df`: the library's answers, clocks of frames, and refused frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from chronos import Chronos2Pipeline

from examples.make_bars import main as make_bars
from forecasting import predict_df
from forecasting.chronos2.checkpoint import SHIPPED
from forecasting.forecast import LEVELS
from forecasting.train import initialise, small_model
from foundation.errors import InputError
from trainingdata.sessions import stock_grid

ROOT = Path(__file__).resolve().parents[2]
KNOWN = ("load", "holiday")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Chronos-2 with random weights, which every input moves, of 64 steps a pass."""
    place = tmp_path_factory.mktemp("random")
    model = small_model()
    initialise(model, torch.Generator().manual_seed(3))
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Chronos2Pipeline:
    return Chronos2Pipeline.from_pretrained(str(folder))


def hourly(symbols: str = "AB", rows: int = 90, seed: int = 1) -> pd.DataFrame:
    """Hourly closes and covariates of symbols of several lengths, the later ones shorter."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, symbol in enumerate(symbols):
        count = rows - 13 * number
        stamps = pd.date_range("2024-03-01", periods=count, freq="h", tz="UTC")
        parts.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "timestamp": stamps,
                    "close": 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count))),
                    "volume": rng.lognormal(8, 1, count),
                    "load": np.sin(np.arange(count) / 5) + rng.normal(0, 0.1, count),
                    "holiday": (np.arange(count) % 9 == 0).astype(float),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def ahead_of(df: pd.DataFrame, steps: int) -> pd.DataFrame:
    """What is known of the steps ahead."""
    rng = np.random.default_rng(2)
    parts = []
    for symbol, own in df.groupby("symbol", sort=False):
        stamps = own["timestamp"].iloc[-1] + pd.to_timedelta(np.arange(1, steps + 1), unit="h")
        columns = {name: rng.normal(0.5, 1, steps) for name in KNOWN}
        parts.append(pd.DataFrame({"symbol": symbol, "timestamp": stamps, **columns}))
    return pd.concat(parts, ignore_index=True)


def librarys(
    pipeline: Chronos2Pipeline,
    df: pd.DataFrame,
    future_df: pd.DataFrame | None,
    steps: int,
    levels: tuple[float, ...] = LEVELS,
    **options: Any,
) -> pd.DataFrame:
    """What the library's own `predict_df` answers; it takes no zones."""
    naive = [
        None if frame is None else frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None))
        for frame in (df, future_df)
    ]
    return pipeline.predict_df(
        *naive,
        id_column="symbol",
        target="close",
        prediction_length=steps,
        quantile_levels=list(levels),
        freq="h",
        **options,
    )


def assert_alike(ours: pd.DataFrame, theirs: pd.DataFrame, df: pd.DataFrame) -> None:
    """Same rows, and levels that differ by rounding beside each symbol's own deviation."""
    names = [name for name in theirs if name[0] == "0"]
    assert list(ours["symbol"]) == list(theirs["symbol"])
    assert (ours["target_at"] == theirs["timestamp"].dt.tz_localize("UTC")).all()
    unit = ours["symbol"].map(df.groupby("symbol")["close"].std()).to_numpy()
    expected = np.sort(theirs[names].to_numpy(), axis=1)
    assert (np.abs(ours[names].to_numpy() - expected).max(axis=1) / unit).max() < 1e-4


CASES = {
    "closes alone": ((), (), 24),
    "past covariates": (("volume", "load"), (), 24),
    "future covariates": ((), KNOWN, 24),
    "both": (("volume",), KNOWN, 24),
    "one step": ((), (), 1),
    "steps that fill no patch": (("volume",), KNOWN, 13),
    "as many steps as a pass answers": (("volume",), KNOWN, 64),
}


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_the_librarys_predict_df(
    case: str, folder: Path, pipeline: Chronos2Pipeline
) -> None:
    past, known, steps = CASES[case]
    df = hourly()[["symbol", "timestamp", "close", *past, *known]]
    future = ahead_of(df, steps)[["symbol", "timestamp", *known]] if known else None
    ours = predict_df(
        df,
        future_df=future,
        covariates=past,
        prediction_length=steps,
        model=folder,
        shape="wide",
    )
    assert_alike(ours, librarys(pipeline, df, future, steps), df)
    if past or known:
        alone = librarys(pipeline, df[["symbol", "timestamp", "close"]], None, steps)
        with pytest.raises(AssertionError):
            assert_alike(ours, alone, df)


def test_a_shorter_context_is_the_librarys_too(folder: Path, pipeline: Chronos2Pipeline) -> None:
    df = hourly()[["symbol", "timestamp", "close", *KNOWN]]
    future = ahead_of(df, 24)
    ours = predict_df(df, future_df=future, context_length=50, model=folder, shape="wide")
    assert_alike(ours, librarys(pipeline, df, future, 24, context_length=50), df)


def test_lengths_may_be_of_any_integer_type(folder: Path) -> None:
    df = hourly()
    expected = predict_df(df, context_length=50, prediction_length=2, model=folder)
    small = predict_df(df, context_length=np.uint8(50), prediction_length=np.uint8(2), model=folder)
    pd.testing.assert_frame_equal(small, expected)


@pytest.mark.parametrize("offset", [-100.0, -10_000.0])
def test_closes_at_and_below_zero_are_forecast_as_the_library_does(
    offset: float, folder: Path, pipeline: Chronos2Pipeline
) -> None:
    df = hourly()[["symbol", "timestamp", "close"]]
    df["close"] += offset
    df.loc[5, "close"] = 0.0
    ours = predict_df(df, model=folder, shape="wide")
    assert_alike(ours, librarys(pipeline, df, None, 24), df)


def test_more_steps_than_a_pass_answers_are_the_librarys(
    folder: Path, pipeline: Chronos2Pipeline
) -> None:
    df = hourly()[["symbol", "timestamp", "close", "volume", *KNOWN]]
    future = ahead_of(df, 80)
    ours = predict_df(
        df,
        future_df=future,
        covariates=["volume"],
        prediction_length=80,
        model=folder,
        shape="wide",
    )
    with pytest.warns(UserWarning, match="prediction length"):
        theirs = librarys(pipeline, df, future, 80)
    assert_alike(ours, theirs, df)


def test_levels_between_the_models_are_linear_as_in_the_library() -> None:
    df = hourly()[["symbol", "timestamp", "close"]]
    levels = (0.025, 0.5, 0.975, 0.33)
    shipped = Chronos2Pipeline.from_pretrained(str(SHIPPED))
    ours = predict_df(df, quantile_levels=levels, shape="wide")
    theirs = librarys(shipped, df, None, 24, levels)
    names = [str(level) for level in levels]
    assert list(ours.columns[4:]) == names
    np.testing.assert_allclose(ours[names], theirs[names], rtol=1e-5)
    long = predict_df(df, quantile_levels=levels)
    assert list(long.columns) == ["symbol", "issued_at", "step", "target_at", "level", "value"]
    np.testing.assert_array_equal(long["value"], ours[names].to_numpy().ravel())
    np.testing.assert_array_equal(long["level"], np.tile(levels, 48))


def test_step_one_depends_on_how_many_steps_are_asked_for() -> None:
    df = hourly("A")
    one = predict_df(df, prediction_length=1)["value"].to_numpy()
    all_steps = predict_df(df)["value"].to_numpy()[: len(LEVELS)]
    assert np.abs(one / all_steps - 1).max() > 1e-6


def test_nothing_that_is_not_known_changes_an_answer(folder: Path) -> None:
    """Not what another symbol did later, nor what stands beyond the steps or before them."""
    df = hourly("AB")
    cut = df.loc[df["symbol"] == "B", "timestamp"].max()
    future = ahead_of(df, 60)
    options: dict[str, Any] = {"covariates": ["volume"], "model": folder}
    before = predict_df(df, future_df=future, **options)
    altered = df.copy()
    numbers = ["close", "volume", *KNOWN]
    later = altered["timestamp"] > cut
    altered.loc[later, numbers] *= 3.0
    end = before.groupby("symbol")["target_at"].max()
    beyond = future["timestamp"] > future["symbol"].map(end)
    future.loc[beyond, list(KNOWN)] = np.nan
    past = df[["symbol", "timestamp", *KNOWN]].assign(load=7.0, holiday=np.nan)
    after = predict_df(altered, future_df=pd.concat([future, past]), **options)
    of_b = before["symbol"] == "B"
    assert later.sum() == 13
    assert beyond.sum() == 72
    np.testing.assert_allclose(after["value"][of_b], before["value"][of_b], rtol=1e-6)
    assert np.abs(after["value"][~of_b] / before["value"][~of_b] - 1).max() > 0.1


def largest_difference(folder: Path, **options: Any) -> float:
    """From the CPU's fp32, in deviations of a symbol's closes."""
    df = hourly()
    settings: dict[str, Any] = {"future_df": ahead_of(df, 24), "model": folder, "shape": "wide"}
    plain = predict_df(df, device="cpu", **settings)
    other = predict_df(df, **settings, **options)
    unit = plain["symbol"].map(df.groupby("symbol")["close"].std()).to_numpy()[:, None]
    names = [str(level) for level in LEVELS]
    return float((np.abs(other[names].to_numpy() - plain[names].to_numpy()) / unit).max())


def test_bf16_answers_roughly_as_fp32(folder: Path) -> None:
    assert 1e-4 < largest_difference(folder, device="cpu", dtype="bf16") < 1.0


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    assert largest_difference(folder, device="cuda") < 1e-3
    assert largest_difference(folder, device="cuda", dtype="bf16") < 1.5


def test_rows_may_stand_in_any_order(folder: Path) -> None:
    df = hourly()
    future = ahead_of(df, 24)
    expected = predict_df(df, future_df=future, model=folder)
    shuffled = predict_df(
        pd.concat([df.iloc[:1], df.iloc[1:].sample(frac=1, random_state=1)]),
        future_df=future.sample(frac=1, random_state=1),
        model=folder,
    )
    pd.testing.assert_frame_equal(shuffled, expected)


def test_calendar_columns_are_the_covariates_of_these_names(folder: Path) -> None:
    df = hourly()
    future = ahead_of(df, 24).drop(columns=list(KNOWN))
    ours = predict_df(df, calendar=["hour", "weekday"], model=folder, zone="America/New_York")
    for frame in (df, future):
        shown = frame["timestamp"].dt.tz_convert("America/New_York").dt
        frame["at"] = shown.hour + shown.minute / 60
        frame["of_week"] = shown.day_of_week
    theirs = predict_df(df, future_df=future, model=folder)
    pd.testing.assert_frame_equal(ours, theirs)


def stamped(stamps: Any) -> pd.DataFrame:
    closes = 100 + np.sin(np.arange(len(stamps)))
    return pd.DataFrame({"symbol": "A", "timestamp": stamps, "close": closes})


def grid(first: int, rows: int, which: str = "ends") -> pd.DatetimeIndex:
    return pd.DatetimeIndex(getattr(stock_grid(), which), tz="UTC")[first : first + rows]


SESSIONS = pd.DatetimeIndex(stock_grid().dates[6000:6060])
CLOSES = pd.DatetimeIndex(stock_grid().closes[6000:6060], tz="UTC")
FIVE = pd.DatetimeIndex(
    np.concatenate(
        [
            np.arange(opens, closes, np.timedelta64(5, "m"))
            for opens, closes in zip(
                stock_grid().opens[6000:6006], stock_grid().closes[6000:6006], strict=True
            )
        ]
    ),
    tz="UTC",
)
NEW_YORK_DAYS = pd.date_range("2024-02-20", periods=60, freq="D", tz="America/New_York")
CLOCKS = {
    "days of UTC on the clock of New York": NEW_YORK_DAYS[0]
    + pd.to_timedelta(np.arange(60) * 24, unit="h"),
    "five minutes": pd.date_range("2024-03-01", periods=60, freq="5min", tz="UTC"),
    "days": pd.date_range("2024-02-20", periods=60, freq="D", tz="UTC"),
    "days of New York, one of 23 hours": NEW_YORK_DAYS,
    "weeks of New York": NEW_YORK_DAYS[::7],
    "hours of the exchange, by their ends": grid(10_000, 60),
    "hours of the exchange, by their starts": grid(10_000, 60, "starts"),
    "five minutes of the exchange": FIVE,
    "sessions by date": SESSIONS.tz_localize("UTC"),
    "sessions by date in New York": SESSIONS.tz_localize("America/New_York"),
    "sessions by close": CLOSES,
}


@pytest.mark.parametrize("name", CLOCKS)
def test_steps_are_stamped_by_the_clock_of_the_rows(name: str) -> None:
    """The first two thirds of a clock are continued as the rest of it."""
    stamps = CLOCKS[name]
    rows = len(stamps) * 2 // 3
    answer = predict_df(
        stamped(stamps[:rows]), prediction_length=len(stamps) - rows, quantile_levels=[0.5]
    )
    assert (answer["issued_at"] == stamps[rows - 1]).all()
    assert list(answer["target_at"]) == list(stamps[rows:].tz_convert("UTC"))


def test_bars_of_one_session_are_the_exchanges_where_that_is_said() -> None:
    first = int(np.searchsorted(stock_grid().session, 6000))
    stamps = grid(first, 4)
    assert len(set(np.diff(stamps))) == 1
    options: dict[str, Any] = {"quantile_levels": [0.5], "prediction_length": 7}
    regular = predict_df(stamped(stamps), **options)["target_at"]
    assert set(np.diff(regular)) == set(np.diff(stamps))
    exchange = predict_df(stamped(stamps), clock="exchange", **options)["target_at"]
    assert list(exchange) == list(grid(first + 4, 7))


def test_days_are_those_of_the_zone_that_is_named() -> None:
    stamps = NEW_YORK_DAYS[:18].tz_convert("UTC")
    answer = predict_df(stamped(stamps), quantile_levels=[0.5], prediction_length=42)
    assert len(set(np.diff(answer["target_at"]))) == 1
    answer = predict_df(
        stamped(stamps), quantile_levels=[0.5], prediction_length=42, zone="America/New_York"
    )
    assert list(answer["target_at"]) == list(NEW_YORK_DAYS[18:].tz_convert("UTC"))


def test_naive_timestamps_are_those_of_the_zone() -> None:
    stamps = NEW_YORK_DAYS[:40]
    expected = predict_df(stamped(stamps))
    naive = predict_df(stamped(stamps.tz_localize(None)), zone="America/New_York")
    text = predict_df(stamped(stamps.strftime("%Y-%m-%d")), zone="America/New_York")
    pd.testing.assert_frame_equal(naive, expected)
    pd.testing.assert_frame_equal(text, expected)


@pytest.mark.parametrize("name", ["five minutes", "hours of the exchange, by their ends"])
def test_gaps_are_passed_over_where_that_is_said(name: str) -> None:
    df = stamped(CLOCKS[name]).drop(index=[20, 21, 40])
    with pytest.raises(
        InputError,
        match=r"df\.iloc\[20\] \(A\): no row for 2 steps of its clock between .*; fill the gap",
    ):
        predict_df(df)
    answer = predict_df(df, skip_gaps=True, shape="wide")
    whole = predict_df(stamped(CLOCKS[name]), shape="wide")
    assert (answer["target_at"] == whole["target_at"]).all()
    assert np.abs(answer["0.5"] / whole["0.5"] - 1).max() > 1e-5


@pytest.mark.parametrize("row", [0, 1, 37, 39])
@pytest.mark.parametrize("name", [name for name in CLOCKS if len(CLOCKS[name]) >= 40])
def test_the_row_that_is_off_its_clock_is_the_one_that_is_named(name: str, row: int) -> None:
    stamps = CLOCKS[name][:40].to_series(index=range(40))
    stamps.loc[row] += pd.Timedelta("73s")
    with pytest.raises(InputError, match=rf"df\.iloc\[{row}\] .* 1 row of 40 are"):
        predict_df(stamped(stamps))


def put(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(df: pd.DataFrame) -> pd.DataFrame:
        df[column] = df[column].astype(object)
        df.loc[row, column] = value
        return df

    return change


BAD_ROWS = {
    "no close": (lambda df: df.drop(columns="close"), "df: column 'close' is missing"),
    "no symbol": (lambda df: df.drop(columns="symbol"), "df: column 'symbol' is missing"),
    "no covariate": (lambda df: df.drop(columns="volume"), "df: column 'volume' is missing"),
    "column twice": (lambda df: df.assign(x=1)[[*df, "close"]], "column 'close' is there twice"),
    "no rows": (lambda df: df.iloc[:0], "df: it has no rows"),
    "an empty close": (put(95, "close", np.nan), r"df\.iloc\[95\] \(B\): close nan \(empty\)"),
    "text": (put(3, "close", "high"), r"df\.iloc\[3\] \(A\): close 'high' is no number"),
    "infinity": (put(95, "volume", np.inf), r"df\.iloc\[95\] \(B\): volume inf is no number"),
    "flags": (lambda df: df.assign(volume=True), "column 'volume' is true or false"),
    "an empty symbol": (put(4, "symbol", None), r"df\.iloc\[4\]: symbol is empty"),
    "a row twice": (
        lambda df: pd.concat([df, df.iloc[[7]]], ignore_index=True),
        r"df\.iloc\[167\] \(A\): timestamp 2024-03-01T07:00Z stands twice",
    ),
    "a row missing": (
        lambda df: df.drop(index=100),
        r"df\.iloc\[100\] \(B\): no row for 1 step of its clock between .*T09:00Z and .*T11:00Z",
    ),
    "a row off the clock": (
        put(99, "timestamp", pd.Timestamp("2024-03-01T09:07:11Z")),
        r"df\.iloc\[99\] \(B\): timestamp 2024-03-01T09:07Z is off the clock .* 1 row of 77",
    ),
    "two rows": (lambda df: df.iloc[:92], r"df\.iloc\[90\] \(B\): it has 2 rows, 3 are needed"),
    "no zone": (
        lambda df: df.assign(timestamp=df["timestamp"].dt.tz_localize(None)),
        r"df\.iloc\[0\] \(A\): timestamp 2024-03-01 00:00:00 has no zone; .*zone=America/New_York",
    ),
    "one without a zone": (
        lambda df: put(95, "timestamp", "2024-03-01 05:00")(df),
        r"df\.iloc\[95\] \(B\): timestamp '2024-03-01 05:00' has no zone and others have",
    ),
    "no time": (put(95, "timestamp", "soon"), r"df\.iloc\[95\] \(B\): timestamp 'soon' is no date"),
    "numbers for times": (lambda df: df.assign(timestamp=1.0), "timestamp 1.0 is no date"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_frame_is_refused_in_one_line_that_names_symbol_and_row(case: str) -> None:
    change, says = BAD_ROWS[case]
    with pytest.raises(InputError, match=says) as refused:
        predict_df(change(hourly()), covariates=["volume"])
    assert "\n" not in str(refused.value)


BAD_FUTURES = {
    "a step missing": (
        lambda future: future.drop(index=30),
        r"future_df: it has no row of B at 2024-03-04T11:00Z, its step 7",
    ),
    "a value missing": (put(30, "load", None), r"future_df\.iloc\[30\] \(B\): load nan \(empty\)"),
    "a symbol missing": (lambda future: future.iloc[:24], "future_df: it has no rows of B"),
    "a row twice": (
        lambda future: pd.concat([future, future.iloc[[30]]], ignore_index=True),
        r"future_df\.iloc\[48\] \(B\): timestamp .* stands twice",
    ),
    "the answer": (lambda future: future.assign(close=1.0), "'close' is what is to be forecast"),
    "no past": (lambda future: future.assign(wind=1.0), "df: column 'wind' is missing.*its past"),
    "nothing known": (lambda future: future[["symbol", "timestamp"]], "it has no column beside"),
    "named twice": (lambda future: future.assign(volume=1.0), "'volume' is named twice"),
}


@pytest.mark.parametrize("case", BAD_FUTURES)
def test_covariates_that_are_not_there_are_named(case: str) -> None:
    change, says = BAD_FUTURES[case]
    df = hourly()
    with pytest.raises(InputError, match=says):
        predict_df(df, future_df=change(ahead_of(df, 24)), covariates=["volume"])


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "level": ({"quantile_levels": [0.5, 0.995]}, r"quantile_levels: 0\.995 is outside .* 0\.99"),
    "level twice": ({"quantile_levels": [0.5, 0.5]}, "one is there twice"),
    "no levels": ({"quantile_levels": []}, "quantile_levels"),
    "steps": ({"prediction_length": 0}, "prediction_length: 0 is no whole number from 1 to"),
    "half a step": ({"prediction_length": 1.5}, r"prediction_length: 1\.5 is no whole number"),
    "true for steps": ({"prediction_length": True}, "prediction_length: True is no whole number"),
    "true for rows": ({"context_length": True}, "context_length: True is no whole number"),
    "context": ({"context_length": 513}, "context_length: 513 is no whole number from 3 to 512"),
    "words for levels": ({"quantile_levels": ["low"]}, "quantile_levels: .* are no numbers"),
    "zone": ({"zone": "EST"}, "zone: 'EST' is no zone"),
    "clock": ({"clock": "regualr"}, "clock: 'regualr' is none of .*did you mean regular"),
    "shape": ({"shape": "tall"}, "shape: 'tall' is none of long, wide"),
    "calendar": ({"calendar": "hours"}, "calendar: 'hours' is none of .*did you mean hour"),
    "model": ({"model": "nowhere"}, "model: nowhere is no folder"),
    "no exchange": (
        {"clock": "exchange"},
        r"\(A\): timestamp .* is off the clock of most rows, the exchange's hours",
    ),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_setting_is_named(case: str) -> None:
    options, says = BAD_SETTINGS[case]
    with pytest.raises(InputError, match=says):
        predict_df(hourly(), **options)


def test_passes_say_how_far_they_are_and_memory_that_runs_out_halves_them(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    from forecasting.chronos2.covariates import CovariateNetwork

    real = CovariateNetwork.forward
    sizes = []

    def scarce(self: CovariateNetwork, context: torch.Tensor, **options: Any) -> torch.Tensor:
        sizes.append(len(context))
        if len(context) > 8:
            raise RuntimeError("out of memory")
        return real(self, context, **options)

    df = hourly("ABCDE")
    whole = predict_df(df, covariates=["volume"], model=folder, prediction_length=3)
    monkeypatch.setattr(CovariateNetwork, "forward", scarce)
    told: list[tuple[int, int]] = []
    answer = predict_df(
        df,
        covariates=["volume"],
        model=folder,
        prediction_length=3,
        progress=lambda what, done, total: told.append((done, total)),
    )
    assert sizes == [10, 10, 10, 8, 2]
    assert told == [(4, 5), (5, 5)]
    np.testing.assert_allclose(answer["value"], whole["value"], rtol=1e-5)


def test_the_lines_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    guide = (ROOT / "docs" / "FORECASTS.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    make_bars(tmp_path / "data" / "bars")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.replace("amazon/chronos-2", str(folder)), names)
    assert len(names["quantiles"]) == 2 * 12
    assert len(names["beside"]) == 2 * 24 * len(LEVELS)
