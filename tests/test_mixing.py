"""What is left of the file's order in a shuffled epoch. `benches/mixing.py` measures it at full size."""

import numpy as np
import pytest

import fastshard as fs
from fastshard._sources import rows as _rows

BLOCK, BLOCKS, WINDOW, EPOCHS = 128, 128, 16, 4
ROWS = BLOCK * BLOCKS
CLASS = 2 * BLOCK
BATCH = 64


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("mixing") / "ds"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "_FIXED_CHUNK_BYTES", 8 * BLOCK)
        fs.pack(({"row": row} for row in range(ROWS)), path)
    assert [block["rows"] for block in fs.open(path).manifest["shards"][0]["blocks"]] == [BLOCK] * BLOCKS
    return path


def epochs(path, shuffle):
    loader = fs.Loader(path, 1024, shuffle=shuffle, seed=3, num_threads=1)
    return [np.concatenate([batch["row"] for batch in loader]) for _ in range(EPOCHS)]


@pytest.fixture(scope="module")
def block(path):
    return epochs(path, "block")


@pytest.fixture(scope="module")
def uniform(path):
    return epochs(path, True)


def share(orders, holds):
    """Of all pairs of samples that follow each other."""
    return np.mean([holds(order[:-1], order[1:]) for order in orders])


def one_block(a, b):
    return a // BLOCK == b // BLOCK


def neighbours(a, b):
    return np.abs(a - b) == 1


def test_the_next_sample_is_of_the_same_block_one_time_in_a_window(block, uniform):
    assert share(block, one_block) == pytest.approx(1 / WINDOW, rel=0.05)
    assert share(uniform, one_block) == pytest.approx(1 / BLOCKS, rel=0.15)


def test_neighbours_in_the_file_are_rarely_neighbours_in_the_order(block, uniform):
    assert share(block, neighbours) == pytest.approx(2 / (WINDOW * BLOCK), rel=0.4)
    assert share(uniform, neighbours) < 1e-3


def test_samples_come_anywhere_in_the_epoch(block, uniform):
    for orders in (block, uniform):
        away = [np.abs(order - np.arange(ROWS)).mean() / ROWS for order in orders]
        # Of 128 blocks in random order it varies by 0.019 (Diaconis and Graham, 1977), of four epochs by half of that.
        assert np.mean(away) == pytest.approx(1 / 3, abs=0.04)


def test_windows_hold_other_blocks_in_each_epoch(block):
    held = [set((order[: WINDOW * BLOCK] // BLOCK).tolist()) for order in block]
    assert all(len(blocks) == WINDOW for blocks in held)
    assert len({frozenset(blocks) for blocks in held}) == EPOCHS


def classes(orders, labels):
    """In a batch, on average."""
    batches = np.concatenate(orders).reshape(-1, BATCH)
    return np.mean([len(np.unique(labels[batch])) for batch in batches])


def test_classes_mix_as_under_the_uniform_shuffle_if_they_are_not_stored_together(block, uniform):
    labels = np.random.default_rng(0).permutation(np.arange(ROWS) // CLASS)
    assert classes(block, labels) == pytest.approx(classes(uniform, labels), rel=0.01)


def test_classes_stored_together_mix_within_a_window_only(block, uniform):
    labels = np.arange(ROWS) // CLASS
    assert 10 < classes(block, labels) <= WINDOW
    assert classes(uniform, labels) > 35
