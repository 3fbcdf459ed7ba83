"""Page, tables and JSON of a proof: evidence over time, what is earned, and hindsight apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from forecasting.evidence import error_share
from forecasting.sealing import SealStatus
from foundation.arrays import Array
from foundation.charts import SERIES_COLOURS, Chart, Series, ValueUnit, horizontal_line
from foundation.cli import replace_non_finite
from foundation.formatting import (
    NO_VALUE,
    format_basis_points,
    format_count,
    format_duration,
    format_enumeration,
    format_number,
    format_percent,
)
from foundation.page import Section, render_page
from foundation.tables import Cell, Table, format_json
from marketsimulator.results.proof import Proof, RecordEvidence
from marketsimulator.results.returns_page import CHART_TIMEZONE
from marketsimulator.results.verdict import Verdict, no_evidence_reason, qualify_claim
from trainingdata.instants import format_utc

STATUS_LABELS: Mapping[SealStatus, str] = {"sealed": "sealed", "hindsight": "in hindsight"}
_FORMAT_GROWTH = partial(format_basis_points, places=3, sign=True)


def build_proof_summary(proofs: Sequence[Proof], data_source: str) -> dict[str, Any]:
    """Return the content of `proof.json`.

    data_source: source of the bars.
    """
    several = len(proofs) > 1
    claims = [f"{each.name}: {each.sentence}" if several else each.sentence for each in proofs]
    claim = " ".join(claims)
    reason = no_evidence_reason("", data_source)
    return {
        "sentence": qualify_claim(reason, claim[0].lower() + claim[1:]),
        "data": data_source,
        "forecasts": [each.summary() for each in proofs],
        "remarks": [remark for proof in proofs for remark in _remarks(proof)],
    }


def _remarks(proof: Proof) -> list[str]:
    """Return remarks on missing and late forecasts, on earlier attempts and on hindsight."""
    remarks = []
    if gaps := len(proof.record.gap_instants):
        remarks.append(
            f"sealed forecasts of {format_count(gaps, 'instant')} are missing or changed; each"
            " instant counts as the largest loss"
        )
    if proof.record.is_unwitnessed:
        remarks.append(
            "its seals do not count, because the witness does not know them (was the folder"
            " moved?); name the witness"
        )
    if rows := proof.matches.unmatched:
        remarks.append(f"{format_count(rows, 'row')} not judged: no bar closes at issued_at")
    if not proof.counts_attempts:
        remarks.append("trials=null: of the forecasters tried before, only sealed records count")
    if seconds := proof.longest_delay_seconds:
        remarks.append(
            f"sealed up to {format_duration(seconds)} after issue; such forecasts trade at the"
            " first price after their seal"
        )
    if proof.attempt > 1:
        remarks.append(f"number {proof.attempt} of the forecasters tried on these bars (trials)")
    if "sealed" in proof.evidence and len(breaches := proof.evidence["sealed"].breaches):
        instants = ", ".join(map(format_utc, breaches))
        remarks.append(f"lost more than the condition of its evidence allows at {instants}")
    if "sealed" in proof.evidence:
        remarks.append(
            "seals have the time of this machine's clock: whoever does not trust it needs digests"
            " that were published before the outcome"
        )
    if "hindsight" in proof.evidence:
        count = format_count(proof.evidence["hindsight"].forecast_count, "forecast")
        remarks.append(f"{count} not sealed in time; in hindsight nothing is earned")
    return [f"{proof.name}: {remark}." for remark in remarks]


def proof_table(proof: Proof) -> Table:
    """Return the table of a forecaster's evidence at the end, one column per status."""
    columns = [each.figures() for each in proof.evidence.values()]
    rows: list[tuple[str | Cell, ...]] = [
        ("Since", *(each["since"] for each in columns)),
        ("Forecasts", *(f"{each['forecasts']:,}" for each in columns)),
    ]
    growth = [each["growth"] for each in columns]
    rows += [
        ("E-value", *(_format_e_value(each["e_value"]) for each in growth)),
        ("Return added an instant", *(_FORMAT_GROWTH(each["mean"]) for each in growth)),
        ("At least", *(_format_bound(each["lower_bound"]) for each in growth)),
    ]
    earned = [Cell(format_number(each["earned"]), "strong") for each in columns]
    rows.append(("Earned of full Kelly", *earned))
    return Table(proof.name, ("", *(STATUS_LABELS[each] for each in proof.evidence)), rows)


def _format_bound(bound: float) -> str:
    return _FORMAT_GROWTH(bound) if np.isfinite(bound) else NO_VALUE


def _format_e_value(value: float) -> str:
    return format_number(value) if abs(value) < 1e6 else f"{value:.2e}"


def proof_file_writers(
    proofs: Sequence[Proof], summary: dict[str, Any]
) -> dict[str, Callable[[Path], object]]:
    """Return the writer of each file of a proof, by file name."""
    text = format_json(replace_non_finite(summary))
    page = render_proof(proofs, summary)
    return {
        "proof.html": lambda path: path.write_text(page, encoding="utf-8"),
        "proof.json": lambda path: path.write_text(text, encoding="utf-8"),
    }


def render_proof(proofs: Sequence[Proof], summary: dict[str, Any]) -> str:
    """Render a proof as one self-contained HTML page."""
    growth = "Two accounts on paper, sized by Kelly with the forecast and without it, after costs."
    has_earned = any(each.earned > 0 for each in proofs)
    level: Literal["good", "bad", "open"] = "good" if has_earned else "open"
    if no_evidence_reason("", summary["data"]):
        level = "bad"
    return render_page(
        "foundation/page.html.j2",
        title="What the forecast has earned",
        subtitle=f"{format_enumeration([each.name for each in proofs])} · {summary['data']}",
        verdict=Verdict(level, summary["sentence"], growth),
        warnings=summary["remarks"],
        notes=[],
        sections=[section for proof in proofs for section in _sections(proof)],
    )


def _sections(proof: Proof) -> list[Section]:
    """Return the sections of a forecaster: figures, then the charts of each status."""
    sections = [Section("Figures", [proof_table(proof)])]
    for status, evidence in proof.evidence.items():
        label = STATUS_LABELS[status]
        sections.append(
            Section(
                f"Evidence, {label}",
                [_evidence_chart(evidence, 1 / error_share(proof.attempt))],
                "Capital of bets against the claim that the forecast is worth nothing, in powers of"
                " ten. It may be read at any time: a forecast without merit ever reaches the line"
                " with a probability of at most the forecaster's share of 5 %.",
            )
        )
        if status == "sealed":
            curves = {
                "with all of it": evidence.added_return,
                "with the earned part": _earned_growth(evidence),
            }
            sections += [
                Section("Return added", [_chart(evidence, "percent", curves)]),
                Section(
                    "Earned of full Kelly",
                    [_chart(evidence, "plain", {"earned": evidence.earned})],
                    "Lower bound of the return added over its mean, from 0 to 1.",
                ),
            ]
        curves = {"mean": evidence.growth.mean, "lower bound": evidence.growth.lower_bound}
        chart = _chart(evidence, "percent", curves)
        sections.append(Section(f"Return added an instant, {label}", [chart], is_wide=False))
    return sections


def _earned_growth(evidence: RecordEvidence) -> Array:
    """Return what the earned part of the positions would have added, [T].

    It is in proportion to the part that was earned at the decision before.
    """
    gained = np.diff(evidence.added_return, prepend=0.0)
    return np.asarray(np.cumsum(gained * np.append(0.0, evidence.earned[:-1])))


def _evidence_chart(evidence: RecordEvidence, needed: float) -> Chart:
    """Return the chart of the e-value in powers of ten, with the required value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = np.log10(evidence.growth.e_value)
    return _chart(evidence, "plain", {"e-value": powers}, float(np.log10(needed)))


def _chart(
    evidence: RecordEvidence,
    unit: ValueUnit,
    curves: Mapping[str, Array],
    needed: float | None = None,
) -> Chart:
    """Return the chart of curves over the instants; infinite values leave gaps.

    needed: level to reach; None for 0.
    """
    style = ("quiet", "") if needed is None else ("limit", "needed")
    series = [horizontal_line(needed or 0.0, evidence.instants, *style)]
    for (name, values), colour in zip(curves.items(), SERIES_COLOURS, strict=False):
        shown = np.where(np.isfinite(values), values, np.nan)
        series.append(Series(name, colour, evidence.instants, shown).downsample())
    words = partial(format_percent, places=3) if unit == "percent" else format_number
    text = ", ".join(f"{name} {words(float(values[-1]))}" for name, values in curves.items())
    return Chart(f"At the end: {text}", tuple(series), unit, CHART_TIMEZONE)
