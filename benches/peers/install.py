"""Install every peer into .venv-peers, each by itself: one that fails is written down with its reason, and skipped.

    python3 benches/peers/install.py          # quick when everything is there
    python3 benches/peers/install.py --pin    # move constraints.txt to today's versions

The outcome is in .venv-peers/packages.json, where the comparison finds it. fastshard itself is the checkout's.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / ".venv-peers"
PYTHON = TARGET / "bin" / "python"
OUTCOMES = TARGET / "packages.json"
CONSTRAINTS = HERE / "constraints.txt"


class InstallError(Exception):
    """A step of one peer's installation that failed."""


def main() -> None:
    pin = "--pin" in sys.argv[1:]
    groups = tomllib.loads((HERE / "packages.toml").read_text())
    if not PYTHON.exists():
        venv.create(TARGET, with_pip=True)
    link_fastshard()
    outcomes = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
    for name, group in groups.items():
        outcomes[name] = outcome(name, group, outcomes.get(name, {}), pin)
        OUTCOMES.write_text(json.dumps(outcomes, indent=2) + "\n")
    if pin:
        write_constraints()
    if "error" in outcomes["base"]:
        sys.exit("the comparison itself cannot run without its base packages")


def outcome(name: str, group: dict[str, Any], before: dict[str, str], pin: bool) -> dict[str, str]:
    """Installs unless that was done with the same wishes; a failure is tried again every time."""
    wishes = hashlib.sha256(repr(group).encode() + CONSTRAINTS.read_bytes()).hexdigest()
    if not pin and before.get("wishes") == wishes and "error" not in before:
        return before
    print(f"Installing {name}: {', '.join(group['packages'])}", flush=True)
    try:
        install(group, [] if pin else ["--constraint", str(CONSTRAINTS)])
    except InstallError as error:
        print(f"  not installed: {error}", flush=True)
        return {"wishes": wishes, "error": str(error)}
    return {"wishes": wishes}


def install(group: dict[str, Any], constraint: list[str]) -> None:
    if group.get("debian"):
        call([str(ROOT / "scripts" / "apt-install"), *group["debian"]])
    # pip compiles all modules: hundreds of processes import them, perhaps where Python may not store what it compiles.
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraint]
    if group.get("before"):
        call([*pip, *group["before"]])
    call([*pip, *group.get("pip", []), *group["packages"]])
    call([str(PYTHON), "-W", "ignore", "-c", f"import {group['check']}"])


def call(command: list[str]) -> None:
    """Run quietly; raise InstallError with the line that says what went wrong."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    # Debian's and pip's own settings still count; another environment's variables must not.
    quiet.pop("VIRTUAL_ENV", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise InstallError(reason(done.stderr or done.stdout))


def reason(output: str) -> str:
    """pip's first error, or else the last line, where Python and scripts say it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    return next((line for line in lines if line.lower().startswith("error:")), lines[-1])


def link_fastshard() -> None:
    """What `maturin develop` built into the checkout, so that there is one build to measure."""
    site = next(TARGET.glob("lib/python*/site-packages"))
    (site / "fastshard-checkout.pth").write_text(f"{ROOT / 'python'}\n")


def write_constraints() -> None:
    head = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    frozen = subprocess.run(
        [str(PYTHON), "-m", "pip", "freeze", "--all", "--exclude", "pip"], capture_output=True, text=True, check=True
    )
    CONSTRAINTS.write_text("\n".join([*head, frozen.stdout]))


if __name__ == "__main__":
    main()
