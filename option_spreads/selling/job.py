"""The job that sells spreads and follows them, alone or beside the one of stocks and coins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.alpaca.options import AlpacaSpreads
from execution.journal.intents import Intent
from execution.live.account import LiveAccount
from execution.live.accounts import SPREADS
from execution.live.footing import AnotherAccount, Footing
from execution.live.lines import say
from execution.live.page import Section
from execution.live.settings import LiveSettings
from execution.posting import Guard
from execution.sight import Sight
from foundation.compose import composed_config
from foundation.database import DatabaseFailed
from foundation.errors import BrokerError, InputError
from option_spreads.autoscaler.account import AccountFiles, UnknownState
from option_spreads.selling.panel import spreads_section
from option_spreads.selling.seller import SpreadSeller
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import OpenSpread, collateral
from option_spreads.selling.troubles import TROUBLE, trouble_text
from trainingdata.feed.endpoint import Keys
from trainingdata.volatility_index import volatility_index

log = logging.getLogger(__name__)

CLOSING_LOOKS = 3  # until what was to be bought back is said to be open


class SpreadGuard:
    """Looks at an account before a spread is sold.

    guard: has the last word.
    broker: reads the account.
    at_risk: USD that open spreads can lose, by the root of their options.
    files: of the account that spreads are sized from.
    """

    def __init__(
        self,
        guard: Guard,
        broker: AlpacaBroker,
        at_risk: Callable[[], Mapping[str, float]],
        files: AccountFiles,
    ) -> None:
        self._guard = guard
        self._broker = broker
        self._at_risk = at_risk
        self._files = files

    def __call__(self, intent: Intent, now: np.datetime64, seen: Sight | None) -> str:
        """Why an intent may not be sent; empty where it may.

        Raises
        ------
        BrokerError
            for a venue that does not answer; nothing was sent.
        """
        if intent.part != "reduction":
            try:
                balance = float(self._files.read().certain_balance)
            except UnknownState as error:
                return f"unknown state: {error}"
            account = self._broker.account()
            seen = Sight(account, at_risk=self._at_risk(), balance=balance)
        return self._guard(intent, now, seen)


class SpreadJob:
    """Looks at what is open, every few seconds.

    Whatever a look meets, the next one comes: what is open has to be followed.

    live: the account, whose journal, guards and notices it shares.
    footing: looked at before every look.
    guard: has the last word before an order is sent.
    over: whether the loop ends, as its other job has made all its passes.
    """

    name = SPREADS

    def __init__(
        self,
        settings: SellingSettings,
        keys: Keys,
        connection: VenueConnection,
        live: LiveAccount,
        footing: Footing,
        guard: Guard,
        over: Callable[[], bool],
    ) -> None:
        self._over = over
        self._settings = settings
        self._connection = connection
        self._live = live
        self._footing = footing
        venue = AlpacaSpreads(
            settings.broker,
            keys,
            underlying=settings.underlying,
            scale=settings.scale,
            feed=settings.feed,
            patience=settings.patience,
            book=live.book,
            guard=SpreadGuard(
                guard,
                AlpacaBroker(settings.broker, keys, book=live.book, believe=live.believe),
                self._secured,
                settings.account,
            ),
            job=SPREADS,
        )
        self._seller = SpreadSeller(venue, settings, self._vix, live.notices)
        self._interval = np.timedelta64(round(settings.interval * 1000), "ms")
        self._next: np.datetime64 | None = None
        self._looks = 0
        self._shown = ""

    def _vix(self) -> pd.Series:
        return volatility_index(self._settings.vix, "vix")

    @property
    def section(self) -> Section:
        """Of the account's page."""
        return spreads_section(lambda: self._seller.spreads)

    def at_risk(self) -> Mapping[str, float]:
        """USD that open spreads can lose, and those on their way, by the root of their options."""
        return self._risk_of(self._seller.spreads)

    def _secured(self) -> Mapping[str, float]:
        """The same without what is on its way: an order that is looked at counts by itself."""
        return self._risk_of(tuple(e for e in self._seller.spreads if e.stage != "opening"))

    def _risk_of(self, spreads: tuple[OpenSpread, ...]) -> Mapping[str, float]:
        return {self._settings.root: float(collateral(spreads))} if spreads else {}

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next look; None once all were made."""
        if self._over() or self._looks == self._settings.looks:
            return None
        # A clock that was put back keeps nobody waiting for the instant that it had shown.
        return now if self._next is None else min(self._next, now + self._interval)

    def step(self) -> None:
        """Look once, whatever the look meets.

        Raises
        ------
        AnotherAccount, DatabaseFailed
            for a practice server that was begun again, and a journal that cannot be used.
        InputError
            for a file of open spreads that the first look cannot read, and what the last one met.
        """
        self._looks += 1
        trouble = self._look()
        unknown = self._looks == 1 and isinstance(trouble, UnknownState)
        if trouble is not None and (unknown or self._looks == self._settings.looks):
            raise InputError(trouble_text(trouble)) from trouble

    def _look(self) -> Exception | None:
        """The trouble that a look has met, which is told; None for none."""
        now = self._connection.estimated_now()
        self._next = now + self._interval
        try:
            self._footing.check(now, None)
            state = self._seller.step()
        except (AnotherAccount, DatabaseFailed):
            raise
        except TROUBLE as error:
            log.exception("a look was not finished")
            self._live.notices.alert("step", f"{SPREADS}: {trouble_text(error)}")
            self._show(trouble_text(error))
            return error
        self._live.notices.end_alert("step")
        self._show("\n".join(map(str, state.spreads)) or "nothing is open")
        return None

    def _show(self, text: str) -> None:
        """Print what a look has come to, where it is something else than before."""
        if text != self._shown:
            self._shown = text
            say(text)

    def finish(self, *, flatten: bool) -> list[str]:
        """End the orders that work, or buy back everything that is open.

        Returns the spreads that were to be bought back and are open all the same.

        Raises
        ------
        BrokerError
            for an order that may go on working.
        """
        if not flatten:
            try:
                self._seller.end_orders()
            except TROUBLE as error:
                raise BrokerError(trouble_text(error)) from error
            return []
        self._seller.leaving = True
        for _ in range(CLOSING_LOOKS):
            self._look()
            if not self._seller.spreads:
                break
        return [each.trade_id for each in self._seller.spreads]


@contextmanager
def open_job(
    live_settings: LiveSettings,
    keys: Keys,
    connection: VenueConnection,
    live: LiveAccount,
    footing: Footing,
    guard: Guard,
    over: Callable[[], bool],
) -> Iterator[SpreadJob]:
    """The job, at the venue and in the folder of the loop's others, while its files are locked.

    Raises
    ------
    InputError
        for words that cannot be used, an account without files, one that another seller works on,
        and a volatility index that cannot be read.
    """
    selling = SellingSettings.of(composed_config("sell_spreads", list(live_settings.spreads)))
    settings = replace(selling, broker=live_settings.broker, folder=live_settings.folder)
    files = settings.account
    if files.empty:
        raise InputError(
            f"{files.folder}: there is no account; `python -m option_spreads.contracts init` begins"
            " one"
        )
    # A file that cannot be read is refused now, not at the first entry. Each entry reads it anew,
    # because it grows by a close a day.
    volatility_index(settings.vix, "vix")
    # Two sellers on one folder would write over each other's state, also with two accounts.
    lock = FileLock(files.folder / ".seller.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{files.folder}: another seller works on this account") from None
    try:
        yield SpreadJob(settings, keys, connection, live, footing, guard, over)
    finally:
        lock.release()
