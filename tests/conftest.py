"""What several files of tests share: real photographs, a folder of them, and that folder packed."""

import contextlib
import gc
import os
import signal
import warnings

# Torch's compiler brings an LLVM of its own, which aborts the process when TensorFlow's is loaded before it.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import numpy as np
import pytest
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

import fastshard as fs

# A forked worker that collects an iterator of TensorFlow's, left over from another test, waits forever for the threads
# that it had in the parent. So what the parent leaves to be collected isn't collected in its children.
os.register_at_fork(after_in_child=gc.freeze)

# Whoever starts the tests in the background of a script starts them with Ctrl-C ignored, and so what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

CLASSES = ("astronaut", "cat", "coffee", "dahlia", "temple")


@pytest.fixture
def collected():
    """Collects what a test left, without complaints about files."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="session")
def photos():
    """Name to photograph, RGB uint8 of different sizes; all of them come with the packages."""
    temple, dahlia = load_sample_images().images
    pictures = (data.astronaut(), data.chelsea(), data.coffee(), dahlia, temple)
    return dict(zip(CLASSES, pictures, strict=True))


@pytest.fixture(scope="session")
def photo_folder(photos, tmp_path_factory):
    """Folders of five classes with eight JPEG crops each, 100 to 300 pixels wide and high. Not to be changed."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, photo in photos.items():
        (root / name).mkdir()
        for i in range(8):
            height, width = random.integers(100, 301, 2)
            top = random.integers(photo.shape[0] - height + 1)
            left = random.integers(photo.shape[1] - width + 1)
            crop = np.ascontiguousarray(photo[top : top + height, left : left + width])
            Image.fromarray(crop).save(root / name / f"{i}.jpg", quality=90)
    return root


@pytest.fixture(scope="session")
def packed(photo_folder, tmp_path_factory):
    """The path of ``photo_folder`` packed with the default options. Not to be changed."""
    path = tmp_path_factory.mktemp("packed") / "photos"
    fs.pack(photo_folder, path)
    return path


@pytest.fixture(scope="session")
def kept(photo_folder, tmp_path_factory):
    """The same with the files stored byte for byte, other than by default. Not to be changed."""
    path = tmp_path_factory.mktemp("kept") / "photos"
    fs.pack(photo_folder, path, seekable=False)
    return path
