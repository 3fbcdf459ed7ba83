"""What a replay leaves: its passes in the account's journal, and the files that are made of them.

The journal alone says what the files hold. A replay that was stopped, or killed, and gone on with
leaves those of one that was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from execution.decision import Decision
from execution.journal.activities import fills_of
from execution.journal.decisions import decisions_of
from execution.journal.intents import KEPT_BACK, IntentBook
from execution.journal.replay import ReplayBook
from execution.live.replay_settings import refuse_other_settings
from execution.orders import Fill
from execution.records import Run, writers_of
from foundation.database import Database
from foundation.errors import InputError
from foundation.files import OVERWRITE, write_run
from trainingdata.instants import utc_text
from trainingdata.instruments import is_symbol

REPLAY_FILE = "replay.json"
SECOND = np.timedelta64(1, "s")

CONFIG = "config.yaml"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a replay ended.

    left: instants that the server's clock still has.
    left_out: instants that it had gone through before the first pass.
    why: it was not the end of the server's bars; empty where it was.
    halts: that stand at the end.
    """

    left: int
    left_out: int
    why: str = ""
    halts: tuple[str, ...] = ()


class ReplayRecords:
    """A replay as the journal has it, and the files of the run that it makes.

    replay: its settings and its passes.
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
        self.replay = ReplayBook(database)

    def keep_settings(self, settings: Mapping[str, str], now: np.datetime64) -> None:
        """Write down the settings that decide; once something was decided they stay.

        settings: as JSON by dotted key.
        now: what the server's clock shows.

        Raises
        ------
        InputError
            for other settings than the replay was begun with.
        """
        before = self.replay.settings()
        if before is not None and (self.replay.passes() or self.run(now).decisions):
            refuse_other_settings(before, settings)
        else:
            self.replay.keep(settings)

    def run(self, since: np.datetime64) -> Run:
        """Decisions, orders and fills from an instant on."""
        # Fills are listed after an instant, and those of the first pass lie at the one it began at.
        first = since - SECOND
        decisions = [
            Decision(
                at=row.at,
                until=row.until,
                equity=row.equity,
                stock_ceiling=row.stock_ceiling,
                choices=tuple(row.choices.values()),
                orders=tuple(intent.single for intent in self._book.of_decision(row.name)),
                failure=row.failure,
            )
            for row in decisions_of(self._database, self._job, first)
        ]
        fills = [
            # The venue books fees apart from fills.
            Fill(row.order, row.symbol, row.quantity, float(row.price), 0.0, row.at)
            for row in fills_of(self._database, first)
            if is_symbol(row.symbol)
        ]
        return Run(self._forecaster, decisions, fills, [], {})

    def unsent(self) -> list[str]:
        """Why orders that were decided are not at the server, a line each."""
        return [
            f"{intent.client_order_id}: {intent.why}"
            for intent in self._book.in_states(KEPT_BACK)
            if intent.job == self._job
        ]

    def write(self, ending: Ending) -> str:
        """Write the files, and return their summary, a line of JSON.

        Raises
        ------
        InputError
            for a folder that cannot be written, and a replay without a pass.
        """
        passes = self.replay.passes()
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
            "not_sent": len(self.unsent()),
            "halted": list(ending.halts),
            "account": self._account_id,
        }
        files: dict[str, Callable[[Path], object]] = {
            "equity.parquet": equity.to_parquet,
            CONFIG: lambda path: path.write_text(self._config, encoding="utf-8"),
        }
        write_run({**writers_of(run), **files}, self._output, REPLAY_FILE, figures)
        return json.dumps(figures)


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
