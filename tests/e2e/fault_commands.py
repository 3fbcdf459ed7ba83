"""Commands to a loop that is failing, each written at a moment that is drawn, and what came of it.

Each is a file in the account's folder, as any program of the account's owner may write it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from execution.journal.commands import Verb
from execution.live.commands import COMMANDS_FOLDER, read_answer, write_command
from foundation.clock import utc_now
from foundation.database import query_rows
from tests.e2e.fault_checks import book_of_orders

PAUSES: tuple[Verb, ...] = ("pause", "resume", "resume")
ALL: tuple[Verb, ...] = (*PAUSES, *PAUSES, "reduce", "reduce", "exit", "exit", "flatten")
FRACTIONS = ("0", "0.3", "0.5", "0.9")


@dataclass
class Commands:
    """What a person has written.

    rng: draws it.
    symbols: that may be exited.
    verbs: that are drawn.
    clock: of the machine on which they are written.
    written: verbs and arguments by id, with the folder.
    forgotten: ids that a journal knew which was damaged since.
    """

    rng: random.Random
    symbols: Sequence[str]
    verbs: Sequence[Verb] = ALL
    clock: Callable[[], np.datetime64] = utc_now
    written: dict[str, tuple[Verb, str]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)

    def write(self, folder: Path, verb: Verb | None = None) -> None:
        """Write a command, now and then one again that was answered; no account, no command."""
        if not folder.is_dir():
            return
        if verb is None and self.written and self.rng.random() < 0.2:
            name = self.rng.choice(list(self.written))
        else:
            name, chosen = f"c{len(self.written)}", verb or self.rng.choice(self.verbs)
            arguments = {"reduce": FRACTIONS, "exit": self.symbols}.get(chosen, ("",))
            self.written[name] = chosen, self.rng.choice(arguments)
        told = dict(zip(("verb", "argument"), self.written[name], strict=True))
        write_command(folder, name, {**told, "by": "Ada", "written_at": str(self.clock())})

    def unanswered(self, folder: Path) -> list[str]:
        """Ids without an answer, or whose file is still there."""
        return [
            name
            for name in self.written
            if read_answer(folder, name) is None
            or (folder / COMMANDS_FOLDER / f"{name}.json").exists()
        ]

    def counts(self, journal: Path) -> Counter[str]:
        """What must never be of commands, and how each was answered."""
        received = Counter(
            name for (name,) in _events(journal, "command received") if name not in self.forgotten
        )
        answers = {name: read_answer(journal.parent, name) for name in self.written}
        return Counter(
            repeated_commands=sum(number > 1 for number in received.values()),
            unanswered_commands=len({*self.unanswered(journal.parent)} - self.forgotten),
            **Counter(
                f"command {self.written[name][0]} {answer['state']}"
                for name, answer in answers.items()
                if answer is not None
            ),
        )


def openings_while_paused(journal: Path) -> int:
    """Openings that were sent after a pause and before it was lifted, by the order of events."""
    roles = {name: intent.role for name, intent in book_of_orders(journal).items()}
    paused = count = 0
    for kind, subject in query_rows(journal, "SELECT kind, subject FROM events ORDER BY number"):
        paused += (kind == "halted") * (subject == "paused")
        paused -= (kind == "halt ended") * (subject == "paused")
        count += kind == "submitting" and paused > 0 and roles.get(subject) == "opening"
    return count


def _events(journal: Path, kind: str) -> list[tuple[str]]:
    return query_rows(journal, "SELECT subject FROM events WHERE kind = ?", (kind,))
