"""Sells credit spreads on a paper account, follows them and books what they did, until interrupted.

    python -m execution.sell_spreads vix=VIX.parquet [strategies=[PUT,IRON_CONDOR]]
    [broker.url_override=URL] [key=value …]

It sizes from the account of `python -m sizing.contracts`, which `init` begins, and books in it.
Interrupted or killed, it goes on where it was when it is started again. Meanwhile what is open
stays open and nobody watches it. Where its options are traded by hand as well, it orders nothing
more and says so.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("execution.sell_spreads", __doc__, settings="sell_spreads")

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from execution.account_lock import KILL_FILE, AccountJournal, journal_of_account
from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.alpaca.options import AlpacaSpreads
from execution.events import EventLog
from execution.intents import IntentBook
from execution.live.guards import Guards, GuardSettings
from execution.live.halts import Halts
from execution.live.spread_job import SPREADS, SpreadGuard, collateral, locked_files
from execution.spreads.seller import SpreadSeller
from execution.spreads.settings import SellingSettings
from execution.spreads.state import SellerState, read_state
from execution.spreads.troubles import TROUBLE, trouble_text
from foundation.command import Ended, log_to_file, one_line_errors, printing
from foundation.compose import composed_config
from foundation.errors import AccessRefused, BrokerError, InputError
from foundation.notices import Notices
from sizing.autoscaler.account import UnknownState
from sizing.autoscaler.now import account_files
from trainingdata.feed.endpoint import Keys, say_unread_address
from trainingdata.volatility_index import volatility_index

log = logging.getLogger(__name__)


def sell(settings: SellingSettings, keys: Keys, wait: Callable[[float], None] = time.sleep) -> None:
    """Step as often as the settings say; wait: called between steps, with seconds.

    Raises
    ------
    InputError
        for an account that cannot be used, or that another seller works on.
    """
    terms = settings.seller_terms()
    files = account_files(settings.sizing, terms.mode)
    notices = Notices(settings.sizing.HEALTHCHECK_URL, settings.sizing.ALERT_URL, files.folder)

    def vix() -> pd.Series:
        return volatility_index(settings.vix, "vix")

    with ExitStack() as held:
        held.enter_context(_told_of_the_end(notices))
        held.enter_context(locked_files(settings))
        account = _account_id(VenueConnection(settings.broker, keys), notices, settings, wait)
        journal = held.enter_context(journal_of_account(account, Path(settings.folder)))
        book = IntentBook(journal.database)
        venue = AlpacaSpreads(
            settings.broker,
            keys,
            underlying=settings.underlying,
            scale=settings.scale,
            feed=settings.feed,
            patience=settings.patience,
            book=book,
            guard=_guard(settings, keys, journal, book, terms.root),
            job=SPREADS,
        )
        _follow(SpreadSeller(venue, terms, vix, notices), notices, settings, wait)


def _guard(
    settings: SellingSettings, keys: Keys, journal: AccountJournal, book: IntentBook, root: str
) -> SpreadGuard:
    """What has the last word before an order is sent: halts, the kill file and bounds."""
    halts = Halts(journal.database, EventLog(journal.database, keys.redact))
    guards = Guards(GuardSettings(), halts, book, journal.folder / KILL_FILE)
    files = account_files(settings.sizing, settings.seller_terms().mode)

    def at_risk() -> Mapping[str, float]:
        held = [each for each in read_state(files.folder).spreads if each.stage != "opening"]
        return {root: float(collateral(tuple(held)))}

    return SpreadGuard(guards, guards, AlpacaBroker(settings.broker, keys, book=book), at_risk)


def _account_id(
    venue: VenueConnection,
    notices: Notices,
    settings: SellingSettings,
    wait: Callable[[float], None],
) -> str:
    """The id of the account at the venue, asked for until it answers: spreads may be open there.

    Raises
    ------
    BrokerError
        for keys that open no account, and a venue that has not answered as often as it was to be
        looked at.
    """
    number = 0
    while True:
        number += 1
        try:
            account = venue.account_id()
        except BrokerError as error:
            if isinstance(error, AccessRefused) or number == settings.looks:
                raise
            notices.alert("account", f"nothing is followed yet: {error}")
            if number == 1:
                with printing():
                    sys.stderr.write(f"{error}; asked again every {settings.interval:g} seconds\n")
            wait(settings.interval)
            continue
        notices.end_alert("account")
        return account


def _follow(
    seller: SpreadSeller, notices: Notices, settings: SellingSettings, wait: Callable[[float], None]
) -> None:
    """Step again and again, and print what is open where it has changed.

    Raises
    ------
    InputError
        for what the last look met, and for a file of open spreads that the first cannot read.
    """
    shown_trades: tuple[str, ...] | None = None
    last_trouble = ""
    looks = itertools.count() if settings.looks is None else range(settings.looks)
    for number in looks:
        if number:
            wait(settings.interval)
        # Whatever a step meets, what is open has to be followed, so the next step comes all the
        # same. Only where nothing is known of what is open is there nothing to follow.
        try:
            state = seller.step()
        except TROUBLE as error:
            trouble = trouble_text(error)
            notices.alert("step", trouble)
            if number + 1 == settings.looks or (not number and isinstance(error, UnknownState)):
                raise InputError(trouble) from error
            if trouble != last_trouble:
                last_trouble = trouble
                log.exception("a step was not finished")
                with printing():
                    sys.stderr.write(f"{last_trouble}\n")
            continue
        notices.end_alert("step")
        notices.beat()
        last_trouble = ""
        trades = tuple(spread.trade_id for spread in state.spreads)
        if trades != shown_trades:
            with printing():
                _show(state)
            shown_trades = trades


@contextmanager
def _told_of_the_end(notices: Notices) -> Iterator[None]:
    """Alert whatever ends the seller: what is open is followed by nobody then."""
    try:
        with notices:
            try:
                yield
            except Exception as error:
                notices.alert("stopped", f"the seller has stopped: {trouble_text(error)}")
                raise
            except Ended as error:
                notices.alert("stopped", f"the seller was told to stop ({error})")
                raise
    except OSError as error:
        raise InputError(trouble_text(error)) from error


def _show(state: SellerState) -> None:
    """Print what is open."""
    for spread in state.spreads:
        strikes = "/".join(f"{leg.strike:g}" for leg in spread.spread.legs)
        what = f"{spread.contracts} {spread.strategy} {strikes}"
        sys.stdout.write(f"{spread.trade_id}: {what} sold at {spread.credit}\n")
    if not state.spreads:
        sys.stdout.write("nothing is open\n")


def main() -> None:
    """Command line: Hydra overrides of configs/sell_spreads.yaml."""
    told = "what is open stays open and is not watched; start again to go on"
    with one_line_errors(told):
        settings = SellingSettings.of(composed_config("sell_spreads", sys.argv[1:]))
        log_to_file("sell_spreads")
        keys = Keys.of(os.environ)
        say_unread_address(keys, settings.broker)
        sell(settings, keys)


if __name__ == "__main__":
    main()
