"""Every order can be asked why it exists, from the files of its run."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from execution.decision.choice import MIN_WEIGHT_SHOWN
from foundation.compose import compose_config
from foundation.errors import InputError
from foundation.files import write_files_atomically
from marketsimulator.backtest import run_backtest
from marketsimulator.explain import explain
from marketsimulator.results.order_reasons import MAX_REASON_WORDS, short_reason
from marketsimulator.results.report import result_file_writers
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused

WEIGHTS = ("plan_premium_weight", "plan_forecast_weight")
LIMITS = ["symbol_cap", "long_only", "stock_gross", "crypto_gross", "unborrowed_cash", "joint"]
SPAN = [
    *(
        "start=2024-02-26",
        "end=2024-03-01",
        "data.start=2024-01-02",
        "data.end=2024-03-08",
        "symbols=[SYA,SYB,SYXUSD]",
    ),
    *("forecaster=oracle", "forecaster.calibrated=false", "trials=null"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week of an oracle, which trades a lot."""
    folder = tmp_path_factory.mktemp("run")
    results = run_backtest(BacktestSettings.from_config(compose_config("backtest", SPAN)))
    write_files_atomically(result_file_writers(results, results.summary()), folder)
    return folder


def frames(run: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    decisions, orders, fills = (
        pd.read_parquet(run / f"{name}.parquet") for name in ("decisions", "orders", "fills")
    )
    return decisions, orders, fills


def test_only_binding_limits_have_shadow_prices(run: Path) -> None:
    decisions, orders, _ = frames(run)
    for limit in LIMITS:
        binds = decisions["binding"].str.split("+").apply(lambda names, limit=limit: limit in names)
        assert (decisions.loc[~binds, f"shadow_{limit}"] == 0).all()
        assert (decisions.loc[binds, f"shadow_{limit}"] >= -1e-12).all()
    capped = decisions[(decisions["binding"] == "symbol_cap") & (decisions["qty"] != 0)]
    assert len(capped) > 10
    assert (capped["shadow_symbol_cap"] > 0).mean() > 0.9
    both = capped.merge(orders, on=["at", "symbol"], suffixes=("", "_order"))
    for row in both.itertuples():
        shown = f"unconstrained {row.kelly:+.3f}{rests_on(row)}, weight {row.held:+.3f}"
        assert shown in str(row.reason)


def rests_on(row: Any) -> str:
    """What the weight of a row of decisions rests on, as reasons and stories say it."""
    parts = row.plan_premium_weight, row.plan_forecast_weight
    if min(map(abs, parts)) < MIN_WEIGHT_SHOWN:
        return ""
    return f" (premium {parts[0]:+.3f}, forecast {parts[1]:+.3f})"


def test_explanation_of_an_order_contains_its_figures(run: Path) -> None:
    decisions, orders, fills = frames(run)
    order = orders.iloc[10]
    story = explain(run, order=order["client_order_id"], full=True)
    choice = decisions[
        (decisions["symbol"] == order["symbol"]) & (decisions["at"] == order["at"])
    ].iloc[0]
    fill = fills[fills["client_order_id"] == order["client_order_id"]].iloc[0]
    for word in (
        order["client_order_id"],
        order["reason"],
        f"forecast {choice['mu'] * 1e4:+.1f} bp",
        f" to {choice['target']:+.3f}",
        f"quantity {choice['qty']:+g} at {choice['price']:,.4f} USD",
        f"expected cost {choice['cost']:,.2f} USD",
        f"filled {fill['qty']:+g} at {fill['price']:,.4f} USD",
    ):
        assert word in story
    at = f"{order['at']:%Y-%m-%dT%H:%MZ}"
    assert explain(run, symbol=order["symbol"], at=at, full=True) == story
    last = orders[orders["symbol"] == "SYXUSD"].iloc[-1]
    assert last["client_order_id"] in explain(run, symbol="SYX/USD")


def test_decision_without_an_order_names_its_binding_limit(run: Path) -> None:
    decisions, _, _ = frames(run)
    still = decisions[(decisions["qty"] == 0) & (decisions["binding"] == "cost")].iloc[0]
    story = explain(run, symbol=still["symbol"], at=f"{still['at']:%Y-%m-%dT%H:%MZ}")
    assert "; bound by cost\n" in story
    assert story.endswith("no order")


def test_explain_reads_decisions_without_newer_columns(run: Path, tmp_path: Path) -> None:
    older = shutil.copytree(run, tmp_path / "older") / "decisions.parquet"
    pd.read_parquet(older).drop(columns=["plan_stop_price", "strategy_reason"]).to_parquet(older)
    (older.parent / "summary.json").write_text("{}")  # no digests, so that files may differ
    assert explain(older.parent, symbol="SYA") == explain(run, symbol="SYA")


def test_default_order_reason_is_limited_to_few_words(run: Path) -> None:
    decisions, orders, _ = frames(run)
    pairs = decisions.merge(orders[["symbol", "at", "reason"]], on=["symbol", "at"])
    assert max(len(str(reason).split()) for reason in pairs["reason"]) > MAX_REASON_WORDS
    for decision in pairs.to_dict("records"):
        text = short_reason(decision["reason"], decision)
        assert len(text.split()) <= MAX_REASON_WORDS
        assert f" to {decision['target']:+.3f}" in text.replace(" to 0.000", " to +0.000")
    order = orders.iloc[10]
    assert order["reason"] not in explain(run, order=order["client_order_id"])


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--order", "nobody"], ("nobody",)),
        (["--symbol", "SYA", "--at", "2024-02-26T03:00Z"], ("2024-02-26T03:00Z",)),
        (["--symbol", "SYA", "--at", "2030-01-01"], ("2030-01-01",)),
        (["--symbol", "SYA", "--at", "noon"], ("--at", "'noon'")),
        (["--symbol", "ZZZ"], ("ZZZ",)),
        (["--symbol", "SYAA"], ("SYA", "SYB", "SYXUSD")),
        (["--symbol", "ZZZ", "--at", "2024-02-26T15:30Z"], ("ZZZ",)),
        (["--symbol", "not a symbol"], ("'not a symbol'",)),
        (["--order", "nobody", "--at", "2024-02-26T15:30Z"], ("--at",)),
        ([], ("--order", "--symbol")),
    ],
)
def test_explain_query_without_answer_gives_one_line_error(
    run: Path, words: list[str], facts: tuple[str, ...]
) -> None:
    check_message(refusal_of("marketsimulator.explain", str(run), *words), *facts)


def test_explain_by_date_shows_every_decision_that_day(run: Path) -> None:
    decisions, _, _ = frames(run)
    that_day = decisions["at"].dt.tz_convert("America/New_York").dt.date == date(2024, 2, 27)
    mine = decisions[that_day & (decisions["symbol"] == "SYA")]
    story = explain(run, symbol="SYA", at="2024-02-27")
    assert len(mine) > 3
    assert story.count("SYA, decided ") == len(mine)
    for at in mine["at"]:
        assert f"SYA, decided at {at:%Y-%m-%dT%H:%MZ} for" in story


def test_folder_without_a_run_is_refused(run: Path, tmp_path: Path) -> None:
    _, orders, _ = frames(run)
    other = tmp_path / "other"
    other.mkdir()
    (other / "decisions.parquet").symlink_to(run / "decisions.parquet")
    orders.drop(columns="reason").to_parquet(other / "orders.parquet")
    (other / "summary.json").write_text("{}")
    for path in (tmp_path, tmp_path / "nothing", run / "orders.parquet", other):
        with refused(InputError, "RUN", path):
            explain(path, symbol="SYA")


def test_explanation_of_overnight_cut_prints_no_nan(run: Path) -> None:
    decisions, orders, _ = frames(run)
    cut = decisions[decisions["kelly"].isna()]
    assert not cut.empty
    for row in cut.itertuples():
        story = explain(run, symbol=row.symbol, at=f"{row.at:%Y-%m-%dT%H:%MZ}")
        assert "+nan" not in story
    assert not orders["reason"].str.contains("+nan", regex=False).any()


def test_explain_json_output_is_one_document(run: Path) -> None:
    _, orders, fills = frames(run)
    order = orders[~orders.duplicated(["symbol", "at"], keep=False)].iloc[10]
    words = (str(run), "--order", order["client_order_id"], "--json")
    code, printed, said = answer_of("marketsimulator.explain", *words)
    assert (code, said) == (0, "")
    [decision] = json.loads(printed)["decisions"]
    [shown] = decision["orders"]
    assert shown["reason"] == order["reason"]
    own = fills[fills["client_order_id"] == order["client_order_id"]]
    assert [fill["qty"] for fill in shown["fills"]] == own["qty"].tolist()
    assert decision["at"] == shown["at"] == f"{order['at']:%Y-%m-%dT%H:%MZ}"


def test_missing_figure_is_null_in_json(run: Path) -> None:
    decisions, _, _ = frames(run)
    row = decisions[decisions["kelly"].isna()].iloc[0]
    at = f"{row['at']:%Y-%m-%dT%H:%MZ}"
    words = (str(run), "--symbol", row["symbol"], "--at", at, "--json")
    [decision] = json.loads(answer_of("marketsimulator.explain", *words)[1])["decisions"]
    assert decision["kelly"] is None
