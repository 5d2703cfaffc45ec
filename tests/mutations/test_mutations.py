"""The harness is right in itself, and finds nothing in fastshard."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mutations.blake3 import blake3
from mutations.layout import read_layout, refit
from mutations.mutate import MODES, Pristine, mutant

HERE = Path(__file__).parent
SOUND = HERE.parent / "data" / "version-1"


def run(*arguments):
    command = [sys.executable, HERE / "run.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace")


@pytest.fixture(scope="module")
def pristine():
    files = {path.name: path.read_bytes() for path in SOUND.iterdir()}
    shards = json.loads(files["manifest.json"])["shards"]
    return Pristine("version-1", files, {shard["file"]: read_layout(SOUND / shard["file"], shard) for shard in shards})


def test_blake3():
    # The first two from the specification's test vectors, whose inputs repeat 0 to 250.
    pattern = bytes(range(251)) * 130
    assert blake3(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert blake3(pattern[:1]) == "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"
    shard = json.loads((SOUND / "manifest.json").read_text())["shards"][0]
    assert blake3((SOUND / shard["file"]).read_bytes()) == shard["blake3"]


def test_checksums_of_a_sound_dataset_are_computed_as_they_are(pristine):
    again = refit(pristine.files, pristine.layouts)
    assert json.loads(again.pop("manifest.json")) == json.loads(pristine.files["manifest.json"])
    assert all(pristine.files[name] == data for name, data in again.items())


@pytest.mark.parametrize("mode", MODES)
def test_mutants_depend_on_their_numbers_alone(pristine, mode):
    made = [mutant(pristine, mode, 5, number) for number in range(60)]
    assert made == [mutant(pristine, mode, 5, number) for number in range(60)]
    assert sum(files != pristine.files for files, _ in made) > 50


def test_planted_faults_are_noticed():
    done = run("--prove")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_300_mutants():
    done = run("--count", 300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mode", MODES)
def test_10_000_mutants(mode):
    done = run("--count", 3334, "--seed", 2, "--mode", mode)
    assert done.returncode == 0, done.stdout + done.stderr
