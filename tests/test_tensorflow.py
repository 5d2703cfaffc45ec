"""The TensorFlow adapter: static shapes, tf.data's operations, and training a Keras model."""

import contextlib
import itertools
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch  # noqa: F401 - both frameworks in one process

import fastshard as fs

ROWS = 40
STEPS = {"image": [fs.RandomResizedCrop(24), fs.RandomHorizontalFlip(), fs.ToDtype()]}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensorflow") / "raw"
    fs.pack(
        (
            {
                "id": i,
                "pixels": np.full((8, 9, 3), i, np.uint8),
                "wide": np.full(3, 60_000 + i, np.uint16),
                "half": np.full(3, i / 4, np.float16),
                "text": f"näme {i}",
                "blob": bytes([255 - i]),
                "flag": i % 2 == 0,
            }
            for i in range(ROWS)
        ),
        path,
    )
    return path


@pytest.fixture
def loader(packed):
    return fs.Loader(packed, 8, shuffle=True, seed=1, transforms=STEPS, num_threads=2)


def epoch_of(loader, epoch):
    """The batches of an epoch, without moving the loader on."""
    return list(pickle.loads(pickle.dumps(loader)).iterate(epoch=epoch))


def same(one, other):
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])


def test_shapes_and_types_are_static(raw):
    spec = fs.tensorflow.dataset(fs.Loader(raw, 10)).element_spec
    assert {name: (field.shape.as_list(), field.dtype) for name, field in spec.items()} == {
        "id": ([10], tf.int64),
        "pixels": ([10, 8, 9, 3], tf.uint8),
        "wide": ([10, 3], tf.uint16),
        "half": ([10, 3], tf.float16),
        "text": ([10], tf.string),
        "blob": ([10], tf.string),
        "flag": ([10], tf.bool),
    }


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, None), ({"drop_last": True}, 7), ({"on_error": "skip", "drop_last": True}, None), ({"batch_size": 40}, 40)],
    ids=str,
)
def test_the_batch_dimension(raw, options, size):
    spec = fs.tensorflow.dataset(fs.Loader(raw, **{"batch_size": 7, **options})).element_spec
    assert spec["pixels"].shape.as_list() == [size, 8, 9, 3]


@pytest.mark.parametrize("shuffle", [False, True])
def test_values(raw, shuffle):
    for batch in fs.tensorflow.dataset(fs.Loader(raw, 7, shuffle=shuffle)).as_numpy_iterator():
        rows = batch["id"]
        assert batch["text"].tolist() == [f"näme {i}".encode() for i in rows]
        assert batch["blob"].tolist() == [bytes([255 - i]) for i in rows]
        assert (batch["pixels"] == rows[:, None, None, None]).all()
        assert (batch["wide"] == 60_000 + rows[:, None]).all()
        assert (batch["half"] == rows[:, None] / 4).all()
        assert (batch["flag"] == (rows % 2 == 0)).all()


def test_equals_the_bare_loader(loader):
    wanted = epoch_of(loader, 0)
    data = fs.tensorflow.dataset(loader)
    assert data.cardinality() == len(loader) == len(wanted)
    same(data.as_numpy_iterator(), wanted)
    assert loader.epoch == 1


def test_equals_torch(loader):
    tensors = [{name: value.numpy() for name, value in batch.items()} for batch in fs.torch.ShardDataset(loader)]
    loader.set_epoch(0)
    same(fs.tensorflow.dataset(loader).as_numpy_iterator(), tensors)


def test_repeat_goes_through_the_epochs(loader):
    wanted = [batch for epoch in range(3) for batch in epoch_of(loader, epoch)]
    assert fs.tensorflow.dataset(loader).repeat(3).cardinality() == 15
    same(fs.tensorflow.dataset(loader).repeat(3).as_numpy_iterator(), wanted)


def test_endless_repeat_is_left_half_way(loader):
    endless = fs.tensorflow.dataset(loader).repeat()
    assert len(list(itertools.islice(endless.as_numpy_iterator(), 12))) == 12


def test_map_take_and_prefetch(loader):
    wanted = epoch_of(loader, 0)[:3]
    data = fs.tensorflow.dataset(loader)
    data = data.map(lambda batch: (batch["image"] * 2, tf.one_hot(batch["label"], 5)), num_parallel_calls=2)
    assert [spec.shape.as_list() for spec in data.element_spec] == [[8, 24, 24, 3], [8, 5]]
    for (images, labels), batch in zip(data.take(3).prefetch(2).as_numpy_iterator(), wanted, strict=True):
        np.testing.assert_array_equal(images, batch["image"] * 2)
        np.testing.assert_array_equal(labels.argmax(axis=1), batch["label"])


def test_several_iterators(loader):
    data = fs.tensorflow.dataset(loader)
    wanted = epoch_of(loader, 0)
    one, other = data.as_numpy_iterator(), data.as_numpy_iterator()
    pairs = list(zip(one, other, strict=True))
    same([pair[0] for pair in pairs], wanted)
    same([pair[1] for pair in pairs], wanted)


def test_held_tensors_keep_their_values(raw):
    tensors = [batch for _ in range(3) for batch in fs.tensorflow.dataset(fs.Loader(raw, 4, shuffle=True))]
    for batch in tensors:
        assert (batch["pixels"].numpy()[:, 0, 0, 0] == batch["id"].numpy()).all()


def test_tuples(loader):
    data = fs.tensorflow.dataset(loader, as_tuple=("image", "label"))
    images, labels = next(iter(data))
    assert (images.shape, labels.dtype) == ((8, 24, 24, 3), tf.int64)
    with pytest.raises(ValueError, match=r"as_tuple=.*lable.*image, label"):
        fs.tensorflow.dataset(loader, as_tuple=("image", "lable"))


def test_skipped_samples_leave_the_cardinality_open(packed):
    loader = fs.Loader(packed, 8, on_error="skip", transforms={"image": fs.RandomCrop(200)})
    data = fs.tensorflow.dataset(loader)
    assert data.cardinality() == tf.data.UNKNOWN_CARDINALITY
    rows = sum(len(batch["label"]) for batch in data.as_numpy_iterator())
    assert rows == 40 - loader.num_skipped
    assert 0 < loader.num_skipped < 40


def test_errors_name_the_sample(packed):
    loader = fs.Loader(packed, 8, transforms={"image": fs.RandomCrop(290)})
    with pytest.raises(tf.errors.OpError, match=r"row \d+ .*RandomCrop of 290 x 290"):
        list(fs.tensorflow.dataset(loader))


def model():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)]
    made = keras.Sequential([keras.Input((24, 24, 3)), *layers])
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return made


def test_fit_evaluate_and_predict(packed, loader):
    train = fs.tensorflow.dataset(loader, as_tuple=("image", "label"))
    steps = {"image": [fs.Resize((24, 24)), fs.ToDtype()]}
    held_out = fs.tensorflow.dataset(fs.Loader(packed, 10, transforms=steps), as_tuple=("image", "label"))
    trained = model()
    history = trained.fit(train, validation_data=held_out, epochs=2, verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"]).all()
    assert len(history.history["val_loss"]) == 2
    assert loader.epoch == 2
    assert trained.predict(held_out, verbose=0).shape == (40, 5)
    assert 0 <= trained.evaluate(held_out, verbose=0)[1] <= 1


def test_fit_with_repeat(loader):
    train = fs.tensorflow.dataset(loader, as_tuple=("image", "label")).repeat()
    history = model().fit(train, steps_per_epoch=3, epochs=2, verbose=0, shuffle=False)
    assert len(history.history["loss"]) == 2


@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # Keras, where an epoch is shorter
class TestResume:
    """A run of ``fit`` that is stopped, and one that goes on from the file that it left."""

    def loader(self, packed):
        steps = {"image": [fs.Resize((16, 16)), fs.RandomHorizontalFlip()]}
        return fs.Loader(packed, 6, shuffle=True, seed=2, transforms=steps, num_threads=1)

    def fit(self, loader, path, epochs, stop):
        class Stop(keras.callbacks.Callback):
            batches = 0

            def on_train_batch_end(self, batch, logs=None):
                self.batches += 1
                if self.batches == stop:
                    raise KeyboardInterrupt

        layers = [keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)]
        model = keras.Sequential(layers)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        state = fs.keras.LoaderState(loader, path, save_freq=2)
        data = fs.tensorflow.dataset(loader, as_tuple=("image", "label"))
        with contextlib.suppress(KeyboardInterrupt):
            model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=[state, Stop()])

    # Epochs have 7 batches; the state is saved after each second one.
    @pytest.mark.parametrize(("stop", "epoch", "samples"), [(3, 0, 12), (5, 0, 24), (7, 0, 36), (9, 1, 6), (12, 1, 30)])
    def test_goes_on(self, packed, tmp_path, stop, epoch, samples):
        path = tmp_path / "state.json"
        self.fit(self.loader(packed), path, 3, stop)
        state = json.loads(path.read_text())
        assert (state["epoch"], state["samples"]) == (epoch, samples)
        loader = self.loader(packed)
        callback = fs.keras.LoaderState(loader, path)
        data = fs.tensorflow.dataset(loader)
        next(iter(data))  # as Keras does, to learn shapes
        callback.on_train_begin()
        wanted = [batch["label"].tolist() for batch in self.loader(packed).iterate(epoch=epoch)][samples // 6 :]
        assert [batch["label"].numpy().tolist() for batch in data] == wanted
        self.fit(self.loader(packed), path, 1, None)
        assert json.loads(path.read_text())["epoch"] == epoch + 1
