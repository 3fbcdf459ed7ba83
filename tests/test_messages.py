"""The words of messages stand in one file, and no test passes with others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.messages import ROOT, RUN, normalized

TOY = """
import pytest
from tests.support.messages import check_message, refused

@pytest.mark.parametrize("cap", [20, 3])
def test_cap(cap, tmp_path):
    with refused(ValueError, "limits.cap", cap, tmp_path / "a.csv"):
        raise ValueError(f"limits.cap: {cap} is above 1 in {tmp_path}/a.csv")
    for k in range(11):
        check_message(f"line {k}", k)

def test_port():
    with refused(ValueError, "127.0.0.1:40123", varies="for .*"):
        raise ValueError("127.0.0.1:40123: no answer for 3 s (venue.py line 7)")
"""
STALE = """
from tests.support.messages import RUN

def test_stale(request):
    gone = request.config.stash[RUN].gone()
    assert not gone, gone
"""
LINES = {f"::{k + 1}": f"line {k - 1}" for k in range(1, 12)}
TEXTS = {
    "toy/test_toy.py": {
        "test_cap[20]": "limits.cap: 20 is above 1 in TMP/a.csv",
        **{f"test_cap[20]{number}": line for number, line in LINES.items()},
        "test_cap[3]": "limits.cap: 3 is above 1 in TMP/a.csv",
        **{f"test_cap[3]{number}": line for number, line in LINES.items()},
        "test_port": "127.0.0.1:PORT: no answer VARIES",
    }
}


@pytest.fixture
def toy(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with tests of messages, and their words."""
    pytester.makeini("[pytest]\n")
    for folder in ("toy", "tests"):
        pytester.mkdir(folder)
    (pytester.path / "toy" / "test_toy.py").write_text(TOY)
    write(pytester, TEXTS)
    return pytester


def write(toy: pytest.Pytester, texts: dict[str, dict[str, str]]) -> None:
    (toy.path / "tests" / "messages.yaml").write_text(yaml.safe_dump(texts))


def read(toy: pytest.Pytester) -> dict[str, dict[str, str]]:
    content = yaml.safe_load((toy.path / "tests" / "messages.yaml").read_text())
    return {file: dict(texts) for file, texts in content.items()}


def edit(toy: pytest.Pytester, old: str, new: str) -> None:
    path = toy.path / "toy" / "test_toy.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def outcome(toy: pytest.Pytester, *words: str) -> tuple[int, str]:
    """Exit status and output of the toy's tests."""
    done = toy.runpytest_inprocess("-p", "tests.support.messages", *words)
    return done.ret, done.stdout.str()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("/base/test_cap_2__0/a.csv: row 3", "TMP/a.csv: row 3"),
        ("/base/states/17/accounts", "TMP/accounts"),
        (f"{ROOT}/configs/fees: no such file", "ROOT/configs/fees: no such file"),
        ("http://127.0.0.1:40123: SYA", "http://127.0.0.1:PORT: SYA"),
        ("kalshi-demo-720d0f4955f82c7e/KILL", "kalshi-demo-DIGEST/KILL"),
        ("account 0f8fad5b-d9cb-469f-a165-70867728950e", "account UUID"),
        (
            "own_test_cap0.rule fails in own_test_cap0.py line 7",
            "own_TMP.rule fails in own_TMP.py line LINE",
        ),
        ("rule.py:12, a.csv:3, line 4", "rule.py:LINE, a.csv:3, line 4"),
        ("[Errno 111] refused", "[Errno] refused"),
        (
            "the exchange calendar (1962-01-02 to 2027-11-29)",
            "the exchange calendar (1962-01-02 to END)",
        ),
    ],
)
def test_normalized_message_is_the_same_in_every_run(text: str, same: str) -> None:
    assert normalized(text, Path("/base")) == same


def test_message_with_known_text_and_facts_passes(toy: pytest.Pytester) -> None:
    assert outcome(toy)[0] == 0


def test_changed_message_fails_and_names_the_update_option(toy: pytest.Pytester) -> None:
    edit(toy, "is above 1 in", "exceeds 1 in")
    code, said = outcome(toy)
    assert code == 1
    assert "- limits.cap: 20 is above 1 in TMP/a.csv" in said
    assert "+ limits.cap: 20 exceeds 1 in TMP/a.csv" in said
    assert "pytest --update-messages toy/test_toy.py" in said
    assert "1 passed" in said


def test_unrecorded_message_fails_and_names_the_update_option(toy: pytest.Pytester) -> None:
    write(toy, {})
    code, said = outcome(toy)
    assert code == 1
    assert "no text of toy/test_toy.py::test_port" in said
    assert "pytest --update-messages toy/test_toy.py" in said


@pytest.mark.parametrize("option", [(), ("--update-messages",)])
def test_message_lacking_expected_fact_fails_and_stays_unrecorded(
    toy: pytest.Pytester, option: tuple[str, ...]
) -> None:
    edit(toy, "limits.cap: {cap} is", "limits.cap: {cap}0 is")
    code, said = outcome(toy, *option)
    assert code == 1
    assert "not in the message: 20" in said
    assert read(toy) == TEXTS


def test_recorded_message_no_longer_checked_fails(toy: pytest.Pytester) -> None:
    edit(toy, "range(11)", "range(10)")
    code, said = outcome(toy)
    assert code == 1
    assert "not checked any more: ['toy/test_toy.py::test_cap[20]::12']" in said


@pytest.mark.parametrize(
    "workers",
    [pytest.param((), id="alone"), pytest.param(("-n", "2"), id="workers", marks=pytest.mark.slow)],
)
def test_update_writes_messages_by_test_and_number(
    toy: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    write(toy, {"toy/test_toy.py": {"test_port": "old", "test_cap[20]::99": "gone"}})
    assert outcome(toy, "--update-messages", *workers)[0] == 0
    assert read(toy) == TEXTS
    assert list(read(toy)["toy/test_toy.py"]) == list(TEXTS["toy/test_toy.py"])
    assert outcome(toy)[0] == 0


def test_update_drops_messages_only_in_whole_file_runs(toy: pytest.Pytester) -> None:
    gone = {"test_gone": "a"}
    others = {"toy/test_absent.py": {"test_x": "b"}}
    write(toy, {"toy/test_toy.py": gone | TEXTS["toy/test_toy.py"]} | others)
    assert outcome(toy, "--update-messages", "toy/test_toy.py::test_port")[0] == 0
    assert read(toy) == {"toy/test_toy.py": gone | TEXTS["toy/test_toy.py"]}
    assert outcome(toy, "--update-messages", "-k", "test_port")[0] == 0
    assert read(toy) == TEXTS


def test_stale_recorded_messages_fail_the_run(toy: pytest.Pytester) -> None:
    (toy.path / "toy" / "test_stale.py").write_text(STALE)
    write(toy, TEXTS | {"toy/test_absent.py": {"test_x": "b"}, "toy/test_stale.py": {"test_y": ""}})
    code, said = outcome(toy)
    assert code == 1
    assert "toy/test_absent.py::test_x" in said
    assert "toy/test_stale.py::test_y" in said
    write(toy, TEXTS)
    assert outcome(toy)[0] == 0


def test_every_recorded_message_belongs_to_a_test(request: pytest.FixtureRequest) -> None:
    gone = request.config.stash[RUN].gone()
    assert not gone, f"pytest --update-messages drops them: {gone}"
