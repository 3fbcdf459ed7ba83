"""The watch of a desk, on its account or on readings that a test makes up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from execution.journal.marks import EquityMark
from execution.live.watch import AccountWatch, LiveAccountReader, SnapshotObserver, WatchedAccount
from tests.e2e.practice import live_settings
from tests.support.desks import Desk
from tests.support.given_commands import command_desk

MINUTE = np.timedelta64(1, "m")


def watch_of(desk: Desk, *words: str, observer: SnapshotObserver | None = None) -> AccountWatch:
    settings = live_settings(desk.here, *words)
    return AccountWatch(
        settings.watch,
        LiveAccountReader(desk.live, settings),
        desk.live.account,
        command_desk(desk),
        [observer or desk.job],
    )


@dataclass
class Told100:
    """Readings that a test makes up, a minute apart."""

    desk: Desk
    equities: list[float]

    def read_watched_account(self) -> WatchedAccount:
        equity = self.equities.pop(0)
        last = self.desk.live.account.marks.last_mark()
        assert last is not None
        at = last.at + MINUTE
        mark = EquityMark(at, equity, equity, 0.0, 0.0, 4.0, 0.0, {})
        point = self.desk.live.account.marks.index_point_before(at)
        assert point is not None
        mark = mark.with_index_point(point.next_point(at, equity, 0.0))
        self.desk.live.account.marks.record_mark(mark, mark.index_point)
        return WatchedAccount(mark)


def made_up(desk: Desk, *shares: float, action: str = "flatten") -> AccountWatch:
    """A watch of made-up readings, shares of the equity at its begin."""
    settings = live_settings(desk.here, "watch.drawdown=0.05", f"watch.action={action}").watch
    mark = desk.live.account.marks.last_mark()
    assert mark is not None
    reader = Told100(desk, [share * mark.equity for share in shares])
    return AccountWatch(settings, reader, desk.live.account, command_desk(desk))
