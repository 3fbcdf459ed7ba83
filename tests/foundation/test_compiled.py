"""No stale machine code: what is kept is named after every source that holds compiled functions."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numba
import pytest

from foundation.compiled import ROOMS, digest_of

ROOT = Path(__file__).resolve().parent.parent.parent
KERNEL = (
    "from foundation.compiled import compiled\n\n\n@compiled\ndef double(x: float) -> float:\n   "
    " return 2.0 * x\n"
)


@pytest.mark.parametrize(
    "place", ["sizing/kernel.py", "sizing/solver/kernel.py", "foundation/a/b/kernel.py"]
)
def test_a_change_of_a_kernel_in_a_room_or_a_wing_compiles_anew(tmp_path: Path, place: str) -> None:
    kernel = tmp_path / place
    beside = tmp_path / "sizing" / "words.py"
    for path in (kernel, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text(KERNEL)
    beside.write_text("WORDS = 1\n")
    before = digest_of(tmp_path)
    beside.write_text("WORDS = 2\n")
    assert digest_of(tmp_path) == before
    kernel.write_text(KERNEL.replace("2.0", "3.0"))
    assert digest_of(tmp_path) != before


def test_what_is_compiled_is_named_so_that_the_first_minute_is_not_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def doubled(x: float) -> float:
        return 2.0 * x

    with caplog.at_level(logging.INFO):
        assert numba.njit(doubled)(1.5) == 3.0
    assert [line.split(".")[-1] for line in caplog.messages] == ["doubled"]
    assert caplog.messages[0].startswith("compiling ")


def test_every_file_that_compiles_anything_is_looked_at() -> None:
    decorated = re.compile(r"^@(compiled|inlined|reordered|numba\.)|^@?(n?jit)\b", re.MULTILINE)
    files = [
        path for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.name != "compiled.py"
    ]
    kernels = [path for path in files if decorated.search(path.read_text())]
    assert len(kernels) > 20
    assert [path for path in kernels if "foundation.compiled import" not in path.read_text()] == []
