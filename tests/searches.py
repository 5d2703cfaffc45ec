"""A training function for searches, small and real: softmax regression on scikit-learn's digits, read by fastshard.

python searches.py DATA OUT        runs searches with Ray, all in one cluster, and leaves their folders in OUT
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

import fastshard as fs

PARTS = {"train": 0.8, "val": 0.2}


def pack_digits(path):
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels, labels = digits.images.astype("uint8")[..., None], digits.target
    fs.pack(({"image": p, "label": int(y), "id": n} for n, (p, y) in enumerate(zip(pixels, labels, strict=True))), path)


def train(trial):
    config = trial.config
    if config.get("crash") == trial.number:
        raise RuntimeError("out of luck")
    if config.get("die") == trial.number:
        os._exit(7)
    options = {"parts": PARTS, "stratify": "label", "cache": "off"}
    loader = fs.tune.trial_loader(config["data"], 64, split="train", shuffle=True, **options)
    val = fs.tune.trial_loader(config["data"], 512, split="val", **options)
    weights = np.zeros((64, 10)) if trial.restored is None else np.load(trial.restored / "weights.npy")
    try:
        epochs(trial, loader, val, weights)
    except BaseException:
        time.sleep(config.get("linger", 0))  # as trainers do that clean up when a trial is stopped
        raise


def epochs(trial, loader, val, weights):
    config = trial.config
    for _ in trial.epochs():
        begun, ids = loader.epoch, []
        for batch in loader:
            weights += config["lr"] * gradient(weights, batch)
            ids += batch["id"].tolist()
        right = [(features(batch) @ weights).argmax(1) == batch["label"] for batch in val]
        found = {"accuracy": np.concatenate(right).mean(), "samples": len(ids), "first": ids[0], "loader_epoch": begun}
        found["threads"] = loader._spec["num_threads"]
        time.sleep(config.get("sleep", 0))
        trial.report(found, checkpoint=lambda folder: np.save(folder / "weights.npy", weights))  # noqa: B023


def features(batch):
    return batch["image"].reshape(len(batch["image"]), 64) / 16.0


def gradient(weights, batch):
    x = features(batch)
    scores = np.exp(x @ weights)
    return x.T @ (np.eye(10)[batch["label"]] - scores / scores.sum(1, keepdims=True)) / len(x)


def space(data, **constants):
    return {"lr": fs.tune.Float(1e-3, 10, log=True), "data": str(data), **constants}


def ray_searches(data, out):
    """What tests look at, by name; what goes wrong is written down."""
    tune, common = fs.tune, {"metric": "accuracy", "max_concurrent": 2, "progress": False}
    growing = tune.FractionSchedule([0.1, 0.5, 1.0])
    population = {"rounds": 3, "population": 4, "exchange_ratio": 0.5, **common}
    return {
        "random": lambda path: tune.random(
            train, space(data, crash=1, die=2), first=[{"lr": 0.25}], max_trials=4, epochs=2, path=path, **common
        ),
        "bayes": lambda path: tune.bayes(
            train, space(data), initial_points=2, first=[{"lr": 0.25}], max_trials=4, epochs=1, path=path, **common
        ),
        "hyperband": lambda path: tune.hyperband(
            train,
            space(data, linger=2.2),
            max_epochs=4,
            reduction_factor=2,
            max_trials=6,
            data_fraction=growing,
            path=path,
            **common,
        ),
        "continue": lambda path: tune.evolution(train, space(data), path=path, **population),
        "restart": lambda path: tune.evolution(
            train, space(data), path=path, loader_state="restart", max_trials=6, **population
        ),
        "target": lambda path: tune.random(
            train, space(data, sleep=0.1), max_trials=50, epochs=5, target=0.5, path=path, **common
        ),
        "time": lambda path: tune.random(
            train, space(data, sleep=0.2), max_trials=500, epochs=500, time_limit=25, path=path, **common
        ),
        "metric": lambda path: tune.random(
            train, space(data), max_trials=50, epochs=1, path=path, **common | {"metric": "f1"}
        ),
    }


def main():
    data, out, *names = sys.argv[1:]
    if names[:1] == ["resume"]:
        fs.tune.random(
            train,
            space(data, sleep=0.5),
            metric="accuracy",
            max_trials=4,
            max_concurrent=2,
            epochs=4,
            path=f"{out}/killed",
            resume=True,
            progress=False,
        )
        return
    import ray

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    threads = ray.remote(num_cpus=2)(lambda: fs.tune.trial_loader(data, 8)._spec["num_threads"])
    said = {"threads of a task with two cores": ray.get(threads.remote())}
    # As people name their data: seen from where they are.
    for name, search in ray_searches(os.path.relpath(data), out).items():
        if names and name not in names:
            continue
        try:
            said[name] = repr(search(f"{out}/{name}"))
        except Exception as error:  # noqa: BLE001 - the tests say which
            said[name] = f"{type(error).__name__}: {error}"
        Path(out, "said.json").write_text(json.dumps(said))
    ray.shutdown()


if __name__ == "__main__":
    main()
