"""Search the hyperparameters of an MLP and a CNN with Keras Tuner's three tuners, and hold the best against a baseline.

python examples/search_fashion.py                                     # digits that scikit-learn ships: a few minutes
python examples/search_fashion.py --idx fashion-mnist/ --model cnn --tuner bayes --max-trials 100 --epochs 50

`--idx` takes the folder of Fashion-MNIST's four files, packed or not: train-images-idx3-ubyte.gz and so on. The data is
packed once, and each trial has loaders of its own over it.
"""

import argparse
import gzip
import math
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

import fastshard as fs

SEED = 48
PARTS = {"train": 0.95, "val": 0.05}
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class Data(NamedTuple):
    """What is trained on, cut into a part for training and one for validation by each loader, and what is tested on."""

    train: fs.Dataset
    test: fs.Dataset

    def batches(self, part: str) -> fs.keras.PyDataset:
        """Images from 0 to 1 and one-hot labels, by a loader of its own."""
        options: dict[str, Any] = {"transforms": {"image": [fs.ToDtype()]}}
        if part == "test":
            loader = fs.tune.trial_loader(self.test, 256, **options)
        else:
            options |= {"split": part, "parts": PARTS, "stratify": "label", "split_seed": SEED}
            loader = fs.tune.trial_loader(
                self.train, 32 if part == "train" else 256, shuffle=part == "train", **options
            )
        return fs.keras.PyDataset(loader, one_hot=True)


# The data: arrays, packed.


def pack_digits(folder: Path) -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    packed = pack(images, digits.target, tuple("0123456789"), folder / "digits")
    return Data(*packed.split([0.8, 0.2], stratify="label", seed=SEED))


def pack_idx(source: Path, folder: Path) -> Data:
    """Packs the training and the test set of a folder of IDX files."""
    parts = []
    for name, short in [("train", "train"), ("test", "t10k")]:
        images = read_idx(find(source, f"{short}-images-idx3-ubyte"), dimensions=3)
        file = find(source, f"{short}-labels-idx1-ubyte")
        labels = read_idx(file, dimensions=1)
        if len(labels) != len(images):
            raise ValueError(f"{file}: {len(labels):,} labels, but there are {len(images):,} images")
        wrong = np.flatnonzero(labels >= len(CLOTHES))
        if len(wrong):
            raise ValueError(
                f"{file}: label {labels[wrong[0]]} of image {wrong[0]:,}, expected 0 to {len(CLOTHES) - 1}"
            )
        parts.append(pack(images, labels, CLOTHES, folder / name))
    train, test = parts
    if train.field("image").shape != test.field("image").shape:
        raise ValueError(f"{source}: images for training and for testing differ in size")
    return Data(train, test)


def pack(images: NDArray[np.uint8], labels: NDArray[Any], names: tuple[str, ...], path: Path) -> fs.Dataset:
    arrays = {"image": images[..., None], "label": labels.astype(np.int64)}
    print(fs.pack(arrays, path, class_names={"label": names}))
    return fs.open(path)


def find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder}: has neither {name} nor {name}.gz")


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Reads an IDX file of bytes: a magic number, the size of each dimension (big-endian), and the values."""
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            magic, head = file.read(4), file.read(4 * dimensions)
            if magic != bytes([0, 0, 8, dimensions]) or len(head) < 4 * dimensions:
                raise ValueError(
                    f"begins with {(magic + head).hex()}, expected 000008{dimensions:02x} and {dimensions} sizes"
                )
            shape = struct.unpack(f">{dimensions}I", head)
            count = math.prod(shape)
            # Nothing is allocated that can't be there: a byte of gzip's is 1,032 at most.
            if not 0 < count <= path.stat().st_size * (1032 if packed else 1):
                raise ValueError(f"its head says {shape}, which can't be in {path.stat().st_size:,} bytes")
            values = file.read(count + 1)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: {error}") from None
    if len(values) != count:
        there = "more" if len(values) > count else f"{len(values):,}"
        raise ValueError(f"{path}: its head says {shape}, {count:,} values, but there are {there}")
    return np.frombuffer(values, np.uint8).reshape(shape)


# The models: functions of Keras Tuner's hyperparameters, and what one would take without a search.


def mlp(hp: Any, shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), layers.Flatten()])
    model.add(layers.Dense(hp.Int("dense-bot", 50, 350, step=50), activation="relu"))
    for i in range(hp.Int("num_dense_layers", 1, 2)):
        with hp.conditional_scope("num_dense_layers", [*range(i + 1, 3)]):  # none of layers that aren't there
            model.add(layers.Dense(hp.Int(f"dense_{i}", 50, 100, step=25), activation="relu"))
            model.add(layers.Dropout(hp.Choice(f"dropout_{i}", [0.0, 0.1, 0.2])))
    return finished(model, optimizer(hp, [1e-1, 1e-2, 1e-3]))


def cnn(hp: Any, shape: tuple[int, ...]) -> keras.Model:
    model = keras.Sequential([keras.Input(shape)])
    for i in range(hp.Int("num_blocks", 1, 2)):
        with hp.conditional_scope("num_blocks", [*range(i + 1, 3)]):
            filters, padding = hp.Choice(f"filters_{i}", [32, 64]), hp.Choice(f"padding_{i}", ["valid", "same"])
            model.add(layers.Conv2D(filters, 3, padding=padding, activation="relu", kernel_initializer="he_uniform"))
            model.add(layers.MaxPooling2D(2, padding="same"))  # of 8 x 8 pixels too, two blocks leave something
            model.add(layers.Dropout(hp.Choice(f"dropout_{i}", [0.0, 0.1, 0.2])))
    model.add(layers.Flatten())
    units = hp.Int("units", 25, 150, step=25)
    model.add(layers.Dense(units, activation="relu", kernel_initializer="he_uniform"))
    return finished(model, optimizer(hp, [1e-2, 1e-3]))


def optimizer(hp: Any, rates: list[float]) -> keras.optimizers.Optimizer:
    rate = hp.Choice("learning_rate", rates)
    if hp.Choice("Optimizer", ["Adam", "SGD"]) == "Adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def baseline_mlp(shape: tuple[int, ...]) -> keras.Model:
    hidden = [layers.Flatten(), layers.Dense(350, activation="relu")]
    return finished(keras.Sequential([keras.Input(shape), *hidden]), keras.optimizers.Adam())


def baseline_cnn(shape: tuple[int, ...]) -> keras.Model:
    block = [layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten()]
    model = keras.Sequential([keras.Input(shape), *block, layers.Dense(100, activation="relu")])
    return finished(model, keras.optimizers.Adam())


def finished(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model.add(layers.Dense(len(CLOTHES), activation="softmax"))
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    optimizer.build(model.trainable_variables)  # Hyperband's later trials go on with its state as well
    return model


MODELS: dict[str, tuple[Callable[..., keras.Model], Callable[..., keras.Model]]] = {
    "mlp": (mlp, baseline_mlp),
    "cnn": (cnn, baseline_cnn),
}


# The searches.


class Progress(keras.callbacks.Callback):
    """A line for each trial."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        trial = fs.tune.current_trial()
        if trial is not None and logs:
            found = f"val_loss {logs['val_loss']:.4f}, val_accuracy {logs['val_accuracy']:.1%}"
            print(f"  trial {trial.number}: {found} after {trial.epoch} epochs", flush=True)


def make_tuner(name: str, model: str, data: Data, options: argparse.Namespace) -> Any:
    build, shape = MODELS[model][0], data.train.field("image").shape

    def seeded(hp: Any) -> keras.Model:
        keras.utils.set_random_seed(SEED)  # all trials begin alike, whatever was before them
        return build(hp, shape)

    tuners = fs.tune.keras_tuner
    common = {
        "data": lambda _: (data.batches("train"), data.batches("val")),
        "data_fraction": options.data_fraction,
        "time_limit": options.time_limit,
        "objective": "val_loss",
        "seed": SEED,
        "directory": str(options.out),
        "project_name": f"{model}-{name}",
    }
    if name == "hyperband":
        return tuners.Hyperband(seeded, max_epochs=options.epochs, **common)
    common["max_trials"] = options.max_trials
    if name == "random":
        return tuners.RandomSearch(seeded, **common)
    # By default the first trials, thrice as many as there are hyperparameters, are those of the random search.
    return tuners.BayesianOptimization(seeded, num_initial_points=max(2, options.max_trials // 2), **common)


def stop_early() -> keras.callbacks.Callback:
    return keras.callbacks.EarlyStopping("val_loss", patience=3, restore_best_weights=True)


def test_accuracy(model: keras.Model, data: Data, epochs: int) -> float:
    """Trains a model, and says how much of the test set it gets right."""
    train, val = data.batches("train"), data.batches("val")
    model.fit(train, validation_data=val, epochs=epochs, shuffle=False, callbacks=[stop_early()], verbose=0)
    return float(model.evaluate(data.batches("test"), verbose=0, return_dict=True)["accuracy"])


class Found(NamedTuple):
    """One model searched by one tuner."""

    model: str
    tuner: str
    results: fs.tune.Results
    baseline: float
    best: float
    config: dict[str, Any]


def search(model: str, data: Data, options: argparse.Namespace) -> list[Found]:
    keras.utils.set_random_seed(SEED)
    baseline = test_accuracy(MODELS[model][1](data.train.field("image").shape), data, options.final_epochs)
    print(f"{model}: without a search {baseline:.1%} of the test set")
    found = []
    for name in options.tuner:
        tuner = make_tuner(name, model, data, options)
        print(f"{model} by {name}", flush=True)
        tuner.search(epochs=options.epochs, callbacks=[stop_early(), Progress()], verbose=0)
        hp = tuner.get_best_hyperparameters(1)[0]
        best = test_accuracy(tuner.hypermodel.build(hp), data, options.final_epochs)
        # Keras Tuner keeps what it needs itself under names with a slash.
        config = {key: value for key, value in hp.values.items() if "/" not in key}
        found.append(Found(model, name, tuner.results(), baseline, best, config))
    return found


def table(found: list[Found]) -> str:
    """Baseline and best on the test set, and what the search took, as text."""
    head = ["model", "tuner", "trials", "seconds", "stall %", "baseline", "best", "gain", "configuration"]
    rows = [head]
    for one in found:
        trials = one.results.trials
        cost = [str(len(trials)), f"{one.results.seconds:.1f}", f"{one.results.stall_percent:.1f}"]
        quality = [f"{one.baseline:.1%}", f"{one.best:.1%}", f"{100 * (one.best - one.baseline):+.1f}"]
        rows.append([one.model, one.tuner, *cost, *quality, ", ".join(f"{k}={v}" for k, v in one.config.items())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--idx", type=Path, metavar="FOLDER", help="Fashion-MNIST's files; by default scikit-learn's digits")
    add("--out", type=Path, default=Path("searches/fashion"), help="folder of the searches and the report")
    add("--model", nargs="+", choices=[*MODELS], default=[*MODELS], help="both by default")
    tuners = ["random", "bayes", "hyperband"]
    add("--tuner", nargs="+", choices=tuners, default=tuners, help="all three by default")
    add("--max-trials", type=int, default=6, help="of random and bayes; hyperband's follow from --epochs")
    add("--epochs", type=int, default=5, help="of a trial, at most")
    add("--final-epochs", type=int, default=15, help="of the baseline and of the best, at most")
    add("--data-fraction", type=float, default=1.0, help="part of the training data that trials see")
    add("--time-limit", type=float, metavar="SECONDS", help="for each search, which ends with the best so far")
    add("--resume", action="store_true", help="go on with the searches in --out")
    options = parser.parse_args()
    for name in ("max_trials", "epochs", "final_epochs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(options, name)}: expected at least 1")
    return options


def main() -> None:
    options = parse()
    try:
        if not options.resume and options.out.exists():
            raise FileExistsError(f"{options.out}: is there already; --resume goes on with its searches")
        with tempfile.TemporaryDirectory() as scratch:
            data = pack_idx(options.idx, Path(scratch)) if options.idx else pack_digits(Path(scratch))
            found = [one for model in options.model for one in search(model, data, options)]
    except (OSError, ValueError, fs.FastshardError) as error:
        sys.exit(f"search_fashion: {error}")
    count = len(data.test)
    print(f"\n{table(found)}\n\n{count:,} test images, which no search saw: one of them is {100 / count:.2f} points")
    results = {f"{one.model} {one.tuner}": one.results for one in found}
    print(f"report: {fs.tune.report(results, options.out)}")


if __name__ == "__main__":
    main()
