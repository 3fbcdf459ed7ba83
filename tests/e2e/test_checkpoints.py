"""A checkpoint is loaded whole or refused by name."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, WEIGHTS_FILE
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message
from tests.support.original_command import bars_file

RUN = (
    "marketsimulator.backtest", "symbols=[AAAUSD]", "start=2024-01-14", "end=2024-01-15",
    "data.dir=[coins]", "trials=null", "output=out",
)  # fmt: skip
FIRST = "encoder.block.0.layer.0.self_attention.q.weight"

Tensors = dict[str, torch.Tensor]


def without(tensors: Tensors) -> None:
    del tensors[FIRST]


def with_another(tensors: Tensors) -> None:
    tensors["surplus.weight"] = torch.zeros(3)


def of_another_shape(tensors: Tensors) -> None:
    tensors[FIRST] = tensors[FIRST][:, :-8].contiguous()


def not_finite(tensors: Tensors) -> None:
    tensors[FIRST][3, 1] = -math.inf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with bars and a copy of the shipped checkpoint."""
    bars_file(tmp_path / "coins", "AAAUSD.parquet")
    shutil.copytree(BUNDLED_CHECKPOINT, tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without, f"1 tensor missing: {FIRST}"),
        (with_another, "1 tensor unexpected: surplus.weight"),
        (of_another_shape, f"1 tensor mismatched: {FIRST}"),
        (not_finite, f"1 tensor not finite: {FIRST}"),
    ],
)
def test_mismatched_checkpoint_tensors_are_refused_before_any_output(
    change: Callable[[Tensors], None], says: str, folder: Path
) -> None:
    tensors = load_file(folder / "model" / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, folder / "model" / WEIGHTS_FILE, {"format": "pt"})
    words = [*RUN, "forecaster.model=model", "forecaster.cache=cache"]
    code, _, said = answer_of(*words, cwd=folder)
    # Long phases are printed above the progress bar.
    *_, line = said.splitlines()
    assert code == 2
    assert line.startswith("error: forecaster.model: model cannot be loaded as Chronos-2: ")
    assert says in line
    assert not list(folder.glob("cache/**/*.*"))
    assert not (folder / "out").exists()


@pytest.mark.parametrize("architectures", [["Evil"], [], "Chronos2Model", None])
def test_checkpoint_of_unsupported_architecture_gives_one_line_error(
    architectures: object, folder: Path
) -> None:
    path = folder / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "architectures": architectures}))
    check_message(
        refusal_of(*RUN, "forecaster.model=model", cwd=folder),
        f"{architectures!r}",
        "Chronos2Model",
    )
