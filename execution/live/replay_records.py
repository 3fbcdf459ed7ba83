"""What a replay leaves: its passes in the account's journal, and the files that are made of them.

The journal alone says what the files hold. A replay that was stopped, or killed, and gone on with
leaves those of one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.decision import Decision
from execution.journal.activities import stamp
from execution.journal.decisions import TAKEN_BACK, choice_of_entry
from execution.journal.intents import IntentBook
from execution.journal.migrations import create_tables
from execution.live.replay_settings import refuse_other_settings
from execution.orders import Fill
from execution.records import Run, writers_of
from foundation.database import Database, Row
from foundation.errors import InputError
from foundation.files import OVERWRITE, write_run
from trainingdata.instants import utc_text
from trainingdata.instruments import instrument, is_symbol

REPLAY_FILE = "replay.json"
SECOND = np.timedelta64(1, "s")

CONFIG = "config.yaml"

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS replay_passes (
        at TEXT PRIMARY KEY,
        cash REAL NOT NULL,
        equity REAL NOT NULL,
        instants_left INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS replay_settings (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        settings TEXT NOT NULL
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class ReplayPass:
    """A pass that is over.

    at: instant by the server's clock.
    cash, equity: USD, after what the pass traded.
    left: instants that the server's clock still had.
    """

    at: np.datetime64
    cash: float
    equity: float
    left: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a replay ended.

    left: instants that the server's clock still has.
    left_out: instants that it had gone through before the first pass.
    why: it was not the end of the server's bars; empty where it was.
    """

    left: int
    left_out: int
    why: str = ""


class ReplayRecords:
    """The passes of a replay, and the files of the run that they make.

    account_id: at the server.
    database: the account's journal; book: the intents in it.
    job: whose decisions they are.
    forecaster: its name.
    config: all settings, as YAML.
    output: folder of the files.
    """

    def __init__(
        self,
        account_id: str,
        database: Database,
        book: IntentBook,
        job: str,
        forecaster: str,
        config: str,
        output: Path,
    ) -> None:
        self._account_id = account_id
        self._database = database
        self._book = book
        self._job = job
        self._forecaster = forecaster
        self._config = config
        self._output = output
        create_tables(database, *_SCHEMA)

    def keep_settings(self, settings: Mapping[str, str], now: np.datetime64) -> None:
        """Write down the settings that decide; once something was decided they stay.

        settings: as JSON by dotted key.
        now: what the server's clock shows.

        Raises
        ------
        InputError
            for other settings than the replay was begun with.
        """
        rows = self._database.rows("SELECT settings FROM replay_settings")
        if rows and (self.passes() or self.run(now).decisions):
            with self._database.checked():
                before = json.loads(rows[0][0])
            refuse_other_settings(before, settings)
            return
        self._database.execute(
            "INSERT OR REPLACE INTO replay_settings VALUES (1, ?)", (json.dumps(settings),)
        )

    def note(self, done: ReplayPass) -> None:
        """Write a pass down; of one instant the last word counts."""
        self._database.execute(
            "INSERT OR REPLACE INTO replay_passes VALUES (?, ?, ?, ?)",
            (stamp(done.at), done.cash, done.equity, done.left),
        )

    def passes(self) -> list[ReplayPass]:
        """All that were made, in the order of time."""
        rows = self._database.rows(
            "SELECT at, cash, equity, instants_left FROM replay_passes ORDER BY at"
        )
        return [ReplayPass(np.datetime64(at, "ns"), *rest) for at, *rest in rows]

    def run(self, since: np.datetime64) -> Run:
        """Decisions, orders and fills from an instant on."""
        # Fills are listed after an instant, and those of the first pass lie at the one it began at.
        first = since - SECOND
        decisions = self._database.rows(
            "SELECT id, at, until, equity, stock_ceiling, failure, choices FROM decisions"
            " WHERE job = ? AND decided_at > ? AND ended != ? ORDER BY rowid",
            (self._job, stamp(first), TAKEN_BACK),
        )
        fills = self._database.rows(
            "SELECT client_order_id, symbol, qty, price, at FROM fills"
            " WHERE at > ? AND price IS NOT NULL ORDER BY at, rowid",
            (stamp(first),),
        )
        with self._database.checked():
            made = [self._decision(row) for row in decisions]
            traded = [_fill(row) for row in fills if is_symbol(row[1])]
        return Run(self._forecaster, made, traded, [], {})

    def _decision(self, row: Row) -> Decision:
        name, at, until, equity, stock_ceiling, failure, choices = row
        return Decision(
            at=np.datetime64(at, "ns"),
            until=np.datetime64(until, "ns"),
            equity=equity,
            stock_ceiling=stock_ceiling,
            choices=tuple(choice_of_entry(entry) for entry in json.loads(choices)),
            orders=tuple(intent.single for intent in self._book.of_decision(name)),
            failure=failure,
        )

    def write(self, ending: Ending) -> str:
        """Write the files, and return their summary, a line of JSON.

        Raises
        ------
        InputError
            for a folder that cannot be written, and a replay without a pass.
        """
        passes = self.passes()
        if not passes:
            raise InputError("the replay has made no pass, so that there are no records of it")
        run = self.run(passes[0].at)
        equity = pd.DataFrame(
            [(each.at, each.cash, each.equity) for each in passes],
            columns=["at", "cash", "equity"],
        )
        equity["at"] = pd.DatetimeIndex(equity["at"]).tz_localize("UTC")
        figures = {
            "instants": len(passes),
            "fills": len(run.fills),
            "equity": passes[-1].equity,
            "from": utc_text(passes[0].at),
            "to": utc_text(passes[-1].at),
            "partial": bool(ending.why),
            "stopped": ending.why,
            "instants_left": ending.left,
            "instants_left_out": ending.left_out,
            "account": self._account_id,
        }
        files: dict[str, Callable[[Path], object]] = {
            "equity.parquet": equity.to_parquet,
            CONFIG: lambda path: path.write_text(self._config, encoding="utf-8"),
        }
        write_run({**writers_of(run), **files}, self._output, REPLAY_FILE, figures)
        return json.dumps(figures)


def _fill(row: Row) -> Fill:
    name, symbol, quantity, price, at = row
    item = instrument(symbol)
    # The venue books fees apart from fills.
    return Fill(name, item.symbol, Decimal(quantity), float(price), 0.0, np.datetime64(at, "ns"))


def refuse_other_replay(output: Path, account_id: str, now: np.datetime64) -> None:
    """Refuse a folder with a replay of an account that is not there any more.

    now: what the server's clock shows.

    Raises
    ------
    InputError
        saying how far that one came, and what to do.
    """
    before = _summary_in(output)
    if before.get("account") in (None, account_id):
        return
    ended = f"records end at {before.get('to')}"
    if before.get("partial"):
        ended += f" (instants to go: {before.get('instants_left')})"
    raise InputError(
        f"output: {output} has a replay of account {before['account']}, whose {ended}; the server"
        f" was begun again since: its account is {account_id}, and its clock shows {utc_text(now)}."
        f" Name another output, or say {OVERWRITE} to give those records up"
    )


def _summary_in(output: Path) -> Mapping[str, Any]:
    """What an earlier replay says of itself; nothing where there is none that can be read."""
    try:
        summary = json.loads((output / REPLAY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
