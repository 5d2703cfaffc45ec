"""The Lightning adapter: real Trainers on the CPU, stopped and going on."""

import json
import logging
import subprocess
import sys
import textwrap

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

import fastshard as fs

ROWS, BATCH = 43, 6  # eight batches, the last one of a single sample
BATCHES = 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning's use of torch
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are using `torch.load` with `weights_only=False`:FutureWarning"),
]


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    path = tmp_path_factory.mktemp("lightning") / "ds"
    random = np.random.default_rng(0)
    fs.pack(({"n": n, "image": random.integers(0, 256, (12, 12, 3), dtype=np.uint8)} for n in range(ROWS)), path)
    return fs.open(path)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def make(ds, **options):
    steps = {"image": [fs.RandomCrop(8), fs.ToDtype()]}
    return fs.Loader(ds, BATCH, shuffle=True, seed=3, transforms=steps, num_threads=1, **options)


class Model(lightning.LightningModule):
    """Writes down what it is trained on."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8 * 8 * 3, 1)
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append((batch["n"].tolist(), batch["image"].numpy().tobytes()))
        return self.layer(batch["image"].flatten(1)).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Stop(lightning.Callback):
    """What a crash leaves behind: the checkpoint after so many batches."""

    def __init__(self, after, path):
        self.after, self.path = after, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("stopped")


def trainer(*callbacks, epochs=3, **options):
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(data, *callbacks, checkpoint=None, epochs=3, **options):
    model = Model()
    trainer(*callbacks, epochs=epochs, **options).fit(model, data, ckpt_path=checkpoint)
    return model.seen


def wanted(ds, epochs=3):
    batches = (batch for epoch in range(epochs) for batch in make(ds).iterate(epoch=epoch))
    return [(batch["n"].tolist(), batch["image"].tobytes()) for batch in batches]


def plain(dataset):
    return dataset


def in_workers(dataset):
    return DataLoader(dataset, batch_size=None, num_workers=2)


def in_process(dataset):
    return DataLoader(dataset, batch_size=None)


@pytest.mark.parametrize("wrapped", [plain, in_process, in_workers])
def test_every_epoch_has_an_order_of_its_own(ds, wrapped):
    assert fit(wrapped(fs.torch.ShardDataset(make(ds)))) == wanted(ds)


def test_tensors_in_memory_too(tmp_path):
    rows = torch.arange(ROWS, dtype=torch.float32)

    class Plain(Model):
        def training_step(self, batch, index):
            self.seen.append(batch[0].tolist())
            return self.layer.weight.sum()

    def run(*callbacks, checkpoint=None):
        model = Plain()
        loader = fs.torch.TensorLoader(rows, batch_size=BATCH, shuffle=True, seed=3)
        trainer(*callbacks).fit(model, loader, ckpt_path=checkpoint)
        return model.seen

    whole = fs.torch.TensorLoader(rows, batch_size=BATCH, shuffle=True, seed=3)
    epochs = [batch[0].tolist() for _ in range(3) for batch in whole]
    assert run() == epochs
    with pytest.raises(RuntimeError, match="stopped"):
        run(Stop(BATCHES + 3, tmp_path / "stopped.ckpt"))
    assert run(checkpoint=tmp_path / "stopped.ckpt") == epochs[BATCHES + 3 :]


@pytest.mark.parametrize("after", [1, BATCHES - 1, BATCHES, BATCHES + 3])
@pytest.mark.parametrize(
    ("wrapped", "callback"),
    [(plain, False), (plain, True), (in_process, True), (in_workers, True)],
    ids=["plain", "plain with callback", "DataLoader", "workers"],
)
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_checkpoint_goes_on_at_the_next_batch(ds, tmp_path, wrapped, callback, after):
    def run(*callbacks, **options):
        dataset = fs.torch.ShardDataset(make(ds))
        state = [fs.lightning.LoaderState(dataset)] if callback else []
        return fit(wrapped(dataset), *state, *callbacks, **options)

    path = tmp_path / "stopped.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        run(Stop(after, path))
    assert run(checkpoint=path) == wanted(ds)[after:]


@pytest.mark.parametrize("wrapped", [plain, in_process])
def test_checkpoints_of_whole_epochs(ds, tmp_path, wrapped):
    dataset = fs.torch.ShardDataset(make(ds))
    saving = ModelCheckpoint(tmp_path, save_top_k=-1, save_on_train_epoch_end=True)
    fit(wrapped(dataset), fs.lightning.LoaderState(dataset), saving, epochs=1)
    dataset = fs.torch.ShardDataset(make(ds))
    (saved,) = tmp_path.glob("*.ckpt")
    assert fit(wrapped(dataset), fs.lightning.LoaderState(dataset), checkpoint=saved) == wanted(ds)[BATCHES:]


@pytest.mark.parametrize("wrapped", [plain, in_process])
def test_epochs_cut_short_differ(ds, tmp_path, wrapped):
    def run(*callbacks, **options):
        dataset = fs.torch.ShardDataset(make(ds))
        return fit(wrapped(dataset), fs.lightning.LoaderState(dataset), *callbacks, limit_train_batches=3, **options)

    all_of_it = [one for epoch in range(3) for one in wanted(ds)[BATCHES * epoch :][:3]]
    assert run() == all_of_it
    run(ModelCheckpoint(tmp_path, save_on_train_epoch_end=True), epochs=2)
    (saved,) = tmp_path.glob("*.ckpt")
    assert run(checkpoint=saved) == all_of_it[6:]


@pytest.mark.parametrize("callback", [False, True], ids=["alone", "with callback"])
@pytest.mark.parametrize("validated", [False, True], ids=["no validation", "validation"])
@pytest.mark.parametrize("save_on_train_epoch_end", [None, True], ids=["default", "before validation"])
def test_the_default_checkpoint_goes_on_with_the_next_epoch(ds, tmp_path, callback, validated, save_on_train_epoch_end):
    """Lightning loads no states of loaders where an epoch had ended."""

    def run(*callbacks, **options):
        dataset = fs.torch.ShardDataset(make(ds))
        state = [fs.lightning.LoaderState(dataset)] if callback else []
        model = Validated() if validated else Model()
        data = (dataset, fs.torch.ShardDataset(fs.Loader(ds, 20))) if validated else (dataset,)
        checkpoint = options.pop("checkpoint", None)
        trainer(*state, *callbacks, **options).fit(model, *data, ckpt_path=checkpoint)
        return model.seen

    saving = ModelCheckpoint(tmp_path, save_top_k=-1, save_on_train_epoch_end=save_on_train_epoch_end)
    run(saving, epochs=2)
    saved = {path.name: path for path in tmp_path.glob("*.ckpt")}
    assert len(saved) == 2
    for epoch, path in enumerate(sorted(saved.values()), 1):
        assert run(checkpoint=path) == wanted(ds)[BATCHES * epoch :]


class Validated(Model):
    def validation_step(self, batch, index):
        pass


class Scheduled(Model):
    """Asks how many steps there are, for which Lightning makes the loaders before it reads the checkpoint."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


@pytest.mark.parametrize(
    ("wrapped", "callback"),
    [(plain, False), (plain, True), (in_process, True), (in_workers, True)],
    ids=["plain", "plain with callback", "DataLoader", "workers"],
)
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_schedules_that_ask_for_the_number_of_steps(ds, tmp_path, wrapped, callback):
    path = tmp_path / "stopped.ckpt"

    def run(*callbacks, checkpoint=None):
        dataset, model = fs.torch.ShardDataset(make(ds)), Scheduled()
        # What saves may stand before what counts.
        state = [fs.lightning.LoaderState(dataset)] if callback else []
        trainer(*callbacks, *state).fit(model, wrapped(dataset), ckpt_path=checkpoint)
        return model.seen

    with pytest.raises(RuntimeError, match="stopped"):
        run(Stop(BATCHES + 3, path))
    assert run(checkpoint=path) == wanted(ds)[BATCHES + 3 :]


@pytest.mark.parametrize("after", [3, BATCHES, BATCHES + 1])
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_callbacks_that_save_may_stand_before_the_one_that_counts(ds, tmp_path, after):
    def run(*callbacks, **options):
        dataset = fs.torch.ShardDataset(make(ds))
        return fit(in_process(dataset), *callbacks, fs.lightning.LoaderState(dataset), **options)

    path = tmp_path / "stopped.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        run(Stop(after, path))
    assert run(checkpoint=path) == wanted(ds)[after:]


def test_a_checkpoint_without_the_callback_goes_on_with_it(ds, tmp_path):
    path, again = tmp_path / "stopped.ckpt", tmp_path / "again.ckpt"
    with pytest.raises(RuntimeError, match="stopped"):
        fit(fs.torch.ShardDataset(make(ds)), Stop(3, path))
    dataset = fs.torch.ShardDataset(make(ds))
    with pytest.raises(RuntimeError, match="stopped"):
        fit(dataset, fs.lightning.LoaderState(dataset), Stop(BATCHES + 2, again), checkpoint=path)
    dataset = fs.torch.ShardDataset(make(ds))
    assert fit(dataset, fs.lightning.LoaderState(dataset), checkpoint=again) == wanted(ds)[BATCHES + 2 :]


def test_epochs_cut_short_differ_without_the_callback(ds):
    dataset = fs.torch.ShardDataset(make(ds))
    assert fit(dataset, limit_train_batches=3) == [one for e in range(3) for one in wanted(ds)[BATCHES * e :][:3]]
    # Another fit goes on where the first one ended.
    later = wanted(ds, 5)
    assert fit(dataset, limit_train_batches=3, epochs=2) == [one for e in (3, 4) for one in later[BATCHES * e :][:3]]


RANKS = """
    import json, logging, sys
    import lightning, torch
    import fastshard as fs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(1, 1), []
        def training_step(self, batch, index):
            self.seen += batch["n"].tolist()
            return self.layer(batch["n"][:, None].float()).mean()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-6)
        def on_train_end(self):
            with open(f"{sys.argv[2]}/{self.global_rank}.json", "w") as file:
                json.dump(self.seen, file)

    if __name__ == "__main__":
        dataset = fs.torch.ShardDataset(fs.Loader(sys.argv[1], 6, shuffle=True, seed=3, fields=["n"], num_threads=1))
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        lightning.Trainer(
            accelerator="cpu", devices=2, strategy=sys.argv[3], max_epochs=2, enable_model_summary=False, **options
        ).fit(Model(), dataset)
"""


@pytest.mark.parametrize(
    "strategy", ["ddp_fork", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ddp_spawn", "ddp"))]
)
def test_two_processes_share_an_epoch_of_a_loader_made_before_them(ds, tmp_path, strategy):
    script = tmp_path / "ranks.py"
    script.write_text(textwrap.dedent(RANKS))
    command = [sys.executable, "-W", "ignore", script, ds.path, tmp_path, strategy]
    subprocess.run(command, check=True, timeout=280, capture_output=True)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    half = -(-ROWS // 2)
    for epoch in range(2):
        order = [n for batch in make(ds).iterate(epoch=epoch) for n in batch["n"].tolist()]
        together = zip(*(seen[epoch * half :][:half] for seen in ranks), strict=True)
        assert [n for step in together for n in step] == [*order, order[0]]
    assert {len(seen) for seen in ranks} == {2 * half}


def test_another_loader_is_refused(ds, tmp_path):
    path = tmp_path / "stopped.ckpt"
    dataset = fs.torch.ShardDataset(make(ds))
    with pytest.raises(RuntimeError, match="stopped"):
        fit(dataset, fs.lightning.LoaderState(dataset), Stop(2, path))
    other = fs.torch.ShardDataset(fs.Loader(ds[:40], BATCH, shuffle=True, seed=3))
    with pytest.raises(ValueError, match=r"state has dataset=.*, expected .*, this loader's"):
        fit(other, fs.lightning.LoaderState(other), checkpoint=path)
    with pytest.raises(TypeError, match=r"dataset=.*: expected a fastshard.torch.ShardDataset"):
        fs.lightning.LoaderState(make(ds))


class Logged(lightning.Callback):
    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, module):
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_what_the_loader_did_is_logged_for_each_epoch(packed, tmp_path):
    steps = {"image": [fs.Resize((20, 20)), fs.RandomCrop(8), fs.ToDtype()]}
    loader = fs.Loader(packed, 8, transforms=steps, cache=tmp_path, num_threads=1)

    class Plain(Model):
        def training_step(self, batch, index):
            return self.layer(batch["image"].flatten(1)).mean()

    logged = Logged()
    callbacks = (fs.callbacks.LightningLoaderStats(loader), logged)
    trainer(*callbacks, epochs=2).fit(Plain(), fs.torch.ShardDataset(loader))
    assert [(one["loader_cache_hits"], one["loader_cache_misses"]) for one in logged.epochs] == [(0, 40), (40, 0)]
    for one in logged.epochs:
        assert one["loader_samples_per_second"] > 0
        assert 0 <= one["loader_stall_percent"] <= 100
        assert one["loader_first_batch_ms"] > 0


def test_the_older_name_of_lightning_will_do():
    code = "import pytorch_lightning as old, fastshard as fs; print(issubclass(fs.lightning.LoaderState, old.Callback))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
