"""Proofs: sealed forecasts earn by growth, hindsight does not, and attempts share the error."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from forecasting.evidence import error_share
from forecasting.sealing import seal_folder
from foundation.compose import compose_config
from foundation.errors import DataError, InputError
from marketsimulator import prove
from marketsimulator.results.proof import ProofSettings
from marketsimulator.results.trials import count_forecasters, record_trials
from marketsimulator.run_arguments import overrides_from_forecasts
from tests.marketsimulator.proofs import (
    CERTAINTY,
    INSTANTS,
    document,
    panel,
    planted,
    proved,
    sealed,
)
from tests.support.documents import blocks
from tests.support.messages import refused
from tests.support.trials import TRIAL
from trainingdata.bars import Bars


@pytest.fixture(scope="module")
def bars() -> Bars:
    return panel()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, bars: Bars) -> tuple[Path, Path]:
    """A sealed folder of forecasts with a large edge, and its witness."""
    folder = tmp_path_factory.mktemp("records") / "mine"
    witness = folder.with_suffix(".witness")
    sealed(planted(bars, CERTAINTY), folder, witness)
    return folder, witness


@pytest.fixture(scope="module")
def whole(record: tuple[Path, Path]) -> Any:
    """What the whole record has earned."""
    folder, witness = record
    [found] = document(proved(str(folder), f"witness={witness}"))["forecasts"]
    return found


def test_sealed_edge_earns_and_hindsight_does_not(record: tuple[Path, Path], whole: Any) -> None:
    folder, witness = record
    found = whole
    assert found["sealed"]["forecasts"] == INSTANTS
    assert found["earned"] > 0.02
    assert found["sealed"]["growth"]["e_value"] > found["needed_e_value"]
    assert "hindsight" not in found
    assert re.fullmatch(
        r"Since 2024-0\d-\d\d this forecast has earned 0\.\d\d of full Kelly \(e-value [\d.e+]+; 40"
        r" were needed\)\. It assumes .*; 0 decisions lost more\. It is record 1 of 1 sealed here,"
        r" 0 of them missing\.",
        found["sentence"],
    )
    assert found["sealed"]["breaches"] == []
    elsewhere = document(proved(str(folder), f"witness={witness}.none"))
    [late] = elsewhere["forecasts"]
    assert late["earned"] == late["hindsight"]["earned"] == 0
    assert late["hindsight"]["growth"] == found["sealed"]["growth"]
    assert elsewhere["sentence"].endswith("in time, and hindsight earns nothing.")


@pytest.mark.slow
def test_late_seal_trades_at_the_next_price(tmp_path: Path, bars: Bars) -> None:
    """Five seconds after its issue a forecast may have seen the bar whose open it would trade."""
    forecasts = planted(bars, CERTAINTY).tail(40)
    for late in (0, 5):
        sealed(forecasts, tmp_path / f"{late}", tmp_path / f"{late}.jsonl", late, alone=40)
    prompt, found = (
        document(proved(str(tmp_path / late), f"witness={tmp_path / late}.jsonl"))["forecasts"][0]
        for late in ("0", "5")
    )
    assert found["sealed"]["forecasts"] == 40
    assert found["earned"] == 0.0
    assert found["sealed"]["added_return"] < 0.8 * prompt["sealed"]["added_return"]
    assert found["longest_delay_seconds"] == 5


def test_choice_of_symbols_earns_nothing(tmp_path: Path, bars: Bars) -> None:
    forecasts = planted(bars, CERTAINTY).tail(4)
    both = pd.concat([forecasts, forecasts.assign(symbol="SYB", mean=0.0)])
    folder, witness = tmp_path / "two", tmp_path / "two.jsonl"
    sealed(both.sort_values("issued_at", ignore_index=True), folder, witness)
    [found] = document(proved(str(folder), f"witness={witness}"))["forecasts"]
    assert found["earned"] == found["sealed"]["earned"] == 0.0
    assert found["absent_symbols"] == ["SYB"]
    assert found["sentence"] == (
        "Nothing is earned, because forecasts of SYB are not judged; judge all."
    )


def test_later_record_needs_more_evidence(tmp_path: Path, bars: Bars) -> None:
    """Also without a ledger of trials, and also if the first record is gone."""
    poor = tmp_path / "poor"
    sealed(planted(bars, -1.0).head(3), poor, tmp_path / "poor.jsonl")
    shutil.rmtree(poor)
    folder, witness = tmp_path / "good", tmp_path / "good.jsonl"
    sealed(planted(bars, CERTAINTY).tail(3), folder, witness)
    [found] = document(proved(str(folder), f"witness={witness}"))["forecasts"]
    assert found["needed_e_value"] == pytest.approx(120)
    assert found["records"] == {"number": 2, "total": 2, "missing": 1}
    assert "It is record 2 of 2 sealed here, 1 of them missing." in found["sentence"]


def test_dropped_batch_costs_the_largest_loss(
    record: tuple[Path, Path], whole: Any, tmp_path: Path
) -> None:
    folder, witness = record
    copy = tmp_path / "mine"
    copy.mkdir()
    files = sorted(folder.iterdir())
    for file in [*files[1:9], *files[10:]]:
        (copy / file.name).write_bytes(file.read_bytes())
    shortened = document(proved(str(copy), f"witness={witness}"))
    [found] = shortened["forecasts"]
    assert found["gaps"] == 2
    assert found["sealed"]["since"] == whole["sealed"]["since"]
    assert found["sealed"]["added_return"] < whole["sealed"]["added_return"] - 0.35
    assert "2 instants are missing or changed" in shortened["remarks"][0]


@pytest.mark.slow
def test_files_are_written_and_compared(
    record: tuple[Path, Path], tmp_path: Path, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, share in (("good", CERTAINTY), ("poor", -3.0)):
        sealed(planted(bars, share).tail(5), tmp_path / name, None)
    result = proved(f"forecasts=[{tmp_path / 'good'},{tmp_path / 'poor'}]")
    for name, write in result.file_writers.items():
        write(tmp_path / name)
    written = json.loads((tmp_path / "proof.json").read_text())
    good, bad = (each["name"] for each in written["forecasts"])
    assert bad != good
    page = (tmp_path / "proof.html").read_text()
    assert good in page
    assert "Earned of full Kelly" in page


def test_each_forecaster_keeps_its_number(tmp_path: Path) -> None:
    ledger = tmp_path / "trials.sqlite"
    record_trials(ledger, [replace(TRIAL, config_hash=name, forecaster=name) for name in "ab"])
    mine = replace(TRIAL, config_hash="mine", forecaster="mine")
    assert count_forecasters(ledger, mine) == 3
    record_trials(ledger, [replace(TRIAL, config_hash="d", forecaster="d")])
    record_trials(ledger, [replace(TRIAL, config_hash="a", forecaster="a")])
    later = replace(mine, data_hash="d2", last="2024-07-01T20:00Z")
    assert count_forecasters(ledger, later) == 3
    assert count_forecasters(ledger, replace(later, config_hash="e", forecaster="e")) == 5
    assert count_forecasters(ledger, replace(mine, symbols=("ZZZ",), config_hash="f")) == 1
    assert count_forecasters(None, mine) == 1
    assert 1 / error_share(3) == pytest.approx(240)


def test_seal_prints_the_head(tmp_path: Path, bars: Bars) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    planted(bars, 0.0).to_csv(folder / "a.csv", index=False)
    settings = ProofSettings.from_config(
        compose_config(
            "prove", overrides_from_forecasts(["seal", str(folder), f"witness={tmp_path / 'w'}"])
        )
    )
    result = prove.run(settings, lambda *_: None)
    found = document(result)
    assert found["seals"] == 1
    assert found["head"] in result.closing_lines[0]
    assert prove.run(settings, lambda *_: None).json_document == result.json_document


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("start", ["start=2024-02-01"]),
        ("days", ["days=10"]),
        ("data.adjustment", ["data.adjustment=raw"]),
        ("head", ["forecasts=[a,b]", "head=0"]),
    ],
)
def test_unfair_proofs_are_refused(key: str, words: list[str]) -> None:
    with refused(InputError, key):
        ProofSettings.from_config(compose_config("prove", words))


@pytest.mark.parametrize(
    ("key", "words"),
    [("seal", ["seal"]), ("seal", ["seal", "a", "b"]), ("forecasts", ["a", "forecasts=[b]"])],
)
def test_ambiguous_words_are_refused(key: str, words: list[str]) -> None:
    with refused(InputError, key):
        overrides_from_forecasts(words)


def test_proof_needs_forecasts() -> None:
    with refused(InputError, "forecasts"):
        proved("forecasts=[]")


def test_guide_shows_a_valid_file_of_forecasts(tmp_path: Path) -> None:
    (text,) = blocks("docs/FORECASTS", "csv")
    (tmp_path / "a.csv").write_text(text)
    [seal] = seal_folder(tmp_path, tmp_path.with_suffix(".witness"))
    assert seal.rows == text.count("TOYUSD")


def test_unmatched_forecasts_use_no_trial(tmp_path: Path, bars: Bars) -> None:
    ledger = tmp_path / "trials.sqlite"
    folder = tmp_path / "mine"
    folder.mkdir()
    forecasts = planted(bars, 0.0)
    forecasts["issued_at"] = forecasts["issued_at"].str.replace(":00Z", ":07Z")
    forecasts.to_csv(folder / "a.csv", index=False)
    with pytest.raises(DataError, match="end of a bar"):
        proved(str(folder), f"trials={ledger}")
    assert count_forecasters(ledger, replace(TRIAL, config_hash="new", forecaster="new")) == 1
