"""Runs everything that looks for faults by force, and writes a table of what came out: `make campaign`.

scripts/campaign.py [--quick] [--only PART ...]

A part that needs what is not installed is skipped, and the table says so. Ends with 1 if a part failed.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "build" / "campaign"
TARGETS = ("jpeg", "image", "audio", "manifest", "transforms", "coco", "masks", "shard", "offsets", "containers")
MODES = ("accident", "refit", "manifest", "sources")
PARTS = ("faults", "mutations", "fuzz", "sanitizers", "soak")
SKIPPED = 77


@dataclass(frozen=True)
class Step:
    """One command: its part, its name, and where its output says how many cases there were."""

    part: str
    name: str
    command: list[str]
    pattern: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a step ended: its exit code, and the last line that it wrote."""

    step: Step
    code: int
    seconds: float
    cases: str
    last: str

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.code == SKIPPED:
            return self.last
        return "no faults" if self.code == 0 else f"**FAILED**, see `build/campaign/{log_name(self.step)}`"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--mutations", type=int, help="damaged datasets and sources (100,000)")
    parser.add_argument("--fuzz", type=int, help="seconds for each fuzz target (600)")
    parser.add_argument("--soak", type=float, help="minutes of the soak (30)")
    parser.add_argument("--seed", type=int, default=7, help="of the mutations")
    options = parser.parse_args()
    for name, long, short in (("mutations", 100_000, 2000), ("fuzz", 600, 5), ("soak", 30, 1)):
        if getattr(options, name) is None:
            setattr(options, name, short if options.quick else long)
    return options


def steps(options: argparse.Namespace) -> Iterator[Step]:
    python = sys.executable
    yield Step("faults", "each call fails once", [python, "tests/faults/run.py", "--all"], r"([\d,]+) points")
    for mode in MODES:
        count = options.mutations // len(MODES)
        command = [python, "tests/mutations/run.py", "--mode", mode, "--count", str(count), "--seed", str(options.seed)]
        report = ["--json", str(WORK / f"{mode}.json")]
        yield Step("mutations", mode, command + report, r"([\d,]+) mutants, ")
    for target in TARGETS:
        yield Step("fuzz", target, ["scripts/fuzz", str(options.fuzz), target], r"([\d,]+) inputs")
    for which in ("address", "thread"):
        yield Step("sanitizers", which, ["scripts/sanitize", which], r"test result: ok\. (\d+) passed")
    yield Step(
        "soak",
        f"{options.soak:g} minutes",
        [python, "tests/soak.py", "--minutes", str(options.soak)],
        r"(\d+ rounds, \d+ trials)",
    )


def log_name(step: Step) -> str:
    return f"{step.part}-{step.name}.log".replace(" ", "-")


def run(step: Step) -> Outcome:
    started = time.monotonic()
    log = WORK / log_name(step)
    if step.part == "faults" and not (ROOT / step.command[1]).exists():
        return Outcome(step, SKIPPED, 0, "", f"skipped: no {step.command[1]}")
    with log.open("w") as output:
        code = subprocess.run(step.command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT).returncode
    text = log.read_text(errors="replace")
    found = re.findall(step.pattern, text)
    numbers = [one.replace(",", "") for one in found]
    cases = f"{sum(map(int, numbers)):,}" if numbers and all(map(str.isdigit, numbers)) else "".join(found[-1:])
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return Outcome(step, code, time.monotonic() - started, cases, last)


def table(outcomes: list[Outcome]) -> str:
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    lines = [
        "# The campaign",
        "",
        f"`make campaign` at {commit.stdout.strip()}: Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| part | what | cases | time | outcome |",
        "|---|---|---:|---:|---|",
    ]
    for outcome in outcomes:
        step, seconds = outcome.step, f"{outcome.seconds:,.0f} s"
        lines.append(f"| {step.part} | {step.name} | {outcome.cases} | {seconds} | {outcome.verdict} |")
    return "\n".join([*lines, "", *mutations()]) + "\n"


def mutations() -> Iterator[str]:
    """What the mutants did, by kind of damage."""
    reports = {mode: WORK / f"{mode}.json" for mode in MODES}
    known = {mode: json.loads(path.read_text()) for mode, path in reports.items() if path.exists()}
    if not known:
        return
    columns = ("mutants", "same", "error", "changed", "unchecked", "faults")
    yield "Mutants by what readers made of them, several for one mutant:"
    yield ""
    yield f"| damage | {' | '.join(columns)} | most memory |"
    yield "|---|" + "---:|" * (len(columns) + 1)
    for mode, report in known.items():
        counts = [sum(n for key, n in report["table"].items() if key.endswith(f" {column}")) for column in columns]
        yield f"| {mode} | {' | '.join(f'{count:,}' for count in counts)} | {report['resident_mb']} MB |"


def main() -> int:
    options = parse()
    WORK.mkdir(parents=True, exist_ok=True)
    for path in WORK.iterdir():
        path.unlink()
    outcomes = []
    for step in steps(options):
        if step.part in options.only:
            print(f"{step.part:12}{step.name:24}", end="", flush=True)
            outcomes.append(run(step))
            print(f"{outcomes[-1].cases:>14}{outcomes[-1].seconds:>8,.0f} s  {outcomes[-1].verdict}", flush=True)
    report = ROOT / "build" / "campaign.md"
    report.write_text(table(outcomes))
    print(f"\nThe table: {report}")
    return 1 if any(outcome.code not in (0, SKIPPED) for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
