"""A sample of ``run.py``, which says what is tried; all of it is marked campaign."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def run(*options):
    command = [sys.executable, RUN, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_some_faults_everywhere():
    lines = run("--sample", "100", "--seed", "1")
    assert int(lines[-1].split()[2]) >= 100


def test_damage_is_noticed(tmp_path):
    """That the checks can fail: a file that is written in place is neither the old nor the new one when that is cut."""
    script = tmp_path / "run.py"
    lines = [
        "import os, sys",
        f"sys.path.insert(0, {str(RUN.parent)!r})",
        "import run",
        "if 'FASTSHARD_FAULTS' in os.environ:",
        "    from fastshard._base import write",
        "    write.write_file = lambda path, data: path.open('w').write(data)",
        "run.main()",
    ]
    script.write_text("\n".join(lines))
    command = [sys.executable, str(script), "--only", "file over another", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "WRONG file over another" in done.stdout
    assert "neither the old nor the new one" in done.stdout


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_fault_everywhere():
    run("--all")
