"""Run the default tests on every supported Python, with the lowest and the latest libraries.

    python -m tools.matrix [3.11 3.14] [torch==2.13.0]

A pin replaces a lowest version that has no build for this machine. Each combination gets a separate
environment in a temporary folder, which is removed. CONTRIBUTING.md shows the printed table. The
exit status is 1 if a combination fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RUNTIME = ("joblib", "notices", "pictures", "ray", "rl", "search")


def lowest_pins() -> Iterator[str]:
    """Yield a pin of each library's lowest allowed version in pyproject.toml, except test tools."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in RUNTIME for text in extras[name])]
    for requirement in map(Requirement, texts):
        for each in requirement.specifier:
            if each.operator == ">=":
                yield f"{requirement.name}=={each.version}"


def tested(python: str, libraries: str, pins: Sequence[str], folder: Path) -> str:
    """Run the default tests in a new environment; return their last line, or the failure.

    libraries: "lowest" or "latest" of those that pyproject.toml allows.
    """
    constraints = folder / "pins.txt"
    lines = (
        dict(pin.split("==") for pin in (*lowest_pins(), *pins)) if libraries == "lowest" else {}
    )
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lines.items()))
    tools = folder / "venv" / "bin"
    install = (*(tools / "pip", "install", "--quiet", "--no-compile"), "--constraint", constraints)
    for command in (
        (python, "-m", "venv", folder / "venv"),
        (*install, "--editable", f"{PROJECT}[{','.join((*RUNTIME, 'dev'))}]"),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"not installed: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
    done = subprocess.run(
        (tools / "pytest", "-n", "auto", "--dist", "loadfile", "-q"),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    sys.stderr.write(done.stdout)
    totals = [line for line in done.stdout.splitlines() if re.search(r"\d+ (passed|failed)", line)]
    return totals[-1].strip("= ") if totals else f"no result: exit code {done.returncode}"


def main(words: Sequence[str]) -> int:
    pins = [word for word in words if "==" in word]
    wanted = [word for word in words if "==" not in word] or PYTHONS
    print("| Python | libraries | result |\n| --- | --- | --- |")
    failed = False
    for version in wanted:
        python = shutil.which(f"python{version}")
        for libraries in ("lowest", "latest") if python else ():
            with tempfile.TemporaryDirectory() as folder:
                result = tested(str(python), libraries, pins, Path(folder))
            failed |= "failed" in result or "passed" not in result
            print(f"| {version} | {libraries} | {result} |", flush=True)
        if python is None:
            print(f"| {version} | | not here |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
