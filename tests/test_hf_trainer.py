"""The Trainer of transformers: every sample once an epoch, also after a resume."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import fastshard as fs

transformers = pytest.importorskip("transformers")
cuda, torch.version.cuda = torch.version.cuda, None  # it imports torchaudio, which may be of another CUDA than torch
try:
    transformers.Trainer  # noqa: B018
finally:
    torch.version.cuda = cuda
ROWS, BATCH = 40, 8

pytestmark = [
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


class Model(torch.nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = seen

    def forward(self, x, n):
        if self.training:
            self.seen.append(n.tolist())
        return {"loss": self.layer(x).square().mean()}


class Trainer(transformers.Trainer):
    def get_train_dataloader(self):
        return DataLoader(self.train_dataset, batch_size=None)


class Epochs(transformers.TrainerCallback):
    def __init__(self, dataset):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **_):
        self.dataset.set_epoch(int(state.epoch))


def loader():
    numbers = np.arange(ROWS)
    ds = fs.from_arrays({"x": numbers[:, None].astype(np.float32), "n": numbers})
    return fs.Loader(ds, BATCH, shuffle=True, seed=1)


def train(kind, folder, resume=None, **options):
    seen, dataset = [], fs.torch.ShardDataset(loader())
    args = transformers.TrainingArguments(
        str(folder), num_train_epochs=3, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no", **options
    )
    trainer = kind(model=Model(seen), args=args, train_dataset=dataset, callbacks=[Epochs(dataset)])
    trainer.train(resume_from_checkpoint=resume)
    return seen


def test_epochs_and_resumes(tmp_path):
    wanted = [batch["n"].tolist() for epoch in range(3) for batch in loader().iterate(epoch=epoch)]
    assert train(Trainer, tmp_path / "run", save_strategy="steps", save_steps=4) == wanted
    for step in (4, 8, 12):
        checkpoint = str(tmp_path / "run" / f"checkpoint-{step}")
        resumed = train(Trainer, tmp_path / "again", checkpoint, save_strategy="no")
        assert resumed == wanted[step:]


def test_a_trainer_that_would_batch_batches_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"return that from get_train_dataloader"):
        train(transformers.Trainer, tmp_path, save_strategy="no")
