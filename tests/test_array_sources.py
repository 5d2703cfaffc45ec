"""Arrays as sources: NumPy's files, memory maps and tensors, and everything that may be wrong with them."""

import io
import zipfile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import fastshard as fs
from fastshard._sources.tables.arrays import array_files


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return {"image": data.images.astype(np.float32), "label": data.target}


def same(path, arrays):
    ds = fs.open(path)
    assert [field.name for field in ds.fields] == list(arrays)
    for name, array in arrays.items():
        assert ds.field(name).dtype == array.dtype.name
        np.testing.assert_array_equal(ds.column(name), array)
    return ds


def test_archives(digits, tmp_path):
    np.savez(tmp_path / "plain.npz", **digits)
    np.savez_compressed(tmp_path / "small.npz", **digits)
    for name in ("plain", "small"):
        fs.pack(tmp_path / f"{name}.npz", tmp_path / name, shard_size="128KiB")
        ds = same(tmp_path / name, digits)
        np.testing.assert_allclose(ds.statistics["image"]["mean"], digits["image"].mean(axis=0), rtol=1e-6)


def test_one_file(digits, tmp_path):
    np.save(tmp_path / "pixels.npy", digits["image"])
    fs.pack(str(tmp_path / "pixels.npy"), tmp_path / "ds")
    same(tmp_path / "ds", {"pixels": digits["image"]})


def test_a_dict(digits, tmp_path):
    np.save(tmp_path / "x.npy", digits["image"])
    mapped = np.memmap(tmp_path / "raw", np.int64, "w+", shape=digits["label"].shape)
    mapped[:] = digits["label"]
    big = digits["image"].astype(">f8")
    arrays = {
        "file": tmp_path / "x.npy",
        "mapped": mapped,
        "tensor": torch.from_numpy(digits["image"]).half(),
        "swapped": big,
        "columns": np.asfortranarray(digits["image"][:, 0]),
        "flags": digits["label"] > 4,
    }
    fs.pack(arrays, tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    assert [field.dtype for field in ds.fields] == ["float32", "int64", "float16", "float64", "float32", "bool"]
    for name, array in {**arrays, "file": digits["image"]}.items():
        np.testing.assert_array_equal(ds.column(name), np.asarray(array))


def test_classes(digits, tmp_path):
    names = [f"digit {n}" for n in range(10)]
    fs.pack(digits, tmp_path / "ds", class_names={"label": names})
    assert fs.open(tmp_path / "ds").class_names == tuple(names)
    with pytest.raises(fs.SourceError, match="'label': row 9: 9; expected a class from 0 to 8"):
        fs.pack(digits, tmp_path / "none", class_names={"label": names[:9]})
    with pytest.raises(fs.SourceError, match="whole numbers"):
        fs.pack(digits, tmp_path / "none", class_names={"image": names})
    with pytest.raises(fs.SourceError, match="class_names for 'labels'"):
        fs.pack(digits, tmp_path / "none", class_names={"labels": names})
    assert not (tmp_path / "none").exists()


def test_what_is_refused(digits, tmp_path):
    objects = np.array([{}, []], object)
    np.savez(tmp_path / "objects.npz", x=objects)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez_compressed(tmp_path / "cut.npz", **digits)
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.save(tmp_path / "cut.npy", digits["image"])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:1000])
    (tmp_path / "text.npz").write_text("not a zip")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": (1 << 40, 100), "fortran_order": False, "descr": "<f4"})
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    for name, message in {
        "objects.npz": "object",
        "objects.npy": "pickle|object",
        "cut.npz": "zip",
        "cut.npy": "cut.npy",
        "text.npz": "zip",
        "other.npz": "readme.txt: not an .npy file",
        "lies.npz": "lies.npz: x.npy: an array of shape .1099511627776, 100. and type float32 in 0 bytes",
        "empty.npz": "no arrays",
        "damaged.npz": "damaged.npz",
    }.items():
        with pytest.raises(fs.SourceError, match=message):
            fs.pack(tmp_path / name, tmp_path / "ds")
    for arrays, message in [
        ({"x": np.zeros(3), "y": np.zeros(4)}, "different lengths.*'x': 3.*'y': 4"),
        ({"x": np.zeros(0)}, "no rows"),
        ({"x": 1.0}, "single value"),
        ({"x": np.array(["a"])}, "expected one of"),
        ({"x": [[1], [1, 2]]}, "array 'x'"),
        ({"x": torch.zeros(2, dtype=torch.bfloat16)}, "array 'x'"),
    ]:
        with pytest.raises(fs.SourceError, match=message):
            fs.pack(arrays, tmp_path / "ds")
    with pytest.raises(ValueError, match="at least one"):
        fs.pack({}, tmp_path / "ds")
    with pytest.raises(ValueError, match="label='label' needs"):
        fs.pack(digits, tmp_path / "ds", label="label")
    assert not (tmp_path / "ds").exists()


def test_arrays_stored_column_by_column(tmp_path):
    values = np.asfortranarray(np.arange(5 * 3 * 2, dtype=np.float32).reshape(5, 3, 2))
    np.save(tmp_path / "x.npy", values)
    fs.pack(tmp_path / "x.npy", tmp_path / "ds")
    np.testing.assert_array_equal(fs.open(tmp_path / "ds").column("x"), values)


def test_a_file_that_is_cut_short_while_it_is_read(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1000, 1000)))
    reader = array_files(str(path))["x"]
    assert reader.read(10).shape == (10, 1000)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(fs.SourceError, match=r"x\.npy: truncated"):
        reader.read(500)


@pytest.mark.parametrize(
    "text", ["{'descr': '<f4', (", "'" * 3, "{1: 2}", "{'shape': 3}", "[" * 99, "L" * 99, "\0", "", "{}L"]
)
def test_headers_that_are_no_literals(text, tmp_path):
    header = text.encode() + b" " * (117 - len(text)) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(fs.SourceError, match=r"x\.npy: not an \.npy file: "):
        fs.pack(tmp_path / "x.npy", tmp_path / "ds")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("shape", [(1, 2**62, 4), (-1, 4), (2**40,), (2**33, 2**33), (1, 2**31)])
def test_headers_that_declare_more_than_there_is(suffix, shape, tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": "<f4"})
    data = header.getvalue() + bytes(4096)
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        path.write_bytes(data)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
    with pytest.raises(fs.SourceError, match=r"an array of shape .* in 4,096 bytes"):
        fs.pack(path, tmp_path / "ds")
