"""What `make gpu` asks of a machine that has Python, torch and CUDA, and no package index.

python tests/benchmarks/bare_machine.py cuda       exit code 2 and one line where there is no CUDA
python tests/benchmarks/bare_machine.py packages   exit code 2 and one line where a package lacks
python tests/benchmarks/bare_machine.py pins       the packages to bring along, as installed here
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version

NEEDED = (
    "chronos-forecasting",
    "transformers",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "exchange_calendars",
    "tzdata",
    "filelock",
    "pydantic",
    "PyYAML",
    "rich",
    "pytest",
    "hypothesis",
)
THERE = "torch"  # with all it needs


def check_cuda() -> None:
    try:
        import torch
    except ImportError as error:
        stop(
            f"torch is not installed for {sys.executable} ({error}); name another: make gpu"
            " PYTHON=…"
        )
    if not torch.cuda.is_available():
        stop(
            f"torch {torch.__version__} of {sys.executable} sees no CUDA here; nothing is measured"
        )


def check_packages() -> None:
    missing = []
    for name in NEEDED:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        stop(
            f"not installed: {', '.join(missing)}; `make wheels` on a machine with an index, then"
            " bring the folder along"
        )


def pins(python: str = "3.12") -> list[str]:
    """Every package that is needed, torch and what it alone needs left out, as `name==version`."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    place = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    place |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in NEEDED]
    while waiting:
        name = waiting.pop()
        if name in found or name == THERE:
            continue
        found[name] = version(name)
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(place):
                waiting.append(canonicalize_name(needed.name))
    return sorted(f"{name}=={there}" for name, there in found.items())


def stop(why: str) -> None:
    print(f"make gpu: {why}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    {"cuda": check_cuda, "packages": check_packages, "pins": lambda: print("\n".join(pins()))}[
        sys.argv[1]
    ]()
