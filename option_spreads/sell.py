"""Sells credit spreads on a paper account, follows them and books what they did, until interrupted.

    python -m option_spreads.sell vix=VIX.parquet [strategies=[PUT,IRON_CONDOR]]
    [broker.url_override=URL] [key=value …]

It sizes from the account of `python -m option_spreads.contracts`, which `init` begins, and books in
it. Interrupted or killed, it goes on where it was when it is started again. Meanwhile what is open
stays open and nobody watches it. Where its options are traded by hand as well, it orders nothing
more and says so. `python -m execution.live kill` ends it, and with --flatten it buys back what is
open before that.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("option_spreads.sell", __doc__, settings="sell_spreads", private=True)

import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from execution.account_lock import journal_of_account
from execution.alpaca.connection import VenueConnection
from execution.journal.next_pass import NextPassBook
from execution.live.account import LiveAccount
from execution.live.footing import AnotherAccount
from execution.live.loop import LONGEST_WAIT, Stop
from execution.live.page import Bounds, StatusPage
from execution.live.runner import KILLED, LoopGuard, finish, footing_of, refuse_killed
from execution.live.settings import LiveSettings
from foundation.clock import system_clock
from foundation.command import Ended, log_to_file, one_line_errors, printing
from foundation.compose import composed_config
from foundation.errors import AccessRefused, BrokerError, InputError
from foundation.notices import Notices
from option_spreads.autoscaler.account import UnknownState
from option_spreads.autoscaler.now import account_files
from option_spreads.selling.job import SpreadJob, locked_files
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import SellerState
from option_spreads.selling.troubles import TROUBLE, trouble_text
from trainingdata.feed.endpoint import Keys, say_unread_address
from trainingdata.feed.market_data import MarketData

log = logging.getLogger(__name__)


def sell(settings: SellingSettings, keys: Keys, wait: Callable[[float], None] = time.sleep) -> None:
    """Step as often as the settings say; wait: called between steps, with seconds.

    Raises
    ------
    InputError
        for an account that cannot be used, that another seller works on, or that a kill file stops.
    """
    files = account_files(settings.sizing, settings.seller_terms().mode)
    notices = Notices(settings.sizing.HEALTHCHECK_URL, settings.sizing.ALERT_URL, files.folder)
    connection = VenueConnection(settings.broker, keys)
    shared = LiveSettings(broker=settings.broker, folder=settings.folder)
    stop = Stop()
    with ExitStack() as held:
        held.enter_context(_delivered(notices))
        with ExitStack() as opening:
            opening.enter_context(_told_of_the_end(notices))
            held.enter_context(locked_files(settings))
            account = _account_id(connection, notices, settings, wait)
            journal = held.enter_context(journal_of_account(account, Path(settings.folder)))
            # The end is told before the journal is closed, which keeps what was told.
            held.enter_context(opening.pop_all())
        data = MarketData(settings.broker, keys, settings.feed)
        live = LiveAccount(
            connection,
            journal.database,
            shared,
            keys,
            notices,
            journal.folder,
            data.last_trades,
        )
        refuse_killed(live)
        guard = LoopGuard(live.guards, stop)
        footing = footing_of(connection, account, shared)
        job = SpreadJob(settings, keys, connection, live, footing, guard)
        bounds = Bounds(shared.limits.symbol_cap, shared.guards, shared.limits.crypto_leverage)
        page = StatusPage(journal.database, bounds, [job.section])
        held.enter_context(page.kept(stop))
        next_look = NextPassBook(journal.database, settings.patience)
        _follow(job, live, next_look, page, stop, settings, wait)
        if stop:
            finish([job], live, guard, stop, flatten=False)


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
    job: SpreadJob,
    live: LiveAccount,
    next_look: NextPassBook,
    page: StatusPage,
    stop: Stop,
    settings: SellingSettings,
    wait: Callable[[float], None],
) -> None:
    """Look again and again until the kill file is there, and print what is open where it changes.

    stop: told of the kill file.

    Raises
    ------
    InputError
        for what the last look met, a file of open spreads that the first cannot read, and a
        practice server that was begun again.
    """
    shown: list[str] | None = None
    last_trouble = ""
    looks = itertools.count() if settings.looks is None else range(settings.looks)
    for number in looks:
        rest = settings.interval if number else 0.0
        now = system_clock()
        next_look.expect(job.name, now + np.timedelta64(round(rest * 1000), "ms"), now)
        _rest(rest, live, page, wait)
        if live.killed:
            stop.tell(KILLED)
            return
        # Whatever a look meets, what is open has to be followed, so the next look comes all the
        # same. Only where nothing is known of what is open is there nothing to follow.
        try:
            state = job.look()
        except AnotherAccount:
            raise
        except TROUBLE as error:
            trouble = trouble_text(error)
            live.notices.alert("step", trouble)
            if number + 1 == settings.looks or (not number and isinstance(error, UnknownState)):
                raise InputError(trouble) from error
            if trouble != last_trouble:
                last_trouble = trouble
                log.exception("a step was not finished")
                with printing():
                    sys.stderr.write(f"{last_trouble}\n")
            continue
        live.notices.end_alert("step")
        live.notices.beat()
        last_trouble = ""
        lines = open_lines(state)
        if lines != shown:
            with printing():
                sys.stdout.write("".join(f"{line}\n" for line in lines))
            shown = lines
    next_look.expect_none()


def _rest(
    seconds: float, live: LiveAccount, page: StatusPage, wait: Callable[[float], None]
) -> None:
    """Wait between two looks, or until the kill file is there."""
    while seconds > 0 and not live.killed:
        page.refresh()
        wait(min(seconds, LONGEST_WAIT))
        seconds -= LONGEST_WAIT


@contextmanager
def _delivered(notices: Notices) -> Iterator[None]:
    """Deliver what is told until then."""
    try:
        with notices:
            yield
    except OSError as error:
        raise InputError(trouble_text(error)) from error


@contextmanager
def _told_of_the_end(notices: Notices) -> Iterator[None]:
    """Alert whatever ends the seller: what is open is followed by nobody then."""
    try:
        yield
    except Exception as error:
        notices.alert("stopped", f"the seller has stopped: {trouble_text(error)}")
        raise
    except Ended as error:
        notices.alert("stopped", f"the seller was told to stop ({error})")
        raise


def open_lines(state: SellerState) -> list[str]:
    """What is open, a line each, and which of it should not be any more."""
    lines = []
    for spread in state.spreads:
        strikes = "/".join(f"{leg.strike:g}" for leg in spread.spread.legs)
        line = f"{spread.trade_id}: {spread.contracts} {spread.strategy} {strikes}"
        line += f" sold at {spread.credit}"
        if spread.why:
            line += f"; {spread.remaining} still to be bought back ({spread.why})"
        if spread.gone:
            line += "; the venue holds its options otherwise"
        lines.append(line)
    return lines or ["nothing is open"]


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
