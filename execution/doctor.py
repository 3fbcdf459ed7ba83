"""Whether an account can be traded from here: a line for everything that it takes.

    python -m execution.doctor [symbols=[NVDA,BTCUSD]] [broker.url_override=URL] [key=value …]

It takes the settings of the loop. A line begins with `ok`, `warning` or `failure`, and says what to
do where it is not ok. It sends no order, and writes nothing but a probe that it removes. Exit code
0: nothing failed; 1: something did; 2: the settings cannot be used.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("execution.doctor", __doc__, settings="live", private=True)

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from execution.alpaca.connection import VenueConnection
from execution.alpaca.fields import AccountFacts
from execution.live.checks import (
    HISTORY,
    Facts,
    Finding,
    account_finding,
    clock_finding,
    clock_offset,
    crypto_finding,
    feed_finding,
    finding_of,
    margin_finding,
    not_checked,
    options_finding,
    shorting_finding,
    venue_finding,
)
from execution.live.checks_files import (
    JournalState,
    checked_weights,
    disk_finding,
    free_space,
    halts_finding,
    journal_finding,
    journal_state,
    process_finding,
    sqlite_finding,
)
from execution.live.settings import LiveSettings
from foundation.command import LOGS, Parser, one_line_errors
from foundation.compose import composed_config
from foundation.errors import AccessRefused, BrokerError, InputError
from trainingdata.feed.endpoint import BrokerSettings, Keys, unread_address
from trainingdata.feed.fields import as_mapping
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import system_clock
from trainingdata.instruments import instrument

Clock = Callable[[], np.datetime64]


def findings(
    settings: LiveSettings, keys: Keys | InputError, clock: Clock = system_clock
) -> Iterator[Finding]:
    """What every check finds, one after the other.

    Parameters
    ----------
    settings:
        Of the loop.
    keys:
        Of the account, or why there are none.
    clock:
        This machine's time.

    Raises
    ------
    InputError
        for symbols that are none.
    """
    symbols = tuple(dict.fromkeys(instrument(symbol).symbol for symbol in settings.symbols))
    facts, accepted = _account(settings.broker, keys)
    yield accepted
    yield venue_finding(settings.broker)
    if isinstance(keys, Keys) and (note := unread_address(keys, settings.broker)):
        yield Finding("warning", "address", note)
    checks: Mapping[str, Callable[[Facts], Finding]] = {
        "account": account_finding,
        "margin": partial(margin_finding, limits=settings.limits),
        "shorting": shorting_finding,
        "crypto": partial(crypto_finding, symbols=symbols),
        "options": options_finding,
    }
    for name, check in checks.items():
        if facts is None:
            yield not_checked(name, "keys")
        else:
            yield finding_of(name, partial(check, facts))
    if facts is None or isinstance(keys, InputError):
        yield not_checked("feed", "keys")
        yield not_checked("clock", "keys")
    else:
        # Whether a bar is the latest is a question of the venue's time.
        now, shown = _venue_time(settings.broker, keys, clock)
        yield finding_of("feed", partial(_latest_bars, settings, keys, symbols, now))
        yield shown
    yield finding_of("checkpoint", partial(_forecaster, settings, symbols))
    folder = Path(settings.folder)
    yield finding_of("disk", lambda: disk_finding(free_space({"journal": folder, "logs": LOGS})))
    yield finding_of("sqlite", partial(sqlite_finding, folder))
    yield from _of_journal(facts, folder)


def _account(broker: BrokerSettings, keys: Keys | InputError) -> tuple[Facts | None, Finding]:
    """What the venue says of the account, where the keys open it, and whether they do."""
    if isinstance(keys, InputError):
        return None, Finding("failure", "keys", str(keys))
    try:
        connection = VenueConnection(broker, keys)
        with connection.translated_errors("the account"):
            facts = as_mapping(connection.client.get_account())
            AccountFacts.id.of(facts)
    except AccessRefused as error:
        return None, Finding("failure", "keys", f"present, and not accepted: {error}")
    except BrokerError as error:
        return None, Finding(
            "failure",
            "keys",
            f"present, and nobody says whether they are accepted: {error}; look at the network and"
            " at the venue's status page",
        )
    return facts, Finding("ok", "keys", "present, and accepted")


def _venue_time(
    broker: BrokerSettings, keys: Keys, clock: Clock
) -> tuple[np.datetime64 | None, Finding]:
    """The venue's time, and how far it is from ours."""
    asked = clock()
    try:
        now = VenueConnection(broker, keys).now()
    except BrokerError as error:
        found = f"{error}; look at the venue's status page"
        return None, Finding("failure", "clock", found)
    offset = clock_offset(now, asked, clock())
    return now, clock_finding(offset, on_this_machine=broker.on_this_machine)


def _latest_bars(
    settings: LiveSettings, keys: Keys, symbols: Sequence[str], now: np.datetime64 | None
) -> Finding:
    """Whether the bars that decisions are made from can be read."""
    if not symbols:
        return Finding(
            "warning", "feed", "not checked; name what is to be traded, as symbols=[NVDA,BTCUSD]"
        )
    if now is None:
        return not_checked("feed", "clock")
    data = MarketData(settings.broker, keys, settings.data.feed, settings.data.adjustment)
    grace = np.timedelta64(round(settings.bar_patience * 1e9), "ns")
    tables = data.tables(symbols, now - HISTORY, now, grace)
    latest = {item.symbol: times[-1] for item, times, _ in tables}
    return feed_finding(settings.data.feed, symbols, latest, now, settings.bar_patience)


def _forecaster(settings: LiveSettings, symbols: Sequence[str]) -> Finding:
    """Which forecaster the settings make, once its weights have been found whole."""
    forecaster = settings.forecaster.build(symbols)
    if settings.forecaster.kind == "chronos2":
        checked_weights(settings.forecaster.model)
    return Finding("ok", "checkpoint", forecaster.name)


def _of_journal(facts: Facts | None, folder: Path) -> Iterator[Finding]:
    """What is to be said of the account's journal, of the halts in it, and of its lock."""
    if facts is None:
        for name in ("journal", "halts", "process"):
            yield not_checked(name, "keys")
        return
    account = AccountFacts.id.of(facts)
    process = finding_of("process", partial(process_finding, account, folder))
    state: JournalState | None = None

    def whole() -> Finding:
        nonlocal state
        state = journal_state(account, folder, in_use=process.level != "ok")
        return journal_finding(state)

    yield finding_of("journal", whole)
    yield not_checked("halts", "journal") if state is None else halts_finding(state)
    yield process


def shown(finding: Finding, keys: Keys | InputError) -> str:
    """The line of a finding, without the keys."""
    found = keys.redact(finding.found) if isinstance(keys, Keys) else finding.found
    return str(replace(finding, found=found))


def _keys() -> Keys | InputError:
    try:
        return Keys.of(os.environ)
    except InputError as error:
        return error


def main() -> None:
    """Command line: Hydra overrides of configs/live.yaml."""
    parser = Parser()
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    parser.refuse_others(arguments.overrides)
    # What libraries would log is no finding, and a log file would be left behind.
    logging.getLogger().addHandler(logging.NullHandler())
    failed = False
    with one_line_errors("nothing was sent"):
        settings = LiveSettings.of(composed_config("live", arguments.overrides))
        keys = _keys()
        for finding in findings(settings, keys):
            failed |= finding.level == "failure"
            sys.stdout.write(f"{shown(finding, keys)}\n")
            sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
