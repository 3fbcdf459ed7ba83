"""Replay: run the live job on a practice server whose clock waits for it, one cycle per instant.

Each cycle is journaled before the clock moves, and the run files are built from the journal alone.
After an interruption the same command resumes the replay if the server still runs. No instant is
decided twice.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import yaml

from execution.brokers import EstimatedClock, create_broker_connection, open_reading_gateway
from execution.decision.trader import Trader
from execution.journal.events import EventLog
from execution.journal.order_store import REFUSED_STATES
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.asset_check import refuse_unlisted_symbols
from execution.live.commands import CommandDesk
from execution.live.loop import StopSignal, print_warning, stop_on_signals
from execution.live.open_account import open_account
from execution.live.runner import CycleReporter
from execution.live.settings import LiveSettings
from execution.live.trading import TradingJob
from execution.live.watch import AccountWatch, LiveAccountReader
from forecasting.forecast import Progress
from foundation.console import show_progress
from foundation.errors import BrokerError, InputError
from foundation.files import (
    OVERWRITE_ARGUMENT,
    add_summary_writer,
    check_output_folder,
    write_files_atomically,
)
from foundation.formatting import format_count
from foundation.signals import TerminatedBySignal
from foundation.transport import format_connection_error
from marketsimulator.results.journal_record import JournalRecord
from marketsimulator.run_result import run_file_writers
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.instants import format_utc
from trainingdata.timeframe import Timeframe

log = logging.getLogger("live")

REPLAY_FILE = "replay.json"
REPLAY_EVENT = "replay"  # journal event with the settings at the start of the replay
SECRET_SETTINGS = ("healthcheck_url", "alert_url", "notice_urls")
# Settings of the connection, of storage and alerts, and settings that a replay does not read.
NON_DECISION_SETTINGS = (*SECRET_SETTINGS, "notices", "broker", "folder", "start", "end")


class ServerClockClient:
    """Client of a practice server's clock, which stands still until the client moves it.

    instants_left: number of remaining instants.
    instants_passed: number of instants passed since the server started.
    """

    def __init__(self, url: str, now: np.datetime64) -> None:
        self._url = url
        self.instants_left = self.instants_passed = 0
        self._post_advance({"to": f"{np.datetime_as_string(now, unit='s')}Z"})

    def advance(self) -> bool:
        """Move the clock to its next instant; return False if no instant is left."""
        return self._post_advance({})

    def _post_advance(self, command: dict[str, str]) -> bool:
        try:
            answer = requests.post(f"{self._url}/control/advance", json=command, timeout=60)
        except requests.RequestException as error:
            why = (
                "cannot advance the clock of the practice server:"
                f" {format_connection_error(error)}; check that the server is running"
            )
            raise InputError(f"broker.url_override: {why}") from error
        if answer.status_code != 200:
            raise InputError(
                f"broker.url_override: {self._url} does not have a waiting clock (HTTP status"
                f" {answer.status_code}); start the practice server with --speed wait"
            )
        state = answer.json()
        self.instants_left, self.instants_passed = int(state["left"]), int(state["passed"])
        return bool(state["moved"])


def _refuse_other_account(output: Path, account_id: str) -> None:
    """Refuse an output folder that contains the replay of another account."""
    try:
        before = json.loads((output / REPLAY_FILE).read_text(encoding="utf-8"))["account"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if before != account_id:
        raise InputError(
            f"output: {output} contains a replay of account {before}, but the restarted server"
            f" has account {account_id}. Choose another output folder, or pass"
            f" {OVERWRITE_ARGUMENT} to"
            " discard that replay"
        )


def run_replay(
    settings: LiveSettings,
    keys: ApiKeys,
    feed: BarFeed,
    trader: Trader,
    output: Path,
    *,
    overwrite: bool,
    reporter: CycleReporter,
) -> str:
    """Run a cycle at each remaining instant of the server's clock, and write the run files.

    Returns the summary as one line of JSON.

    output: folder of the run files.
    overwrite: true if other files in the folder may be overwritten.
    reporter: receiver of the report of each cycle.
    """
    url = settings.broker.address
    if url is None or not settings.broker.is_loopback:
        raise InputError(
            "broker.url_override: a replay needs a practice server on this machine; start"
            " practice.alpaca_server and give its URL"
        )
    check_output_folder(output, REPLAY_FILE, ("instants", "equity"), overwrite=overwrite)
    connection = create_broker_connection(settings.broker, keys)
    account_id = connection.account_id()
    if not overwrite:
        _refuse_other_account(output, account_id)
    with open_reading_gateway(connection, terms=settings.orders, feed=feed) as gateway:
        refuse_unlisted_symbols(gateway, settings.tradable_symbols)
    clock = ServerClockClient(url, connection.now())
    with ExitStack() as held:
        account = held.enter_context(
            open_account(
                account_id,
                Path(settings.folder),
                keys,
                EstimatedClock(connection),
                is_paper=settings.broker.paper,
            )
        )
        # The guards ignore the stop signal, so that the current cycle sends its orders.
        live = LiveAccount(connection, account, settings, feed, StopSignal())
        job = TradingJob(live, feed, trader, settings, cycles=None, patience=0.0)
        config = keys.redact(yaml.safe_dump(redact_settings(settings), sort_keys=False))
        records = ReplayFileWriter(live, trader.forecaster.name, config, output)
        begun = account.build_decision_journal(TRADE_JOB).last_decision() is not None
        check_replay_settings(account.events, settings, has_decisions=begun)
        stop = StopSignal()
        held.enter_context(stop_on_signals(stop))
        progress = held.enter_context(show_progress())
        watch = None
        if settings.watch.limits:
            desk = CommandDesk(
                account.kill_file.parent,
                account.database,
                account.events,
                account.halts,
                (job,),
                account,
            )
            reader = LiveAccountReader(live, settings)
            watch = AccountWatch(settings.watch, reader, account, desk, [job])
        timeframe = settings.timeframe_or_hourly
        _run_cycles(job, clock, stop, reporter, progress, watch, timeframe)
        if clock.instants_left:
            raise TerminatedBySignal(signal.Signals[stop.why])
        return records.write_run_files(clock)


def _run_cycles(
    job: TradingJob,
    clock: ServerClockClient,
    stop: StopSignal,
    reports: CycleReporter,
    progress: Progress,
    watch: AccountWatch | None,
    timeframe: Timeframe,
) -> None:
    """Run a cycle at the clock's present instant and at each later one, until a stop signal.

    At an auction only protective orders are updated, as in a backtest. A resumed replay runs a
    second cycle at the present instant.

    watch: watch that reads the account before each cycle; None if it has no limit.
    timeframe: length of the bars.
    """
    first, instants = clock.instants_passed, clock.instants_left + 1
    while True:
        if timeframe.begins_with_auction(job.desk.now()):
            job.on_snapshot(job.desk.read_and_record_mark())
        else:
            if watch is not None:
                watch.read()
            reports.report(job.run_cycle())
        progress("instants", clock.instants_passed - first + 1, instants)
        if stop or not clock.advance():
            return


@dataclass(frozen=True, slots=True)
class ReplayFileWriter:
    """Writer of a replay's run files, which are built from the account's journal.

    live_account: live account of the replay.
    forecaster: name of the forecaster.
    config_yaml: all settings, as YAML text.
    output: folder of the run files.
    """

    live_account: LiveAccount
    forecaster: str
    config_yaml: str
    output: Path

    def write_run_files(self, clock: ServerClockClient) -> str:
        """Write the run files and return their summary as JSON; warn of unsent orders and halts."""
        try:
            self.live_account.record_activities()
        except BrokerError as error:  # the activities read before count
            log.warning("%s", error)
        record = JournalRecord.from_database(self.live_account.account.database, TRADE_JOB)
        marks = record.equity_marks
        run = record.build_run(self.forecaster, *record.first_and_last_snapshots())
        kept_back = [
            each
            for each in self.live_account.book.intents_in_states(REFUSED_STATES)
            if each.job == TRADE_JOB
        ]
        halts = self.live_account.halts.active()
        figures = {
            "instants": len(marks),
            "fills": len(run.fills),
            "equity": marks[-1].equity,
            "from": format_utc(marks[0].at),
            "to": format_utc(marks[-1].at),
            "instants_left_out": clock.instants_passed + 1 - len(marks),
            "not_sent": len(kept_back),
            "halted": [str(halt) for halt in halts],
            "account": self.live_account.account.name,
        }
        files: dict[str, Callable[[Path], object]] = {
            "config.yaml": lambda path: path.write_text(self.config_yaml, encoding="utf-8")
        }
        write_files_atomically(
            add_summary_writer({**run_file_writers(run), **files}, REPLAY_FILE, figures),
            self.output,
        )
        if kept_back:
            first = f"{kept_back[0].client_order_id}: {kept_back[0].state_reason}"
            print_warning(
                f"{format_count(len(kept_back), 'order')} of the replay NOT sent. The"
                f" first: {first}."
            )
        for halt in halts:
            print_warning(
                f"The account is halted at the end of the replay: {halt}. {halt.rule.remedy}"
            )
        return json.dumps(figures)


def check_replay_settings(events: EventLog, settings: LiveSettings, *, has_decisions: bool) -> None:
    """Record the settings that affect decisions; refuse a change of them during a replay.

    They may still change until the first decision.
    """
    values = redact_settings(settings)
    now = {
        key: json.dumps(value) for key, value in values.items() if key not in NON_DECISION_SETTINGS
    }
    kept = events.events(REPLAY_EVENT)
    if not kept or not has_decisions:
        events.append("settings", REPLAY_EVENT, now)
    elif others := [key for key in now if now[key] != kept[-1].content.get(key)]:
        raise InputError(
            f"{', '.join(others)}: changed since the replay on this server started; continue"
            " with the original settings, or restart the server to start a new replay"
        )


def redact_settings(settings: LiveSettings) -> dict[str, Any]:
    """Return all settings as JSON values, with secret URLs redacted."""
    values = asdict(settings)
    for name in SECRET_SETTINGS:
        values[name] = values[name] and "[secret]"
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain
