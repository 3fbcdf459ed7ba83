"""An account's months beside the bands that its earlier trades give."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.errors import InputError
from option_spreads.simulation.account_check import account_months, check_content
from option_spreads.simulation.resampled_accounts import MonteCarloSettings
from option_spreads.simulation.trade_sample import Flow, read_flows
from tests.commands import run_command
from tests.option_spreads.sold import file_of
from trainingdata.sessions import sessions_between

NOW = np.datetime64("2025-06-01", "ns")
NONE = Fraction(0)


def terms(**more: Any) -> MonteCarloSettings:
    return MonteCarloSettings(**{"runs": 400, "seed": 1, "block": 1, **more})


def sessions(first: str, last: str) -> list[np.datetime64]:
    return list(sessions_between(np.datetime64(first), np.datetime64(last)))


def trade(day: np.datetime64, amount: float, *, size: int = 1) -> Flow:
    """A trade of a day that could lose 250 a contract and win as much."""
    noon = day + np.timedelta64(16, "h")
    return Flow(Fraction(str(amount)), size, Fraction(250), Fraction(250), noon, noon)


def deposit(day: str, amount: int) -> Flow:
    noon = np.datetime64(f"{day}T16:00")
    return Flow(Fraction(amount), 0, NONE, NONE, noon, noon)


def band_of(month: dict[str, Any]) -> tuple[float | None, ...]:
    return tuple(month[p] for p in ("p5", "p50", "p95"))


def of_luck(first: str, last: str, seed: int, a_day: int = 2) -> list[Flow]:
    rng = np.random.default_rng(seed)
    days = np.repeat(sessions(first, last), a_day)
    return [trade(day, 100.0 if rng.random() < 0.6 else -120.0) for day in days]


@pytest.mark.slow
def test_a_month_begins_with_the_account_as_it_was_and_is_computed_by_hand() -> None:
    """Two wins of 100 a contract on each session of January, 21: Kelly is 1, and a risk of 250.

    February begins with 20,000 + 42 x 100 + a deposit of 800 = 25,000. Half of it carries 50
    contracts: its first trade is 5,000 more, its second, at 30,000, carries 60. Its file ends on
    its first session, which has a trade and a half on average: two trades or one.
    """
    january = [trade(day, 100) for day in np.repeat(sessions("2024-01-01", "2024-01-31"), 2)]
    assert len(january) == 42
    account = [
        *january,
        deposit("2024-01-20", 800),
        trade(np.datetime64("2024-02-01"), 5_000, size=50),
    ]
    first, second = account_months(account, terms(MAX_CONTRACTS=1_000, trades_per_day=1.5))
    assert (first["p50"], first["trades_learned_from"], first["result"]) == (None, 0, 4_200)
    assert (second["balance_before"], second["trades_learned_from"], second["sessions"]) == (
        25_000,
        42,
        1,
    )
    assert band_of(second) is not None
    assert (band_of(second)[0], band_of(second)[2]) == (5_000, 5_000 + 6_000)
    assert (second["place"], second["share_of_runs_below"]) == ("within", 0.0)


def test_what_comes_later_changes_no_band() -> None:
    account = of_luck("2024-01-02", "2024-06-28", seed=0)
    usual = account_months(account, terms(block=5, runs=60))
    march = np.datetime64("2024-03-01")
    altered = [
        trade(flow.closed, 3 * float(flow.amount) + 1) if flow.closed >= march else flow
        for flow in account
        if flow.closed is not None
    ]
    found = account_months(altered, terms(block=5, runs=60))
    for before, after in zip(usual, found, strict=True):
        assert (band_of(before) == band_of(after)) == (before["month"] <= "2024-03")
        assert (before["result"] == after["result"]) == (before["month"] < "2024-03")


def test_a_month_that_is_not_like_those_before_lies_outside() -> None:
    account = [
        *of_luck("2024-01-02", "2024-05-31", seed=0),
        *(trade(day, -120) for day in sessions("2024-06-03", "2024-06-28")),
    ]
    june = account_months(account, terms(MAX_CONTRACTS=1))[-1]
    assert june["place"] == "below"
    assert june["words"].startswith("2024-06: -$2,280 by 19 trades, below the band of ")
    assert june["words"].endswith("that the 210 trades before it give")


def test_an_account_in_a_halt_is_not_expected_to_trade() -> None:
    account = [
        *of_luck("2024-01-02", "2024-02-29", seed=0),
        trade(np.datetime64("2024-02-29"), -11_000),
    ]
    account.append(trade(np.datetime64("2024-03-05"), -100))
    march = account_months(account, terms())[-1]
    assert band_of(march) == (0, 0, 0)
    assert march["place"] == "below"


def test_fees_are_taken_off_the_account_as_off_the_runs() -> None:
    account = [trade(day, 206, size=2) for day in sessions("2024-01-02", "2024-03-28")]
    month = account_months(account, terms(FEE_PER_CONTRACT=3.0, MAX_CONTRACTS=2))[-1]
    assert month["result"] == 20 * 2 * 100
    assert band_of(month) == (20 * 2 * 100,) * 3
    assert month["place"] == "within"


def test_a_month_without_a_trade_has_a_result_too() -> None:
    account = [*of_luck("2024-01-02", "2024-02-29", seed=0), trade(np.datetime64("2024-04-02"), 9)]
    march = account_months(account, terms())[2]
    assert (march["month"], march["trades"], march["result"], march["sessions"]) == (
        "2024-03",
        0,
        0,
        20,
    )
    assert march["p5"] is not None


def test_trades_and_deposits_are_read_with_their_days(tmp_path: Path) -> None:
    rows = [
        "2024-10-01 10:00,a,PUT,5700/5695,2.50,3,15:00,300,TP",
        "2024-10-31 10:00,b,PUT,,2.50,1,2024-11-01 09:40,-40,SL",
        "2024-10-02,d,DEPOSIT,,,,10:00,5000,",
        ",e,WITHDRAWAL,,,,,-100,",
    ]
    flows = read_flows(file_of(tmp_path, *rows), NOW)
    assert [str(flow.closed) for flow in flows] == [
        "2024-10-01",
        "2024-11-01",
        "2024-10-02",
        "None",
    ]
    assert [flow.size for flow in flows] == [3, 1, 0, 0]
    assert [str(at) for at in (flows[0].entered, flows[0].left)] == [
        "2024-10-01T14:00:00.000000000",
        "2024-10-01T19:00:00.000000000",
    ]
    assert (flows[0].result, flows[0].gain, flows[0].risk) == (100, 250, 250)
    with pytest.raises(InputError, match="check: a row of the file has neither"):
        account_months(flows, terms())


def test_a_verdict_says_how_likely_so_many_are() -> None:
    """By chance both of two months lie outside 0.15 x 0.15 times."""
    told = check_content([{"place": "below"}] * 2)
    assert told["p_so_many"] == pytest.approx(0.15**2)
    assert told["verdict"].startswith("2 of 2 months outside the band, as were 15% of the months")
    early = check_content([{"place": None}])
    assert early["verdict"].startswith("No month has 30 trades before it")
    assert early["p_so_many"] is None


@pytest.mark.slow
def test_the_command_checks_an_account_and_refuses_in_a_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path = tmp_path / "account.csv"
    rows = [
        f"{day} 10:00,t{k},PUT,5700/5695,2.50,1,15:00,{100 if rng.random() < 0.6 else -120},TP"
        for k, day in enumerate(sessions("2024-01-02", "2024-04-30"))
    ]
    file_of(path, *rows)
    command = ["-m", "option_spreads.monte_carlo", f"check={path}", "runs=300"]
    done = run_command([*command, "output=out"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "monte_carlo_check.json").read_text())
    assert [month["month"] for month in found["months"]] == [f"2024-0{k}" for k in range(1, 5)]
    assert found["judged"] == 2
    assert found["months"][3]["p5"] <= found["months"][3]["p50"] <= found["months"][3]["p95"]
    assert found["verdict"] in " ".join(done.stdout.split())
    assert "closed before its first day" in found["learned_from"]
    for wrong in ([f"trades={path}"], ["check=nothing.csv"], ["runs=1_000"]):
        words = [word for word in command if not wrong[0].startswith(word.partition("=")[0] + "=")]
        refused = run_command([*words, *wrong, "output=more"], cwd=tmp_path)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert not (tmp_path / "more").exists()
