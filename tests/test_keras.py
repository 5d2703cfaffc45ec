"""The Keras adapter, with the TensorFlow and the torch backend: a process of its own each, for all tests."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

COMMON = """
    import json, sys
    import numpy as np
    import keras
    import fastshard as fs
    path = tmp = ""
    steps = {"image": [fs.Resize((32, 32)), fs.RandomHorizontalFlip()]}
    def make(**options):
        return fs.Loader(path, 6, shuffle=True, seed=1, transforms=steps, num_threads=1, **options)
    def model(classes=5, one_hot=True):
        layers = [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)]
        made = keras.Sequential(layers)
        kind = "CategoricalCrossentropy" if one_hot else "SparseCategoricalCrossentropy"
        made.compile("sgd", getattr(keras.losses, kind)(from_logits=True))
        return made
    class Seen(keras.callbacks.Callback):
        def __init__(self):
            self.epochs = []
        def on_epoch_end(self, epoch, logs):
            self.epochs.append(dict(logs))
"""


# Runs what it is given, a JSON line each, and answers with one that begins with a mark.
SERVE = """
    import contextlib, io, traceback
    for line in sys.stdin:
        asked = json.loads(line)
        globals().update(path=asked["path"], tmp=asked["tmp"])
        out, error = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(out):
                exec(asked["code"], globals())
        except Exception:
            error = traceback.format_exc()
        print("answer:" + json.dumps([out.getvalue(), error]), flush=True)
"""


@pytest.fixture(scope="module", params=["tensorflow", "torch"])
def backend(request):
    environment = os.environ | {"KERAS_BACKEND": request.param, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", textwrap.dedent(COMMON) + textwrap.dedent(SERVE)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def run(backend, packed, tmp_path):
    def run(code):
        asked = {"code": textwrap.dedent(code), "path": str(packed), "tmp": str(tmp_path)}
        backend.stdin.write(json.dumps(asked) + "\n")
        backend.stdin.flush()
        answer = next((line for line in backend.stdout if line.startswith("answer:")), None)
        assert answer is not None, "the process ended"
        out, error = json.loads(answer.removeprefix("answer:"))
        assert error is None, error
        return json.loads(out.splitlines()[-1])

    return run


def test_fits_evaluates_and_predicts(run):
    found = run("""
        seen, loader = Seen(), make()
        data = fs.keras.PyDataset(loader, one_hot=True, scale=1 / 255)
        net = model()
        net.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=[fs.keras.LoaderStats(loader), seen])
        loss = net.evaluate(fs.keras.PyDataset(make(), one_hot=5, scale=1 / 255), verbose=0)
        sparse = model(one_hot=False)
        sparse.fit(fs.keras.PyDataset(make(), scale=1 / 255), verbose=0, shuffle=False)
        shape = net.predict(fs.keras.PyDataset(make(), y=None, scale=1 / 255), verbose=0).shape
        print(json.dumps([len(data), seen.epochs, float(loss), shape]))
    """)
    length, logs, loss, shape = found
    assert (length, shape) == (7, [40, 5])
    assert [set(one) >= {"loss", "loader_stall_percent", "loader_samples_per_second"} for one in logs] == [True] * 3
    assert loss > 0


def test_item_i_is_batch_i(run):
    found = run("""
        import warnings
        data = fs.keras.PyDataset(make(), one_hot=True, scale=0.5)
        same = []
        for epoch in range(3):
            wanted = list(make().iterate(epoch=epoch))
            data.on_epoch_begin()
            order = list(range(len(data)))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for at in [order, [0, *order], np.random.default_rng(0).permutation(order).tolist()][epoch]:
                    x, y = data[at]
                    same.append(np.array_equal(x, wanted[at]["image"] * np.float32(0.5)))
                    same.append(x.dtype == np.float32 and y.dtype == np.float32)
                    same.append(np.array_equal(y.argmax(1), wanted[at]["label"]))
                    same.append(np.array_equal(y.sum(1), np.ones(len(y))))
            same.append(len(caught) == (epoch == 2))
            data.on_epoch_end()
        print(json.dumps([len(same), all(same)]))
    """)
    assert found == [4 * 22 + 3, True]


def test_every_epoch_has_an_order_of_its_own(run):
    found = run("""
        class Record(fs.keras.PyDataset):
            def __getitem__(self, index):
                x, y = super().__getitem__(index)
                got.setdefault((self._begin.epoch, index), y.tolist())
                return x, y
        got = {}
        model(one_hot=False).fit(Record(make()), epochs=3, verbose=0, shuffle=False)
        epochs = sorted({epoch for epoch, _ in got})
        labels = {epoch: [b["label"].tolist() for b in make().iterate(epoch=epoch)] for epoch in epochs}
        print(json.dumps([epochs, all(labels[epoch][index] == y for (epoch, index), y in got.items())]))
    """)
    assert found == [[0, 1, 2], True]


def test_every_backend_trains_on_the_same_epochs(run):
    """A look at a batch to learn shapes counts for nothing, where it is the only batch, too."""
    found = run("""
        class Watched(keras.Sequential):
            def train_step(self, data):
                trained[-1] += keras.ops.convert_to_numpy(data[1]).tolist()
                return super().train_step(data)
        class Epochs(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                trained.append([])
        def fit(loader, data=None, **options):
            net = Watched([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            net.compile("sgd", loss, run_eagerly=True)
            callbacks = [Epochs()]
            net.fit(data or fs.keras.PyDataset(loader), verbose=0, shuffle=False, callbacks=callbacks, **options)
        def labels(size):
            epochs = [fs.Loader(path, size, shuffle=True, seed=1, fields=["label"]).iterate(epoch=e) for e in range(6)]
            return [[label for batch in epoch for label in batch["label"].tolist()] for epoch in epochs]
        same = []
        for size in (6, 40):  # batches; one batch
            loader = fs.Loader(path, size, shuffle=True, seed=1, transforms=steps)
            trained = []
            fit(loader, epochs=2)
            fit(loader, epochs=2)
            same.append(trained == labels(size)[:4])
        # Several of Keras's epochs go through one of the loader's.
        loader, trained = make(), []
        fit(loader, epochs=2, steps_per_epoch=3)
        whole = labels(6)[0]
        same.append(trained == [whole[:18], whole[18:36]])
        print(json.dumps(same))
    """)
    assert found == [True] * 3


def test_options_that_do_not_fit_are_refused(run):
    messages = run("""
        def message(**options):
            try:
                fs.keras.PyDataset(make(), **options)
            except ValueError as error:
                return str(error)
        wrong = [{"x": "pixels"}, {"y": "breed"}, {"y": None, "one_hot": True}, {"one_hot": 1}, {"scale": float("nan")}]
        print(json.dumps([message(**options) for options in wrong]))
    """)
    expected = ["x='pixels'", "y='breed'", "one_hot=True", "one_hot=1", "scale="]
    assert all(start in message for start, message in zip(expected, messages, strict=True))


def test_goes_on_within_an_epoch(run):
    found = run("""
        from contextlib import suppress
        from pathlib import Path
        class Stop(keras.callbacks.Callback):
            def __init__(self, after):
                self.left = after
            def on_train_batch_end(self, batch, logs=None):
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt
        class Watched(keras.Sequential):
            def train_step(self, data):
                trained.append(keras.ops.convert_to_numpy(data[1]).tolist())
                return super().train_step(data)
        def fit(file, stop, kind):
            net = Watched([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            net.compile("sgd", loss, run_eagerly=True)
            loader = make()
            state = fs.callbacks.KerasLoaderState(loader, file, save_freq=1)
            if kind == "PyDataset":
                data, steps = fs.keras.PyDataset(loader), None
            else:
                data = fs.tensorflow.dataset(loader, as_tuple=("image", "label")).repeat()
                steps = len(loader)
            with suppress(KeyboardInterrupt):
                seen = Seen()
                callbacks = [state, seen, Stop(stop)]
                net.fit(data, epochs=2, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=callbacks)
            return len(seen.epochs)
        wanted = [batch["label"].tolist() for epoch in range(6) for batch in make().iterate(epoch=epoch)]
        results = []
        kinds = ["PyDataset"] + ["tf.data"] * (keras.backend.backend() == "tensorflow")
        for kind in kinds:
            for first, second in [(3, 9), (7, 7), (9, 3), (10, 20)]:
                file = Path(tmp, f"{kind} {first}.json")
                trained = []
                fit(file, first, kind)
                fit(file, second, kind)
                epochs = fit(file, 0, kind)
                results.append(trained == wanted[: len(trained)])
                results.append(len(trained) == first + min(second, 14) + 14 and epochs == 2)
        print(json.dumps([len(results), results]))
    """)
    assert found[0] >= 8
    assert all(found[1]), found


def test_says_that_keras_would_cut_epochs_short(run, tmp_path):
    said = run("""
        import warnings
        from pathlib import Path
        loader = make()
        next(iter(loader))
        Path(tmp, "state.json").write_text(json.dumps(loader.state_dict()))
        state = fs.keras.LoaderState(make(), Path(tmp, "state.json"))
        said = []
        for params in ({"epochs": 3, "steps": None}, {"epochs": 3, "steps": 7}, {"epochs": 1, "steps": None}):
            state.set_params(params)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                state.on_train_begin()
            said.append([str(one.message) for one in caught])
        print(json.dumps(said))
    """)
    assert [len(one) for one in said] == [1, 0, 0]
    assert "steps_per_epoch=len(loader)" in said[0][0]


def test_one_hot_of_many_classes(run):
    """ImageNet-21k: a batch of labels takes what its encoding needs, and no square of the classes."""
    equal, peak = run("""
        import tracemalloc
        import numpy as np
        from fastshard.keras import _one_hot
        labels = np.random.default_rng(0).integers(0, 7, (5, 3))
        equal = bool((_one_hot(labels, 7) == np.eye(7, dtype=np.float32)[labels]).all())
        tracemalloc.start()
        _one_hot(np.arange(256), 21_841)
        print(json.dumps([equal, tracemalloc.get_traced_memory()[1]]))
    """)
    assert equal
    assert peak < 2 * 256 * 21_841 * 4
