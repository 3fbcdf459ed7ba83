"""What a paper account's sizes came to, beside the same decisions at one fixed size.

    python -m event_contracts.paper_report journal=data/kalshi/ACCOUNT/journal.sqlite
    [fixed_size=10] [episode.limits.contracts=500] [key=value …]

Orders are read from the journal that trading wrote and sent again at their prices, once as they
were and once at the fixed size, over the very ticks that they were decided on. `episode` has to say
the limits and the fees that were traded with; `episode.life` the steps that an order may wait.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command(
        "event_contracts.paper_report",
        __doc__,
        settings="kalshi_paper",
        hydra=True,
        private=True,
    )

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from event_contracts.simulation.replay import Recording, Replay, replay
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.action_log import ACTION_TABLE, ActionEntry, ActionRecords
from event_contracts.trading.actions import POSITION_SIZES, decode_action
from event_contracts.trading.position_sizes import PositionSizeMetrics
from event_contracts.trading.size_section import SIZE_MACRO, SIZE_STYLE, size_view
from execution.journal.migrations import as_it_is_today
from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.command import log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import output_of, settings_of
from foundation.counts import counted
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.page import render_page
from foundation.terminal import terminal

FILE = "paper_report.json"
PAGE = "paper_report.html"

_TEMPLATE = (
    '{% extends "frame" %}{% block title %}Paper trading of event contracts{% endblock %}'
    "{% block style %}:root { --quiet: #667085; --rule: #e3e7ee; --first: #2456c8;"
    " --second: #0b7a4b; --limit: #b4540a }"
    + CHART_STYLE
    + SIZE_STYLE
    + "{% endblock %}{% block body %}"
    + CHART_MACRO
    + SIZE_MACRO
    + """<h1>Sizes on paper</h1>
<table><tr><th scope="col"></th><th scope="col">as decided</th>
<th scope="col">fixed at {{ fixed_size }}</th></tr>
{% for name, decided, fixed in rows %}<tr><th scope="row">{{ name }}</th><td>{{ decided }}</td>
<td>{{ fixed }}</td></tr>{% endfor %}</table>
<table>{% for name, value in facts %}<tr><th scope="row">{{ name }}</th>
<td>{{ value }}</td></tr>{% endfor %}</table>
{% for name, sizes in sections %}{% if sizes %}<h3>{{ name }}</h3>{{ sized(sizes) }}{% endif %}
{% endfor %}{% endblock %}"""
)


@dataclass(frozen=True, slots=True)
class PaperReportSettings:
    """What is reported.

    journal: of the account.
    fixed_size: contracts of every order of the other run, from 1 up to the limit of a market.
    episode: limits, fees and the life of an order; cash, sizes and prices are the journal's.
    output: folder of the JSON file and the page.
    """

    journal: str = "journal.sqlite"
    fixed_size: int = 10
    episode: EpisodeSettings = field(default_factory=EpisodeSettings)
    output: str = "outputs/kalshi-paper"

    def __post_init__(self) -> None:
        most = int(self.episode.limits.contracts)
        if not 1 <= self.fixed_size <= most:
            raise InputError(f"fixed_size: {self.fixed_size} is outside 1 … {most} contracts")
        if not Path(self.journal).suffix:
            raise InputError(f"journal: {self.journal} names no file")


@dataclass(frozen=True, slots=True)
class PaperReport:
    """A paper account's sizes, what bounded them, and what they earned.

    decisions: on ticks, HOLD among them.
    sizes: orders sent, by their contracts.
    bounded: purchases whose next larger size was masked: by cash, the buffer, a limit or a fixed
        size.
    rejected: orders that a guard or the venue did not take.
    unknown: orders of which the venue did not say what became.
    change: USD, of the account between the first decision and the last, deposits among it.
    fixed_size: contracts of every order of the other run.
    as_decided: the decisions played again.
    at_fixed_size: the same ones at the fixed size.
    """

    decisions: int
    sizes: Mapping[int, int]
    bounded: int
    rejected: int
    unknown: int
    change: Decimal
    fixed_size: int
    as_decided: Replay
    at_fixed_size: Replay

    @property
    def difference(self) -> Decimal:
        """USD that the sizes earned beyond the fixed one, both played again."""
        return self.as_decided.profit - self.at_fixed_size.profit

    def as_json(self) -> dict[str, Any]:
        """The report as JSON writes it; money is text."""
        return {
            "decisions": self.decisions,
            "sizes": {str(size): count for size, count in self.sizes.items()},
            "bounded": self.bounded,
            "rejected": self.rejected,
            "unknown": self.unknown,
            "account_change": str(self.change),
            "fixed_size": self.fixed_size,
            "as_decided": _replay_json(self.as_decided),
            "at_fixed_size": _replay_json(self.at_fixed_size),
            "difference": str(self.difference),
        }


def paper_report(settings: PaperReportSettings) -> PaperReport:
    """The report of an account's journal.

    Raises `InputError` for a journal that cannot be read or makes no sense, or has no decisions on
    event contracts.
    """
    path = Path(settings.journal)
    # Unlike the path's own question this one has an answer for a name that no file can have.
    if not os.path.isfile(path):
        raise InputError(f"journal: {path} is no file; it is the journal.sqlite of an account")
    with as_it_is_today(path) as database:
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (ACTION_TABLE,)):
            raise InputError(f"journal: {path} has no decisions on event contracts")
        recording = Recording.of(ActionRecords(database))
    entries = recording.entries
    return PaperReport(
        decisions=len(entries),
        sizes=dict(sorted(Counter(each.sent for each in entries if each.sent).items())),
        bounded=sum(map(_is_bounded, entries)),
        rejected=sum(each.answer.startswith("rejected") for each in entries),
        unknown=sum(each.answer.startswith("unknown") for each in entries),
        change=entries[-1].worth - entries[0].worth,
        fixed_size=settings.fixed_size,
        as_decided=replay(recording, settings.episode),
        at_fixed_size=replay(recording, settings.episode, settings.fixed_size),
    )


def _page(report: PaperReport) -> str:
    runs = (report.as_decided, report.at_fixed_size)
    figures = [
        {
            "profit, USD": _usd(run.profit),
            "orders sent": f"{run.orders:,}",
            "not allowed in the replay": f"{run.refused:,}",
            **dict(PositionSizeMetrics.of(run.episodes).rows()),
        }
        for run in runs
    ]
    rows = [(name, value, figures[1][name]) for name, value in figures[0].items()]
    facts = (
        ("decisions", f"{report.decisions:,}"),
        ("change of the account, USD", _usd(report.change)),
        ("purchases kept from a larger size", f"{report.bounded:,}"),
        ("orders not taken", f"{report.rejected:,}"),
        ("orders of unknown fate", f"{report.unknown:,}"),
    )
    names = ("Sizes as decided", f"Sizes fixed at {report.fixed_size}")
    sections = [
        (name, size_view(run.episodes, "seconds")) for name, run in zip(names, runs, strict=True)
    ]
    return render_page(
        _TEMPLATE, fixed_size=report.fixed_size, rows=rows, facts=facts, sections=sections
    )


def write_paper_report(report: PaperReport, output: Path) -> None:
    """Write JSON and page into a folder, whole or not at all."""
    text = json.dumps(report.as_json(), indent=1) + "\n"
    page = _page(report)
    write_whole(
        {
            FILE: lambda path: path.write_text(text, encoding="utf-8"),
            PAGE: lambda path: path.write_text(page, encoding="utf-8"),
        },
        output,
    )


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


def _usd(amount: Decimal) -> str:
    return f"{amount:+,.2f}".replace("-", "−")


def _run(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        settings = settings_of(PaperReportSettings, config)
        output = output_of(config, FILE)
        folders.append(output)
        log_to_file("kalshi_paper")
        report = paper_report(settings)
        write_paper_report(report, output)
    console = terminal(highlight=False)
    runs = (("as decided", report.as_decided), (f"at {report.fixed_size}", report.at_fixed_size))
    for name, run in runs:
        console.print(
            f"{name}: {_usd(run.profit)} USD with {counted(run.orders, 'order')}", soft_wrap=True
        )
    console.print(f"Report: {output / PAGE}", soft_wrap=True)


def main() -> None:
    """The command line."""
    hydra_command("kalshi_paper", _run)


if __name__ == "__main__":
    main()
