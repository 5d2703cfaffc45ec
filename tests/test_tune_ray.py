"""Searches by Ray Tune, in processes of their own: every method, and every way of ending."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import fastshard as fs
import searches

pytest.importorskip("ray.tune", exc_type=ImportError)
tune = fs.tune
SCRIPT = Path(searches.__file__)
RUNGS = {1: 0.1, 2: 0.5, 3: 1.0, 4: 1.0}
SAMPLES = {0.1: 144, 0.5: 718, 1.0: 1437}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "ds"
    searches.pack_digits(path)
    return path


def environment(home, short):
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "CUDA_VISIBLE_DEVICES": ""}
    # Ray puts sockets there, whose paths have to be short.
    return os.environ | quiet | {"RAY_TMPDIR": short, "HOME": str(home)}


@pytest.fixture(scope="module")
def found(digits, tmp_path_factory):
    """A folder of searches, and what each of them said."""
    out = tmp_path_factory.mktemp("searches")
    with tempfile.TemporaryDirectory(prefix="ray") as short:
        command = [sys.executable, str(SCRIPT), str(digits), str(out)]
        done = subprocess.run(command, env=environment(out, short), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, json.loads((out / "said.json").read_text())


@pytest.fixture
def search(found):
    return lambda name: tune.Results(found[0] / name)


# The searches run in the first test that asks for them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_random_search_goes_on_after_a_crash(search):
    results = search("random")
    assert results.stopped == "all trials done"
    assert [trial.state for trial in results.trials] == ["finished", "failed", "failed", "finished"]
    assert results.trials[0].config["lr"] == 0.25
    assert results.trials[1].error == "RuntimeError: out of luck"
    assert "its process died" in results.trials[2].error
    assert results.best.value > 0.8
    assert [report.epoch for report in results.best.reports] == [1, 2]


def test_trials_have_the_threads_that_ray_gives_them(search):
    assert {report.metrics["threads"] for trial in search("random").trials for report in trial.reports} == {1.0}


def test_tasks_of_ones_own_have_the_threads_that_ray_gives_them(found):
    assert found[1]["threads of a task with two cores"] == 2


def test_every_trial_has_the_same_order(search):
    firsts = {(r.epoch, r.metrics["first"]) for trial in search("random").trials for r in trial.reports}
    assert len(firsts) == 2


def test_bayes(search):
    results = search("bayes")
    assert len(results) == 4
    assert {trial.state for trial in results.trials} == {"finished"}
    assert len({trial.config["lr"] for trial in results.trials}) == 4
    assert results.trials[0].config["lr"] == 0.25
    assert results.options["own"]["initial_points"] == 2


def test_hyperband_gives_more_data_to_those_that_go_on(search):
    results = search("hyperband")
    assert results.stopped == "all trials done"
    reports = [report for trial in results.trials for report in trial.reports]
    assert {report.epoch: report.fraction for report in reports} == RUNGS
    assert all(report.metrics["samples"] == SAMPLES[report.fraction] for report in reports)
    assert {trial.state for trial in results.trials} == {"finished", "stopped"}
    stopped = [trial.epochs for trial in results.trials if trial.state == "stopped"]
    assert set(stopped) <= {1, 2, 3}
    assert results.best.epochs == 4


def check_population(results, rounds):
    assert len(results) == 4
    assert all([report.epoch for report in trial.reports] == list(range(1, rounds + 1)) for trial in results.trials)
    copies = [trial for trial in results.trials if trial.copied_from]
    assert copies
    lows, highs = 1e-3, 10
    for trial in copies:
        configs = [report.config["lr"] for report in trial.reports]
        assert len(set(configs)) > 1
        assert all(lows <= lr <= highs for lr in configs)
    return copies


def test_evolution_takes_the_state_of_loaders_along(search):
    results = search("continue")
    check_population(results, 3)
    assert all(np.load(trial.checkpoint / "weights.npy").shape == (64, 10) for trial in results.trials)
    assert results.stopped == "all trials done"
    assert all(
        report.metrics["loader_epoch"] == report.epoch - 1 for trial in results.trials for report in trial.reports
    )
    orders = {report.epoch: set() for report in results.trials[0].reports}
    for trial in results.trials:
        for report in trial.reports:
            orders[report.epoch].add(report.metrics["first"])
    assert [len(firsts) for firsts in orders.values()] == [1, 1, 1]


def test_evolution_restarts_loaders_of_copies(search):
    results = search("restart")
    copies = check_population(results, 2)
    assert len(copies) == 2  # max_trials=6: a population of 4, and two copies
    for trial in results.trials:
        epochs = [report.metrics["loader_epoch"] for report in trial.reports]
        assert epochs == ([0, 0] if trial in copies else [0, 1])


def test_target_ends_the_search(search):
    results = search("target")
    assert results.stopped == "target reached"
    assert results.best.value >= 0.5
    assert len(results) < 50


def test_time_limit_ends_the_search(search):
    results = search("time")
    assert results.stopped == "time limit"
    assert results.best is not None
    assert results.seconds < 60


def test_unknown_metric_ends_the_search(found, search):
    said = found[1]["metric"]
    assert said.startswith("ValueError: metric='f1': what the trial reports has 'accuracy'")
    assert len(search("metric")) <= 2


def test_a_checkpoint_that_was_deleted_or_cut_off_is_not_gone_on_from(tmp_path, caplog):
    from fastshard.tune import _ray_resume, _trial

    class Engine:
        def report(self, trial, metrics, save):
            folder = tmp_path / f"checkpoint_{trial.epoch:06}"
            folder.mkdir()
            save(folder)

    trial = _trial.Trial(tmp_path, 0, {}, _trial.Rules("loss", "min"), Engine())
    for epoch in range(3):
        trial.report({"loss": 1.0}, checkpoint=lambda folder: np.save(folder / "weights.npy", np.arange(epoch)))  # noqa: B023

    def restored(number):
        noted = ray_tune.Checkpoint.from_directory(tmp_path / f"checkpoint_{number:06}")
        with _ray_resume.restored_checkpoint(noted) as folder:
            return folder and int(folder.name[-1])

    ray_tune = pytest.importorskip("ray.tune", exc_type=ImportError)
    assert [restored(1), restored(2), restored(3)] == [1, 2, 3]
    assert not caplog.messages
    shutil.rmtree(tmp_path / "checkpoint_000001")
    weights = tmp_path / "checkpoint_000003" / "weights.npy"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert [restored(1), restored(3)] == [2, 2]
    assert "checkpoint_000001 isn't there: going on from checkpoint_000002" in caplog.messages[0]
    shutil.rmtree(tmp_path / "checkpoint_000002")
    assert restored(1) is None
    assert "going on from the start" in caplog.messages[-1]


def reports(folder):
    return sum(log.read_text().count('"report"') for log in folder.glob("trials/*.jsonl"))


def test_ctrl_c_gives_what_there_is_and_a_killed_search_goes_on(digits, tmp_path):
    command = [sys.executable, str(SCRIPT), str(digits), str(tmp_path), "resume"]
    folder = tmp_path / "killed"

    def start(until):
        process = subprocess.Popen(command, env=environment(tmp_path, short), stderr=subprocess.PIPE, text=True)
        while reports(folder) < until:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        return process

    with tempfile.TemporaryDirectory(prefix="ray") as short:
        process = start(until=2)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert tune.Results(folder).stopped == "interrupted"
        assert tune.Results(folder).best is not None
        process = start(until=9)  # two are done, and Ray may not have noted yet that others began
        process.kill()
        process.communicate()
        before = tune.Results(folder)
        assert before.stopped is None
        done = subprocess.run(command, env=environment(tmp_path, short), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    results = tune.Results(folder)
    assert results.stopped == "all trials done"
    assert [(trial.state, trial.error) for trial in results.trials] == [("finished", None)] * 4
    assert results.trials[0].reports[0] == before.trials[0].reports[0]
    for trial in results.trials:
        assert {report.epoch: report.metrics["loader_epoch"] for report in trial.reports} == {1: 0, 2: 1, 3: 2, 4: 3}
