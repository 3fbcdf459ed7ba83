"""State how much of full Kelly the sealed record of a forecaster has earned.

    python -m marketsimulator.prove FORECASTS… 'data.dir=[DIR]' [key=value …]
    python -m marketsimulator.prove seal FOLDER [witness=FILE]

FORECASTS is a file or a folder that grows, with the columns symbol, issued_at, horizon, mean and
deviation (see `forecasting.file_forecaster`). `seal` records the folder's new files as issued now;
seal each within a minute of the end of its bar. Forecasts that were not sealed in time are judged
in hindsight and earn nothing. They are judged without calibration.

The output contains proof.html and proof.json. All forecasters tried on the same bars (trials=)
share one probability of error: a later one needs a higher e-value.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.prove")

from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from forecasting.evidence import error_share
from forecasting.forecast import Progress
from forecasting.sealing import SealedRecord, read_record, seal_folder
from foundation.cli import Result, find_command
from foundation.errors import InputError
from foundation.files import resolve_output as resolve_output_folder
from foundation.formatting import format_count
from marketsimulator.results.proof import Proof, ProofSettings, build_proof_trial, judge_record
from marketsimulator.results.proof_page import (
    STATUS_LABELS,
    build_proof_summary,
    proof_file_writers,
    proof_table,
)
from marketsimulator.results.trials import check_ledger, count_forecasters


def resolve_output(settings: ProofSettings, config: DictConfig) -> Path | None:
    """Return the checked output folder; None for a command that seals."""
    if settings.seal is not None:
        return None
    command = find_command("marketsimulator.prove")
    return resolve_output_folder(config, command.marker_file, command.marker_keys)


def run(settings: ProofSettings, progress: Progress) -> Result:
    """Judge the forecasts, or seal a folder; return the tables, the sentences and the files."""
    if settings.seal is not None:
        return _seal(Path(settings.seal).expanduser(), settings.witness)
    if not settings.forecasts:
        raise InputError("forecasts: name a file or folder of forecasts")
    check_ledger(settings.trials)
    market = settings.load_market()
    bars = market.bars
    records = [_read(path, settings, bars.timeframe.length) for path in settings.forecasts]
    matches = [record.match_rows(bars) for record in records]
    proofs = []
    for record, matched in zip(records, matches, strict=True):
        trial = build_proof_trial(record, market)
        attempt = max(count_forecasters(settings.trials, trial), record.count.number)
        evidence = {
            status: judge_record(
                settings, market, record, matched, status, error_share(attempt), progress
            )
            for status in STATUS_LABELS
            if record.has_forecasts(status)
        }
        counts_attempts = settings.trials is not None
        proofs.append(Proof(trial.forecaster, attempt, record, evidence, matched, counts_attempts))
    summary = build_proof_summary(proofs, bars.source)
    return Result(
        [summary["sentence"], *map(proof_table, proofs)],
        summary["remarks"],
        proof_file_writers(proofs, summary),
        json_document=summary,
    )


def _read(path: str, settings: ProofSettings, bar_length: np.timedelta64) -> SealedRecord:
    witness = None if settings.witness is None else Path(settings.witness)
    return read_record(Path(path).expanduser(), bar_length, witness, settings.head)


def _seal(folder: Path, witness: str | None) -> Result:
    """Seal the new files of a folder; return the head of its seals."""
    seals = seal_folder(folder, None if witness is None else Path(witness))
    if not seals:
        return Result([f"{folder}: no file to seal."], json_document={"seals": 0, "head": None})
    last = seals[-1]
    sentence = f"{format_count(len(seals), 'batch', 'batches')} sealed, the last: {last.file}"
    return Result(
        [f"{sentence}, {format_count(last.rows, 'row')}, at {last.sealed_at}."],
        [f"Head, which you may publish: {last.digest}"],
        json_document={"seals": len(seals), "head": last.digest, "last": last._asdict()},
    )
