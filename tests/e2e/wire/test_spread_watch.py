"""The watch of an account that sells spreads, over a practice server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from execution.decision.watch import WatchSettings
from execution.live.account_lock import JOURNAL_FILE
from execution.live.loop import StopSignal
from foundation.database import query_rows
from foundation.errors import InputError
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.sell import sell_spreads
from option_spreads.selling.rules import SpreadRules
from option_spreads.selling.settings import SellingSettings
from tests.e2e.practice import KEYS, Start, at_the_account
from tests.e2e.selling import HELD
from tests.support.messages import refused
from tests.support.spreads import UNDER
from trainingdata.bars import VOLUME, Bars


def falling(bars: Bars) -> Bars:
    """An underlying that loses 4 % at 11:30 New York."""
    values = bars.values.copy()
    after = bars.times > np.datetime64("2024-02-20T16:30", "ns")
    values[bars.symbols.index(UNDER), after, :VOLUME] *= 0.96
    return bars.__class__(bars.instruments, bars.times, values, bars.mask, bars.source)


@pytest.mark.parametrize(
    ("watch", "orders", "command"),
    [
        ("watch.drawdown=1", ["opening", "opening", "reduction", "reduction"], ()),
        ("watch.action=halt", ["opening", "reduction"], ("pause", "halted: watch since")),
        ("watch.action=flatten", ["opening", "reduction"], ("flatten", "bought back spread PUT")),
    ],
)
def test_watch_of_spreads_acts_beyond_its_limit(
    practice: Start,
    vix: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    watch: str,
    orders: list[str],
    command: tuple[str, ...],
) -> None:
    at_the_account(monkeypatch, tmp_path)
    words = (f"options.vix={vix}", f"options.symbols=[{UNDER}]", f"symbols=[{UNDER}]")
    here = practice(*words, bars=falling)
    here.advance("2024-02-20T15:30:00Z")
    AccountFiles(tmp_path / "data" / "autoscaling" / "paper", 20_000.0).initialise()

    def advance(stop: StopSignal, seconds: float) -> bool:
        here.advance()
        return bool(stop)

    monkeypatch.setattr(StopSignal, "wait", advance)
    rules = ("exit_minute=300", "entry_minutes=[60,240]", "max_vix=100")
    held = (f"{rule}=null" for rule in HELD)
    sell_spreads(
        [
            *(f"vix={vix}", f"root={UNDER}", f"underlying={UNDER}", "polls=5"),
            *(f"rules.{rule}" for rule in (*rules, *held)),
            *("watch.drawdown=0.001", watch, f"broker.url_override={here.url}"),
        ],
        KEYS,
    )
    journal = tmp_path / "data" / "live" / here.venue.record.account_id / JOURNAL_FILE
    sent = query_rows(journal, "SELECT role FROM intents WHERE state = 'filled' ORDER BY role")
    assert [role for (role,) in sent] == orders
    query = "SELECT verb, answer FROM commands WHERE by = 'watch' AND state = 'done'"
    found = query_rows(journal, query)
    assert len(found) == bool(command)
    assert all(part in " ".join(found[0]) for part in command)
    halts = query_rows(journal, "SELECT kind FROM halts")
    assert halts == ([("watch",)] if command else [])


@pytest.mark.parametrize("watch", [WatchSettings(action="reduce"), WatchSettings(margin=1.0)])
def test_watch_that_spreads_cannot_obey_is_refused(watch: WatchSettings) -> None:
    with refused(InputError, "watch", "action=halt or flatten"):
        SellingSettings(vix="x", rules=SpreadRules(exit_minute=350), watch=watch)
