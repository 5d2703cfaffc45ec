"""ZIP files, tables with images, indexed datasets, pictures of PIL's; and what may be wrong with them."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from PIL import Image

import fastshard as fs


def images(path):
    dataset = fs.open(path)
    return [dataset.encoded(row)[0] for row in range(len(dataset))]


def zipped(folder, path, below="", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{below}{file.relative_to(folder)}")
    return path


class TestZip:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("below", ["", "photos/"])
    def test_the_same_as_the_folder(self, photo_folder, kept, tmp_path, method, below):
        report = fs.pack(zipped(photo_folder, tmp_path / "a.zip", below, method), tmp_path / "ds", seekable=False)
        assert report.source == f"{tmp_path}/a.zip: ZIP of images or audio"
        assert images(tmp_path / "ds") == images(kept)  # the same random order, too
        assert fs.open(tmp_path / "ds").class_names == fs.open(kept).class_names
        assert fs.open(tmp_path / "ds").column("label").tolist() == fs.open(kept).column("label").tolist()
        assert fs.open(tmp_path / "ds").encoded(0)[1] == f"a.zip/{below}{fs.open(kept).encoded(0)[1]}"

    def test_flat_and_ordered(self, photo_folder, tmp_path):
        files = {path.name: path.read_bytes() for path in (photo_folder / "cat").iterdir()}
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name, data in [*files.items(), ("notes.txt", b"x"), ("__MACOSX/._1.jpg", b"x"), (".hidden.jpg", b"x")]:
                archive.writestr(name, data)
        report = fs.pack(tmp_path / "a.zip", tmp_path / "ds", seekable=False, shuffle=False)
        assert images(tmp_path / "ds") == [files[name] for name in sorted(files)]
        assert [field.name for field in fs.open(tmp_path / "ds").fields] == ["image"]
        assert report.ignored_files == ("notes.txt",)

    @pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "x/../../a.jpg", "x\\..\\..\\a.jpg", "c:/a.jpg"])
    def test_names_that_lead_elsewhere(self, tmp_path, name):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(fs.SourceError, match=r"a.zip: member .*a.jpg': may lead elsewhere"):
            fs.pack(tmp_path / "a.zip", tmp_path / "ds")

    @pytest.mark.parametrize(("kind", "named"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is of mode")])
    def test_links_and_pipes(self, tmp_path, kind, named):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            info = zipfile.ZipInfo("a.jpg")
            info.create_system, info.external_attr = 3, (kind | 0o644) << 16
            archive.writestr(info, "/etc/passwd")
        with pytest.raises(fs.SourceError, match=rf"a.zip: member 'a.jpg' {named}"):
            fs.pack(tmp_path / "a.zip", tmp_path / "ds")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_two_of_a_name(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.jpg", b"x")
            archive.writestr("a.jpg", b"y")
        with pytest.raises(fs.SourceError, match=r"member 'a.jpg': there are two of that name"):
            fs.pack(tmp_path / "a.zip", tmp_path / "ds")

    def test_bombs(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.jpg", bytes(64 << 20))
        with pytest.raises(fs.SourceError, match=r"member 'a.jpg': 67,108,864 bytes in [\d,]+: no image compresses so"):
            fs.pack(tmp_path / "a.zip", tmp_path / "ds")

    @pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_LZMA, 14), (zipfile.ZIP_BZIP2, 12)])
    def test_other_methods(self, photo_folder, tmp_path, method, number):
        with pytest.raises(fs.SourceError, match=rf"member 'astronaut/0.jpg' is compressed by method {number}"):
            fs.pack(zipped(photo_folder, tmp_path / "a.zip", method=method), tmp_path / "ds")

    def test_sizes_that_lie(self, photo_folder, tmp_path):
        data = bytearray(zipped(photo_folder / "cat", tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED).read_bytes())
        entry = data.rindex(b"PK\1\2")
        place = rf"a.zip: member '{data[entry + 46 :].split(b'.jpg')[0].decode()}.jpg': "
        for at, value, named in (
            (24, 2**31, "2,147,483,648 bytes; a file holds at most"),
            (24, 100, "BadZipFile|100"),
        ):
            damaged = bytearray(data)
            damaged[entry + at : entry + at + 4] = struct.pack("<I", value)
            (tmp_path / "b.zip").write_bytes(damaged)
            with pytest.raises(fs.SourceError, match=place.replace("a.zip", "b.zip") + f".*({named})"):
                fs.pack(tmp_path / "b.zip", tmp_path / "ds")

    def test_members_that_overlap(self, photo_folder, tmp_path):
        data = zipped(photo_folder / "cat", tmp_path / "a.zip").read_bytes()
        end = data.rindex(b"PK\5\6")
        start = int.from_bytes(data[end + 16 : end + 20], "little")
        first = data[start : data.index(b"PK\1\2", start + 4)]
        number = first.index(b".jpg") - 1
        copies = [first[:number] + bytes([letter]) + first[number + 1 :] for letter in b"abcdefghijkl"]
        listing = b"".join(copies)
        tail = bytearray(data[end:])
        tail[8:12] = struct.pack("<HH", 12, 12)
        tail[12:16] = struct.pack("<I", len(listing))
        (tmp_path / "b.zip").write_bytes(data[:start] + listing + tail)
        with pytest.raises(fs.SourceError, match=r"b.zip: (members of .* they overlap|member)"):
            fs.pack(tmp_path / "b.zip", tmp_path / "ds")

    def test_damage(self, photo_folder, tmp_path):
        data = zipped(photo_folder, tmp_path / "a.zip").read_bytes()
        for keep in (4, 0.5, -1):
            (tmp_path / "b.zip").write_bytes(data[: int(keep * len(data)) if keep == 0.5 else keep])
            with pytest.raises(fs.SourceError, match=r"b.zip: .*zip"):
                fs.pack(tmp_path / "b.zip", tmp_path / "ds")
        damaged = bytearray(data)
        damaged[data.index(b"\xff\xd8\xff") + 500] ^= 1
        (tmp_path / "b.zip").write_bytes(damaged)
        with pytest.raises(fs.SourceError, match=r"b.zip: member 'astronaut/0.jpg': BadZipFile: Bad CRC"):
            fs.pack(tmp_path / "b.zip", tmp_path / "ds")
        report = fs.pack(tmp_path / "b.zip", tmp_path / "ds", on_error="skip")
        assert report.rows == 39
        assert report.skipped[0].path.endswith("member 'astronaut/0.jpg'")
        encrypted = bytearray(data)
        encrypted[data.rindex(b"PK\1\2") + 8] |= 1
        (tmp_path / "b.zip").write_bytes(encrypted)
        with pytest.raises(fs.SourceError, match=r"member 'temple/7.jpg' is encrypted"):
            fs.pack(tmp_path / "b.zip", tmp_path / "other")

    def test_nothing_in_it(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.txt", b"x")
        with pytest.raises(fs.SourceError, match=r"a.zip: no images found \(1 other files\)"):
            fs.pack(tmp_path / "a.zip", tmp_path / "ds")


@pytest.fixture(scope="module")
def hub(photo_folder):
    """A dataset of Hugging Face's, as it comes from the hub."""
    files = sorted(photo_folder.rglob("*.jpg"))
    names = sorted(path.name for path in photo_folder.iterdir())
    columns = {
        "image": [{"bytes": path.read_bytes(), "path": path.name if n % 2 else None} for n, path in enumerate(files)],
        "label": [names.index(path.parent.name) for path in files],
        "caption": [f"größe {n}" for n in range(len(files))],
        "raw": [bytes([n, 255]) for n in range(len(files))],
        "plain": [path.read_bytes() for path in files],
    }
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=names),
        "caption": datasets.Value("string"),
        "raw": datasets.Value("binary"),
        "plain": datasets.Value("binary"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def check(path, hub):
    dataset = fs.open(path)
    rows = hub.cast_column("image", datasets.Image(decode=False))
    assert len(dataset) == len(rows)
    assert dataset.field("label").class_names == tuple(hub.features["label"].names)
    for row, expected in enumerate(rows):
        assert dataset.encoded(row, "image") == (expected["image"]["bytes"], expected["image"]["path"] or "")
        assert dataset.encoded(row, "plain")[0] == expected["plain"]
        found = dataset[row]
        assert all(found[name] == expected[name] for name in ("label", "caption", "raw"))
    return dataset


class TestHuggingFace:
    def test_loaded(self, hub, tmp_path):
        assert fs.pack(hub, tmp_path / "ds", seekable=False).source == "Dataset: Hugging Face dataset"
        check(tmp_path / "ds", hub)

    def test_selected_and_shuffled(self, hub, tmp_path):
        for number, view in enumerate((hub.select([7, 3, 30]), hub.shuffle(seed=1), hub.select(range(5, 9)))):
            fs.pack(view, tmp_path / str(number), seekable=False)
            check(tmp_path / str(number), view)

    def test_streaming(self, hub, tmp_path):
        view = hub.to_iterable_dataset(num_shards=4).shuffle(seed=3, buffer_size=10)
        fs.pack(view, tmp_path / "ds", seekable=False)
        assert sorted(images(tmp_path / "ds")) == sorted(hub.with_format("arrow")["plain"].to_pylist())
        order = [row["caption"] for row in view]
        assert fs.open(tmp_path / "ds").column("caption").tolist() == order != hub["caption"]

    def test_parquet_and_its_folder(self, hub, tmp_path):
        (tmp_path / "data").mkdir()
        for number in range(2):
            hub.shard(2, number, contiguous=True).to_parquet(tmp_path / f"data/train-0000{number}-of-00002.parquet")
        (tmp_path / "data/README.md").write_text("x")
        for number, source in enumerate([tmp_path / "data", sorted((tmp_path / "data").glob("*.parquet"))]):
            fs.pack(source, tmp_path / str(number), seekable=False, shard_size="256KiB")
            check(tmp_path / str(number), hub)

    def test_as_it_saves_itself(self, hub, tmp_path):
        hub.save_to_disk(tmp_path / "saved")
        fs.pack(tmp_path / "saved", tmp_path / "ds", seekable=False)
        check(tmp_path / "ds", hub)

    def test_images_are_not_decoded(self, hub, tmp_path, monkeypatch):
        monkeypatch.setattr(datasets.Image, "decode_example", lambda *_, **__: pytest.fail("decoded"))
        assert fs.pack(hub, tmp_path / "ds").rows == 40

    def test_classes_without_a_name(self, hub, tmp_path):
        table = hub.data.table.to_pydict() | {"label": [0, -1, *[0] * 38]}
        broken = datasets.Dataset.from_dict(table, features=hub.features)
        with pytest.raises(fs.SourceError, match="row 2, column 'label': -1; expected a class from 0 to 4; types="):
            fs.pack(broken, tmp_path / "ds")
        fs.pack(broken, tmp_path / "ds", types={"label": "int64"})
        assert fs.open(tmp_path / "ds").column("label")[1] == -1


class TestImagesInTables:
    def test_other_layouts(self, photo_folder, tmp_path):
        files = [path.read_bytes() for path in sorted(photo_folder.rglob("*.jpg"))]
        columns = {
            "large": pa.array(files, pa.large_binary()),
            "struct": pa.array([{"path": None, "bytes": one} for one in files]),
            "no path": pa.array([{"bytes": one} for one in files]),
            "fixed": pa.array([b"abc"] * len(files), pa.binary(3)),
            "label": pa.array([n % 2 for n in range(len(files))], pa.int8()),
            "word": pa.array(["no", "yes"] * (len(files) // 2)),
        }
        pq.write_table(pa.table(columns), tmp_path / "odd name", row_group_size=7)
        names = {"label": ["even", "odd"], "word": ["yes", "no"]}
        fs.pack(tmp_path / "odd name", tmp_path / "ds", seekable=False, class_names=names)
        dataset = fs.open(tmp_path / "ds")
        for name in ("large", "struct", "no path"):
            assert [dataset.encoded(row, name)[0] for row in range(len(dataset))] == files
        assert dataset[3]["fixed"] == b"abc"
        assert dataset.field("label").class_names == ("even", "odd")
        assert dataset.column("word").tolist() == [1, 0] * 20

    @pytest.mark.parametrize(
        ("column", "named"),
        [
            (pa.array([b"x", None]), "row 2, column 'x': nothing; expected bytes"),
            (pa.array([{"bytes": b"x"}, None]), "row 2, column 'x': nothing; expected bytes"),
            (
                pa.array([{"bytes": b"x", "path": "a"}, {"bytes": None, "path": "b.jpg"}]),
                "row 2, column 'x': no bytes, but the path 'b.jpg' alone",
            ),
            (pa.array([{"other": 1}]), "column 'x' is struct"),
        ],
    )
    def test_what_is_missing(self, tmp_path, column, named):
        pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
        with pytest.raises(fs.SourceError, match=named):
            fs.pack(tmp_path / "a.parquet", tmp_path / "ds")

    @pytest.mark.parametrize("metadata", [b"", b"{", b"[]", b'{"info": 1}', b'{"info": {"features": {"x": 1}}}'])
    def test_metadata_that_says_nothing(self, tmp_path, metadata):
        table = pa.table({"x": [1, 2]}).replace_schema_metadata({"huggingface": metadata})
        pq.write_table(table, tmp_path / "a.parquet")
        fs.pack(tmp_path / "a.parquet", tmp_path / "ds")
        assert fs.open(tmp_path / "ds").column("x").tolist() == [1, 2]


class TestIndexed:
    def test_pictures_in_memory(self, tmp_path):
        source = torchvision.datasets.FakeData(6, (3, 20, 30), 3)
        report = fs.pack(source, tmp_path / "ds")
        assert report.source == "FakeData: indexed dataset"
        dataset = fs.open(tmp_path / "ds")
        for row in range(6):
            assert Image.open(io.BytesIO(dataset.encoded(row)[0])).format == "PNG"
            np.testing.assert_array_equal(dataset[row]["image"], np.asarray(source[row][0]))
            assert dataset[row]["label"] == source[row][1]

    def test_files_stay_what_they_are(self, photo_folder, tmp_path):
        source = torchvision.datasets.ImageFolder(photo_folder)
        fs.pack(source, tmp_path / "ds", seekable=False)
        dataset = fs.open(tmp_path / "ds")
        assert dataset.class_names == tuple(source.classes)
        for row, (path, label) in enumerate(source.samples):
            assert dataset.encoded(row)[0] == Path(path).read_bytes()
            assert dataset[row]["label"] == label
        subset = torch.utils.data.Subset(torch.utils.data.Subset(source, [9, 7, 5]), [2, 0])
        fs.pack(subset, tmp_path / "some", seekable=False)
        assert images(tmp_path / "some") == [images(tmp_path / "ds")[row] for row in (5, 9)]

    def test_what_a_transform_makes(self, photo_folder, tmp_path):
        crop = torchvision.transforms.CenterCrop(40)
        source = torchvision.datasets.ImageFolder(photo_folder, transform=crop)
        fs.pack(source, tmp_path / "ds")
        np.testing.assert_array_equal(fs.open(tmp_path / "ds")[3]["image"], np.asarray(source[3][0]))
        tensors = torchvision.datasets.ImageFolder(
            photo_folder, transform=torchvision.transforms.Compose([crop, torchvision.transforms.ToTensor()])
        )
        fs.pack(tensors, tmp_path / "tensors")
        np.testing.assert_array_equal(fs.open(tmp_path / "tensors").column("image")[3], tensors[3][0].numpy())
        assert fs.open(tmp_path / "tensors").class_names == tuple(source.classes)

    def test_dicts_and_tensors(self, tmp_path):
        class Dicts:
            def __len__(self):
                return 3

            def __getitem__(self, at):
                assert 0 <= at < 3  # nobody asks for more
                return {"x": torch.arange(4) + at, "n": torch.tensor(at), "text": str(at)}

        fs.pack(Dicts(), tmp_path / "ds")
        assert fs.open(tmp_path / "ds").column("x").tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
        assert fs.open(tmp_path / "ds")[2]["text"] == "2"
        pairs = torch.utils.data.TensorDataset(torch.rand(5, 3), torch.arange(5))
        fs.pack(pairs, tmp_path / "pairs")
        np.testing.assert_array_equal(fs.open(tmp_path / "pairs").column("features"), pairs.tensors[0])
        assert fs.open(tmp_path / "pairs").column("label").tolist() == list(range(5))

    def test_items_that_do_not_fit(self, tmp_path):
        class Sliced:
            def __init__(self, items):
                self.items = items

            def __len__(self):
                return len(self.items)

            def __getitem__(self, at):
                return self.items[at]

        for items, named in [
            ([1, 2], r"Sliced\[0\] is int; expected a pair"),
            ([(1, 2), (1, 2, 3)], r"Sliced\[1\] has 3 parts; expected 2"),
            ([(1, 2), (1.5, 2)], r"Sliced\[1\]: row 1, field 'features': 1.5 .*expected int64"),
            ([], "Sliced: no items"),
        ]:
            with pytest.raises(fs.SourceError, match=named):
                fs.pack(Sliced(items), tmp_path / "ds")

    def test_a_file_that_is_gone(self, photo_folder, tmp_path):
        source = torchvision.datasets.ImageFolder(photo_folder)
        source.samples[3] = (str(photo_folder / "cat/gone.jpg"), 1)
        with pytest.raises(fs.SourceError, match=r"cat/gone.jpg: No such file"):
            fs.pack(source, tmp_path / "ds")


class TestPictures:
    def test_in_an_iterable(self, photos, photo_folder, tmp_path):
        path = photo_folder / "cat/1.jpg"
        pixels = photos["cat"][:30, :40]
        changed = Image.open(path)
        changed.load()
        changed.paste((0, 0, 0), (0, 0, 9, 9))
        with Image.open(path) as opened:
            samples = [opened, Image.open(io.BytesIO(path.read_bytes())), Image.fromarray(pixels), changed]
            fs.pack(({"image": one} for one in samples), tmp_path / "ds", seekable=False)
        dataset = fs.open(tmp_path / "ds")
        assert dataset.encoded(0) == (path.read_bytes(), "1.jpg")
        assert dataset.encoded(1)[0] == path.read_bytes()
        np.testing.assert_array_equal(dataset[2]["image"], pixels)
        np.testing.assert_array_equal(dataset[3]["image"], np.asarray(changed))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    def test_modes_are_kept(self, photos, tmp_path, mode):
        gray = Image.fromarray(photos["cat"][:20, :30]).convert("L")
        picture = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
        fs.pack([{"image": picture}], tmp_path / "ds")
        stored = Image.open(io.BytesIO(fs.open(tmp_path / "ds").encoded(0)[0]))
        np.testing.assert_array_equal(np.asarray(stored), np.asarray(picture))

    def test_modes_that_png_lacks(self, tmp_path):
        with pytest.raises(fs.SourceError, match="row 0, field 'image': an image of mode CMYK"):
            fs.pack([{"image": Image.new("CMYK", (3, 3))}], tmp_path / "ds")
