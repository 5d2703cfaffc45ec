"""Train a small network on a table: pack it once, standardise it, split it, stop, and go on where it stopped.

python examples/train_table.py                                        # real measurements that scikit-learn ships
python examples/train_table.py HIGGS.csv.gz --no-header --label 0     # any CSV or Parquet of numbers with two classes
python examples/train_table.py --keras                                # the same with Keras
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import fastshard as fs

HIDDEN = 64


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        packed = Path(scratch) / "packed"
        source = options.table or sample_table(Path(scratch))
        label = int(options.label) if options.label.lstrip("-").isdecimal() else options.label
        print(fs.pack(source, packed, header=options.header, label=label, features="all", missing="mean"))
        dataset = fs.open(packed)
        train, test = dataset.split([0.8, 0.2], seed=options.seed)
        run = with_keras if options.keras else with_torch
        accuracy = run(train, test, options)
    print(f"right about {accuracy:.1%} of {len(test):,} rows that it hadn't seen")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small network on a table.")
    parser.add_argument("table", nargs="?", help="by default the breast cancer table of scikit-learn")
    parser.add_argument("--label", default="-1", help="column of the classes 0 and 1: name or number")
    parser.add_argument("--no-header", dest="header", action="store_false")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keras", action="store_true")
    return parser.parse_args()


def sample_table(folder: Path) -> Path:
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True).frame
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def with_torch(train: fs.Dataset, test: fs.Dataset, options: argparse.Namespace) -> float:
    import torch
    from torch import nn

    torch.manual_seed(options.seed)
    features = train.field("features").shape[0]
    layers = [nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.BCEWithLogitsLoss()
    batches = tensors(train, options)
    # Stopped in the middle of an epoch, the run goes on with the very rows that are left of it.
    stop = len(batches) * (options.epochs // 2) + len(batches) // 2
    steps = 0
    state: dict[str, Any] | None = None
    while batches.loader.epoch < options.epochs:
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model(x).squeeze(1), y.float())
            loss.backward()
            optimizer.step()
            steps += 1
            if steps == stop:
                state = batches.state_dict()
                break
        if state is not None:
            print(f"stopped after {steps:,} steps, and on: {json.dumps(state)}")
            batches = tensors(train, options)
            batches.load_state_dict(state)
            state = None
        else:
            print(f"epoch {batches.loader.epoch}: loss of the last batch {loss.item():.3f}")
    right = sum(((model(x).squeeze(1) > 0) == (y > 0.5)).sum().item() for x, y in tensors(test, options, train=False))
    return right / len(test)


def tensors(dataset: fs.Dataset, options: argparse.Namespace, train: bool = True) -> Any:
    return fs.torch.TensorLoader(
        dataset,
        batch_size=options.batch,
        shuffle=train,
        seed=options.seed,
        transforms={"features": fs.Standardize()},
    )


def with_keras(train: fs.Dataset, test: fs.Dataset, options: argparse.Namespace) -> float:
    import keras

    keras.utils.set_random_seed(options.seed)
    features = train.field("features").shape[0]
    hidden = [keras.layers.Dense(HIDDEN, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.layers.Input((features,)), *hidden, keras.layers.Dense(1, activation="sigmoid")])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])

    def loader_of(dataset: fs.Dataset, shuffle: bool) -> fs.Loader:
        steps = {"features": fs.Standardize()}
        return fs.Loader(dataset, options.batch, shuffle=shuffle, seed=options.seed, transforms=steps)

    label = train.fields[-1].name
    with tempfile.TemporaryDirectory() as folder:
        # Two runs, the second of which begins where the first one ended, as a run does that was stopped.
        for epochs in (options.epochs // 2, options.epochs - options.epochs // 2):
            loader = loader_of(train, True)
            state = fs.keras.LoaderState(loader, Path(folder) / "loader.json")
            print(f"from epoch {loader.epoch} on")
            batches = fs.keras.PyDataset(loader, "features", label)
            model.fit(batches, epochs=epochs, shuffle=False, callbacks=[state], verbose=2)
    return float(model.evaluate(fs.keras.PyDataset(loader_of(test, False), "features", label), verbose=0)[1])


if __name__ == "__main__":
    main()
