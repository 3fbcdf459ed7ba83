"""The sentence on top of a report: what was earned, what it rests on, and what it beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from forecasting.forecast import reads_future
from foundation.counts import counted
from foundation.figures import percent

RANDOM_WALK = "random_walk"  # the comparison that shows what the forecast adds
BUY_AND_HOLD = "buy_and_hold"  # the comparison that shows what deciding adds
WORDS = {RANDOM_WALK: "random walk", BUY_AND_HOLD: "buy and hold"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run's figures amount to.

    level: `good` where it beats all that it is compared with, `bad` where it is behind any of it
        or no result, `open` where nothing can be told.
    claim: in a line.
    rest: what was earned, and what it rests on.
    """

    level: Literal["good", "bad", "open"]
    claim: str
    rest: str


def run_label(summary: dict[str, Any], name: str) -> str:
    """A comparison as people call it, and whether it is the prior alone or holds nothing."""
    label = WORDS.get(name, name)
    figures = summary["comparisons"][name]
    if figures["rests_on_prior"] == 1.0:
        return f"{label} (the prior alone)"
    return f"{label} (holds nothing)" if figures["time_invested"] == 0 else label


def verdict(summary: dict[str, Any]) -> Verdict:
    """The verdict on a run, from the content of its `summary.json`."""
    leads = {name: lead for name, lead in summary["leads"].items() if lead is not None}
    beyond = {name: lead["beyond"] for name, lead in leads.items()}
    same = [name for name, lead in leads.items() if lead["same"]]
    insufficient_data = [
        n for n, lead in leads.items() if lead["interval"] is None and n not in same
    ]
    claims = [
        _claim(summary, "Beats", [name for name in leads if beyond[name] > 0], " beyond error"),
        _claim(summary, "Falls behind", [n for n in leads if beyond[n] < 0], " beyond error"),
        _claim(
            summary,
            "Cannot be told apart from",
            [
                name
                for name in leads
                if beyond[name] == 0 and name not in (*same, *insufficient_data)
            ],
            "",
        ),
        _claim(summary, "Earns the same as", same, ""),
        _claim(summary, "Too little to compare with", insufficient_data, _too_little(summary)),
    ]
    said = [text for text in claims if text]
    claim = "; ".join(said[:1] + [text[0].lower() + text[1:] for text in said[1:]])
    claim = f"{claim}." if claim else "There is nothing to compare it with."
    level: Literal["good", "bad", "open"] = "open"
    if leads and all(sign > 0 for sign in beyond.values()):
        level = "good"
    if any(sign < 0 for sign in beyond.values()):
        level = "bad"
    if reason := no_result(summary):
        return Verdict("bad", f"{reason} {claim}", _rest(summary))
    return Verdict(level, claim, _rest(summary))


def no_result(summary: dict[str, Any]) -> str:
    """Why the figures are no result whatever they are; empty where they may be one."""
    if reads_future(summary["forecaster"]):
        return "No result: the forecaster reads the future."
    if summary["data"].startswith("synthetic"):
        return "No result: the market is synthetic."
    return ""


def _claim(summary: dict[str, Any], verb: str, names: list[str], tail: str) -> str:
    if not names:
        return ""
    labels = []
    for name in names:
        owner = "its " if name == RANDOM_WALK else ""
        labels.append(owner + run_label(summary, name))
    return f"{verb} {' and '.join(labels)}{tail}"


def _too_little(summary: dict[str, Any]) -> str:
    return f" ({counted(summary['days'], 'day')})"


def _rest(summary: dict[str, Any]) -> str:
    earned = percent(summary["total_return"], sign=True)
    earned += f" after costs in {counted(summary['days'], 'day')}"
    share = summary["rests_on_prior"]
    if share is None:
        return f"{earned}; no position rests on a premium or on a forecast."
    return (
        f"{earned}; {percent(share, 0)} of the mean position rests on the prior,"
        f" {percent(1 - share, 0)} on the forecast."
    )
