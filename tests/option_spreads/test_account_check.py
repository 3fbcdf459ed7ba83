"""An account's months beside the bands that its earlier trades give."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.errors import InputError
from option_spreads.simulation.account_check import (
    Month,
    account_months,
    check_content,
    learned_text,
    trades_in_both,
)
from option_spreads.simulation.resampled_accounts import MonteCarloSettings
from option_spreads.simulation.trade_sample import Flow, read_flows, trades_per_session
from tests.commands import run_command
from tests.option_spreads.sold import file_of
from trainingdata.sessions import sessions_between

NOW = np.datetime64("2025-06-01", "ns")
NONE = Fraction(0)


def terms(**more: Any) -> MonteCarloSettings:
    return MonteCarloSettings(**{"runs": 400, "seed": 1, "block": 1, **more})


def sessions(first: str, last: str) -> list[np.datetime64]:
    return list(sessions_between(np.datetime64(first), np.datetime64(last)))


def trade(day: np.datetime64, amount: float, *, size: int = 1, name: str = "") -> Flow:
    """A trade of a day that could lose 250 a contract and win as much."""
    return Flow(name, Fraction(str(amount)), size, Fraction(250), Fraction(250), day, day)


def deposit(day: str, amount: int) -> Flow:
    date = np.datetime64(day)
    return Flow("", Fraction(amount), 0, NONE, NONE, date, date)


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
    first, second = account_months(account, [], terms(MAX_CONTRACTS=1_000, trades_per_day=1.5))
    assert (first.band, first.learned, first.result) == (None, 0, 4_200)
    assert (second.balance, second.learned, second.sessions) == (25_000, 42, 1)
    assert second.band is not None
    assert (second.band[0], second.band[2]) == (5_000, 5_000 + 6_000)
    assert (second.place, second.share_below) == ("within", 0.0)


def test_what_comes_later_changes_no_band() -> None:
    account = of_luck("2024-01-02", "2024-06-28", seed=0)
    usual = account_months(account, [], terms(block=5, runs=60))
    march = np.datetime64("2024-03-01")
    altered = [
        trade(flow.closed, 3 * float(flow.amount) + 1) if flow.closed >= march else flow
        for flow in account
        if flow.closed is not None
    ]
    found = account_months(altered, [], terms(block=5, runs=60))
    for before, after in zip(usual, found, strict=True):
        assert (before.band == after.band) == (before.month <= "2024-03")
        assert (before.result == after.result) == (before.month < "2024-03")


@pytest.mark.slow
def test_in_an_account_of_the_same_luck_one_month_in_ten_lies_outside() -> None:
    account = of_luck("2021-01-04", "2024-12-31", seed=3)
    months = account_months(account, [], terms(MAX_CONTRACTS=1, STARTING_CAPITAL=1_000_000.0))
    content = check_content(months)
    assert (len(months), content["judged"]) == (48, 47)
    assert 1 <= content["outside"] <= 10
    assert content["p_so_many"] > 0.05
    lucky = [month for month in months if month.place == "above"]
    assert all((month.share_below or 0) >= 0.95 for month in lucky)


def test_a_month_that_is_not_like_those_before_lies_outside() -> None:
    account = [
        *of_luck("2024-01-02", "2024-05-31", seed=0),
        *(trade(day, -120) for day in sessions("2024-06-03", "2024-06-28")),
    ]
    june = account_months(account, [], terms(MAX_CONTRACTS=1))[-1]
    assert june.place == "below"
    assert june.words.startswith("2024-06: -$2,280 by 19 trades, below the band of ")
    assert june.words.endswith("that the 210 trades before it give")


@pytest.mark.parametrize(
    ("rules", "loss"), [({}, -11_000), ({"DRAWDOWN_HALT_PCT": 0.2, "SAFETY_HALT_PCT": 0.0}, -9_000)]
)
def test_an_account_in_a_halt_is_not_expected_to_trade(rules: dict[str, float], loss: int) -> None:
    account = [
        *of_luck("2024-01-02", "2024-02-29", seed=0),
        trade(np.datetime64("2024-02-29"), loss),
    ]
    account.append(trade(np.datetime64("2024-03-05"), -100))
    march = account_months(account, [], terms(**rules))[-1]
    assert march.band == (0, 0, 0)
    assert march.place == "below"


def test_a_drawdown_halt_that_a_deposit_has_healed_in_part_is_still_in_force() -> None:
    """24,200 at the peak, 18,000 after the loss, 20,400 with the deposit: 16 % below the peak."""
    february = np.datetime64("2024-02-20")
    account = [trade(day, 200) for day in sessions("2024-01-02", "2024-01-30")]
    account += [trade(february, 10) for _ in range(20)]
    assert sum(flow.amount for flow in account) == 4_200
    account += [trade(february, -200), trade(february, -6_000), deposit("2024-02-21", 2_400)]
    account.append(trade(np.datetime64("2024-03-05"), -100))
    bands = [
        account_months(account, [], terms(DRAWDOWN_HALT_PCT=0.2, DRAWDOWN_RESUME_PCT=resume))[
            -1
        ].band
        for resume in (0.1, 0.18)
    ]
    assert bands[0] == (0, 0, 0)
    assert bands[1] != (0, 0, 0)


def test_fees_are_taken_off_the_account_as_off_the_runs() -> None:
    account = [trade(day, 206, size=2) for day in sessions("2024-01-02", "2024-03-28")]
    month = account_months(account, [], terms(FEE_PER_CONTRACT=3.0, MAX_CONTRACTS=2))[-1]
    assert month.result == 20 * 2 * 100
    assert month.band == (20 * 2 * 100,) * 3
    assert month.place == "within"


def test_a_file_of_earlier_trades_is_learned_from_and_its_own_months_are_not_judged() -> None:
    known = [
        trade(day, 50, name=f"t{k}") for k, day in enumerate(sessions("2024-01-02", "2024-03-28"))
    ]
    account = [*known[-10:], *(trade(day, 50) for day in sessions("2024-04-01", "2024-05-31"))]
    months = account_months(account, known, terms())
    undated = replace(deposit("2024-05-20", 100), entered=None, closed=None)
    paid = [*known, deposit("2024-05-20", 5_000), undated]
    assert account_months(account, paid, terms()) == months, "what was paid in does not matter"
    assert [month.month for month in months] == ["2024-04", "2024-05"]
    assert [month.learned for month in months] == [61, 61 + 22], "ten of them once"
    assert months[0].balance == 20_500
    with pytest.raises(InputError, match="no trade of it closed after 2024-03"):
        account_months(known, known, terms())


@pytest.mark.parametrize(
    ("spans", "trades", "rate"),
    [
        ([("2024-01-02", "2024-01-12"), ("2024-03-04", "2024-03-15")], 38, 38 / 19),
        ([("2024-01-02", "2024-01-12"), ("2024-01-08", "2024-01-19")], 26, 26 / 13),
        ([("2024-01-06", "2024-01-06")], 1, 1.0),
    ],
    ids=["apart", "at once", "a Saturday"],
)
def test_a_session_that_two_files_span_counts_once(
    spans: list[tuple[str, str]], trades: int, rate: float
) -> None:
    files = [[trade(np.datetime64(day), 1) for day in span] for span in spans]
    assert trades_per_session([files[0][0]] * trades, files) == rate


def test_the_first_month_begins_with_the_account() -> None:
    """Of January 2025 three sessions are left from the 29th on."""
    known = [trade(day, 50) for day in sessions("2024-01-02", "2024-06-28")]
    account = [trade(day, 50) for day in sessions("2025-01-29", "2025-02-14")]
    first, last = account_months(account, known, terms(MAX_CONTRACTS=1))
    assert (first.sessions, first.result, first.place) == (3, 150, "within")
    assert first.band == (150, 150, 150)
    assert last.sessions == 10


def test_trades_are_the_same_by_id_times_and_result() -> None:
    """The first of a run is PUT-0, whatever the run."""
    days = sessions("2024-01-02", "2024-03-28")
    known = [trade(day, 50, name=f"PUT-{k}") for k, day in enumerate(days)]
    another = [replace(flow, amount=Fraction(60)) for flow in known[-5:]]
    later = [
        trade(day, 50, name=f"PUT-{k}")
        for k, day in enumerate(sessions("2024-04-01", "2024-04-30"))
    ]
    account = [*known[-10:-5], *another, *later]
    assert trades_in_both(account, known) == 5
    (april,) = account_months(account, known, terms())
    assert april.learned == 61 + 5
    assert "Learned from once: 5 trades that" in learned_text(5)
    assert "once" not in learned_text(0)
    morning, noon = (np.datetime64(f"2024-01-02T{hour}:00") for hour in (15, 17))
    twice = [replace(known[0], times=(morning, at)) for at in (morning, noon)]
    assert trades_in_both(twice[:1], twice) == 1, "left at another time, another trade"
    unnamed = [replace(flow, name="") for flow in known]
    assert trades_in_both(unnamed, unnamed) == 0


def test_a_month_without_a_trade_has_a_result_too() -> None:
    account = [*of_luck("2024-01-02", "2024-02-29", seed=0), trade(np.datetime64("2024-04-02"), 9)]
    march = account_months(account, [], terms())[2]
    assert (march.month, march.trades, march.result, march.sessions) == ("2024-03", 0, 0, 20)
    assert march.band is not None


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
    assert [str(at) for at in flows[0].times] == [
        "2024-10-01T14:00:00.000000000",
        "2024-10-01T19:00:00.000000000",
    ]
    assert (flows[0].result, flows[0].gain, flows[0].risk) == (100, 250, 250)
    with pytest.raises(InputError, match=r"check: result 4 of the file \(e\) is a deposit or with"):
        account_months(flows, [], terms())


def test_a_verdict_says_how_likely_so_many_are() -> None:
    """By chance both of two months lie outside 0.15 x 0.15 times."""
    month = Month("2024-01", 21, 40, -500.0, 20_000.0, 60, (-100.0, 0.0, 100.0), 0.0)
    told = check_content([month, month])
    assert told["p_so_many"] == pytest.approx(0.15**2)
    assert told["verdict"].startswith("2 of 2 months outside the band, as were 15% of the months")
    early = Month("2024-01", 21, 40, -500.0, 20_000.0, 12)
    assert check_content([early])["verdict"].startswith("No month has 30 trades before it")
    assert check_content([early])["p_so_many"] is None


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
    early = file_of(tmp_path / "early.csv", *rows[:40])
    again = run_command([*command, f"trades={early}", "output=out"], cwd=tmp_path)
    assert again.returncode == 0, "written again"
    found = json.loads((tmp_path / "out" / "monte_carlo_check.json").read_text())
    assert found["trades_in_both"] == 40
    assert [month["trades_learned_from"] for month in found["months"]] == [41, 61]
    assert "Learned from once: 40 trades" in " ".join(again.stdout.split())
    for wrong in ([f"trades={path}"], ["check=nothing.csv"], ["runs=1_000"]):
        words = [word for word in command if not wrong[0].startswith(word.partition("=")[0] + "=")]
        refused = run_command([*words, *wrong, "output=more"], cwd=tmp_path)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert not (tmp_path / "more").exists()
