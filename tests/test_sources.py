"""Sources: folders, CSV files and iterables, and what is refused of them. Nothing is packed here."""

import io
import os

import numpy as np
import pyarrow as pa
import pytest

import fastshard as fs
from fastshard._sources.folders.csv_folder import TableOptions, table_source
from fastshard._sources.folders.folder import folder_source
from fastshard._sources.rows import RowSource
from fastshard._sources.walk import walk

NIH = """Image Index,Finding Labels,Follow-up #,Patient Age,Patient Gender,Width,
00000001_000.png,Cardiomegaly,0,57,M,2682,
00000001_001.png,Cardiomegaly|Emphysema,1,58,M,2894,
00000002_000.png,No Finding,0,80,F,,
"""


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def folder(root, on_error="raise", follow_symlinks=False):
    return folder_source(str(root), follow_symlinks=follow_symlinks, on_error=on_error)


def table(root, text, on_error="raise", follow_symlinks=False, **options):
    (root / "labels.csv").write_text(text)
    return table_source(
        str(root), TableOptions(csv="labels.csv", **options), follow_symlinks=follow_symlinks, on_error=on_error
    )


def field(source, name):
    return next(item for item in source.fields if item["name"] == name)


class TestFolders:
    def test_a_folder_a_class(self, tmp_path):
        touch(tmp_path, "dog/b.JPG", "cat/deep/er/a.png", "cat/a.webp", "cat/notes.txt", ".hidden/x.png", "cat/.x.png")
        source = folder(tmp_path)
        assert source.table.to_pydict() == {
            "image": ["cat/a.webp", "cat/deep/er/a.png", "dog/b.JPG"],
            "label": [0, 0, 1],
        }
        assert field(source, "label") == {"name": "label", "type": "class", "class_names": ["cat", "dog"]}
        assert source.ignored_files == ("cat/notes.txt",)

    def test_images_alone(self, tmp_path):
        touch(tmp_path, "b.jpg", "a.jpg")
        assert folder(tmp_path).table.to_pydict() == {"image": ["a.jpg", "b.jpg"]}

    def test_nothing_to_pack(self, tmp_path):
        touch(tmp_path, "a.txt")
        with pytest.raises(fs.SourceError, match=r"no images found \(1 other"):
            folder(tmp_path)
        with pytest.raises(FileNotFoundError):
            walk(str(tmp_path / "missing"))

    def test_images_without_a_class(self, tmp_path):
        touch(tmp_path, "cat/a.jpg", "loose.jpg")
        with pytest.raises(fs.SourceError, match=r"1 images lie beside .*loose.jpg"):
            folder(tmp_path)

    def test_a_class_without_images(self, tmp_path):
        touch(tmp_path, "cat/a.jpg", "dog/a.txt")
        with pytest.raises(fs.SourceError, match="without images: dog"):
            folder(tmp_path)
        assert field(folder(tmp_path, on_error="skip"), "label")["class_names"] == ["cat"]

    def test_links_that_leave(self, tmp_path):
        touch(tmp_path, "outside/a.jpg", "src/cat/b.jpg")
        (tmp_path / "src/cat/a.jpg").symlink_to(tmp_path / "outside/a.jpg")
        with pytest.raises(fs.SourceError, match=r"cat/a.jpg: leads out of the source, to .*outside/a.jpg"):
            folder(tmp_path / "src")
        assert folder(tmp_path / "src", follow_symlinks=True).table.num_rows == 2

    def test_links_that_stay(self, tmp_path):
        touch(tmp_path, "cat/b.jpg")
        (tmp_path / "cat/a.jpg").symlink_to("b.jpg")
        assert folder(tmp_path).table["image"].to_pylist() == ["cat/a.jpg", "cat/b.jpg"]

    @pytest.mark.parametrize("follow", [False, True])
    def test_a_loop(self, tmp_path, follow):
        touch(tmp_path, "cat/b.jpg")
        (tmp_path / "cat/again").symlink_to(tmp_path)
        with pytest.raises(fs.SourceError, match="contains it"):
            folder(tmp_path, follow_symlinks=follow)

    def test_a_loop_outside(self, tmp_path):
        touch(tmp_path, "out/a.jpg", "src/cat/b.jpg")
        (tmp_path / "src/cat/out").symlink_to(tmp_path / "out")
        (tmp_path / "out/back").symlink_to(tmp_path / "src/cat")
        with pytest.raises(fs.SourceError, match="contains it"):
            folder(tmp_path / "src", follow_symlinks=True)

    def test_a_broken_link_is_a_missing_image(self, tmp_path):
        (tmp_path / "a.jpg").symlink_to("gone.jpg")
        assert walk(str(tmp_path)).images == ["a.jpg"]

    def test_a_pipe_is_no_image(self, tmp_path):
        touch(tmp_path, "a.jpg")
        os.mkfifo(tmp_path / "b.jpg")
        assert folder(tmp_path).ignored_files == ("b.jpg",)

    def test_a_name_that_is_not_utf8(self, tmp_path):
        (tmp_path / os.fsdecode(b"a\xff.jpg")).write_bytes(b"x")
        with pytest.raises(fs.SourceError, match="not UTF-8"):
            folder(tmp_path)


class TestCsv:
    def test_nih_layout(self, tmp_path):
        touch(tmp_path, "images_001/images/00000001_000.png", "images_001/images/00000001_001.png")
        touch(tmp_path, "images_002/images/00000002_000.png", "images_002/images/00000099_000.png")
        source = table(tmp_path, NIH, label="Finding Labels", label_sep="|", no_label="No Finding")
        assert source.table["image"].to_pylist()[2] == "images_002/images/00000002_000.png"
        label = field(source, "Finding Labels")
        assert label["class_names"] == ["Cardiomegaly", "Emphysema"]
        assert (label["type"], label["dtype"], label["shape"]) == ("tensor", "float32", [2])
        assert source.table["Finding Labels"].to_pylist() == [[1, 0], [1, 1], [0, 0]]
        assert [item["name"] for item in source.fields[2:]] == ["Follow-up #", "Patient Age", "Patient Gender", "Width"]
        assert field(source, "Patient Age") == {"name": "Patient Age", "type": "scalar", "dtype": "int64"}
        assert field(source, "Patient Gender") == {"name": "Patient Gender", "type": "text"}
        assert field(source, "Width")["dtype"] == "float64"
        assert np.isnan(source.table["Width"].to_numpy()[2])
        assert source.unused_files == ("images_002/images/00000099_000.png",)
        assert source.ignored_files == ()

    def test_automatic_separator(self, tmp_path):
        touch(tmp_path, "a.png", "b.png")
        text = "file,label\na.png,x|y\nb.png,x\n"
        assert field(table(tmp_path, text, label_sep="auto"), "label")["type"] == "tensor"
        assert field(table(tmp_path, text), "label")["class_names"] == ["x", "x|y"]
        assert field(table(tmp_path, text.replace("|", "-"), label_sep="auto"), "label")["type"] == "class"

    def test_kinds_of_labels(self, tmp_path):
        touch(tmp_path, "1.png", "2.png")
        text = "path,LABEL,score,ok,day,index\n1.png,dog,0.5,true,2020-01-31,7\n2.png,cat,1,false,2020-02-01,8\n"
        source = table(tmp_path, text)
        assert source.table["LABEL"].to_pylist() == [1, 0]
        assert field(source, "score")["dtype"] == "float64"
        assert field(source, "ok")["dtype"] == "bool"
        assert source.table["ok"].type == pa.uint8()
        assert source.table["day"].to_pylist() == ["2020-01-31", "2020-02-01"]
        several = table(tmp_path, text, label=["score", "ok"])
        assert field(several, "LABEL")["type"] == "text"

    def test_names_that_look_like_numbers(self, tmp_path):
        touch(tmp_path, "001", "002")
        assert table(tmp_path, "file,x\n001,1\n002,2\n").table["image"].to_pylist() == ["001", "002"]

    def test_nothing_is_null(self, tmp_path):
        touch(tmp_path, "a.png", "b.png")
        source = table(tmp_path, "file,n,b,t,e\na.png,1,true,x,\nb.png,,,,\n")
        assert all(column.null_count == 0 for column in source.table.columns)
        assert [field(source, name)["type"] for name in "nbte"] == ["scalar", "scalar", "text", "text"]

    def test_rows_without_a_file(self, tmp_path):
        touch(tmp_path, "a.png")
        text = "file,x\na.png,1\ngone.png,2\n,3\n"
        with pytest.raises(fs.SourceError, match=r"2 rows without a file .*'gone.png' \(row 2\), '' \(row 3\)"):
            table(tmp_path, text)
        source = table(tmp_path, text, on_error="skip")
        assert source.table["x"].to_pylist() == [1]
        assert source.missing_files == ((2, "gone.png"), (3, ""))

    def test_the_same_file_twice(self, tmp_path):
        touch(tmp_path, "sub/a.png")
        with pytest.raises(fs.SourceError, match=r"rows 1 and 2 both name the file 'sub/a.png'"):
            table(tmp_path, "file,x\na.png,1\nsub/a.png,2\n")

    def test_a_name_of_two_files(self, tmp_path):
        touch(tmp_path, "x/a.png", "y/a.png")
        with pytest.raises(fs.SourceError, match=r"row 1: 'a.png' is the name of several files: x/a.png, y/a.png"):
            table(tmp_path, "file\na.png\n")

    @pytest.mark.parametrize("path", ["/etc/a.png", "../a.png", "x/../../a.png"])
    def test_paths_that_leave(self, tmp_path, path):
        touch(tmp_path, "b.png")
        with pytest.raises(fs.SourceError, match=rf"row 2: '{path}' may leave"):
            table(tmp_path, f"file\nb.png\n{path}\n")

    def test_links_that_leave(self, tmp_path):
        touch(tmp_path, "out/a.png", "src/b.png")
        (tmp_path / "src/sub").symlink_to(tmp_path / "out")
        with pytest.raises(fs.SourceError, match=r"row 1: 'sub/a.png' leads out of the source"):
            table(tmp_path / "src", "file\nsub/a.png\n")
        assert table(tmp_path / "src", "file\nb.png\n").table.num_rows == 1
        assert table(tmp_path / "src", "file\nsub/a.png\n", follow_symlinks=True).table.num_rows == 1

    @pytest.mark.parametrize(
        ("text", "options", "named"),
        [
            (
                "file,age\na.png,3\nb.png,x\n",
                {"types": {"age": "int32"}},
                r"row 2, column 'age': value 'x' is not int32",
            ),
            ("file,age\na.png,3\n", {"types": {"old": "int32"}}, "types='old': .*'file', 'age'"),
            ("name,age\na.png,3\n", {}, "no column of file names; choose one of 'name', 'age'"),
            ("file,age\na.png,3\n", {"label": "breed"}, "label='breed'"),
            ("file,label\na.png,3\nb.png,\n", {}, "1 rows have no label: rows 2"),
            ("file,label\na.png,x\nb.png,\n", {}, "1 rows have no label: rows 2"),
            ("file,_x\na.png,1\n", {}, "column '_x': names with a leading underscore"),
            ("file,image\na.png,1\n", {}, "column 'image' is not the file column"),
            ("file,a,a\na.png,1,2\n", {}, "several columns are named 'a'"),
            ("file,a\na.png\n", {}, "Expected 2 columns, got 1"),
            ("file,a\n", {}, "no rows"),
            ("", {}, "Empty CSV"),
            ("file\nx.png\n", {"on_error": "skip"}, "none of its 1 rows"),
        ],
    )
    def test_bad_files_are_explained(self, tmp_path, text, options, named):
        touch(tmp_path, "a.png", "b.png")
        with pytest.raises(fs.SourceError, match=named):
            table(tmp_path, text, **options)

    def test_bad_encoding(self, tmp_path):
        touch(tmp_path, "a.png")
        (tmp_path / "x.csv").write_bytes(b"file,t\na.png,\xff\n")
        with pytest.raises(fs.SourceError, match="column 't' is binary; expected numbers or UTF-8"):
            table_source(str(tmp_path), TableOptions(csv="x.csv"), follow_symlinks=False, on_error="raise")

    def test_unknown_type(self, tmp_path):
        touch(tmp_path, "a.png")
        with pytest.raises(ValueError, match=r"types\['x'\]='nothing'"):
            table(tmp_path, "file,x\na.png,1\n", types={"x": "nothing"})

    def test_no_csv(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"labels.csv: no such CSV"):
            table_source(str(tmp_path), TableOptions(csv="labels.csv"), follow_symlinks=False, on_error="raise")


def read(source):
    return [pa.ipc.open_stream(chunk).read_all() for chunk in source.chunks()]


def photo():
    from PIL import Image
    from skimage.data import astronaut

    file = io.BytesIO()
    Image.fromarray(astronaut()).resize((32, 32)).save(file, "JPEG")
    return file.getvalue()


class TestRows:
    def test_the_first_sample_sets_the_fields(self):
        sample = {
            "image": photo(),
            "raw": b"\0\1",
            "text": "x",
            "flag": True,
            "count": 3,
            "score": 0.5,
            "small": np.float16(1),
            "array": np.arange(6, dtype=np.int16).reshape(2, 3),
            "mask": np.array([True, False]),
            "label": "dog",
        }
        source = RowSource([sample, sample], {"label": ["cat", "dog"]})
        kinds = {item["name"]: (item["type"], item.get("dtype"), item.get("shape")) for item in source.fields}
        assert kinds == {
            "image": ("image", None, None),
            "raw": ("bytes", None, None),
            "text": ("text", None, None),
            "flag": ("scalar", "bool", None),
            "count": ("scalar", "int64", None),
            "score": ("scalar", "float64", None),
            "small": ("scalar", "float16", None),
            "array": ("tensor", "int16", [2, 3]),
            "mask": ("tensor", "bool", [2]),
            "label": ("class", None, None),
        }
        (table,) = read(source)
        assert table.num_rows == 2
        assert table["array"].to_pylist()[1] == [0, 1, 2, 3, 4, 5]
        assert table["flag"].to_pylist() == [1, 1]
        assert table["mask"].type == pa.list_(pa.field("item", pa.uint8()), 2)
        assert table["label"].to_pylist() == [1, 1]
        assert table["small"].type == pa.float16()

    @pytest.mark.parametrize(
        ("first", "second", "named"),
        [
            (1, 2.5, r"2.5 \(float\); expected int64"),
            (1, True, r"True \(bool\); expected int64"),
            (1, None, "NoneType"),
            (1, 2**63, "expected int64"),
            (1.0, "x", r"'x' \(str\); expected float64"),
            (np.int32(1), 1, "expected int32"),
            ("x", b"x", "1 bytes; expected text"),
            (b"x", "x", "expected bytes"),
            (np.zeros(3), np.zeros(4), r"an array of shape \(4,\) and type float64; expected an array of shape \(3,\)"),
            (np.zeros(3), np.zeros(3, np.float32), "type float32; expected"),
            (np.zeros(3), [0, 0, 0], r"\(list\); expected an array"),
        ],
    )
    def test_later_samples_must_match(self, first, second, named):
        source = RowSource([{"x": first}, {"x": second}], {})
        with pytest.raises(fs.SourceError, match=f"row 1, field 'x': .*{named}"):
            read(source)

    @pytest.mark.parametrize("value", [None, [], ["a"], [[1]], {}, np.array(["a"]), np.zeros((0, 3)), 1j, object()])
    def test_values_without_a_type(self, value):
        with pytest.raises(fs.SourceError, match="row 0, field 'x'"):
            RowSource([{"x": value}], {})

    def test_whole_numbers_are_fine_floats(self):
        (table,) = read(RowSource([{"x": 0.5}, {"x": 2}], {}))
        assert table["x"].to_pylist() == [0.5, 2.0]

    def test_fields_must_be_the_same(self):
        with pytest.raises(fs.SourceError, match="row 1: fields 'b'; expected those of the first sample: 'a'"):
            read(RowSource([{"a": 1}, {"b": 1}], {}))
        with pytest.raises(fs.SourceError, match="row 1: a sample is list"):
            read(RowSource([{"a": 1}, [1]], {}))
        with pytest.raises(fs.SourceError, match="no samples"):
            RowSource([], {})

    def test_classes(self):
        (table,) = read(RowSource([{"y": "b"}, {"y": 0}, {"y": np.int8(1)}], {"y": ["a", "b"]}))
        assert table["y"].to_pylist() == [1, 0, 1]
        for bad in ("c", 2, -1, True, 0.0):
            with pytest.raises(fs.SourceError, match="expected a class name or a number from 0 to 1"):
                read(RowSource([{"y": "a"}, {"y": bad}], {"y": ["a", "b"]}))
        with pytest.raises(fs.SourceError, match="class_names for 'z'"):
            RowSource([{"y": 1}], {"z": ["a"]})

    def test_a_generator_may_reuse_its_array(self):
        def samples():
            array = np.zeros(2)
            for value in range(3):
                array[:] = value
                yield {"x": array}

        (table,) = read(RowSource(samples(), {}))
        assert table["x"].to_pylist() == [[0, 0], [1, 1], [2, 2]]

    def test_chunks_of_tensors(self):
        # 1.5 MiB a row: 21 rows would fit into 32 MiB, and 16 is the power of two below.
        tables = read(RowSource(({"x": np.zeros((512, 1024, 3), np.uint8)} for _ in range(20)), {}))
        assert [table.num_rows for table in tables] == [16, 4]

    def test_chunks_of_bytes(self):
        tables = read(RowSource(({"x": bytes(5 << 20)} for _ in range(9)), {}))
        assert [table.num_rows for table in tables] == [4, 4, 1]

    def test_chunks_of_numbers(self):
        assert [table.num_rows for table in read(RowSource(({"x": 1} for _ in range(70_000)), {}))] == [65_536, 4_464]


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "named"),
        [
            ({"label": "x"}, ValueError, "label='x' needs csv="),
            ({"class_names": {"x": ["a"]}}, ValueError, "needs src that is an iterable"),
            ({"resize": 1, "resize_pad": 2}, ValueError, "resize=1, resize_pad=2"),
            ({"resize": 0}, ValueError, "size=0"),
            ({"resize": 9, "encode": "original"}, ValueError, "choose jpeg, png or raw"),
            ({"gray": 1}, TypeError, "gray=1"),
            ({"encode": "gif"}, ValueError, "encode='gif'"),
            ({"quality": 101}, ValueError, "quality=101"),
            ({"shard_size": "big"}, ValueError, "shard_size='big'"),
            ({"num_threads": 0}, ValueError, "num_threads=0"),
            ({"seed": -1}, ValueError, "seed=-1"),
            ({"on_error": "ignore"}, ValueError, "on_error='ignore'"),
            ({"check": "all"}, ValueError, "check='all'"),
            ({"max_pixels": 0}, ValueError, "max_pixels=0"),
        ],
    )
    def test_impossible_options(self, tmp_path, options, error, named):
        touch(tmp_path, "src/a.jpg")
        with pytest.raises(error, match=named):
            fs.pack(tmp_path / "src", tmp_path / "dst", **options)
        assert not (tmp_path / "dst").exists()

    def test_iterables_are_not_shuffled(self, tmp_path):
        with pytest.raises(ValueError, match="shuffle=True"):
            fs.pack([{"x": 1}], tmp_path / "dst", shuffle=True)
        with pytest.raises(ValueError, match=r"csv='x.csv' needs src that is a folder"):
            fs.pack([{"x": 1}], tmp_path / "dst", csv="x.csv")

    def test_places(self, tmp_path):
        touch(tmp_path, "src/a.jpg", "there/manifest.json")
        with pytest.raises(FileNotFoundError, match="gone: no such folder"):
            fs.pack(tmp_path / "gone", tmp_path / "dst")
        with pytest.raises(NotADirectoryError, match="expected a folder"):
            fs.pack(tmp_path / "src/a.jpg", tmp_path / "dst")
        with pytest.raises(ValueError, match="lies in the source"):
            fs.pack(tmp_path / "src", tmp_path / "src" / "dst")
        with pytest.raises(FileExistsError, match="overwrite=True"):
            fs.pack(tmp_path / "src", tmp_path / "there")
