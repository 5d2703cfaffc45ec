"""What feeds batches of a table, each at its best; and the process that times one of them.

    python benches/table_loaders.py NAME --data FOLDER [--shuffle] [--train]

Prints one line of JSON. `tables.py` runs this for every loader in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

# Makes the batches of one epoch, by its number.
Epochs = Callable[[int], Iterable[Any]]
Maker = Callable[[Path, int, bool], Epochs]
# Batches between two looks at the clock.
STRIDE = 64


def fastshard_loader(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    loader = fs.Loader(data / "packed", batch, shuffle=shuffle)
    return lambda _: loader


def fastshard_block(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    loader = fs.Loader(data / "packed", batch, shuffle="block" if shuffle else False)
    return lambda _: loader


def fastshard_tensors(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    loader = fs.torch.TensorLoader(data / "packed", batch_size=batch, shuffle=shuffle)
    return lambda _: loader


def fastshard_memory(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    loader = fs.torch.TensorLoader(*tensors(data), batch_size=batch, shuffle=shuffle)
    return lambda _: loader


def fastshard_dataset(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    dataset = fs.torch.ShardDataset(fs.Loader(data / "packed", batch, shuffle=shuffle))
    return lambda _: dataset


def fastshard_tensorflow(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    loader = fs.Loader(data / "packed", batch, shuffle=shuffle)
    dataset = fs.tensorflow.dataset(loader, as_tuple=("features", "label")).prefetch(4)
    return lambda _: dataset


def fastshard_graph(data: Path, batch: int, shuffle: bool) -> Epochs:
    """The same asked from within a graph, as a compiled training loop does: no Python between batches."""
    dataset = fastshard_tensorflow(data, batch, shuffle)(0)
    return lambda _: in_graph(dataset)


def in_graph(dataset: Any) -> Iterator[None]:
    """Batches of a dataset, a stride of them at a time."""
    import tensorflow as tf

    @tf.function
    def stride(batches: Any, total: Any) -> Any:
        for _ in tf.range(STRIDE):
            total += tf.shape(next(batches)[0], tf.int64)[0]
        return total

    batches = iter(dataset)
    try:
        while True:
            stride(batches, tf.constant(0, tf.int64))
            yield from [None] * STRIDE
    except tf.errors.OutOfRangeError:
        yield from [None] * STRIDE  # the last stride, which is not full


def torch_dataloader(data: Path, batch: int, shuffle: bool) -> Epochs:
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(*tensors(data)), batch_size=batch, shuffle=shuffle)
    return lambda _: loader


def torch_batch_sampler(data: Path, batch: int, shuffle: bool) -> Epochs:
    """A list of rows at a time: one index into each tensor a batch."""
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

    dataset = TensorDataset(*tensors(data))
    rows = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    loader = DataLoader(dataset, sampler=BatchSampler(rows, batch, drop_last=False), batch_size=None)
    return lambda _: loader


def torch_index_select(data: Path, batch: int, shuffle: bool) -> Epochs:
    """Whole tensors in memory; a permutation an epoch, and slices of it selected."""
    import torch

    table = tensors(data)
    rows = len(table[0])

    def shuffled(_: int) -> Iterator[Any]:
        order = torch.randperm(rows)
        for start in range(0, rows, batch):
            picks = order[start : start + batch]
            yield tuple(torch.index_select(tensor, 0, picks) for tensor in table)

    def in_order(_: int) -> Iterator[Any]:
        for start in range(0, rows, batch):
            yield tuple(tensor[start : start + batch] for tensor in table)

    return shuffled if shuffle else in_order


def tensorflow_gather(data: Path, batch: int, shuffle: bool) -> Epochs:
    """Row numbers are shuffled and batched, the rows gathered: tf.data's quickest way to an epoch in random order."""
    import tensorflow as tf

    features, label = (tf.constant(array) for array in arrays(data))
    rows = len(label)

    def epoch(number: int) -> Any:
        if not shuffle:
            return tf.data.Dataset.from_tensor_slices((features, label)).batch(batch).prefetch(tf.data.AUTOTUNE)
        order = tf.random.Generator.from_seed(number).uniform([rows])
        picks = tf.data.Dataset.from_tensor_slices(tf.argsort(order)).batch(batch)
        gathered = picks.map(lambda at: (tf.gather(features, at), tf.gather(label, at)), tf.data.AUTOTUNE)
        return gathered.prefetch(tf.data.AUTOTUNE)

    return epoch


def tensorflow_shuffle(data: Path, batch: int, shuffle: bool) -> Epochs:
    """As its guides have it: slices, a buffer of 100,000 rows for shuffling, batches."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(arrays(data))
    dataset = (dataset.shuffle(100_000) if shuffle else dataset).batch(batch).prefetch(tf.data.AUTOTUNE)
    return lambda _: dataset


def tensorflow_floor(data: Path, batch: int, _: bool) -> Epochs:
    """The same batch again and again: what TensorFlow takes to hand over anything at all."""
    import tensorflow as tf

    features, label = (np.array(array[:batch]) for array in arrays(data))
    batches = -(-len(np.load(data / "label.npy", mmap_mode="r")) // batch)
    dataset = tf.data.Dataset.from_tensors((features, label)).repeat(batches)
    return lambda _number: dataset


def tensorflow_graph_floor(data: Path, batch: int, shuffle: bool) -> Epochs:
    dataset = tensorflow_floor(data, batch, shuffle)(0)
    return lambda _: in_graph(dataset)


def hugging_face(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    dataset = fs.open(data / "packed").to_hf().with_format("numpy")

    def epoch(number: int) -> Iterator[Any]:
        rows = dataset.shuffle(seed=number) if shuffle else dataset
        return iter(rows.iter(batch))

    return epoch


def pyarrow_take(data: Path, batch: int, shuffle: bool) -> Epochs:
    import fastshard as fs

    table = fs.open(data / "packed").to_arrow().select(["features", "label"]).combine_chunks()

    def epoch(number: int) -> Iterator[Any]:
        if not shuffle:
            return map(unpacked, table.to_batches(max_chunksize=batch))
        order = np.random.default_rng(number).permutation(len(table))
        return (unpacked(table.take(order[at : at + batch])) for at in range(0, len(order), batch))

    def unpacked(part: Any) -> Any:
        features = part.column(0).combine_chunks() if shuffle else part.column(0)
        return features.to_numpy_ndarray(), part.column(1).to_numpy()

    return epoch


def polars_slices(data: Path, batch: int, shuffle: bool) -> Epochs:
    import polars as pl

    features, label = arrays(data)
    frame = pl.DataFrame({f"f{at}": features[:, at] for at in range(features.shape[1])} | {"label": label})
    names = frame.columns[:-1]

    def epoch(number: int) -> Iterator[Any]:
        rows = frame.sample(fraction=1, shuffle=True, seed=number) if shuffle else frame
        return ((part.select(names).to_numpy(), part["label"].to_numpy()) for part in rows.iter_slices(batch))

    return epoch


LOADERS: dict[str, tuple[str, Maker]] = {
    "fastshard": ("fastshard Loader", fastshard_loader),
    "fastshard-block": ('fastshard Loader, shuffle="block"', fastshard_block),
    "fastshard-tensors": ("fastshard TensorLoader, packed", fastshard_tensors),
    "fastshard-memory": ("fastshard TensorLoader, tensors", fastshard_memory),
    "fastshard-dataset": ("fastshard ShardDataset", fastshard_dataset),
    "fastshard-tensorflow": ("fastshard tf.data adapter", fastshard_tensorflow),
    "fastshard-graph": ("fastshard tf.data adapter, in a graph", fastshard_graph),
    "torch-index-select": ("torch index_select loader", torch_index_select),
    "torch-batch-sampler": ("torch DataLoader + BatchSampler", torch_batch_sampler),
    "torch-dataloader": ("torch DataLoader(TensorDataset)", torch_dataloader),
    "tf-floor": ("tf.data, one batch repeated", tensorflow_floor),
    "tf-floor-graph": ("tf.data, one batch repeated, in a graph", tensorflow_graph_floor),
    "tf-gather": ("tf.data, gathered", tensorflow_gather),
    "tf-shuffle": ("tf.data, shuffle(100,000)", tensorflow_shuffle),
    "hugging-face": ("Hugging Face datasets", hugging_face),
    "pyarrow": ("pyarrow take", pyarrow_take),
    "polars": ("polars slices", polars_slices),
}


def arrays(data: Path) -> tuple[Any, Any]:
    """The table in memory."""
    return np.load(data / "features.npy"), np.load(data / "label.npy")


def tensors(data: Path) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in arrays(data))


def main() -> None:
    options = parse()
    epochs = LOADERS[options.name][1](options.data, options.batch, options.shuffle)
    rows = len(np.load(options.data / "label.npy", mmap_mode="r"))
    step = training_step() if options.train else None
    # One epoch, or a part, that nobody times: caches, thread pools, tuning.
    timed(epochs(0), rows, options, step)
    passes = [timed(epochs(number + 1), rows, options, step) for number in range(options.epochs)]
    print(json.dumps({"rows": rows, "passes": passes}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time one loader of a table.")
    parser.add_argument("name", choices=LOADERS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--train", action="store_true", help="train a small network on the batches")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="a pass ends after so many, and is scaled")
    return parser.parse_args()


def timed(batches: Iterable[Any], rows: int, options: argparse.Namespace, step: Any) -> dict[str, float]:
    """Seconds and rows of an epoch, or of as much of it as there was time for."""
    whole = -(-rows // options.batch)
    count = 0
    started = time.perf_counter()
    source = iter(batches)
    while count < whole and time.perf_counter() - started < options.seconds:
        part = islice(source, STRIDE)
        if step is None:
            deque(part, maxlen=0)
        else:
            for x, y in map(pair, part):
                step(x, y)
        count = min(count + STRIDE, whole)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": min(count * options.batch, rows)}


def pair(batch: Any) -> tuple[Any, Any]:
    """Features and labels as torch tensors, whatever they came as."""
    import torch

    values = batch.values() if isinstance(batch, dict) else batch
    x, y = (value if isinstance(value, torch.Tensor) else torch.from_numpy(np.asarray(value)) for value in values)
    return x, y


def training_step() -> Callable[[Any, Any], None]:
    """Two hidden layers of 64: the loss of a batch, its gradient and a step of SGD."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [nn.Linear(28, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_of = nn.BCEWithLogitsLoss()

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss_of(model(x).squeeze(1), y.float()).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
