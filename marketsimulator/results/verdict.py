"""The sentence on top of a report: what was earned, what it rests on, and what it beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from forecasting.forecast import reads_future
from foundation.formatting import count_text, percent

RANDOM_WALK = "random_walk"  # the comparison that shows what the forecast adds
BUY_AND_HOLD = "buy_and_hold"  # the comparison that shows what deciding adds
RUN_CLAIMS = {  # by what the run is to others
    "ahead": "Beats {} beyond error",
    "behind": "Falls behind {} beyond error",
    "not_significant": "Cannot be told apart from {}",
    "same": "Earns the same as {}",
    "too little": "Too little to compare with {}",
}
COMPARISON_LABELS = {RANDOM_WALK: "random walk", BUY_AND_HOLD: "buy and hold"}


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
    label = COMPARISON_LABELS.get(name, name)
    figures = summary["comparisons"][name]
    if figures["premium_share"] == 1.0:
        return f"{label} (the prior alone)"
    return f"{label} (holds nothing)" if figures["time_invested"] == 0 else label


def verdict(summary: dict[str, Any]) -> Verdict:
    """The verdict on a run, from the content of its `summary.json`."""
    names: dict[str, list[str]] = {}
    for name, outperformance in summary["outperformances"].items():
        if outperformance is not None:
            names.setdefault(_standing(outperformance), []).append(name)
    said = [
        words.format(" and ".join(_owned_label(summary, name) for name in names[standing]))
        for standing, words in RUN_CLAIMS.items()
        if standing in names
    ]
    claim = "; ".join(said[:1] + [text[0].lower() + text[1:] for text in said[1:]])
    claim = f"{claim}." if claim else "There is nothing to compare it with."
    level: Literal["good", "bad", "open"] = "good" if list(names) == ["ahead"] else "open"
    reason = no_evidence_reason(summary["forecaster"], summary["data"])
    lost = summary.get("wiped_out_on")
    if lost:
        claim = f"The account was lost: no equity was left on {lost}."
    if reason or lost or "behind" in names:
        level = "bad"
    return Verdict(level, f"{reason} {claim}".lstrip(), _rest(summary))


def _standing(outperformance: dict[str, Any]) -> str:
    """What the run is to another, a key of `RUN_CLAIMS`."""
    if outperformance["same"]:
        return "same"
    if outperformance["interval"] is None:
        return "too little"
    return {1: "ahead", 0: "not_significant", -1: "behind"}[outperformance["significant_sign"]]


def _owned_label(summary: dict[str, Any], name: str) -> str:
    return f"{'its ' if name == RANDOM_WALK else ''}{run_label(summary, name)}"


def no_evidence_reason(forecaster: str, data: str) -> str:
    """Why the figures are no result whatever they are; empty where they may be one."""
    if reads_future(forecaster):
        return "No result: the forecaster reads the future."
    if data.startswith("synthetic"):
        return "No result: the market is synthetic."
    return ""


def _rest(summary: dict[str, Any]) -> str:
    earned = percent(summary["total_return"], sign=True)
    earned += f" after costs in {count_text(summary['days'], 'day')}"
    share = summary["premium_share"]
    if summary["time_invested"] == 0:
        return f"{earned}; it held no position."
    if share is None:
        return f"{earned}; no position rests on a premium or on a forecast."
    return (
        f"{earned}; {percent(share, 0)} of the mean position rests on the prior,"
        f" {percent(1 - share, 0)} on the forecast."
    )
