"""Variants over a Ray cluster, in a process of their own: Ray reads a token once in each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("on_ray_checks.py")


@pytest.mark.slow
def test_ray_sweep_equals_single_process_despite_machine_failure() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CHECKS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
