"""The Keras adapter: a loader as a ``keras.utils.PyDataset``, for every backend, and callbacks."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from ._base import check, write
from ._load.loader import Batches, Loader, _Begin
from ._load.logs import Logs

__all__ = ["LoaderState", "LoaderStats", "PyDataset"]


# Batches asked for out of order: a few come from iterations that Keras gives up.
_MANY = 3


class PyDataset(keras.utils.PyDataset):
    """The batches of ``loader`` as ``(x, y)`` NumPy arrays, for every backend.

        model.fit(fs.keras.PyDataset(loader), epochs=10, shuffle=False)

    - ``x``, ``y``: names of fields; ``y=None`` gives ``x`` alone, for ``predict``.
    - ``one_hot``: class numbers become float32 ``[batch, classes]``; the number of classes is that of the field's
      names, or ``one_hot=n``.
    - ``scale``: what images are multiplied by, as float32, such as ``1 / 255``. ``ToDtype`` as a transform does the
      same on the loader's threads, and faster.

    Item ``i`` is batch ``i`` of an epoch, whoever asks and however often; what is asked for in order is filled ahead.
    So leave shuffling to the loader: with ``shuffle=True``, its default, ``fit`` asks in random order, which is right
    but slow, and warned about. Each pass that Keras begins has the loader's epoch, and moves the loader on to the next
    one if it reaches the last batch: ``fit`` trains on epochs 0, 1, 2 with every backend, though some look at a batch
    before, to learn shapes. With ``steps_per_epoch``, several of Keras's epochs go through one of the loader's. With
    TensorFlow, ``fastshard.tensorflow.dataset`` saves a copy.

    A loader that goes on within an epoch (see ``LoaderState``) gives Keras epochs of the usual length, since ``fit``
    asks only once how long they are: the rest of the loader's epoch, and then the beginning of its next one.
    """

    def __init__(
        self,
        loader: Loader,
        x: str = "image",
        y: str | None = "label",
        one_hot: bool | int = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        spec = loader.batch_spec
        if loader.skips:
            raise ValueError("on_error='skip': batches that are left out have no number; expected on_error='raise'")
        self.loader = loader
        self._x = check.one_of("x", x, tuple(spec))
        self._y = None if y is None else check.one_of("y", y, tuple(spec))
        self._classes = _classes(loader, self._y, one_hot)
        self._scale = None if scale is None else np.float32(check.number("scale", scale, -math.inf, math.inf))
        self._begin = loader._next
        self._within = self._complete = False
        self._told = len(loader)  # how long Keras takes an epoch to be
        self._misses = 0
        self._ahead: list[_Ahead] = []
        # Keras reads from threads of its own.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Batches an epoch."""
        # ``fit`` goes by the answer that it got before its first epoch, also if the loader's epochs grow.
        if not self._within:
            self._told = len(self.loader)
        return len(self.loader)

    def __getitem__(self, index: int) -> Any:
        """Batch ``index`` of the epoch."""
        batch = self._batch(check.integer("index", index, 0, len(self.loader) - 1))
        x = batch[self._x]
        if self._scale is not None:
            x = x.astype(np.float32) * self._scale
        if self._y is None:
            return (x,)
        y = batch[self._y]
        return x, y if self._classes is None else _one_hot(y, self._classes)

    def _batch(self, index: int) -> dict[str, Any]:
        with self._lock:
            self._complete |= index == min(self._told, len(self.loader)) - 1
            begin, number = self._place(index)
            ahead = next((ahead for ahead in self._ahead if ahead.place == (begin, number)), None)
            if ahead is None:
                self._misses += number > 0
                if self._misses == _MANY:
                    warnings.warn("Keras asks for batches out of order; pass shuffle=False to fit", stacklevel=4)
                # Without views: a backend may take over the memory and write to it.
                batches = self.loader._iterate(number, 1, views=False, begin=begin, bits=False)
                ahead = _Ahead(batches, (begin, number))
            else:
                self._ahead.remove(ahead)
            batch = next(ahead.batches)
            # Two at most: an iteration that Keras gave up may have read ahead while the next one began.
            self._ahead = [*self._ahead[-1:], ahead._replace(place=(begin, number + 1))]
            return batch

    def _place(self, index: int) -> tuple[_Begin, int]:
        """Where the pass begins that has batch ``index``, and its number in it."""
        rest = self.loader._native.batches(self._begin.samples)
        return (self._begin, index) if index < rest else (_Begin(self._begin.epoch + 1, 0), index - rest)

    def on_epoch_begin(self) -> None:
        """Called by Keras: begins a pass where the loader stands."""
        with self._lock:
            self._within = True
            if self._begin != self.loader._next:
                self._begin = self.loader._next
                for ahead in self._ahead:
                    ahead.batches.close()
                self._ahead = []

    def on_epoch_end(self) -> None:
        """Called by Keras, for some passes twice: moves the loader on if all batches were asked for."""
        # Keras resets its iterator after a look at the first batch, which may be the only one.
        looked = sys._getframe(2).f_code.co_name == "reset"
        with self._lock:
            if self._within and self._complete and not looked:
                self.loader._set_next(self.loader._ahead(self._begin, len(self.loader)))
                self._complete = False
            self._within = False
            self._complete &= not looked


class _Ahead(NamedTuple):
    """A pass, and what it gives next: where it began, and the number of the batch."""

    batches: Batches
    place: tuple[_Begin, int]


def _classes(loader: Loader, y: str | None, one_hot: bool | int) -> int | None:
    if one_hot is False:
        return None
    if y is None:
        raise ValueError(f"one_hot={one_hot!r}: expected a field y")
    if one_hot is not True:
        return check.integer("one_hot", one_hot, 2)
    names = loader.dataset.field(y).class_names
    if names is None:
        raise ValueError(f"one_hot=True: field {y!r} has no class names; expected one_hot=number of classes")
    return len(names)


def _one_hot(labels: Any, classes: int) -> Any:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        raise ValueError(f"label {labels[outside][0]}: expected a class from 0 to {classes - 1}")
    encoded = np.zeros((*labels.shape, classes), np.float32)
    np.put_along_axis(encoded, labels[..., None], 1, axis=-1)
    return encoded


class LoaderStats(keras.callbacks.Callback):
    """Adds what the loader did to the logs of each epoch: ``loader_samples_per_second``, ``loader_stall_percent`` ...

    See ``Loader.stats``; here each epoch counts for itself. Put it before the callbacks that write logs.
    """

    def __init__(self, loader: Loader) -> None:
        super().__init__()
        self._logs = Logs(loader)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        if logs is not None:
            logs.update(self._logs.take())


class LoaderState(keras.callbacks.Callback):
    """Keeps where training stands in a JSON file, so that a run that was stopped goes on at the next batch.

        loader = fs.Loader(...)
        state = fs.keras.LoaderState(loader, "loader.json", save_freq=100)
        model.fit(fs.tensorflow.dataset(loader, as_tuple=("image", "label")), shuffle=False,
                  callbacks=[state, ...])

    Counts the batches that were trained on, not those that were fetched ahead. If the file is there already, the loader
    goes on where it says: make this before the dataset, and train on with the model's weights of that moment.
    ``save_freq`` is as in ``keras.callbacks.ModelCheckpoint``: batches, or ``"epoch"``.

    ``fit`` makes all its epochs as long as its first one, and ``PyDataset`` sees to that by itself. Give it a
    ``tf.data`` dataset that goes on within an epoch as ``dataset.repeat()``, with ``steps_per_epoch=len(loader)``.
    """

    def __init__(self, loader: Loader, path: str | os.PathLike[str], save_freq: int | str = "epoch") -> None:
        super().__init__()
        self._loader = loader
        self._path = Path(path)
        self._every = None if save_freq == "epoch" else check.integer("save_freq", save_freq, 1)
        if self._path.exists():
            loader.load_state_dict(json.loads(self._path.read_text()))
        self._begin = loader._next
        self._trained = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras, which may have looked at some batches by then to learn shapes."""
        self._begin, self._trained = self._loader._ahead(self._begin, self._trained), 0
        self._loader._set_next(self._begin)
        params = self.params or {}
        if self._begin.samples and params.get("steps") is None and params.get("epochs", 1) > 1:
            advice = "pass dataset.repeat() and steps_per_epoch=len(loader) to fit"
            warnings.warn(
                f"the first epoch is the rest of one, and Keras cuts later ones to it; {advice}", stacklevel=2
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self._trained += 1
        if self._every is not None and self._trained % self._every == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Called by Keras."""
        self._save()

    def _save(self) -> None:
        state = self._loader._state_of(self._loader._ahead(self._begin, self._trained))
        write.write_file(self._path, json.dumps(state))
