"""Checks of `make gpu` for a machine that has Python, torch and CUDA, and no package index.

python studies/benchmarks/bare_machine.py cuda           exit code 2 without CUDA
python studies/benchmarks/bare_machine.py packages       exit code 2 if a package is missing
python studies/benchmarks/bare_machine.py pins           the packages to bring along, pinned
python studies/benchmarks/bare_machine.py weigh FOLDER   exit code 2 if wheels are too large
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

# The library and the packages that the network needs; pandas is needed by the library, pydantic by
# the settings. No compiler, no Parquet, no SciPy.
NEEDED = (
    "chronos-forecasting",
    "transformers",
    "huggingface-hub",
    "safetensors",
    "numpy",
    "pandas",
    "pydantic",
    "tzdata",
    "pytest",
)
# torch is there with all it needs; faster downloads are useless without a network.
LEFT_OUT = ("torch", "hf-xet")
MOST = 60e6  # bytes of all wheels together, maximum


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
    """Return the needed packages as `name==version`, without torch and its own dependencies."""
    return [f"{name}=={version(name)}" for name in closure(NEEDED, LEFT_OUT, python)]


def closure(names: tuple[str, ...], left_out: tuple[str, ...], python: str) -> list[str]:
    """Return packages and all their dependencies, except those in `left_out`."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    place = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    place |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or name in left_out:
            continue
        found.add(name)
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate(place):
                waiting.append(canonicalize_name(needed.name))
    return sorted(found)


def weigh(folder: Path) -> None:
    """Print the sizes of wheels, the largest first, and refuse a total above the maximum."""
    sizes = {path.name.split("-")[0]: path.stat().st_size for path in folder.glob("*.whl")}
    total = sum(sizes.values())
    heaviest = sorted(sizes.items(), key=lambda each: -each[1])[:6]
    sizes_text = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in heaviest)
    print(f"{len(sizes)} wheels, {total / 1e6:.1f} MB: {sizes_text}, …")
    if total > MOST:
        stop(f"{total / 1e6:.1f} MB of wheels are more than {MOST / 1e6:.0f}")


def stop(why: str) -> None:
    print(f"make gpu: {why}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["cuda"]:
            check_cuda()
        case ["packages"]:
            check_packages()
        case ["pins"]:
            print("\n".join(pins()))
        case ["weigh", folder]:
            weigh(Path(folder))
