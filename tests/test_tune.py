"""Searches: their space, their options, trials and loaders, and Optuna as the engine, which runs for real."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

import fastshard as fs
import searches
from fastshard.tune import _options, _presets, _space, _trial, _trial_loader

tune = fs.tune
COMMON = {"metric": "accuracy", "engine": "optuna", "progress": False}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "ds"
    searches.pack_digits(path)
    return path


def test_import_loads_no_engine():
    engines = ["ray", "optuna", "keras", "plotly", "torch"]
    code = f"import sys, fastshard as fs; fs.tune; print([name for name in {engines} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_has_a_docstring():
    assert all(getattr(tune, name).__doc__ for name in tune.__all__)
    with pytest.raises(AttributeError, match="no attribute 'grid'"):
        _ = tune.grid


# The space.


@pytest.mark.parametrize(
    ("domain", "wanted"),
    [
        (tune.Float(0.1, 2), optuna.distributions.FloatDistribution(0.1, 2)),
        (tune.Float(1e-4, 1, log=True), optuna.distributions.FloatDistribution(1e-4, 1, log=True)),
        (tune.Float(0, 0.5, step=0.1), optuna.distributions.FloatDistribution(0, 0.5, step=0.1)),
        (tune.Int(1, 9, step=2), optuna.distributions.IntDistribution(1, 9, step=2)),
        (tune.Int(1, 100, log=True), optuna.distributions.IntDistribution(1, 100, log=True)),
        (tune.Choice(["a", 1, True]), optuna.distributions.CategoricalDistribution(("a", 1, True))),
    ],
)
def test_space_of_optuna(domain, wanted):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    config = tune.suggest({"x": domain, "c": "same"}, trial)
    assert config == {"x": trial.params["x"], "c": "same"}
    assert trial.distributions == {"x": wanted}


@pytest.mark.parametrize(
    "domain", [tune.Float(0.5, 2), tune.Float(1e-4, 1, log=True), tune.Int(2, 9), tune.Int(1, 9, step=2)]
)
def test_space_of_keras_tuner_and_ray(domain):
    keras_tuner = pytest.importorskip("keras_tuner")
    hp = keras_tuner.HyperParameters()
    assert tune.suggest({"x": domain}, hp) == {"x": domain.low}
    (parameter,) = hp.space
    assert (parameter.min_value, parameter.max_value) == (domain.low, domain.high)
    assert parameter.sampling == ("log" if domain.log else "linear")
    drawn = [domain.to_ray().sample() for _ in range(300)]
    assert all(domain.nearest(value) == value for value in drawn)
    assert domain.low <= min(drawn) <= max(drawn) <= domain.high
    if isinstance(domain, tune.Int):
        assert set(drawn) == set(range(domain.low, domain.high + 1, domain.step))


def test_values_stay_in_the_space():
    step = tune.Float(0, 0.5, step=0.2)
    assert [step.nearest(value) for value in (-1, 0.29, 0.31, 9)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert [tune.Int(1, 8, step=3).nearest(value) for value in (-4, 2.6, 8, 99)] == [1, 4, 7, 7]
    for domain in (step, tune.Float(1e-3, 10, log=True), tune.Int(1, 8, step=3), tune.Int(1, 1000, log=True)):
        assert all(domain.nearest(value) == value for value in (domain.draw() for _ in range(200)))


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: tune.Float(2, 1), ValueError, "high=1"),
        (lambda: tune.Float(0, 1, log=True), ValueError, "low=0 with log=True: expected more than 0"),
        (lambda: tune.Float(0.1, 1, log=True, step=0.1), ValueError, "step=0.1 with log=True"),
        (lambda: tune.Float("a", 1), TypeError, r"low=\['a'\]: expected numbers"),
        (lambda: tune.Int(1.5, 2), TypeError, "low=1.5"),
        (lambda: tune.Int(1, 3, step=5), ValueError, "step=5"),
        (lambda: tune.Choice([]), ValueError, "expected at least one to choose from"),
        (lambda: tune.Choice([[1]]), TypeError, "is not a text, a number or a boolean"),
        (lambda: _space.checked({}), ValueError, "nothing to search"),
        (lambda: _space.checked({"lr": 0.1}), ValueError, "nothing to search"),
        (lambda: _space.checked({"lr": [1, 2]}), TypeError, r"space\['lr'\]=\[1, 2\]: expected Float, Int or Choice"),
        (lambda: _space.checked(["lr"]), TypeError, "expected a dict"),
        (lambda: tune.suggest({"lr": tune.Float(0, 1)}, object()), TypeError, "expected an optuna.Trial"),
    ],
)
def test_impossible_spaces(make, error, said):
    with pytest.raises(error, match=said):
        make()


# Data fractions.


def test_fraction_schedule():
    schedule = tune.FractionSchedule([0.1, 0.3, 1], epochs=[1, 3])
    assert [schedule.at(epoch) for epoch in range(5)] == [0.1, 0.3, 0.3, 1, 1]
    assert str(schedule) == "0.1, from epoch 1 on 0.3, from epoch 3 on 1"
    for fractions, epochs in [
        ([], None),
        ([0], None),
        ([0.5, 0.4], None),
        ([1.1], None),
        ([0.1, 1], [1, 2]),
        ([0.1, 1], [0]),
    ]:
        with pytest.raises((ValueError, TypeError), match="expected"):
            tune.FractionSchedule(fractions, epochs)


def test_fractions_follow_the_rungs():
    method = _options.Method("hyperband", rungs=(1, 3), reduction_factor=3)
    assert method.schedule(tune.FractionSchedule([0.1, 1])) == tune.FractionSchedule([0.1, 1], [1])
    assert method.schedule(0.5) == 0.5
    with pytest.raises(ValueError, match=r"expected at most 3 fractions, because trials go through 2 rungs, \[1, 3\]"):
        method.schedule(tune.FractionSchedule([0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(ValueError, match="random has no rungs"):
        _options.Method("random").schedule(tune.FractionSchedule([0.1, 1]))


def ids(loader):
    return [n for batch in loader for n in batch["id"].tolist()]


def test_loaders_grow_with_their_epochs(digits):
    schedule = tune.FractionSchedule([0.1, 0.5, 1], epochs=[1, 3])
    options = {"shuffle": True, "stratify": "label", "seed": 3}
    loader = tune.trial_loader(digits, 32, data_fraction=schedule, **options)
    ds, seen = fs.open(digits), []
    for epoch in range(5):
        part = ds.subset(schedule.at(epoch), stratify="label")
        assert len(loader) == -(-len(part) // 32)
        seen.append(ids(loader))
        assert seen[-1] == ids(fs.Loader(part, 32, shuffle=True, seed=3).iterate(epoch=epoch))
    for smaller, larger in itertools.pairwise(seen):
        assert set(smaller) <= set(larger)
    stats = loader.stats()
    assert stats["samples"] == sum(map(len, seen))
    assert stats["seconds"] > 0


def test_growing_loaders_go_on(digits):
    schedule = tune.FractionSchedule([0.1, 1], epochs=[2])
    make = lambda: tune.trial_loader(digits, 32, data_fraction=schedule, shuffle=True)  # noqa: E731
    loader = make()
    wanted = [ids(loader) for _ in range(4)]
    for epoch in range(4):
        begun = make()
        begun.set_epoch(epoch)
        passing = iter(begun)
        first = [n for _ in range(2) for n in next(passing)["id"].tolist()]
        other = make()
        other.load_state_dict(json.loads(json.dumps(begun.state_dict())))
        assert first + ids(other) == wanted[epoch]
        assert [ids(other) for _ in range(epoch + 1, 4)] == wanted[epoch + 1 :]
        passing.close()


def test_growing_loaders_are_sent_and_shared_whole(digits):
    import pickle

    schedule = tune.FractionSchedule([0.1, 1], epochs=[1])
    loader = tune.trial_loader(digits, 32, data_fraction=schedule, shuffle=True)
    for other in (pickle.loads(pickle.dumps(loader)), loader.share_threads(2)):
        assert [len(ids(other)) for _ in range(2)] == [180, 1797]
    halves = [loader.for_rank(rank, 2) for rank in range(2)]
    for epoch in range(2):
        seen = [ids(half) for half in halves]
        assert {*seen[0], *seen[1]} == set(ids(loader)), epoch


# Loaders of trials.


def test_trial_loader_takes_the_configuration(digits):
    config = {"batch_size": 16, "seed": 9, "data_fraction": 0.25}
    loader = tune.trial_loader(digits, config=config, shuffle=True)
    assert (loader.batch_size, loader._spec["seed"], len(loader.dataset)) == (16, 9, 449)
    evaluating = tune.trial_loader(digits, config=config)
    assert len(evaluating.dataset) == 1797
    assert len(tune.trial_loader(digits, 8, config=config, data_fraction=0.5).dataset) == 898
    assert tune.trial_loader(fs.open(digits), 8, num_threads=1)._spec["num_threads"] == 1


def test_parts_are_the_same_everywhere(digits):
    options = {"parts": {"train": 0.8, "val": 0.2}, "stratify": "label", "split_seed": 48}
    train, val = (tune.trial_loader(digits, 64, split=name, **options) for name in ("train", "val"))
    wanted = fs.open(digits).split([0.8, 0.2], stratify="label", seed=48)
    assert [ids(train), ids(val)] == [ids(fs.Loader(part, 64)) for part in wanted]


def test_parts_by_a_field(tmp_path):
    rows = [{"n": n, "split": "val" if n % 3 == 0 else "train"} for n in range(12)]
    fs.pack(rows, tmp_path / "ds")
    loader = tune.trial_loader(tmp_path / "ds", 12, split="val", fields=["n"])
    assert next(iter(loader))["n"].tolist() == [0, 3, 6, 9]
    with pytest.raises(ValueError, match="split='test'"):
        tune.trial_loader(tmp_path / "ds", 4, split="test")


def test_wrong_options_of_trial_loader(digits):
    for options, error, said in [
        ({}, TypeError, "batch_size=None: expected one"),
        ({"batch_size": 4, "split": "train"}, ValueError, "expected parts="),
        ({"batch_size": 4, "parts": {"a": 1.0}}, ValueError, "split=None: expected one of 'a'"),
        ({"batch_size": 4, "split": "b", "parts": {"a": 1.0}}, ValueError, "split='b'"),
        ({"batch_size": 4, "data_fraction": 1e-9}, ValueError, "nothing is left of 1,797 rows"),
        ({"batch_size": 4, "data_fraction": tune.FractionSchedule([0.1, 1])}, ValueError, "epochs=None"),
        (
            {"batch_size": 64, "data_fraction": 0.01, "shuffle": True, "drop_last": True},
            ValueError,
            "data_fraction=0.01: drop_last=True leaves no batch of 18 samples, since batch_size=64",
        ),
        ({"batch_size": 4, "bacth": 1}, TypeError, "bacth"),
    ]:
        with pytest.raises(error, match=said):
            tune.trial_loader(digits, **options)


def test_growing_loader_is_plain_outside_of_searches(digits):
    assert tune.current_trial() is None
    assert not isinstance(tune.trial_loader(digits, 4), _trial_loader.GrowingLoader)


# Trials.


class Quiet:
    def report(self, trial, metrics, save):
        self.metrics = metrics


def make_trial(folder, **rules):
    return _trial.Trial(folder, 0, {"lr": 0.1}, _trial.Rules("accuracy", "max", **rules), Quiet())


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"loss": 1}, "metric='accuracy': what the trial reports has 'loss'"),
        ({}, "has nothing"),
        ([1], r"metrics=\[1\]: expected a dict"),
        ({"accuracy": "good"}, r"metrics\['accuracy'\]='good': expected a number"),
    ],
)
def test_wrong_reports(tmp_path, metrics, said):
    with pytest.raises(ValueError, match=said):
        make_trial(tmp_path).report(metrics)


def test_epochs_need_a_number(tmp_path):
    with pytest.raises(ValueError, match=r"expected trial.epochs\(n\), or epochs=n of the search"):
        list(make_trial(tmp_path).epochs())
    assert list(make_trial(tmp_path, epochs=3).epochs()) == [0, 1, 2]
    assert list(make_trial(tmp_path).epochs(2)) == [0, 1]


def test_evolution_needs_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="has to save them"):
        make_trial(tmp_path, needs_checkpoints=True).report({"accuracy": 1})


def test_best_of_a_trial_leaves_out_what_is_no_number(tmp_path):
    trial = make_trial(tmp_path)
    for value in (np.float32(0.5), float("nan"), np.array(0.25)):
        trial.report({"accuracy": value})
    assert trial._engine.metrics["best"] == 0.5
    (event,) = [json.loads(line) for line in trial._log.path.read_text().splitlines()][2:3]
    assert event["metrics"] == {"accuracy": None}


# Options.


def nothing(trial):
    """Never called."""


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, TypeError, "metric: expected the name of what trials report"),
        ({"metric": ""}, TypeError, "metric=''"),
        ({"metric": "a", "mode": "most"}, ValueError, "mode='most'"),
        ({"metric": "a", "max_trails": 3}, TypeError, "max_trails=3: expected one of the options metric, mode"),
        ({"metric": "a", "max_trials": 0}, ValueError, "max_trials=0"),
        ({"metric": "a", "time_limit": -1}, ValueError, "time_limit=-1"),
        ({"metric": "a", "data_fraction": 0}, ValueError, "data_fraction=0"),
        ({"metric": "a", "engine": "spark"}, ValueError, "engine='spark': expected one of 'ray', 'optuna'"),
        ({"metric": "a", "storage": "sqlite:///a.db"}, ValueError, "only engine='optuna' keeps trials in a database"),
        ({"metric": "a", "first": {"lr": 0.5}}, TypeError, "expected a list of dicts"),
        ({"metric": "a", "first": [{"rate": 0.5}]}, ValueError, "'rate' isn't searched; expected names among 'lr'"),
        ({"metric": "a", "first": [{"lr": 2}]}, ValueError, r"lr=2 isn't in Float\(low=0, high=1"),
        ({"metric": "a", "resume": True}, ValueError, "expected the folder of the search"),
        ({"metric": "a", "data_fraction": tune.FractionSchedule([0.1, 1])}, ValueError, "has no rungs to go by"),
    ],
)
def test_impossible_options(options, error, said):
    with pytest.raises(error, match=said):
        tune.random(nothing, {"lr": tune.Float(0, 1)}, **options)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: tune.bayes(nothing, s, initial_points=0, metric="a"), "initial_points=0"),
        (lambda s: tune.hyperband(nothing, s, min_epochs=5, max_epochs=3, metric="a"), "max_epochs=3"),
        (lambda s: tune.hyperband(nothing, s, epochs=5, metric="a"), "epochs=5: expected max_epochs=27"),
        (lambda s: tune.evolution(nothing, s, engine="optuna", metric="a"), "needs engine='ray'"),
        (lambda s: tune.evolution(nothing, s, exchange_ratio=0.6, metric="a"), "exchange_ratio=0.6"),
        (lambda s: tune.evolution(nothing, s, max_trials=3, metric="a"), "expected at least population=8"),
        (lambda s: tune.evolution(nothing, s, loader_state="keep", metric="a"), "loader_state='keep'"),
        (lambda s: tune.evolution(nothing, s, resample_probability=2, metric="a"), "resample_probability=2"),
    ],
)
def test_what_a_method_cannot_do(call, said):
    with pytest.raises(ValueError, match=said):
        call({"lr": tune.Float(0, 1)})


def test_train_has_to_be_a_function(tmp_path):
    with pytest.raises(TypeError, match="train=3: expected a function"):
        tune.random(3, {"lr": tune.Float(0, 1)}, metric="a", path=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_missing_engine_says_what_to_install(tmp_path):
    for engine, method, extra in [("ray", "random", "ray"), ("optuna", "random", "optuna")]:
        code = f"""
import sys
sys.modules["{engine}"] = None
import fastshard as fs
fs.tune.{method}(print, {{"lr": fs.tune.Float(0, 1)}}, metric="a", engine="{engine}", path={str(tmp_path / engine)!r})
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"ImportError: engine='{engine}' needs {engine}" in done.stderr
        assert f"pip install 'fastshard[{extra}]'" in done.stderr
        assert not (tmp_path / engine).exists()


def test_rungs():
    made = []
    run, _presets._search.run = _presets._search.run, lambda *args: made.append(args[-1].rungs)
    try:
        for low, high, factor in [(1, 27, 3), (1, 9, 3), (2, 10, 2), (1, 1, 3), (1, 28, 3)]:
            tune.hyperband(nothing, {}, min_epochs=low, max_epochs=high, reduction_factor=factor, metric="a")
    finally:
        _presets._search.run = run
    assert made == [(1, 3, 9), (1, 3), (2, 4, 8), (), (1, 3, 9, 27)]


# Searches by Optuna.


def test_a_search_of_which_all_trials_fail_says_so(tmp_path):
    def fails(trial):
        raise OSError(f"no data for trial {trial.number}")

    with pytest.raises(RuntimeError, match=r"all 2 trials failed. The first error, of trial 0: OSError: no data for t"):
        tune.random(fails, {"lr": tune.Float(0, 1)}, max_trials=2, path=tmp_path / "s", **COMMON)
    assert [trial.state for trial in tune.Results(tmp_path / "s").trials] == ["failed", "failed"]


def test_random_search_finds_and_goes_on_after_a_crash(digits, tmp_path):
    space = searches.space(digits, crash=1, die=2)
    results = tune.random(
        searches.train, space, max_trials=5, max_concurrent=2, epochs=2, path=tmp_path / "s", **COMMON
    )
    assert results.stopped == "all trials done"
    states = {trial.number: (trial.state, trial.error) for trial in results.trials}
    assert states == {
        0: ("finished", None),
        1: ("failed", "RuntimeError: out of luck"),
        2: ("failed", "its process ended with code 7"),
        3: ("finished", None),
        4: ("finished", None),
    }
    best = max((trial for trial in results.trials if trial.value), key=lambda trial: trial.value)
    assert results.best == best
    assert best.value > 0.8
    assert [report.epoch for report in best.reports] == [1, 2]
    # The same order in every trial, and an equal share of the cores.
    assert len({trial.reports[0].metrics["first"] for trial in results.trials if trial.reports}) == 1
    assert best.reports[0].metrics["threads"] == max(1, fs._fastshard.available_threads() // 2)
    # The study is Optuna's own, for its tools.
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "s" / "optuna.journal"))
    )
    study = optuna.load_study(study_name="search", storage=storage)
    assert study.best_value == best.value
    assert study.best_params == {"lr": best.config["lr"]}
    # The same configurations with one at a time.
    again = tune.random(searches.train, searches.space(digits), max_trials=3, epochs=1, path=tmp_path / "t", **COMMON)
    assert [trial.config["lr"] for trial in again.trials] == [trial.config["lr"] for trial in results.trials[:3]]


def test_bayes_learns_from_what_ended(digits, tmp_path):
    space = searches.space(digits)
    database = f"sqlite:///{tmp_path / 'study.db'}"
    options = {"max_trials": 6, "epochs": 1, "path": tmp_path / "s", "storage": database, "initial_points": 3}
    results = tune.bayes(searches.train, space, **options, **COMMON)
    study = optuna.load_study(study_name="search", storage=database)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 6
    assert [trial.values[0] for trial in study.trials] == [trial.value for trial in results.trials]
    # The first points are drawn as random search draws them; the next ones aren't.
    random = tune.random(searches.train, space, max_trials=6, epochs=1, path=tmp_path / "r", **COMMON)
    same = [a.config == b.config for a, b in zip(results.trials, random.trials, strict=True)]
    assert same[:3] == [True] * 3
    assert not any(same[3:])


def test_begins_with_what_one_uses_today(digits, tmp_path):
    options = {"max_trials": 3, "epochs": 1, "first": [{"lr": 0.25}, {"lr": 0.5}], "path": tmp_path / "s"}
    results = tune.bayes(searches.train, searches.space(digits), resume=True, **options, **COMMON)
    assert [trial.config["lr"] for trial in results.trials[:2]] == [0.25, 0.5]
    assert len(results) == 3
    best = results.best
    assert best.best_report == best.reports[0]
    assert np.load(best.checkpoint / "weights.npy").shape == (64, 10)
    again = tune.bayes(searches.train, searches.space(digits), resume=True, **options, **COMMON)
    assert again.trials == results.trials


def test_hyperband_gives_more_data_to_those_that_go_on(digits, tmp_path):
    schedule = tune.FractionSchedule([0.1, 0.5, 1.0])
    options = {"max_epochs": 4, "reduction_factor": 2, "max_trials": 6, "data_fraction": schedule}
    results = tune.hyperband(searches.train, searches.space(digits), path=tmp_path / "s", **options, **COMMON)
    wanted = {1: (0.1, 144), 2: (0.5, 718), 3: (1.0, 1437), 4: (1.0, 1437)}
    for trial in results.trials:
        for report in trial.reports:
            assert (report.fraction, report.metrics["samples"]) == wanted[report.epoch]
    ended = [trial.epochs for trial in results.trials]
    assert results.trials[0].state == "finished"
    assert min(ended) == 1  # somebody was stopped at the first rung
    assert max(ended) == 4
    assert {trial.state for trial in results.trials} == {"finished", "stopped"}
    assert results.best.data_fraction == 1.0


def test_target_ends_the_search(digits, tmp_path):
    space = searches.space(digits, sleep=0.05)
    options = {"max_trials": 50, "epochs": 50, "max_concurrent": 2, "target": 0.6, "path": tmp_path / "s"}
    results = tune.random(searches.train, space, **options, **COMMON)
    assert results.stopped == "target reached"
    assert results.best.value >= 0.6
    assert results.best.state == "stopped"
    assert len(results) <= 2


def test_time_limit_ends_the_search(digits, tmp_path):
    space = searches.space(digits, sleep=0.1)
    started = time.monotonic()
    options = {"max_trials": 500, "epochs": 500, "time_limit": 6, "path": tmp_path / "s"}
    results = tune.random(searches.train, space, **options, **COMMON)
    assert results.stopped == "time limit"
    assert 6 <= time.monotonic() - started < 30
    assert results.best.value > 0
    assert results.best.state == "unfinished"


def test_what_is_wrong_for_all_trials_ends_the_search(digits, tmp_path):
    with pytest.raises(ValueError, match="metric='f1': what the trial reports has 'accuracy'"):
        tune.random(
            searches.train,
            searches.space(digits),
            path=tmp_path / "s",
            max_trials=50,
            epochs=1,
            **COMMON | {"metric": "f1"},
        )
    assert len(fs.tune.Results(tmp_path / "s")) == 1
    with pytest.raises(ValueError, match="train: returned without a report"):
        tune.random(nothing, {"lr": tune.Float(0, 1)}, path=tmp_path / "t", **COMMON)


KILLED = """
import sys
import searches
import fastshard as fs
data, path = sys.argv[1:]
space = searches.space(data, sleep=0.4)
fs.tune.random(
    searches.train, space, metric="accuracy", engine="optuna", max_trials=4, max_concurrent=2, epochs=4, path=path
)
"""


def wait_for_reports(path, count, process):
    """Until so many reports are written."""
    for _ in range(600):
        logs = path.glob("trials/*.jsonl")
        if sum(log.read_text().count('"report"') for log in logs) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise TimeoutError


def start_search(digits, path):
    tests = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", KILLED, str(digits), str(path)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": tests}, stderr=subprocess.PIPE, text=True)


def workers():
    """Processes that train for a search."""
    commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")]
    return [command for command in commands if b"fastshard.tune._worker" in command]


def test_a_killed_search_goes_on(digits, tmp_path):
    path = tmp_path / "s"
    process = start_search(digits, path)
    wait_for_reports(path, 3, process)
    process.kill()
    process.communicate()
    before = tune.Results(path)
    assert before.stopped is None
    assert any(trial.state == "unfinished" and trial.epochs for trial in before.trials)
    for _ in range(100):  # the workers end by themselves
        if not workers():
            break
        time.sleep(0.1)
    assert not workers()
    options = {"max_trials": 4, "max_concurrent": 2, "epochs": 4, "path": path}
    with pytest.raises(FileExistsError, match="resume=True goes on with it"):
        tune.random(searches.train, searches.space(digits, sleep=0), **options, **COMMON)
    with pytest.raises(ValueError, match="its method is 'random', this one's 'bayes'"):
        tune.bayes(searches.train, searches.space(digits, sleep=0.4), resume=True, **options, **COMMON)
    results = tune.random(searches.train, searches.space(digits, sleep=0.4), resume=True, **options, **COMMON)
    assert results.stopped == "all trials done"
    assert [trial.state for trial in results.trials] == ["finished"] * 4
    # Those that had begun went on at their checkpoints, with the next epoch of their order.
    for trial in results.trials:
        epochs = [(report.epoch, report.metrics["loader_epoch"]) for report in trial.reports]
        assert epochs == [(epoch, epoch - 1) for epoch in range(1, 5)]
    assert results.trials[0].reports[:1] == before.trials[0].reports[:1]


def test_ctrl_c_gives_what_there_is(digits, tmp_path):
    path = tmp_path / "s"
    process = start_search(digits, path)
    wait_for_reports(path, 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    results = tune.Results(path)
    assert results.stopped == "interrupted"
    assert results.best is not None
    assert not workers()
