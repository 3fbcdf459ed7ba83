r"""Longest call chain of our own functions, from a command to a named function.

    python tools/chains.py --to 'account/broker.py:SimulatedBroker.submit$' \
        --then marketsimulator/account/matching.py:send_orders -- marketsimulator.backtest \
        symbols=[SYA,SYB] start=2024-02-20 end=2024-02-21 forecaster=ewma fills.remainder=carry
    python tools/chains.py --from ':TradingJob.run_cycle$' --where method=POST \
        --to 'requests/sessions.py:Session.request$' -- trade_stock_e2e mode=replay \
        broker.url_override=URL forecaster=ewma

It runs the command in this process and reads the stack at every call of a function whose
`file:qualified name` matches `--to`. It prints the longest stack, one frame per line, from the
first frame that matches `--from`. Frames outside the project, and those of comprehensions and
generators, are left out. Machine code has no frame: `--then` names the functions that the last
frame calls in it.
"""

from __future__ import annotations

import argparse
import re
import runpy
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

LEFT_OUT = re.compile(r"^[/<.]|<(genexpr|listcomp|dictcomp|setcomp)>$")


@dataclass(slots=True)
class Chains:
    """The longest call chain to a function.

    root: folder of the project whose frames count.
    begin, target: patterns of `file:qualified name`; a chain begins at the first match of `begin`.
    where: required arguments of the target.
    calls: number of calls of the target after which the command is ended.
    met: number of calls of the target so far.
    """

    root: str
    begin: re.Pattern[str]
    target: re.Pattern[str]
    where: dict[str, str]
    calls: int
    met: int = 0
    longest: list[str] = field(default_factory=list)
    names: dict[CodeType, str] = field(default_factory=dict)

    def hook(self, frame: FrameType, event: str, _: object) -> None:
        """Profile hook for `sys.setprofile`."""
        if event != "call" or not self.target.search(self.name_of(frame.f_code)):
            return
        if any(str(frame.f_locals.get(key)) != value for key, value in self.where.items()):
            return
        self.met += 1
        self.longest = max(self.longest, self.chain_to(frame), key=len)
        if self.met == self.calls:
            sys.exit(0)

    def chain_to(self, frame: FrameType | None) -> list[str]:
        """Return the names of the counted frames of a stack, the outermost first."""
        chain: list[str] = []
        while frame is not None:
            name = self.name_of(frame.f_code)
            if not LEFT_OUT.search(name):
                chain.insert(0, name)
            frame = frame.f_back
        begins = [k for k, name in enumerate(chain) if self.begin.search(name)]
        return chain[begins[0] :] if begins else []

    def name_of(self, code: CodeType) -> str:
        """Return `file:qualified name`; the file is relative to the root, or else absolute."""
        if code not in self.names:
            file = code.co_filename.removeprefix(f"{self.root}/")
            self.names[code] = f"{file}:{code.co_qualname}"
        return self.names[code]


def main(words: Sequence[str]) -> None:
    """Run a command, and print the longest chain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default=str(Path(__file__).resolve().parent.parent))
    parser.add_argument("--from", dest="begin", default="", metavar="PATTERN")
    parser.add_argument("--to", required=True, metavar="PATTERN")
    parser.add_argument("--where", action="append", default=[], metavar="ARGUMENT=VALUE")
    parser.add_argument("--calls", type=int, default=0, help="after which it ends the command")
    parser.add_argument("--then", action="append", default=[], metavar="NAME")
    parser.add_argument("command", nargs="+", help="behind --: a module and its words")
    told = parser.parse_args(words)
    where = dict(each.split("=", 1) for each in told.where)
    root = str(Path(told.root).resolve())
    chains = Chains(root, re.compile(told.begin), re.compile(told.to), where, told.calls)
    sys.path.insert(0, root)
    sys.argv = told.command
    threading.setprofile(chains.hook)
    sys.setprofile(chains.hook)
    code: object = 0
    try:
        runpy.run_module(told.command[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    finally:
        sys.setprofile(None)
    chain = [*chains.longest, *told.then]
    files = {name.partition(":")[0] for name in chain}
    lines = [
        f"exit code {code or 0}; {len(chain)} frames in {len(files)} files, the longest of"
        f" {chains.met} chains:",
        *chain,
    ]
    sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main(sys.argv[1:])
