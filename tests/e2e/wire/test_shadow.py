"""The shadow account: the live decisions, filled by the simulator, and the difference by cause."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.live.account_lock import JOURNAL_FILE
from execution.live.shadow_record import ShadowDay, append_shadow_total, read_shadow_days
from foundation.errors import InputError
from marketsimulator.shadow import ShadowJob, next_measurement, open_shadow_job
from tests.e2e.practice import KEYS, OPENING, Live, Start
from tests.support.desks import Desk
from tests.support.messages import refused

# Long and short, by the mean of what was.
WORDS = ("symbols=[SYA,SYB]", "forecaster=historical", "sizing.strategy=kelly_100")
MORE = ("prior.stock_sharpe=0", "shadow=true")


def shadow_of(desk: Desk) -> ShadowJob:
    settings = Live.at(desk.here, *desk.words).settings
    with open_shadow_job(settings, KEYS, desk.live) as job:
        job.step()
        job.join()
    return job


def test_shadow_of_an_undisturbed_account_is_the_account(practice: Start, tmp_path: Path) -> None:
    here = practice(WORDS[0])
    here.advance(OPENING)
    desk = Desk.at(here, tmp_path, *WORDS, *MORE)
    for number in range(7):
        if number:
            here.advance()
        desk.job.run_cycle()
    job = shadow_of(desk)
    assert job.problem == ""
    (day,) = read_shadow_days(tmp_path)
    assert day.live_profit == day.shadow_profit != 0
    assert day.terms == {}
    assert (tmp_path / "shadow.json").stat().st_mode & 0o777 == 0o600
    assert "Shadow account" in job.section.html()
    assert len(desk.live.book.select_intents("1", ())) > 3


def test_denied_orders_are_a_term_of_the_shadow(practice: Start, tmp_path: Path) -> None:
    """The guards deny every opening order: the live account stays in cash, and orders again at each
    decision; the shadow account reaches the targets once.
    """
    here = practice(WORDS[0])
    here.advance(OPENING)
    desk = Desk.at(here, tmp_path, *WORDS, *MORE, "guards.max_order=1")
    for number in range(6):
        if number:
            here.advance()
        desk.job.run_cycle()
    job = shadow_of(desk)
    assert job.problem == ""
    (day,) = read_shadow_days(tmp_path)
    assert (day.live_profit, day.shadow_profit != 0) == (0, True)
    assert sum(day.terms.values()) == day.difference == -day.shadow_profit
    assert abs(day.shadow_profit) < 5_000, "targets are reached once, not added up"
    assert "orders denied or not received" in day.terms


def test_shadow_without_a_decision_reports_why(practice: Start, tmp_path: Path) -> None:
    here = practice(WORDS[0])
    here.advance(OPENING)
    job = shadow_of(Desk.at(here, tmp_path, *WORDS, *MORE))
    assert "no decision" in job.problem
    assert "not measured" in job.section.html()
    assert read_shadow_days(tmp_path) == []


def test_shadow_days_add_up_to_the_measurement(tmp_path: Path) -> None:
    fees = {"fees": Decimal("0.10")}
    first = ShadowDay("2024-02-20 21:00", Decimal("10.10"), Decimal("10.00"), fees)
    second = ShadowDay(
        "2024-02-21 21:00",
        Decimal("9.00"),
        Decimal("9.50"),
        {**fees, "fill prices": Decimal("-0.60")},
    )
    for total in (first, second, second):
        append_shadow_total(tmp_path, total)
    one, two = read_shadow_days(tmp_path)
    assert one == first
    assert two.terms == {"fill prices": Decimal("-0.60")}
    assert two.difference == sum(two.terms.values())
    assert (tmp_path / JOURNAL_FILE).exists() is False


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2024-02-20T15:00", "2024-02-20T21:30"),
        ("2024-02-20T21:30", "2024-02-21T21:30"),
        ("2024-07-02T20:29", "2024-07-02T20:30"),
    ],
)
def test_shadow_is_measured_after_each_close(now: str, due: str) -> None:
    assert next_measurement(np.datetime64(now, "ns")) == np.datetime64(due)


def test_shadow_without_trading_is_refused(practice: Start, tmp_path: Path) -> None:
    here = practice(WORDS[0])
    with refused(InputError, "shadow", "jobs"):
        Desk.at(here, tmp_path, *WORDS, "shadow=true", "jobs=[spreads]")
