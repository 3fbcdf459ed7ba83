"""What an account's sizes came to, beside the same decisions at one fixed size.

Orders are read from the journal that trading wrote and sent again at their prices, once as they
were and once at the fixed size, over the very ticks that they were decided on. `episode` has to say
the limits and the fees that were traded with; `episode.life` the steps that an order may wait.
"""

from __future__ import annotations

import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from event_contracts.simulation.replay import Recording, Replay, replay
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.size_report import SIZE_HEADS, SizeReport, size_cells
from event_contracts.trading.action_log import ACTION_TABLE, ActionEntry, ActionRecords
from event_contracts.trading.actions import POSITION_SIZES, decode_action
from event_contracts.trading.position_sizes import PositionSizeMetrics
from event_contracts.trading.size_section import size_view
from execution.journal.migrations import as_it_is_today
from execution.live.page_words import number
from foundation.counts import counted
from foundation.errors import InputError

HEADS = ("profit, USD", "orders", "not allowed", *SIZE_HEADS)


def paper_report(journal: Path, size: int, episode: EpisodeSettings) -> SizeReport:
    """What an account's sizes came to, what bounded them, and what a fixed one would have.

    `content` has the number of decisions on ticks, HOLD among them; orders sent by their contracts
    (`sizes`); purchases whose next larger size was masked, by cash, the buffer, a limit or a fixed
    size (`bounded`); orders that a guard or the venue did not take (`rejected`), and those of which
    it did not say what became (`unknown`). Money is text in USD.

    Raises `InputError` for a journal that cannot be read or makes no sense, or has no decisions on
    event contracts.
    """
    recording = _recording(journal)
    entries = recording.entries
    decided = replay(recording, episode)
    fixed = replay(recording, episode, size)
    difference = decided.profit - fixed.profit
    change = entries[-1].worth - entries[0].worth
    bounded = sum(map(_is_bounded, entries))
    rejected = sum(each.answer.startswith("rejected") for each in entries)
    unknown = sum(each.answer.startswith("unknown") for each in entries)
    sent = Counter(each.sent for each in entries if each.sent)
    runs = {"as decided": decided, f"fixed at {size}": fixed}
    return SizeReport(
        title="Sizes on paper",
        source="The decisions of a journal, played again over the ticks that they were made on",
        sentences=(
            f"As decided they earned {_signed(difference)} USD beyond {size} contracts each time.",
        ),
        heads=HEADS,
        rows={name: _cells(run) for name, run in runs.items()},
        notes=(
            f"{counted(len(entries), 'decision')}. The account changed by {_signed(change)} USD"
            " between the first and the last, deposits among it.",
            f"{counted(bounded, 'purchase')} kept from a larger size,"
            f" {counted(rejected, 'order')} not taken, {unknown:,} of unknown fate.",
            "Not allowed: orders that cash, inventory or limits did not allow in the replay.",
        ),
        views={name: size_view(run.episodes, "seconds") for name, run in runs.items()},
        content={
            "decisions": len(entries),
            "sizes": {str(contracts): sent[contracts] for contracts in sorted(sent)},
            "bounded": bounded,
            "rejected": rejected,
            "unknown": unknown,
            "account_change": str(change),
            "fixed_size": size,
            "as_decided": _replay_json(decided),
            "at_fixed_size": _replay_json(fixed),
            "difference": str(difference),
        },
    )


def _recording(path: Path) -> Recording:
    # Unlike the path's own question this one has an answer for a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(f"journal: {path} is no file; it is the journal.sqlite of an account")
    with as_it_is_today(path) as database:
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (ACTION_TABLE,)):
            raise InputError(f"journal: {path} has no decisions on event contracts")
        return Recording.of(ActionRecords(database))


def _cells(run: Replay) -> tuple[str, ...]:
    """A row's cells, one for each of `HEADS`."""
    sizes = size_cells(PositionSizeMetrics.of(run.episodes))
    return (_signed(run.profit), f"{run.orders:,}", f"{run.refused:,}", *sizes)


def _signed(amount: Decimal) -> str:
    return number(float(amount), "+,.2f")


def _is_bounded(entry: ActionEntry) -> bool:
    """Whether the next larger size of a purchase was masked."""
    intent, size = decode_action(entry.action)
    larger = entry.intent.startswith("BUY") and size + 1 < len(POSITION_SIZES)
    return bool(intent) and larger and not entry.allowed >> entry.action + 1 & 1


def _replay_json(run: Replay) -> dict[str, Any]:
    return {
        "profit": str(run.profit),
        "orders": run.orders,
        "refused": run.refused,
        "position_sizes": PositionSizeMetrics.of(run.episodes).as_json(),
    }
