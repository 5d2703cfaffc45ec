"""Train a small CNN from a packed folder of photos, and say how long it waited for data.

fastshard pack photos/ packed/
python examples/train_torch.py packed/
"""

import argparse
import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

import fastshard as fs
from fastshard.torch import ShardDataset

SIDE = 96
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Watch:
    """Passes batches through and adds up the time that the training loop waits for them."""

    def __init__(self, batches: Iterable[dict[str, Tensor]]) -> None:
        self.batches, self.waited, self.images = batches, 0.0, 0
        self.started = time.perf_counter()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        iterator = iter(self.batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            self.images += len(batch["label"])
            yield batch["image"].to(DEVICE), batch["label"].to(DEVICE)

    def __str__(self) -> str:
        took = time.perf_counter() - self.started
        return f"{self.images / took:,.0f} img/s, {self.waited / took:.0%} of the time waiting for data"


def batches_of(dataset: fs.Dataset, batch_size: int, *, train: bool) -> ShardDataset:
    augment = [fs.RandomResizedCrop(SIDE), fs.RandomHorizontalFlip()]
    steps = augment if train else [fs.Resize(SIDE * 8 // 7), fs.CenterCrop(SIDE)]
    loader = fs.Loader(
        dataset,
        batch_size=batch_size,
        shuffle=train,
        drop_last=train,
        fields=["image", "label"],
        transforms={"image": [*steps, fs.ToDtype(), fs.Normalize(fs.IMAGENET_MEAN, fs.IMAGENET_STD)]},
        layout="NCHW",
    )
    return ShardDataset(loader)


def small_cnn(classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, classes)]
    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *block(64, 128), *pool)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small CNN from a packed folder of images.")
    parser.add_argument("dataset", help="a folder that `fastshard pack` wrote")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()

    # A folder is packed in a seeded random order, so that a slice is a random sample of it.
    dataset = fs.open(options.dataset)
    held_out = len(dataset) // 10
    train = batches_of(dataset[held_out:], options.batch_size, train=True)
    test = batches_of(dataset[:held_out], options.batch_size, train=False)

    torch.manual_seed(0)
    model = small_cnn(len(dataset.class_names)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(options.epochs):
        model.train()
        losses = []
        # Every pass has its own order and its own crops, and they are the same ones in every run.
        watch = Watch(train)
        for images, labels in watch:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        summary = str(watch)

        model.eval()
        with torch.inference_mode():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in Watch(test))
        result = f"loss {float(torch.stack(losses).mean()):.3f}, accuracy {right / held_out:.1%} on {held_out} held out"
        print(f"epoch {epoch + 1}: {result}; {summary}")


if __name__ == "__main__":
    main()
