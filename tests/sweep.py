"""Gives every option numbers that no option should have: ``python sweep.py DATASETS [transforms|loaders|views]``.

In a process of its own with little memory, since what goes wrong may end it. Prints what raised an error of another
type than expected, as JSON.
"""

import contextlib
import inspect
import io
import json
import resource
import sys
import wave
from pathlib import Path

import numpy as np
from PIL import Image

import fastshard as fs
from fastshard._transforms.image import ImageTransform

NUMBERS = [-1, 0, 2**31, 2**32, 2**62, 2**63, 2**64, 10**400, 1e308, -1e308, float("nan"), float("inf")]
OTHERS = [True, "x", b"x", None, [], [2**63] * 2, [1e308] * 4, {}, object()]
EXPECTED = (ValueError, TypeError, MemoryError, KeyError, IndexError, fs.FastshardError)
# Options without a default, by their name.
NEEDED = {
    "size": 8,
    "padding": 1,
    "kernel_size": 3,
    "sharpness_factor": 2.0,
    "degrees": 10,
    "bits": 4,
    "threshold": 100,
    "mean": (0.5,),
    "std": (0.5,),
    "length": 3,
    "sample_rate": 8000,
    "transforms": [fs.RandomInvert()],
    "field": "ids",
}
SOUNDS = ("AudioDecode", "CenterWindow", "LogMel", "RandomWindow", "Resample", "Window")
problems = []


def tried(what, use):
    """Notes what is no expected error."""
    try:
        use()
    except EXPECTED:
        pass
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception
        problems.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")


def settings(make):
    """A name and options for each option and value, the other options as they are by default."""
    parameters = inspect.signature(make).parameters
    needed = {name: NEEDED[name] for name, one in parameters.items() if one.default is one.empty}
    for name in parameters:
        for value in [*NUMBERS, *OTHERS]:
            shown = f"{type(value).__name__} of {value.bit_length()} bits" if isinstance(value, int) else repr(value)
            yield f"{make.__name__}({name}={shown})", {**needed, name: value}


def batch(dataset, batch_size=4, **options):
    with contextlib.closing(iter(fs.Loader(dataset, batch_size, **options))) as batches:
        next(batches, None)


def transforms(root):
    """Every option of every transform, in a list that ends in one size."""
    images, sounds, lists, table = (fs.open(root / name) for name in ("images", "sounds", "lists", "table"))
    for make in map(vars(fs).get, fs.__all__):
        use = use_of(make, images, sounds)
        if use is not None:
            for what, options in settings(make):
                tried(what, lambda use=use, options=options: use(options))
    for make, use in {
        fs.PadSequence: lambda step: batch(lists, transforms={"ids": step}),
        fs.Truncate: lambda step: batch(lists, transforms={"ids": step}),
        fs.Buckets: lambda buckets: batch(lists, buckets=buckets),
        fs.Standardize: lambda step: batch(table, transforms={"x": step}),
    }.items():
        for what, options in settings(make):
            tried(what, lambda make=make, use=use, options=options: use(make(**options)))
    many = [fs.Pad(2**15)] * 20_000
    tried("20,000 times Pad", lambda: batch(images, fields=["image"], transforms={"image": [*many, fs.CenterCrop(8)]}))


def use_of(make, images, sounds):
    """What to do with the options of a class, if that is a transform of images, sounds or whole batches."""
    if not inspect.isclass(make) or make is fs.BatchTransform:
        return None
    if issubclass(make, ImageTransform):
        return lambda options: image(images, make(**options))
    if issubclass(make, fs.BatchTransform):
        return lambda options: mixed(images, make(**options))
    if make.__name__ in SOUNDS:
        return lambda options: sound(sounds, make, options)
    return None


def image(dataset, step):
    first = isinstance(step, (fs.Decode, fs.ToDtype, fs.Normalize))
    steps = [step, fs.Resize((8, 8))] if isinstance(step, fs.Decode) or not first else [fs.Resize((8, 8)), step]
    batch(dataset, fields=["image"], transforms={"image": steps})


def sound(dataset, make, options):
    steps = [fs.Mono(), make(**options)]
    if make is fs.AudioDecode:
        steps.reverse()
    batch(dataset, fields=["audio"], transforms={"audio": steps})


def mixed(dataset, step):
    batch(dataset, transforms={"image": fs.Resize((8, 8))}, fields=["image", "label"], batch_transforms=step)


def loaders(root):
    """Every number that a loader takes."""
    table = fs.open(root / "table")
    for name in inspect.signature(fs.Loader).parameters:
        if name in ("dataset", "transforms", "cache"):
            continue
        for value in [*NUMBERS, *OTHERS]:
            options = {"batch_size": 4, "rank": 0, "world_size": 1} | {name: value}
            tried(f"Loader({name}={value!r:.40})", lambda options=options: batch(table, **options))
    for value in [*NUMBERS, *OTHERS]:
        for name in ("first", "step", "epoch"):
            tried(f"iterate({name}=...)", lambda o={name: value}: next(fs.Loader(table, 4).iterate(**o), None))
        tried("set_epoch", lambda v=value: (one := fs.Loader(table, 4)).set_epoch(v) or next(iter(one)))
        tried("share_threads", lambda v=value: fs.Loader(table, 4).share_threads(v))
        tried("for_rank", lambda v=value: next(iter(fs.Loader(table, 4).for_rank(0, v))))
        tried("for_rank", lambda v=value: next(iter(fs.Loader(table, 4).for_rank(v, 2))))
        for name in ("epoch", "samples", "version"):
            state = fs.Loader(table, 4).state_dict() | {name: value}
            tried(
                f"load_state_dict({name})",
                lambda s=state: (one := fs.Loader(table, 4)).load_state_dict(s) or next(iter(one), None),
            )


def views(root):
    """Every number that a dataset takes."""
    table = fs.open(root / "table")
    for value in [*NUMBERS, *OTHERS]:
        uses = {
            "[]": lambda v=value: table[v],
            "[::]": lambda v=value: table[::v],
            "select": lambda v=value: table.select([v]),
            "subset": lambda v=value: table.subset(v),
            "subset(seed)": lambda v=value: table.subset(3, seed=v),
            "split": lambda v=value: table.split([v, 1]),
            "split(seed)": lambda v=value: table.split([0.5, 0.5], seed=v),
            "kfold": lambda v=value: table.kfold(v),
            "weighted": lambda v=value: batch(table.weighted([v] * len(table))),
            "weighted(num_samples)": lambda v=value: batch(table.weighted(np.ones(len(table)), v), shuffle=True),
            "balanced": lambda v=value: batch(table.balanced("label", v)),
            "mix": lambda v=value: batch(fs.mix([table, table], [v, 1])),
            "where": lambda v=value: table.where(label=v),
            "encoded": lambda v=value: table.encoded(v, "x"),
            "Cache": lambda v=value: fs.Cache(root / "cache", v),
        }
        for name, use in uses.items():
            tried(f"{name} of {type(value).__name__} {value!r:.30}", use)


def made(root):
    """Small datasets of all kinds."""
    pictures, waves = [], []
    for at in range(6):
        file = io.BytesIO()
        Image.fromarray(np.full((12 + at, 16, 3), 40 * at, np.uint8)).save(file, "PNG")
        pictures.append({"image": file.getvalue(), "label": at % 3})
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(np.arange(2000 + at, dtype=np.int16).tobytes())
        waves.append({"audio": file.getvalue()})
    fs.pack(pictures, root / "images", class_names={"label": ["a", "b", "c"]})
    fs.pack(waves, root / "sounds", types={"audio": "audio"})
    fs.pack([{"ids": np.arange(at)} for at in range(6)], root / "lists", types={"ids": "list[int64]"})
    rows = [{"x": np.arange(3, dtype=np.float32) + at, "label": at % 2} for at in range(6)]
    fs.pack(rows, root / "table", class_names={"label": ["a", "b"]})


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    made(folder)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30,) * 2)
    {"transforms": transforms, "loaders": loaders, "views": views}[sys.argv[2]](folder)
    print(json.dumps(problems))
