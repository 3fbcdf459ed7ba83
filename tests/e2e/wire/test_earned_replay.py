"""What a forecast has earned goes from decision to decision through the journal of a live loop."""

# Private access: virtual accounts are taken from a month before, and a preview is its document.
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.decision.earned import EvidenceState
from execution.journal.evidence import EVIDENCE_TABLE, EvidenceRow, record_evidence
from execution.live.account_lock import JOURNAL_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.journal_sections import EvidenceSection
from execution.live.modes import show_preview
from execution.live.open_account import open_account
from execution.live.status import report_status
from execution.live.summary import summarize
from forecasting.evidence import place_bets
from foundation.clock import SYSTEM_TIME
from foundation.compose import compose_config
from foundation.redaction import NULL_REDACTOR
from marketsimulator.drift import DriftSettings, LiveSimulation, measure_drift
from marketsimulator.live_replay import run_replay
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import KEYS, SPAN, Live, Practice, Start, practising
from tests.support.replays import Killed, Reports, mortal, nothing

EARNED = (
    *("symbols=[SYA,SYB,SYC,SYXUSD,SYYUSD]", "forecaster._target_=tests.support.momentum.Momentum"),
    *("sizing.earned=true", "sizing.holding=plan"),
)
EDGE = "data.information_coefficient=0.4"
BEGIN, END = "2024-02-20T14:00Z", "2024-02-20T21:00Z"


def backtest_settings(*words: str) -> BacktestSettings:
    config = compose_config("backtest", [*SPAN, *EARNED, EDGE, *words])
    return BacktestSettings.from_config(config)


@pytest.fixture(scope="module")
def evidence() -> EvidenceState:
    """What the forecast has earned before the replays, in a month and in hours that pay more."""
    settings = backtest_settings("start=2024-01-25", "end=2024-02-20T13:00Z")
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    found = trader._judge(market, trader._build_beliefs(market))[1]
    bets = found.bets
    for _ in range(300):
        bets = place_bets(bets, 0.01, 0.25)
    return replace(found, bets=bets)


def expected_run(evidence: EvidenceState) -> Run:
    settings = backtest_settings(f"start={BEGIN}", f"end={END}")
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    trader = trader.with_evidence_state(evidence.to_json()).with_beliefs(market)
    return simulate_trading(settings, market, "alone", trader)


class Replay:
    """A practice server, and a live account whose journal has what was earned before."""

    def __init__(self, practice: Start, folder: Path, evidence: EvidenceState) -> None:
        self.here: Practice = practice(
            *EARNED, EDGE, "increments=original", f"start={BEGIN}", f"end={END}"
        )
        self.folder = folder
        self.parts = Live.at(self.here, *EARNED, folder=str(folder / "live"))
        name = self.here.venue.record.account_id
        with open_account(name, folder / "live", NULL_REDACTOR, SYSTEM_TIME) as account:
            account.build_decision_journal(TRADE_JOB)
            record_evidence(account.database, TRADE_JOB, evidence)
        self.journal = folder / "live" / name / JOURNAL_FILE

    def run(self) -> None:
        parts = self.parts
        run_replay(
            *(parts.settings, KEYS, parts.feed, parts.trader, self.folder / "out"),
            overwrite=False,
            reporter=Reports(nothing),
        )

    def evidence(self) -> list[EvidenceRow]:
        return EVIDENCE_TABLE.read_rows(self.journal, "ORDER BY at")


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, evidence: EvidenceState
) -> Iterator[tuple[Replay, int]]:
    """A replay that nothing disturbed, and the number of its events."""
    with practising() as start:
        replay = Replay(start, tmp_path_factory.mktemp("whole"), evidence)
        with mortal(10**9) as events:
            replay.run()
        yield replay, len(events)


@pytest.fixture
def replay(whole: tuple[Replay, int]) -> Replay:
    return whole[0]


def test_earned_replay_matches_the_backtest(replay: Replay, evidence: EvidenceState) -> None:
    expected = expected_run(evidence)
    assert replay.here.venue.broker.fills == expected.fills
    assert len(expected.fills) > 10
    assert replay.here.venue.broker.equity_row().equity == pytest.approx(
        expected.equity_rows[-1].equity, abs=0.005
    )
    earned = expected.decision_frame().dropna(subset="plan_earned").groupby("at")["plan_earned"]
    rows = {row.at: row.earned for row in replay.evidence()[1:]}
    assert rows == {at.to_datetime64(): share for at, share in earned.first().items()}
    assert all(0.0 < share < 1.0 for share in rows.values())
    decisions = pd.read_parquet(replay.folder / "out" / "decisions.parquet")
    pd.testing.assert_frame_equal(
        decisions.dropna(subset="plan_earned")[["at", "symbol", "plan_earned", "target"]],
        expected.decision_frame().dropna(subset="plan_earned")[
            ["at", "symbol", "plan_earned", "target"]
        ],
        check_exact=True,
    )


@pytest.mark.first_example
@pytest.mark.parametrize("share", [0.55, 0.2])
def test_killed_replay_resumes_with_the_same_evidence(
    practice: Start,
    tmp_path: Path,
    evidence: EvidenceState,
    whole: tuple[Replay, int],
    share: float,
) -> None:
    undisturbed, events = whole
    killed = Replay(practice, tmp_path, evidence)
    with mortal(round(share * events)), pytest.raises(Killed):
        killed.run()
    before = killed.evidence()
    assert before == undisturbed.evidence()[: len(before)]
    killed.run()
    assert killed.evidence() == undisturbed.evidence()
    assert killed.here.venue.broker.fills == undisturbed.here.venue.broker.fills


def test_status_states_what_the_forecast_has_earned(replay: Replay) -> None:
    status = report_status(replay.journal, np.datetime64(END.removesuffix("Z"), "ns"))
    assert status.json_document is not None
    sentence = status.json_document["forecast"]
    assert re.fullmatch(
        r"Since 2024-02-20 this forecast has earned 0\.\d\d of full Kelly \(e-value [\d.e+]+; 40"
        r" were needed\)\. It assumes .*; 0 decisions lost more\.",
        sentence,
    )
    assert sentence in status.closing_lines
    name = replay.journal.parent.name
    with open_account(name, replay.folder / "live", NULL_REDACTOR, SYSTEM_TIME) as account:
        assert EvidenceSection(account.database).body() == f"<p>{sentence}</p>"
        last = account.marks.last_mark()
        assert last is not None
        begun = last.at - np.timedelta64(3, "h")
        assert sentence in list(summarize(account, begun, np.datetime64("2024-02-20")))


def test_drift_uses_the_evidence_of_the_journal(replay: Replay) -> None:
    words = [*SPAN, "trials=null", *EARNED, EDGE, f"journal={replay.journal}"]
    settings = DriftSettings.from_config(compose_config("drift", words))
    drift = measure_drift(LiveSimulation.from_settings(settings))
    assert drift.decision_comparison.differences == ()
    assert drift.decision_comparison.compared_instant_count >= 7
    assert drift.is_equal


def test_preview_shows_what_the_live_account_has_earned(
    practice: Start, tmp_path: Path, evidence: EvidenceState, replay: Replay
) -> None:
    parts = Replay(practice, tmp_path, evidence).parts
    result = show_preview(parts.settings, KEYS, parts.feed, parts.trader)
    shares = {row["rationale"]["earned"] for row in result.json_document["decisions"]}
    assert shares == {replay.evidence()[1].earned}
