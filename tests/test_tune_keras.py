"""Keras Tuner's tuners with fastshard's data: each of them searches for real, on scikit-learn's digits."""

import json

import pytest

import fastshard as fs
import searches

keras = pytest.importorskip("keras")
keras_tuner = pytest.importorskip("keras_tuner")
tune = fs.tune

pytestmark = [
    # Keras Tuner's own.
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning"),
    # Keras's own, when it saves weights.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Its Hyperband loads weights into models whose optimisers have none yet.
    pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning"),
]
SPACE = {"units": tune.Choice([4, 32]), "lr": tune.Float(1e-3, 1e-1, log=True)}
SIZES = {0.1: 144, 1.0: 1437}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "ds"
    searches.pack_digits(path)
    return path


def build(hp):
    config = tune.suggest(SPACE, hp)
    layers = [keras.layers.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Rescaling(1 / 16)]
    layers += [keras.layers.Dense(config["units"], "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential(layers)
    model.compile(
        keras.optimizers.Adam(config["lr"]), "categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    return model


class Data:
    """Data of trials, and what they were."""

    def __init__(self, path):
        self.path, self.orders, self.sizes = path, [], []

    def __call__(self, hp):
        options = {"parts": searches.PARTS, "stratify": "label", "config": hp.values}
        train = tune.trial_loader(self.path, 64, split="train", shuffle=True, **options)
        val = tune.trial_loader(self.path, 256, split="val", **options)
        self.sizes.append(len(train.dataset))
        self.orders.append(train)
        return fs.keras.PyDataset(train, one_hot=10), fs.keras.PyDataset(val, one_hot=10)


def make(kind, digits, folder, **options):
    data = Data(digits)
    common = {"objective": "val_accuracy", "seed": 3, "directory": folder, "project_name": "search", "overwrite": True}
    return getattr(tune.keras_tuner, kind)(build, data=data, **common, **options), data


@pytest.mark.parametrize("kind", ["RandomSearch", "BayesianOptimization"])
def test_searches(kind, digits, tmp_path):
    tuner, data = make(kind, digits, tmp_path, max_trials=3, data_fraction=0.5)
    tuner.search(epochs=2, verbose=0)
    results = tuner.results()
    assert (results.method, results.stopped, results.metric, results.mode) == (
        kind,
        "all trials done",
        "val_accuracy",
        "max",
    )
    assert [trial.state for trial in results.trials] == ["finished"] * 3
    # Keras Tuner's own scores are the best epoch's, too.
    scores = sorted(trial.score for trial in tuner.oracle.trials.values())
    assert sorted(trial.value for trial in results.trials) == pytest.approx(scores)
    best = tuner.get_best_hyperparameters()[0].values
    assert {name: results.best.config[name] for name in SPACE} == {name: best[name] for name in SPACE}
    for trial in results.trials:
        assert [report.epoch for report in trial.reports] == [1, 2]
        assert {report.fraction for report in trial.reports} == {0.5}
        assert trial.samples > 2 * 718
        assert trial.first_batch_ms > 0
    assert data.sizes == [718] * 3
    assert [loader.epoch for loader in data.orders] == [2] * 3


def test_hyperband_gives_more_data_to_those_that_go_on(digits, tmp_path):
    schedule = tune.FractionSchedule([0.1, 1.0], epochs=[1])
    tuner, data = make("Hyperband", digits, tmp_path, max_epochs=3, factor=3, data_fraction=schedule)
    tuner.search(verbose=0)
    results = tuner.results()
    begun = {0: 0.1, 1: 1.0}
    stages = set()
    for trial, loader in zip(results.trials, data.orders, strict=True):
        first, last = trial.reports[0].epoch - 1, trial.epochs
        stages.add(first)
        assert len(trial.copied_from) == (first > 0)
        assert set(trial.config) == set(SPACE)
        assert [report.epoch for report in trial.reports] == list(range(first + 1, last + 1))
        assert len(loader.dataset) == SIZES[schedule.at(loader.epoch)]
        # The order goes on with the epoch that the model is at.
        assert loader.epoch == last
        assert trial.reports[0].fraction == begun[first]
    assert stages == {0, 1}
    assert results.best.value > 0.5


def test_every_trial_has_the_same_order(digits, tmp_path):
    tuner, data = make("RandomSearch", digits, tmp_path, max_trials=2)
    tuner.search(epochs=1, verbose=0)
    orders = []
    for loader in data.orders:
        loader.set_epoch(0)
        orders.append([n for batch in loader for n in batch["id"].tolist()])
    assert orders[0] == orders[1]


def test_target_and_time_limit_end_the_search(digits, tmp_path):
    tuner, _ = make("RandomSearch", digits, tmp_path / "a", max_trials=50, target=0.2)
    tuner.search(epochs=30, verbose=0)
    assert tuner.results().stopped == "target reached"
    assert len(tuner.results()) < 50
    assert tuner.results().best.epochs < 30
    tuner, _ = make("RandomSearch", digits, tmp_path / "b", max_trials=50, time_limit=1)
    tuner.search(epochs=1000, verbose=0)
    assert tuner.results().stopped == "time limit"
    assert len(tuner.results()) == 1


def test_goes_on_where_it_was(digits, tmp_path):
    tuner, _ = make("RandomSearch", digits, tmp_path, max_trials=2)
    tuner.search(epochs=1, verbose=0)
    before = tuner.results()
    again = tune.keras_tuner.RandomSearch(
        build, data=Data(digits), objective="val_accuracy", directory=tmp_path, project_name="search", max_trials=4
    )
    again.search(epochs=1, verbose=0)
    results = again.results()
    assert len(results) == 4
    assert results.trials[:2] == before.trials
    assert results.seconds > before.seconds


def test_an_unknown_objective_ends_the_search(digits, tmp_path):
    objective = keras_tuner.Objective("val_f1", "max")
    tuner = tune.keras_tuner.RandomSearch(
        build, data=Data(digits), objective=objective, directory=tmp_path, project_name="search", max_trials=9
    )
    with pytest.raises(
        ValueError, match="metric='val_f1': what the trial reports has 'accuracy', 'loss', 'val_accuracy'"
    ):
        tuner.search(epochs=1, verbose=0)
    assert tuner.results().stopped == "interrupted"


def test_a_trial_that_crashes_is_in_the_results(digits, tmp_path):
    data = Data(digits)

    def fails_once(hp):
        if len(data.sizes) == 1:
            data.sizes.append(0)
            raise RuntimeError("out of luck")
        return data(hp)

    tuner = tune.keras_tuner.RandomSearch(
        build, data=fails_once, objective="val_accuracy", directory=tmp_path, project_name="search", max_trials=3
    )
    tuner.search(epochs=1, verbose=0)
    assert [trial.state for trial in tuner.results().trials] == ["finished", "failed", "finished"]
    assert tuner.results().trials[1].error == "RuntimeError: out of luck"


def test_wrong_options(digits, tmp_path):
    with pytest.raises(TypeError, match="data=3: expected a function"):
        tune.keras_tuner.RandomSearch(build, data=3, objective="val_accuracy", directory=tmp_path)
    with pytest.raises(ValueError, match=r"expected epochs=..., since Keras Tuner sets the rungs"):
        make("RandomSearch", digits, tmp_path, data_fraction=tune.FractionSchedule([0.1, 1]))
    tuner, _ = make("RandomSearch", digits, tmp_path)
    with pytest.raises(TypeError, match="validation_data: the data of each trial comes from data="):
        tuner.search(epochs=1, validation_data=[])
    assert not (tmp_path / "search" / "fastshard" / "search.json").exists()


def test_values_of_one_type():
    with pytest.raises(ValueError, match="x: Keras Tuner chooses among values of one type"):
        tune.suggest({"x": tune.Choice(["a", 1])}, keras_tuner.HyperParameters())


def test_the_names_of_trials_are_kept(digits, tmp_path):
    tuner, _ = make("RandomSearch", digits, tmp_path, max_trials=1)
    tuner.search(epochs=1, verbose=0)
    names = json.loads((tmp_path / "search" / "fastshard" / "names.json").read_text())
    assert names == {name: number for number, name in enumerate(tuner.oracle.trials)}
