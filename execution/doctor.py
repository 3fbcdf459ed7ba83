"""Check whether an account can be traded from this machine; print one line per requirement.

    python -m execution.doctor [symbols=[NVDA,BTCUSD]] [broker.url_override=URL] [key=value …]
    [--send-test-alert] [venue=probe [probe.symbol=F] [probe.max_order=100]]

The command takes the settings of the live loop. Each line begins with `ok`, `warning` or `failure`,
and names the remedy unless it is `ok`. The command sends no order, and writes only a probe file
that it deletes. Exit code 0: no check failed; 1: a check failed; 2: the settings are invalid.

--send-test-alert    send a test alert to ALERT_URL and NOTICE_URLS (alert_url, notice_urls)
venue=probe          on a paper account: send orders for one share, measure the answers, and compare
                     them with the practice venue's. Each line is a step; `failure` is a deviation.
                     The account ends as it was; exit code 2 if orders or shares stay open.
                     `probe.json` beside the journal has the steps, and the faults with which the
                     practice venue answers alike (practice.alpaca_server --faults FILE).
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("execution.doctor")

import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from omegaconf import OmegaConf

from execution.alpaca.account import account_block_reasons, is_trading_status
from execution.alpaca.connection import VenueConnection, require_alpaca
from execution.alpaca.fields import AccountEntry
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.probe import (
    MAX_PRICE_RATIO,
    PROBE_JOB,
    DoctorOptions,
    FindingLevel,
    ProbeSettings,
    ProbeStep,
    VenueProbe,
    plan_steps,
)
from execution.journal.events import EventLog
from execution.journal.halts import read_active_halts
from execution.journal.order_store import OrderStore
from execution.journal.outbox import Outbox
from execution.journal.refusals import RefusalJournal
from execution.live.account_lock import (
    JOURNAL_FILE,
    KILL_FILE,
    may_exist,
    open_journal,
    refuse_misplaced_journal,
)
from execution.live.settings import LiveSettings
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, find_checkpoint
from foundation.cli import FlagParser, Result
from foundation.clock import SYSTEM_TIME, InstantSource, TimeSource
from foundation.compose import compose_config
from foundation.console import LOG_FOLDER
from foundation.database import Database
from foundation.errors import InputError, to_one_line
from foundation.files import write_atomically
from foundation.formatting import format_duration
from foundation.notices import open_services
from foundation.notifier import deliver_test_alert
from foundation.settings import settings_from_config
from trainingdata.feed.endpoint import KEY_VARIABLE, ApiKeys
from trainingdata.feed.fields import as_mapping
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import format_utc
from trainingdata.instruments import instrument, is_crypto, is_stock
from trainingdata.sessions import is_in_session

CheckResult = tuple[FindingLevel, str]

BAR_LOOKBACK = np.timedelta64(10, "D")  # period in which every traded symbol has a bar
CLOCK_OFFSET_WARNING_SECONDS = 5.0  # seconds between the clocks that give a warning
CLOCK_OFFSET_FAILURE_SECONDS = 60.0  # seconds between the clocks that give a failure
SIMULATED_CLOCK_OFFSET_SECONDS = 86_400.0  # seconds; beyond it a practice server simulates its time
GIBIBYTE = 2**30
MIN_FREE_BYTES = 100_000_000  # bytes that must be free before a start


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    level: `ok`, `warning` if the live loop can run despite the finding, `failure` if it cannot.
    name: name of the check.
    detail: text of the result, with the remedy if the level is not `ok`.
    """

    level: FindingLevel
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.level:7} {self.name}: {' '.join(self.detail.split())}"


@dataclass(frozen=True)
class DoctorContext:
    """Inputs of the checks; the account is requested from the venue when a check first needs it.

    settings: settings of the live loop.
    keys: API keys of the account, or the error that reports missing keys.
    clock: this machine's clock.
    sends_test_alert: true to send a test alert to the configured addresses.
    options: settings of the doctor alone.
    """

    settings: LiveSettings
    keys: ApiKeys | InputError
    clock: InstantSource = SYSTEM_TIME
    sends_test_alert: bool = False
    options: DoctorOptions = field(default_factory=DoctorOptions)

    @property
    def symbols(self) -> list[str]:
        return sorted(self.settings.tradable_symbols)

    def require_keys(self) -> ApiKeys:
        if isinstance(self.keys, InputError):
            raise self.keys
        return self.keys

    @cached_property
    def connection(self) -> VenueConnection:
        return VenueConnection(self.settings.broker, self.require_keys())

    @cached_property
    def account_fields(self) -> Mapping[str, Any]:
        with self.connection.translate_errors("the account"):
            facts = as_mapping(self.connection.client.get_account())
            AccountEntry.id.read(facts)
        return facts

    @cached_property
    def journal_path(self) -> Path:
        """Absolute path of the account's journal; the file may not exist."""
        account = AccountEntry.id.read(self.account_fields)
        return Path(self.settings.folder, account, JOURNAL_FILE).absolute()

    def report(self, level: FindingLevel, name: str, detail: str) -> Finding:
        """Print a finding without secrets, and return it."""
        shown = self.keys.redact(detail) if isinstance(self.keys, ApiKeys) else detail
        finding = Finding(level, name, shown)
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
        return finding


def run_checks(context: DoctorContext, names: Sequence[str] = ()) -> list[Finding]:
    """Run checks in sequence; print each finding as soon as it is available, and return all.

    If the keys are not accepted, the checks of the account are skipped with a warning.

    names: names of the checks; empty for all.
    """
    findings: list[Finding] = []
    for name in names or CHECKS:
        check, needs_account = CHECKS[name]
        if needs_account and findings[0].level == "failure":
            level: FindingLevel = "warning"
            text = "skipped because the check keys failed; fix that first"
        else:
            try:
                level, text = check(context)
            except (InputError, OSError) as error:
                hint = "; run this as the user that runs the loop"
                remedy = hint if isinstance(error, OSError) else ""
                level, text = "failure", f"{error}{remedy}".removeprefix(f"{name}: ")
        findings.append(context.report(level, name, text))
    return findings


def _check_keys(start: DoctorContext) -> CheckResult:
    _ = start.account_fields
    return "ok", "set, and accepted by the venue"


def _check_venue(start: DoctorContext) -> CheckResult:
    """Check whether orders trade real money, and whether a setting replaces the venue's address."""
    broker = start.settings.broker
    if broker.address is None and broker.paper:
        return "ok", "Alpaca paper account; no order is real"
    if broker.address is None:
        return "warning", "Alpaca account with real money; set broker.paper=true for paper trading"
    if broker.is_loopback:
        return "ok", f"{broker.address} instead of Alpaca, a server on this machine"
    found = f"{broker.address} receives keys and orders instead of Alpaca"
    return "warning", f"{found}; remove broker.url_override if this is not intended"


def _check_account(start: DoctorContext) -> CheckResult:
    account = AccountEntry.id.read(start.account_fields)
    if reasons := account_block_reasons(start.account_fields, paper=start.settings.broker.paper):
        blocks = f"{account} {' and '.join(reasons)}"
        return "failure", f"{blocks}; it accepts no orders until the venue lifts this block"
    return "ok", f"{account} is {AccountEntry.status.read(start.account_fields)}, not blocked"


def _check_margin(start: DoctorContext) -> CheckResult:
    multiplier = AccountEntry.multiplier.read(start.account_fields)
    leverage = start.settings.limits.intraday_leverage
    found = f"the venue lends up to {multiplier:f} times equity"
    if multiplier >= Decimal(repr(leverage)):
        return "ok", found
    found += f", less than limits.intraday_leverage={leverage:g}; the smaller value applies"
    return "warning", f"{found}; enable margin at the venue to use the larger one"


def _check_shorting(start: DoctorContext) -> CheckResult:
    if AccountEntry.shorting_enabled.read(start.account_fields):
        return "ok", "enabled"
    return "warning", "not enabled; no stock is sold short; enable shorting at the venue"


def _check_crypto(start: DoctorContext) -> CheckResult:
    status = AccountEntry.crypto_status.read(start.account_fields)
    if is_trading_status(status, paper=start.settings.broker.paper):
        return "ok", status
    coins = ", ".join(filter(is_crypto, start.symbols))
    text = f"{status}; {coins or 'crypto'} cannot be traded; enable crypto trading at the venue"
    return "failure" if coins else "warning", text


def _check_clock(start: DoctorContext) -> CheckResult:
    asked = start.clock.now()
    offset = clock_offset_seconds(start.connection.now(), asked, start.clock.now())
    size = abs(offset)
    if size <= CLOCK_OFFSET_WARNING_SECONDS:
        return "ok", f"{size:.1f} s between the venue's clock and this machine's clock"
    side = "ahead of" if offset > 0 else "behind"
    found = f"the venue's clock is {format_duration(size)} {side} this machine's clock"
    # A practice server may have its own time.
    if start.settings.broker.is_loopback and size >= SIMULATED_CLOCK_OFFSET_SECONDS:
        return "ok", f"{found}; a practice server has its own clock"
    level: FindingLevel = "failure" if size > CLOCK_OFFSET_FAILURE_SECONDS else "warning"
    return level, f"{found}; synchronise this machine's clock, for example by NTP"


def clock_offset_seconds(
    venue_time: np.datetime64, requested_at: np.datetime64, received_at: np.datetime64
) -> float:
    """Return the smallest offset of the venue's clock that is consistent with a request, seconds.

    The offset is positive if the venue's clock is ahead of ours. The venue read its clock at an
    unknown moment between request and response; the moment that gives the smallest offset is
    assumed.

    venue_time: venue time in the response.
    requested_at, received_at: times by our clock before the request and after the response.
    """
    none = np.timedelta64(0, "ns")
    ahead = max(venue_time - received_at, none) + min(venue_time - requested_at, none)
    return float(ahead / np.timedelta64(1, "s"))


def _check_feed(start: DoctorContext) -> CheckResult:
    """Check whether the feed returns bars, and whether it has the latest bar of each symbol."""
    settings = start.settings
    if not start.symbols:
        return "warning", "not checked; set the symbols to trade, such as symbols=[NVDA,BTCUSD]"
    # The venue's clock decides whether a bar is the latest.
    now = start.connection.now_or_estimate()
    late = np.timedelta64(round(settings.bar_wait_seconds * 1e9), "ns")
    feed, timeframe = settings.data.feed, settings.timeframe_or_hourly
    data = MarketData(
        settings.broker, start.require_keys(), feed, settings.data.adjustment, timeframe
    )
    tables = data.bars_by_symbol(start.symbols, now - BAR_LOOKBACK, now, late)
    latest = {item.symbol: times[-1] for item, times, _ in tables}
    due = {s: timeframe.last_bar_end(instrument(s).kind, now) for s in start.symbols}
    behind = [s for s in due if s not in latest or (latest[s] < due[s] and now - due[s] >= late)]
    if not behind:
        at, newest = max((times, symbol) for symbol, times in latest.items())
        return "ok", f"{feed}: the latest bar ({newest}) closed at {format_utc(at)}"
    return (
        "failure" if len(behind) == len(due) else "warning",
        f"{feed}: the latest bar of {', '.join(behind)} is missing; no decision is made for these"
        " symbols; check symbols, data.feed and the venue's status page",
    )


def _check_checkpoint(start: DoctorContext) -> CheckResult:
    """Check that the forecaster's model is found; the start of the loop checks its weights."""
    settings = start.settings.forecaster
    forecaster = settings.build(start.symbols)
    if settings.kind == "chronos2":
        find_checkpoint(str(BUNDLED_CHECKPOINT) if settings.model is None else settings.model)
    return "ok", forecaster.name


def _check_disk(start: DoctorContext) -> CheckResult:
    """Check that journal and logs can be written, by writing there, and that disks have space."""
    free: dict[str, int] = {}
    for name, folder in {"journal": Path(start.settings.folder), "logs": LOG_FOLDER}.items():
        absolute = folder.expanduser().absolute()
        place = next(path for path in (absolute, *absolute.parents) if path.exists())
        free[name] = shutil.disk_usage(place).free
        with TemporaryDirectory(prefix=".doctor-", dir=place) as scratch:
            Database(Path(scratch) / "probe.sqlite").close()
    found = ", ".join(f"{size / GIBIBYTE:,.1f} GiB for {name}" for name, size in free.items())
    if min(free.values()) < MIN_FREE_BYTES:
        return "failure", f"{found}; free disk space: orders are recorded before they are sent"
    if min(free.values()) < GIBIBYTE:
        return "warning", f"{found}; free disk space soon"
    return "ok", found


def _check_alerts(start: DoctorContext) -> CheckResult:
    """Check whether alerts have a recipient; send a test alert if that was requested.

    The settings refuse a malformed address. Only its host is shown, because it may contain a
    secret.
    """
    url = start.settings.alert_url
    services = open_services(start.settings.notice_urls)
    hosts = [] if url is None else [str(urlsplit(url).hostname)]
    recipients = " and ".join([*hosts, *(service.name for service in services)])
    if not recipients:
        return "warning", (
            "ALERT_URL is not set, so alerts have no recipient; set it to a webhook, or"
            " NOTICE_URLS to services"
        )
    if not start.sends_test_alert:
        return "ok", f"sent to {recipients}; not tested, add --send-test-alert to send one"
    if deliver_test_alert(url, services):
        return "ok", f"{recipients} accepted a test alert"
    return "failure", (
        f"{recipients} did not accept a test alert; correct ALERT_URL, NOTICE_URLS or the network"
    )


def _check_halts(start: DoctorContext) -> CheckResult:
    """Check whether an active halt or the kill file prevents orders."""
    journal = start.journal_path
    refuse_misplaced_journal(journal.parent.name, journal)
    kill_file = journal.with_name(KILL_FILE)
    halts = read_active_halts(journal) if journal.exists() else []
    remedies = [f"{halt.kind}: {halt.rule.remedy}" for halt in halts]
    stopped = any(halt.rule.forbidden_scope == "everything" for halt in halts)
    if may_exist(kill_file):
        stopped, remedies = (
            True,
            [f"the kill file {kill_file} stops all orders: remove it.", *remedies],
        )
    if not remedies:
        return "ok", "no halt is active"
    return "failure" if stopped else "warning", to_one_line(" ".join(remedies))


# Checks by name, each with whether it needs the account, and so the keys, which are checked first.
CHECKS: Mapping[str, tuple[Callable[[DoctorContext], CheckResult], bool]] = {
    "keys": (_check_keys, False),
    "venue": (_check_venue, False),
    "account": (_check_account, True),
    "margin": (_check_margin, True),
    "shorting": (_check_shorting, True),
    "crypto": (_check_crypto, True),
    "clock": (_check_clock, True),
    "feed": (_check_feed, True),
    "checkpoint": (_check_checkpoint, False),
    "disk": (_check_disk, False),
    "alerts": (_check_alerts, False),
    "halts": (_check_halts, True),
}
# Checks that must pass before a probe starts.
CHECKS_BEFORE_PROBE = ("keys", "venue", "account", "clock", "halts")
TRANSCRIPT_FILE = "probe.json"  # transcript of the last probe, in the account's folder


@dataclass(frozen=True)
class ProbeReports:
    """Reporter that prints the steps of a probe as findings, and collects both.

    findings: findings so far; each step adds one.
    """

    context: DoctorContext
    findings: list[Finding]
    steps: list[ProbeStep] = field(default_factory=list)

    def report_step(self, step: ProbeStep) -> None:
        self.steps.append(step)
        self.findings.append(self.context.report(step.level, step.name, str(step)))


def probe_venue(
    context: DoctorContext, settings: ProbeSettings, time: TimeSource = SYSTEM_TIME
) -> tuple[list[Finding], int]:
    """Probe the venue with one-share orders, print each step, and write the transcript.

    Returns the findings, and the exit code if one is a failure: 2 if orders or shares stay open,
    else 1.

    time: clock by which answers are measured.

    Raises
    ------
    InputError
        for an account with real money, an account with orders or a position in the symbol, and a
        symbol that is no stock or too expensive.
    """
    keys, broker = context.require_keys(), context.settings.broker
    # A server on this machine may have keys without the prefix of paper accounts.
    is_paper = broker.paper and not broker.is_live_host and not keys.are_live
    if not is_paper or not (keys.are_paper or broker.is_loopback):
        raise InputError(
            "venue=probe: orders are sent only to a paper account; set broker.paper=true, leave"
            f" out broker.url_override, and set {KEY_VARIABLE} to the key of a paper account (PK…)"
        )
    findings = run_checks(context, CHECKS_BEFORE_PROBE)
    if any(finding.level == "failure" for finding in findings):
        return findings, 1
    symbol = instrument(settings.symbol).symbol
    data = MarketData(broker, keys, context.settings.data.feed)
    trade = data.last_trades([symbol]).get(symbol) if is_stock(symbol) else None
    price = trade.price if trade else math.inf
    if MAX_PRICE_RATIO * price > settings.max_order:
        found = f"last traded at {price:g} USD" if trade else "is not a stock with a last trade"
        raise InputError(
            f"probe.symbol: {symbol} {found}; choose a liquid stock whose orders, at up to"
            f" {MAX_PRICE_RATIO:g} times its last trade, stay within probe.max_order"
            f" ({settings.max_order:g} USD)"
        )
    reports = ProbeReports(context, findings)
    account = context.journal_path.parent.name
    root = Path(context.settings.folder)
    with open_journal(account, root) as journal, closing(Database()) as scratch:
        # The venue is meant to refuse some orders, of which no alert and no status should tell.
        refusals = RefusalJournal(scratch, EventLog(scratch))
        book = OrderStore(journal.database, EventLog(journal.database, keys), refusals)
        venue = OrderVenue(broker, keys, time)
        is_open = bool(is_in_session(np.array([venue.now()]))[0])
        probe = VenueProbe(venue, Outbox(venue, book, PROBE_JOB), symbol, reports, is_open)
        if left := probe.close():
            raise InputError(
                f"probe.symbol: {', '.join(left)} is open; close all orders and the position in"
                f" {symbol} at the venue, or choose another symbol"
            )
        try:
            probe.run(plan_steps(price, venue.estimated_now()))
        finally:
            left = probe.close()
            faults = [fault for step in reports.steps if (fault := step.fault)]
            transcript = {
                "faults": faults,
                "left_open": left,
                "steps": [*map(asdict, reports.steps)],
            }
            text = keys.redact(json.dumps(transcript, default=str, indent=1))
            path = journal.folder / TRANSCRIPT_FILE
            write_atomically(path, text.replace(account, "[account]").encode(), is_private=True)
            level: FindingLevel = "failure" if left else "ok"
            text = f"nothing of the probe is open; the transcript is {path}"
            if left:
                remedy = "close it at the venue, or repeat the probe, which closes it first"
                text = f"still open: {', '.join(left)}; {remedy}; see {path}"
            findings.append(context.report(level, "flat", text))
    return findings, 2 if left else 1


def parse_arguments(words: Sequence[str]) -> tuple[DoctorContext, None]:
    """Parse the command line; the second value is None because there is no output folder."""
    parser = FlagParser(settings=True, allow_abbrev=False)
    parser.add_argument("--send-test-alert", action="store_true")
    typed = parser.parse_intermixed_args(list(words))
    parser.refuse_non_overrides(typed.overrides)
    config = compose_config("doctor", typed.overrides)
    options = settings_from_config(DoctorOptions, OmegaConf.masked_copy(config, ["venue", "probe"]))
    settings = LiveSettings.from_config(config)
    require_alpaca(settings.broker)
    try:
        keys: ApiKeys | InputError = ApiKeys.from_environment(os.environ)
    except InputError as error:
        keys = error
    return DoctorContext(settings, keys, SYSTEM_TIME, typed.send_test_alert, options), None


def run(context: DoctorContext) -> Result:
    """Run all checks, or probe the venue; print each finding as soon as it is available.

    The exit code is 1 if a check failed, else 0; `probe_venue` states that of a probe.
    """
    # Library logs are no findings, and would leave a log file behind.
    logging.getLogger().addHandler(logging.NullHandler())
    if context.options.venue == "probe":
        findings, failure_code = probe_venue(context, context.options.probe)
    else:
        findings, failure_code = run_checks(context), 1
    failed = any(finding.level == "failure" for finding in findings)
    document = {"passed": not failed, "checks": [asdict(finding) for finding in findings]}
    return Result(exit_code=failure_code if failed else 0, json_document=document)
