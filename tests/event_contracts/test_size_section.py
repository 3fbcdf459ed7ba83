"""The section of sizes shows what was sent, on the page of a comparison and on an account's."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.live.settings import KalshiGuardSettings
from event_contracts.live.trading import sizes_section
from event_contracts.trading.orders import Fill, LimitOrder, Outcome, Verb
from event_contracts.trading.position_sizes import Episode, SentOrder, size_view
from execution.account_lock import JOURNAL, PAGE
from execution.journal.intents import Intent, IntentBook, Progress, State
from execution.live.open_account import OpenAccount
from execution.live.page import Bounds, StatusPage
from foundation.database import Database
from foundation.notices import Notices

D = Decimal
NOW = np.datetime64("2026-11-22T15:00", "ns")
MINUTE = np.timedelta64(1, "m")
SIZES = (5, 10, 20, 50, 100)


def bought(sizes: list[int], prices: list[int], outcome: Outcome | None = "YES") -> Episode:
    """One purchase of YES after another, each filled."""
    orders = tuple(SentOrder(f"{k}", size, 3.0 * k) for k, size in enumerate(sizes))
    fills = []
    for k, (size, price) in enumerate(zip(sizes, prices, strict=True)):
        fill = Fill(f"{k}", "RAIN", "BUY", "YES", D(price) / 100, D(size), maker=False)
        fills.append((fill, D("0.01")))
    return Episode(orders, tuple(fills), outcome)


episodes = st.lists(
    st.tuples(st.sampled_from(SIZES), st.integers(1, 99)), min_size=1, max_size=60
).flatmap(
    lambda pairs: st.sampled_from(["YES", "NO", None]).map(
        lambda outcome: bought([s for s, _ in pairs], [p for _, p in pairs], outcome)
    )
)


@given(st.lists(episodes, min_size=1, max_size=3), st.sampled_from(["steps", "seconds"]))
def test_every_point_lies_in_its_plot_and_bars_hold_every_order(
    played: list[Episode], clock: str
) -> None:
    view = size_view(played, clock)  # type: ignore[arg-type]
    assert view is not None
    sent = sum(len(episode.orders) for episode in played)
    assert sum(int(bar.orders) for bar in view.bars) == sent
    assert max(float(bar.width) for bar in view.bars) == 100
    settled = any(episode.outcome for episode in played)
    assert [heading for heading, _ in view.plots] == (
        ["Size against profit", "Sizing over time"] if settled else ["Sizing over time"]
    )
    sizes = sorted(order.size for episode in played for order in episode.orders)
    over = view.plots[-1][1]
    assert sorted(over.series[0].values.tolist()) == sizes
    assert over.zone == ("UTC" if clock == "seconds" else "")
    for _, chart in view.plots:
        dots, means = chart.series
        assert dots.values.min() <= means.values.min() <= means.values.max() <= dots.values.max()
        assert dots.x.min() <= means.x.max()
        assert (np.diff(means.x) > 0).all()


def test_figures_to_check_by_hand() -> None:
    view = size_view([bought([10, 10, 50], [40, 60, 50])])
    assert view is not None
    assert [(bar.size, bar.orders, bar.share, bar.profit, bar.width) for bar in view.bars] == [
        ("10", "2", "66.7%", "+$4.99", "100.00"),
        ("50", "1", "33.3%", "+$24.99", "50.00"),
    ]
    against, over = (chart for _, chart in view.plots)
    dots, means = against.series
    assert dots.x.tolist() == [10, 10, 50]
    assert dots.values == pytest.approx([5.99, 3.99, 24.99])
    assert dict(zip(means.x, means.values, strict=True)) == pytest.approx({10: 4.99, 50: 24.99})
    assert over.series[0].x.tolist() == [0, 3, 6]
    assert "Sizes of 3 orders from step 0 to step 6, mean 23.3" in over.text


def test_where_nothing_was_sent_there_is_no_section() -> None:
    assert size_view([]) is None
    assert size_view([Episode((), (), "NO")]) is None


class Written:
    """A journal of event contracts that is written by hand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.file = folder / PAGE
        self.database = Database(folder / JOURNAL)
        self.book = IntentBook(self.database)
        self.count = 0

    def order(
        self,
        verb: Verb,
        side: Outcome,
        price: str,
        count: int,
        filled: int,
        *,
        market: str = "RAIN",
        state: State = "filled",
        job: str = "kalshi",
        at: str | None = None,
    ) -> None:
        name = f"order-{self.count}"
        sent = NOW - MINUTE * (100 - self.count)
        order = LimitOrder(name, market, verb, side, D(price), D(count))
        paid = None if at is None else D(at)
        progress = Progress("filled", f"venue-{name}", D(filled), paid)
        self.book.begin(Intent(order, sent, state=state, job=job, progress=progress))
        self.count += 1

    def page(self) -> str:
        bounds = Bounds(0.25, KalshiGuardSettings())
        account = OpenAccount(
            "account", self.database, self.file.parent, Notices(None, None), str, lambda: NOW
        )
        StatusPage(account, bounds, [sizes_section(self.book)]).refresh()
        return self.file.read_text()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "account")


def words(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(body).split())


def test_the_page_shows_sizes_where_event_contracts_were_sent(written: Written) -> None:
    assert "Sizes of event contracts" not in written.page()
    written.order("BUY", "YES", "0.40", 20, 20)
    written.order("SELL", "YES", "0.50", 10, 10)
    written.order("BUY", "NO", "0.45", 10, 10, at="0.40")
    written.order("BUY", "NO", "0.45", 50, 0, state="rejected")
    page = written.page()
    text = words(page)
    assert "Orders that were taken in the latest markets, 1 of them" in text
    assert "orders by size 10: 2, 20: 1" in text
    assert "largest position, contracts 20" in text
    # Bought at 0.40 for 0.336 of fees, sold at 0.50 for 0.175, and in pairs at 0.60 for 0.168.
    assert "+$2.32" in text
    assert "Sizing over time" in text
    assert "BUY YES 20 RAIN, limit $0.40 filled filled 20" in text
    assert " style=" not in page


def test_fills_that_contradict_one_another_hide_nothing_else(written: Written) -> None:
    written.order("SELL", "YES", "0.50", 10, 10, market="SNOW")
    written.order("BUY", "YES", "0.40", 20, 20)
    assert "orders by size 10: 1, 20: 1" in words(written.page())
