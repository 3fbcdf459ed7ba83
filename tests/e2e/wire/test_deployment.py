"""What supervises the loop: a systemd unit that is hardened, an image and a container that write
nothing but their volume. Read by systemd's own tools and by a linter where they are; the image is
built nowhere here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml

from execution.journal.cycles import CYCLE_SLACK_SECONDS, NextCycleJournal
from execution.live.account_lock import JOURNAL_FILE, KillFileExists
from execution.live.settings import LiveSettings
from foundation.clock import TimeSource, utc_now
from foundation.compose import compose_config
from foundation.database import Database
from option_spreads.selling.settings import SellingSettings
from tests.e2e.refused import answer_of

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "kelly-chronos.service"
SELLER = DEPLOY / "kelly-chronos-spreads.service"
UNITS = pytest.mark.parametrize("unit", [UNIT, SELLER], ids=lambda unit: unit.stem)
INSTALLED = "/opt/kelly-chronos"
STATE = "/var/lib/kelly-chronos"
LOOP = ("mode=paper", "cycles=null")
NEWER = 254  # systemd's version from which on it knows the growing pause
HARDENED = {  # beside the exposure that systemd counts
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogSec": "180",
    "Restart": "on-failure",
    "RestartPreventExitStatus": str(KillFileExists.exit_code),
    "DynamicUser": "yes",
    "ProtectSystem": "strict",
    "NoNewPrivileges": "yes",
    "MemoryMax": "2G",
    "UMask": "0077",
    "LimitCORE": "0",
}
CONTAINER = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "on-failure",  # a loop that is stopped on request ends with exit code 0
    "env_file": ["keys.env"],
    "volumes": [f"state:{STATE}"],
    "mem_limit": "2g",
    "memswap_limit": "2g",
}


def directives(text: str) -> dict[str, list[str]]:
    """Values of every directive of a unit, in their order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined, in their order."""
    lines = [line for line in DEPLOY.joinpath("Dockerfile").read_text().splitlines() if line]
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines()]


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze here: the unit is not looked at by systemd itself")
    return tool


def systemd_version(tool: str) -> int:
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[1])


@UNITS
def test_systemd_security_exposure_score_is_at_most_2(systemd_analyze: str, unit: Path) -> None:
    if systemd_version(systemd_analyze) < 250:
        pytest.skip("this systemd-analyze cannot look at a unit that is not installed")
    said = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert exposure is not None, said.stderr
    assert float(exposure[1]) <= 2.0
    assert said.returncode == 0


@UNITS
def test_systemd_analyze_verify_accepts_the_unit_file(
    systemd_analyze: str, tmp_path: Path, unit: Path
) -> None:
    """The unit is verified in another folder; the interpreter and the script have to exist
    there.
    """
    place = tmp_path / "installed"
    (place / ".venv" / "bin").mkdir(parents=True)
    (place / ".venv" / "bin" / "python").symlink_to(sys.executable)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace(INSTALLED, str(place)))
    said = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    known = systemd_version(systemd_analyze) >= NEWER
    newer = r"Unknown key( name)? '(RestartSteps|RestartMaxDelaySec)' in section"
    lines = [line for line in said.stderr.splitlines() if known or not re.search(newer, line)]
    assert [line for line in lines if unit.name in line] == []
    assert said.returncode == 0


@UNITS
def test_systemd_unit_restarts_on_failure_with_restricted_directories(unit: Path) -> None:
    found = directives(unit.read_text())
    assert found["StateDirectory"] == found["CacheDirectory"] == [unit.stem]
    assert found["WorkingDirectory"] == [f"%S/{unit.stem}"]
    assert {name: found[name] for name in HARDENED} == {n: [v] for n, v in HARDENED.items()}
    assert found["CapabilityBoundingSet"] == [""]
    assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert float(found["RestartSec"][0]) >= 5, "a loop that cannot start is no storm of requests"
    assert float(found["RestartMaxDelaySec"][0]) > float(found["RestartSec"][0])
    # numba writes machine code: with this it would not start.
    assert "MemoryDenyWriteExecute" not in found
    environment = dict(value.split("=", 1) for value in found["Environment"])
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "PYTHONPYCACHEPREFIX"):
        assert re.fullmatch(rf"%[SC]/{unit.stem}(/\w+)?", environment[name])


@UNITS
def test_systemd_unit_starts_the_loop_with_valid_arguments(unit: Path) -> None:
    found = directives(unit.read_text())
    (command,) = found["ExecStart"]
    python, script, *words = command.split()
    assert (python, script) == (f"{INSTALLED}/.venv/bin/python", f"{INSTALLED}/trade_stock_e2e.py")
    assert ROOT.joinpath(Path(script).name).is_file()
    environment = dict(value.strip('"').split("=", 1) for value in found["Environment"])
    told = [environment.get(word.strip("${}"), word) for word in words]
    config = compose_config("live", told)
    settings = LiveSettings.from_config(config)
    assert (config.mode, config.cycles) == ("paper", None)
    if unit == UNIT:
        assert words == [*LOOP, "$LOOP_WORDS"]
        assert found["EnvironmentFile"] == ["/etc/kelly-chronos/keys.env"]
        assert settings.symbols == ("NVDA", "BTCUSD")
        return
    # In braces a variable stays one word, quotes and all.
    assert words[-2:] == ["$LOOP_WORDS", "${SPREADS}"]
    assert found["EnvironmentFile"] == ["/etc/kelly-chronos/spreads.env"]
    assert settings.jobs == ("spreads",)
    selling = SellingSettings.from_config(compose_config("sell_spreads", list(settings.spreads)))
    assert (selling.vix, selling.strategies) == ("/etc/kelly-chronos/vix.parquet", ("PUT",))


@pytest.mark.parametrize(
    "name", [UNIT.name, SELLER.name, "Dockerfile", "compose.yaml", "Dockerfile.dockerignore"]
)
def test_deployment_files_contain_no_api_keys(name: str) -> None:
    text = DEPLOY.joinpath(name).read_text()
    assert not re.search(r"APCA_API_\w+\s*[=:]\s*[\w\"'$]", text)
    ignored = DEPLOY.joinpath(".gitignore").read_text().split()
    assert "keys.env" in ignored


def test_image_runs_unprivileged_without_build_tools() -> None:
    steps = dockerfile()
    last = max(number for number, (word, _) in enumerate(steps) if word == "FROM")
    final = steps[last:]
    assert ("USER", "10001:10001") in final
    commands = " ".join(argument for word, argument in final if word == "RUN")
    assert "pip uninstall --yes --root-user-action=ignore setuptools wheel pip" in commands
    assert not re.search(r"apt-get|pip install|gcc|curl|wget", commands)
    copied = [argument for word, argument in final if word in ("COPY", "ADD")]
    assert copied == [f"--from=build {INSTALLED} {INSTALLED}"], "nothing of the checkout itself"
    assert ("WORKDIR", STATE) in final
    assert f"install -d -m 700 -o kelly-chronos -g kelly-chronos {STATE}" in commands


def test_image_contains_every_package_and_only_pinned_wheels() -> None:
    """A package that is not copied is missing from the wheel."""
    steps = dockerfile()
    copied = {word for step, argument in steps if step == "COPY" for word in argument.split()[:-1]}
    project = ROOT.joinpath("pyproject.toml").read_text()
    (rooms,) = re.findall(r"packages = \{ find = \{ include = \[(.*?)\]", project)
    (modules,) = re.findall(r"py-modules = \[(.*?)\]", project)
    needed = {name.strip('"*') for name in rooms.split(", ")}
    needed |= {name.strip('"') + ".py" for name in modules.split(", ")}
    assert needed <= copied
    let_in = DEPLOY.joinpath("Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in let_in
    missing = [
        word for word in copied if not word.startswith(("-", "/")) and f"!{word}" not in let_in
    ]
    assert missing == []
    for step, argument in steps:
        for install in re.findall(r"pip \S+ \S+ install [^&]*", argument) if step == "RUN" else []:
            assert "--constraint constraints.txt" in install


def test_image_starts_the_loop_with_valid_arguments() -> None:
    (entry,) = [json.loads(argument) for word, argument in dockerfile() if word == "ENTRYPOINT"]
    (words,) = [json.loads(argument) for word, argument in dockerfile() if word == "CMD"]
    assert entry == ["python", "-P", "-m"]
    assert tuple(words[:3]) == ("trade_stock_e2e", *LOOP)
    assert compose_config("live", words[1:]).cycles is None
    composed = yaml.safe_load(DEPLOY.joinpath("compose.yaml").read_text())["services"]["loop"]
    assert composed["command"][:4] == [*words[:3], "symbols=${SYMBOLS:-[NVDA,BTCUSD]}"]
    assert words[3] == "symbols=[NVDA,BTCUSD]"


@pytest.mark.parametrize(("late_by", "code"), [(-500, 0), (500, 1), (None, 2)])
def test_docker_healthcheck_fails_while_a_cycle_is_overdue(
    tmp_path: Path, late_by: int | None, code: int
) -> None:
    (argument,) = [argument for word, argument in dockerfile() if word == "HEALTHCHECK"]
    python, *words = json.loads(argument.partition("CMD ")[2])
    assert (python, words) == ("python", ["-P", "-m", "execution.live", "status"])
    if late_by is not None:
        longest = 1_000
        due = utc_now() - np.timedelta64(round(CYCLE_SLACK_SECONDS) + longest + late_by, "s")
        with closing(Database(tmp_path / "data" / "live" / "account-1" / JOURNAL_FILE)) as database:
            NextCycleJournal(
                database, longest, clock=TimeSource(now=lambda: due)
            ).record_next_cycle("trade", due, due)
    assert answer_of(*words[2:], cwd=tmp_path)[0] == code


def test_container_runs_unprivileged_and_writes_only_state_volume() -> None:
    composed = yaml.safe_load(DEPLOY.joinpath("compose.yaml").read_text())
    loop = composed["services"]["loop"]
    assert loop.items() >= CONTAINER.items()
    assert [place.partition(":")[0] for place in loop["tmpfs"]] == ["/tmp"]
    assert loop["build"]["dockerfile"] == "deploy/Dockerfile"
    assert (DEPLOY / loop["build"]["context"]).resolve() == ROOT
    for name in ("privileged", "cap_add", "ports", "network_mode", "pid", "devices", "environment"):
        assert name not in loop
    assert set(composed) == {"name", "services", "volumes"}
    assert composed["volumes"] == {"state": {}}, "a named one, that an upgrade keeps"
    (setting,) = [text for word, text in dockerfile() if word == "ENV" and "XDG" in text]
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        assert re.search(rf"{name}={STATE}/\w+", setting)
