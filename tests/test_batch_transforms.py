"""Transforms of whole batches, functions of the user's own, and bfloat16, held against torch and torchvision."""

import io
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import fastshard as fs

ROWS = 30
CLASSES = 7
CROP = [fs.RandomResizedCrop((20, 24)), fs.RandomHorizontalFlip()]
FLOATS = [fs.ToDtype("float32"), fs.ToDtype("float16"), fs.ToDtype("bfloat16")]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes:UserWarning"),
]


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Raw pixels without two that are alike, so that it shows where each one comes from."""
    path = tmp_path_factory.mktemp("batch") / "noise"
    random = np.random.default_rng(0)
    fs.pack(
        (
            {
                "id": i,
                "pixels": random.integers(0, 256, (12, 17, 3), dtype=np.uint8),
                "wide": random.integers(0, 65536, (6, 5, 1), dtype=np.uint16),
                "label": i % CLASSES,
                "hot": random.integers(0, 2, CLASSES).astype(np.uint8),
            }
            for i in range(ROWS)
        ),
        path,
    )
    return fs.open(path)


def numbers(mix, **options):
    return mix(**{"num_classes": CLASSES, "image": "pixels", "label": "label", **options})


def tensor(values):
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(values))


def lambda_of(mixed, labels):
    """What the labels of a batch say; any row whose partner has another class will do."""
    row = next(i for i in range(len(labels)) if labels[i] != labels[i - 1])
    own, other = mixed[row, labels[row]], mixed[row, labels[row - 1]]
    assert other == np.float32(1.0 - float(own))
    return float(own)


def torchvision_mixup(images, labels, lam, classes):
    mixup = v2.MixUp(num_classes=classes)
    mixup.make_params = lambda inputs: {"lam": lam}
    return mixup(images, labels)


def torchvision_cutmix(images, labels, box, classes):
    height, width = images.shape[-2:]
    x1, y1, x2, y2 = box
    cutmix = v2.CutMix(num_classes=classes)
    share = float(1.0 - (x2 - x1) * (y2 - y1) / (width * height))
    cutmix.make_params = lambda inputs: {"box": box, "lam_adjusted": share}
    return cutmix(images, labels)


def box_of(mixed, plain):
    """``x1, y1, x2, y2`` of what changed; channels last."""
    _, y, x = np.nonzero((mixed != plain).any(axis=3))
    return (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0)


class TestMixUp:
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    @pytest.mark.parametrize("dtype", FLOATS, ids=lambda step: step.dtype)
    def test_floats_are_torchvisions_to_the_bit(self, packed, dtype, layout):
        options = {"shuffle": True, "seed": 4, "transforms": {"image": [*CROP, dtype]}, "layout": layout}
        plain = list(fs.Loader(packed, 12, **options))
        mixed = list(fs.Loader(packed, 12, batch_transforms=[fs.MixUp()], **options))
        assert len(mixed) == 4
        for before, after in zip(plain, mixed, strict=True):
            lam = lambda_of(after["label"], before["label"])
            images, labels = torchvision_mixup(tensor(before["image"]), tensor(before["label"]), lam, 5)
            assert torch.equal(tensor(after["image"]), images)
            assert torch.equal(tensor(after["label"]), labels)

    @pytest.mark.parametrize("field", ["pixels", "wide"])
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_integers_are_the_nearest(self, noise, field, layout, shuffle):
        options = {"shuffle": shuffle, "layout": layout}
        mixup = numbers(fs.MixUp, image=field)
        for before, after in zip(
            fs.Loader(noise, 8, **options), fs.Loader(noise, 8, batch_transforms=mixup, **options), strict=True
        ):
            lam = lambda_of(after["label"], before["label"])
            floats = tensor(before[field].astype(np.float32))
            images, _ = torchvision_mixup(floats, tensor(before["label"]), lam, CLASSES)
            np.testing.assert_array_equal(after[field], images.round().numpy())
            assert after[field].dtype == before[field].dtype

    def test_multi_hot_labels(self, noise):
        (before,) = fs.Loader(noise, ROWS)
        (after,) = fs.Loader(noise, ROWS, batch_transforms=numbers(fs.MixUp, label="hot"))
        hot = before["hot"].astype(np.float32)
        row, place = np.argwhere((hot == 1) & (np.roll(hot, 1, axis=0) == 0))[0]
        _, labels = torchvision_mixup(
            tensor(before["pixels"] / np.float32(1)), tensor(before["hot"]), float(after["hot"][row, place]), CLASSES
        )
        assert torch.equal(tensor(after["hot"]), labels)

    def test_lambda_follows_beta(self, noise):
        for alpha in (0.2, 1.0, 4.0):
            loader = fs.Loader(noise, 2, shuffle=True, batch_transforms=numbers(fs.MixUp, alpha=alpha))
            own, other = [], []
            for _ in range(20):
                labels = list(fs.Loader(noise, 2, shuffle=True, fields=["label"]).iterate(epoch=loader.epoch))
                for batch, plain in zip(loader, labels, strict=True):
                    if plain["label"][0] != plain["label"][1]:
                        own.append(batch["label"][0, plain["label"][0]])
                        other.append(batch["label"][0, plain["label"][1]])
            assert len(set(own)) > 0.95 * len(own) > 200
            np.testing.assert_allclose(np.add(own, other), 1, rtol=1e-6)
            assert stats.kstest(own, stats.beta(alpha, alpha).cdf).pvalue > 1e-3

    def test_a_batch_of_one_is_mixed_with_itself(self, noise):
        (before,) = fs.Loader(noise[:1], 1)
        (after,) = fs.Loader(noise[:1], 1, batch_transforms=numbers(fs.MixUp))
        np.testing.assert_array_equal(after["pixels"], before["pixels"])
        np.testing.assert_allclose(after["label"], np.eye(CLASSES)[:1])


class TestCutMix:
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    @pytest.mark.parametrize("dtype", [None, *FLOATS], ids=lambda step: step and step.dtype)
    def test_is_torchvisions(self, noise, dtype, layout):
        steps = {"pixels": [fs.RandomHorizontalFlip(), *([dtype] if dtype else [])]}
        options = {"shuffle": True, "seed": 2, "transforms": steps, "layout": layout}
        boxes = set()
        for before, after in zip(
            fs.Loader(noise, 8, **options),
            fs.Loader(noise, 8, batch_transforms=[numbers(fs.CutMix)], **options),
            strict=True,
        ):
            first, last = tensor(before["pixels"]), tensor(after["pixels"])
            if layout == "NHWC":
                first, last = first.permute(0, 3, 1, 2), last.permute(0, 3, 1, 2)
            box = box_of(last.float().permute(0, 2, 3, 1).numpy(), first.float().permute(0, 2, 3, 1).numpy())
            boxes.add(box)
            images, labels = torchvision_cutmix(first, tensor(before["label"]), box, CLASSES)
            assert torch.equal(last, images)
            assert torch.equal(tensor(after["label"]), labels)
        assert len(boxes) == 4

    def test_boxes_lie_everywhere(self, noise):
        loader = fs.Loader(noise[:2], 2, batch_transforms=numbers(fs.CutMix), fields=["pixels", "label"])
        (plain,) = fs.Loader(noise[:2], 2)
        seen = np.zeros((12, 17), int)
        for _ in range(200):
            (batch,) = loader
            seen += (batch["pixels"][0] != plain["pixels"][0]).any(axis=2)
        assert seen.min() > 0
        assert seen[6, 8] > 1.3 * seen[0, 0]  # boxes are cut off at the border


class TestBatches:
    @pytest.mark.parametrize("threads", [1, 2, 5])
    def test_threads_change_nothing(self, packed, threads):
        def loader(number):
            steps = [fs.MixUp(alpha=0.4), fs.CutMix()]
            return fs.Loader(packed, 6, shuffle=True, seed=3, transforms={"image": CROP}, num_threads=number,
                             batch_transforms=steps)  # fmt: skip

        wanted, found = list(loader(3)), list(loader(threads))
        for one, other in zip(wanted, found, strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in one)
        some = list(loader(threads).iterate(1, 3, epoch=0))
        assert all(np.array_equal(one["image"], other["image"]) for one, other in zip(wanted[1::3], some, strict=True))

    def test_seeds_epochs_and_places_differ(self, noise):
        lambdas = set()
        for seed in range(3):
            loader = fs.Loader(noise, 10, seed=seed, batch_transforms=numbers(fs.MixUp))
            for _ in range(3):
                lambdas |= {float(batch["label"][0, i * 10 % CLASSES]) for i, batch in enumerate(loader)}
        assert len(lambdas) == 27

    def test_several_in_a_row(self, noise):
        steps = [numbers(fs.MixUp), numbers(fs.MixUp, image="wide", label="hot"), numbers(fs.CutMix)]
        (plain,) = fs.Loader(noise, ROWS)
        (first,) = fs.Loader(noise, ROWS, batch_transforms=steps[:1])
        (batch,) = fs.Loader(noise, ROWS, batch_transforms=steps)
        box = box_of(batch["pixels"], first["pixels"])
        images = tensor(first["pixels"]).permute(0, 3, 1, 2)
        images, labels = torchvision_cutmix(images, tensor(first["label"]), box, None)
        assert torch.equal(tensor(batch["pixels"]).permute(0, 3, 1, 2), images)
        assert torch.equal(tensor(batch["label"]), labels)
        assert (batch["wide"] != plain["wide"]).any()
        np.testing.assert_array_equal(batch["id"], plain["id"])

    def test_choice(self, noise):
        choice = fs.RandomChoice([numbers(fs.MixUp), numbers(fs.CutMix)], [1, 3])
        plain = list(fs.Loader(noise, 2))
        pasted = 0
        loader = fs.Loader(noise, 2, batch_transforms=choice)
        for _ in range(20):
            for before, after in zip(plain, loader, strict=True):
                rolled = np.roll(before["pixels"], 1, axis=0)
                pasted += bool(((after["pixels"] == before["pixels"]) | (after["pixels"] == rolled)).all())
        assert 190 < pasted < 255  # of 300, 225 expected, five standard deviations are 37

    def test_only_what_could_be_loaded_is_mixed(self, photos, tmp_path):
        rows = []
        for i in range(12):
            stream = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(photos["cat"][i * 9 : i * 9 + 32, :32])).save(stream, "PNG")
            encoded = bytearray(stream.getvalue())
            if i in (0, 5, 6, 11):
                encoded[60:200] = bytes(140)
            rows.append({"image": bytes(encoded), "label": i % 3})
        fs.pack(rows, tmp_path / "ds")
        options = {"on_error": "skip", "transforms": {"image": [fs.ToDtype()]}}
        mixup = fs.MixUp(3, label="label")
        for before, after in zip(
            fs.Loader(tmp_path / "ds", 6, **options),
            fs.Loader(tmp_path / "ds", 6, batch_transforms=mixup, **options),
            strict=True,
        ):
            assert len(before["label"]) == len(after["label"]) == 4
            lam = lambda_of(after["label"], before["label"])
            images, labels = torchvision_mixup(tensor(before["image"]), tensor(before["label"]), lam, 3)
            assert torch.equal(tensor(after["image"]), images)
            assert torch.equal(tensor(after["label"]), labels)
        with pytest.raises(fs.DecodeError, match=r"row 0\b"):
            next(iter(fs.Loader(tmp_path / "ds", 6, batch_transforms=mixup)))

    def test_the_dataset_is_not_written_to(self, noise):
        plain = list(fs.Loader(noise, 5))
        copies = [batch["pixels"].copy() for batch in plain]
        assert not plain[0]["pixels"].flags.writeable
        for batch in fs.Loader(noise, 5, batch_transforms=numbers(fs.CutMix)):
            assert batch["pixels"].flags.writeable
            assert batch["label"].flags.writeable
            assert not batch["wide"].flags.writeable  # still a view
        for batch, copy in zip(plain, copies, strict=True):
            np.testing.assert_array_equal(batch["pixels"], copy)

    def test_outputs(self, packed):
        options = {"transforms": {"image": fs.Resize((8, 9))}, "batch_transforms": [fs.CutMix()]}
        spec = fs.Loader(packed, 10, **options).batch_spec
        assert spec["label"] == fs.BatchField((10, 5), "float32")
        assert spec["image"] == fs.BatchField((10, 8, 9, 3), "uint8")
        assert fs.Loader(packed, 10, **options | {"batch_transforms": fs.MixUp(9)}).batch_spec["label"].shape == (10, 9)
        loader = pickle.loads(pickle.dumps(fs.Loader(packed, 10, **options)))
        assert next(iter(loader))["label"].shape == (10, 5)

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_labels_out_of_range_are_named(self, noise, on_error):
        mixup = numbers(fs.MixUp, num_classes=5)
        with pytest.raises(ValueError, match=r"noise row 5: \"label\" is 5, expected a class from 0 to 4"):
            list(fs.Loader(noise, 10, on_error=on_error, batch_transforms=mixup))
        with pytest.raises(ValueError, match=r"row \d+: \"label\" is [56],"):
            list(fs.Loader(noise, 10, on_error=on_error, shuffle=True, batch_transforms=mixup))

    @pytest.mark.parametrize(
        ("steps", "error", "words"),
        [
            (fs.MixUp, TypeError, "parentheses"),
            ([fs.Resize(3)], TypeError, "put it in transforms"),
            ([lambda batch: batch], TypeError, r"wrap it in fs\.Lambda"),
            (print, TypeError, r"wrap it in fs\.Lambda"),
            ("MixUp", TypeError, "batch_transforms='MixUp'"),
            ({"image": fs.MixUp()}, TypeError, "expected a list"),
            (3, TypeError, "batch_transforms=3"),
            ([3], TypeError, "3 is not"),
            ([fs.Lambda(dict), fs.MixUp()], ValueError, "after Lambda"),
            (fs.MixUp(4), ValueError, 'num_classes is 4, but field "label" has 5 classes'),
            (fs.MixUp(image="label"), ValueError, "holds no pixels"),
            (fs.MixUp(label="image"), ValueError, r"pass num_classes|no class names"),
            (fs.MixUp(5, label="image"), ValueError, "can't be a label"),
            (fs.MixUp(label="lable"), ValueError, "label='lable'.*'label'"),
            ([fs.MixUp(), fs.CutMix(6)], ValueError, "6 classes"),
        ],
        ids=str,
    )
    def test_impossible_lists(self, packed, steps, error, words):
        with pytest.raises(error, match=words):
            fs.Loader(packed, 4, transforms={"image": fs.Resize((8, 8))}, batch_transforms=steps)

    def test_fields_must_be_clear(self, noise, packed):
        with pytest.raises(ValueError, match="expected one image field, there are: pixels, wide; pass image="):
            fs.Loader(noise, 4, batch_transforms=fs.MixUp(7))
        with pytest.raises(ValueError, match="expected one class field, there are: none; pass label="):
            fs.Loader(noise, 4, batch_transforms=fs.MixUp(7, image="wide"))
        with pytest.raises(ValueError, match="pass num_classes"):
            fs.Loader(noise, 4, batch_transforms=fs.MixUp(image="wide", label="label"))
        with pytest.raises(ValueError, match=r"'hot'|\"hot\""):
            fs.Loader(noise, 4, batch_transforms=fs.MixUp(6, image="wide", label="hot"))
        with pytest.raises(ValueError, match="expected one class field"):
            fs.Loader(packed, 4, fields=["image"], transforms={"image": CROP}, batch_transforms=fs.MixUp())

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"num_classes": 0}, ValueError),
            ({"num_classes": 2.5}, TypeError),
            ({"alpha": 0}, ValueError),
            ({"alpha": float("nan")}, ValueError),
            ({"alpha": None}, TypeError),
        ],
        ids=str,
    )
    def test_impossible_arguments(self, options, error):
        for mix in (fs.MixUp, fs.CutMix):
            with pytest.raises(error, match=str(next(iter(options)))):
                mix(**options)


def halve(batch):
    return {**batch, "label": batch["label"] / 2}


class TestLambda:
    def test_gets_batches_and_makes_batches(self, noise):
        seen = []

        def change(batch):
            assert list(batch) == ["id", "pixels", "wide", "label", "hot"]
            assert all(values.flags.writeable for values in batch.values())
            seen.append(batch["label"].shape)
            batch["pixels"] //= 2
            return {"pixels": batch["pixels"], "more": batch["id"] + 1}

        plain = [batch["pixels"].copy() for batch in fs.Loader(noise, 8)]
        loader = fs.Loader(noise, 8, batch_transforms=[fs.Lambda(change), fs.Lambda(lambda b: {**b, "end": 1})])
        for before, after in zip(plain, loader, strict=True):
            assert list(after) == ["pixels", "more", "end"]
            np.testing.assert_array_equal(after["pixels"], before // 2)
        assert seen == [(8,), (8,), (8,), (6,)]
        assert loader.epoch == 1

    def test_comes_after_native_ones(self, noise):
        loader = fs.Loader(noise, 8, batch_transforms=[numbers(fs.MixUp), fs.Lambda(halve)])
        for batch in loader:
            np.testing.assert_allclose(batch["label"].sum(axis=1), 0.5, rtol=1e-6)

    def test_what_it_raises_ends_the_pass(self, noise):
        def fail(batch):
            if 16 in batch["id"]:
                raise RuntimeError("mine")
            return batch

        loader = fs.Loader(noise, 8, batch_transforms=fs.Lambda(fail))
        iterator = iter(loader)
        next(iterator), next(iterator)
        with pytest.raises(RuntimeError, match="mine"):
            next(iterator)
        assert next(iterator, None) is None
        assert loader.epoch == 0

    def test_must_return_a_dict(self, noise):
        with pytest.raises(TypeError, match="returned NoneType, expected a dict"):
            next(iter(fs.Loader(noise, 8, batch_transforms=fs.Lambda(lambda batch: None))))
        with pytest.raises(TypeError, match="fn=3"):
            fs.Lambda(3)

    def test_pickles_if_the_function_does(self, noise):
        loader = pickle.loads(pickle.dumps(fs.Loader(noise, 8, batch_transforms=fs.Lambda(dict))))
        assert len(list(loader)) == 4
        assert len(list(loader.share_threads(2))) == 4
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(fs.Loader(noise, 8, batch_transforms=fs.Lambda(lambda batch: batch)))

    @pytest.mark.parametrize("step", [fs.Lambda(dict), fs.MixUp()], ids=str)
    def test_is_no_transform_of_samples(self, noise, step):
        for steps in (step, [fs.CenterCrop(3), step]):
            with pytest.raises(TypeError, match="put it in batch_transforms"):
                fs.Loader(noise, 8, transforms={"pixels": steps})


class TestBfloat16:
    @pytest.mark.parametrize("scale", [True, False])
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    @pytest.mark.parametrize("field", ["pixels", "wide"])
    @pytest.mark.parametrize("normalize", [None, fs.Normalize([0.4], [0.3])], ids=["plain", "normalised"])
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_is_what_torch_rounds_to(self, noise, dtype, normalize, field, layout, scale):
        def batch(dtype):
            steps = [fs.ToDtype(dtype, scale=scale), *([normalize] if normalize else [])]
            (found,) = fs.torch.ShardDataset(fs.Loader(noise, ROWS, transforms={field: steps}, layout=layout))
            return found[field]

        assert batch(dtype).dtype == getattr(torch, dtype)
        assert torch.equal(batch(dtype), batch("float32").to(getattr(torch, dtype)))

    def test_is_torchvisions(self, packed):
        steps = [fs.Resize((32, 32)), fs.ToDtype("bfloat16")]
        pixels = fs.torch.ShardDataset(fs.Loader(packed, 40, transforms={"image": steps[:1]}, layout="NCHW"))
        halves = fs.torch.ShardDataset(fs.Loader(packed, 40, transforms={"image": steps}, layout="NCHW"))
        convert = v2.ToDtype(torch.bfloat16, scale=True)
        assert torch.equal(next(iter(halves))["image"], convert(next(iter(pixels))["image"]))

    def test_as_numpy(self, noise):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        loader = fs.Loader(noise, 10, transforms={"pixels": fs.ToDtype("bfloat16")})
        assert loader.batch_spec["pixels"].dtype == "bfloat16"
        batch = next(iter(loader))
        assert batch["pixels"].dtype == ml_dtypes.bfloat16
        assert batch["pixels"].flags.writeable
        plain = next(iter(fs.Loader(noise, 10, transforms={"pixels": fs.ToDtype()})))["pixels"]
        np.testing.assert_array_equal(batch["pixels"], plain.astype(ml_dtypes.bfloat16))

    def test_without_ml_dtypes(self, noise, monkeypatch):
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        options = {"transforms": {"pixels": fs.ToDtype("bfloat16")}}
        with pytest.raises(ImportError, match=r"field 'pixels' is bfloat16.*install ml_dtypes.*torch\.ShardDataset"):
            iter(fs.Loader(noise, 10, **options))
        (batch,) = fs.torch.ShardDataset(fs.Loader(noise, ROWS, **options))
        assert batch["pixels"].dtype == torch.bfloat16
        assert batch["wide"].dtype == torch.uint16
        seeing = fs.Loader(noise, 10, batch_transforms=fs.Lambda(dict), **options)
        with pytest.raises(ImportError, match="ml_dtypes"):
            next(iter(fs.torch.ShardDataset(seeing)))

    def test_is_not_stored(self, tmp_path):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        with pytest.raises((TypeError, ValueError), match="bfloat16"):
            fs.pack([{"x": np.zeros(3, ml_dtypes.bfloat16)}], tmp_path / "ds")


class TestAdapters:
    def loader(self, packed, **options):
        steps = {"image": [*CROP, fs.ToDtype("bfloat16")]}
        return fs.Loader(packed, 8, shuffle=True, transforms=steps, **{"batch_transforms": [fs.MixUp()], **options})

    @pytest.mark.parametrize("context", [None, "fork", "spawn"])
    def test_torch(self, packed, context):
        loader = self.loader(packed)
        wanted = [{name: tensor(values) for name, values in batch.items()} for batch in loader]
        loader.set_epoch(0)
        options = {"num_workers": 2, "multiprocessing_context": context} if context else {}
        found = list(DataLoader(fs.torch.ShardDataset(loader), batch_size=None, **options))
        for one, other in zip(wanted, found, strict=True):
            assert (other["image"].dtype, other["label"].dtype) == (torch.bfloat16, torch.float32)
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["label"], other["label"])
            torch.nn.functional.cross_entropy(torch.zeros(8, 5), other["label"])

    @pytest.mark.parametrize("context", [None, "fork", "spawn"])
    def test_torch_with_lambda(self, packed, context):
        loader = self.loader(packed, batch_transforms=[fs.MixUp(), fs.Lambda(dict)])
        wanted = list(fs.torch.ShardDataset(self.loader(packed)))
        options = {"num_workers": 2, "multiprocessing_context": context} if context else {}
        found = list(DataLoader(fs.torch.ShardDataset(loader), batch_size=None, **options))
        for one, other in zip(wanted, found, strict=True):
            assert torch.equal(one["image"], other["image"])

    def test_torch_takes_what_a_lambda_makes(self, noise):
        def change(batch):
            return {"t": torch.ones(2), "words": np.arange(3, dtype=np.uint16), "list": ["a"], "n": 3}

        (batch,) = fs.torch.ShardDataset(fs.Loader(noise, ROWS, batch_transforms=fs.Lambda(change)))
        assert batch["t"].tolist() == [1, 1]
        assert batch["words"].dtype == torch.uint16
        assert (batch["list"], batch["n"]) == (["a"], 3)

    def test_tensorflow(self, packed):
        tf = pytest.importorskip("tensorflow")
        loader = self.loader(packed)
        wanted = list(loader)
        loader.set_epoch(0)
        data = fs.tensorflow.dataset(loader)
        assert data.element_spec["image"] == tf.TensorSpec((8, 20, 24, 3), tf.bfloat16)
        assert data.element_spec["label"] == tf.TensorSpec((8, 5), tf.float32)
        for one, other in zip(wanted, data, strict=True):
            assert other["image"].dtype == tf.bfloat16
            np.testing.assert_array_equal(one["image"], other["image"].numpy())
            np.testing.assert_array_equal(one["label"], other["label"].numpy())

    def test_tensorflow_with_lambda(self, packed):
        tf = pytest.importorskip("tensorflow")

        def data(change, **options):
            return fs.tensorflow.dataset(
                self.loader(packed, batch_transforms=[fs.MixUp(), fs.Lambda(change)]), **options
            )

        def more(batch):
            return {**batch, "label": batch["label"] * 2, "more": 3}

        for images, labels in data(more, as_tuple=("image", "label")):
            assert images.dtype == tf.bfloat16
            np.testing.assert_allclose(tf.reduce_sum(labels, 1), 2, rtol=1e-6)
        for change, words in [
            (lambda b: {"image": b["image"]}, r"left out field 'label', received image"),
            (lambda b: {**b, "label": b["label"].astype("float64")}, r"'label' float64 \(8, 5\), expected float32"),
            (lambda b: {**b, "image": b["image"][:, :3]}, r"'image' bfloat16 \(8, 3, 24, 3\), expected bfloat16"),
            (lambda b: {**b, "label": [1]}, r"'label' .*list.* None, expected float32"),
        ]:
            with pytest.raises(tf.errors.OpError, match=words):
                list(data(change))
