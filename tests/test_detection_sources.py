"""Folders of boxes as sources: COCO, YOLO, Pascal VOC and MOT, held against pycocotools, torchvision and PyYAML."""

import contextlib
import json
import os
import sys

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli
from fastshard._sources.folders.layouts import detect
from fastshard._sources.folders.yolo_names import read_names, read_plain_yaml
from fastshard._sources.kinds import recognise
from fastshard._sources.options import SourceOptions


def source(root, source=None, **options):
    look, kind = recognise(str(root), has_annotations="annotations" in options, source=source)
    return kind.open(look, SourceOptions(**options), "elsewhere")


def field(found, name):
    return next(item for item in found.fields if item["name"] == name)


def columns(found):
    return found.table.to_pydict()


@pytest.fixture(scope="module")
def pictures(photos):
    """Six JPEGs of different sizes, as images of PIL."""
    names = list(photos)
    return [Image.fromarray(photos[names[n % 5]]).resize((60 + 9 * n, 90 - 7 * n)) for n in range(6)]


@pytest.fixture
def coco(tmp_path, pictures):
    """A folder in COCO's layout, and what its file of instances says, to be changed and written by ``write``."""
    root = tmp_path / "coco"
    random = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    images, annotations = [], []
    for number, picture in enumerate(pictures):
        name = f"{number:012}.jpg"
        picture.save(root / "val" / name)
        width, height = picture.size
        images.append({"id": 1000 - 7 * number, "file_name": name, "width": width, "height": height})
    for number in range(25):
        image = images[number * 3 % 5]  # the last one has none
        x, y, width, height = (float(round(value, 2)) for value in random.uniform(0, 30, 4))
        crowd = number % 6 == 0
        if crowd:
            picked = np.zeros((image["height"], image["width"]), np.uint8, order="F")
            picked[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1] = 1
            shape = coco_mask.encode(picked)
            shape["counts"] = shape["counts"].decode()
        else:
            shape = [[x, y, x + width, y, x + width, y + height], [x, y, x, y + height, x + 1, y + 1]][: 1 + number % 2]
        annotations.append(
            {
                "id": 5000 + 13 * number,
                "image_id": image["id"],
                "category_id": [90, 3, 44][number % 3],
                "bbox": [x, y, width, height],
                "area": width * height / 2,
                "iscrowd": int(crowd),
                "segmentation": shape,
            }
        )
    categories = [
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        {"id": 3, "name": "car", "supercategory": "vehicle"},
        {"id": 44, "name": "bottle", "supercategory": "kitchen"},
    ]
    # Annotations before images: none of them can be looked up while it is read.
    content = {"info": {"year": 2017}, "annotations": annotations, "images": images, "categories": categories}
    write(root, content)
    return root, content


def write(root, content, name="instances_val.json"):
    (root / "annotations" / name).write_text(json.dumps(content, indent=1))
    return root / "annotations" / name


def reference(path):
    with contextlib.redirect_stdout(None):
        return COCO(str(path))


def corners(bbox):
    x, y, width, height = bbox
    return np.array([x, y, x + width, y + height], np.float32)


class TestCoco:
    # pycocotools' own, when it decodes.
    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_says_what_pycocotools_says(self, coco, tmp_path):
        root, _ = coco
        report = fs.pack(root, tmp_path / "packed", shuffle=True, seed=3)
        assert report.unused_files == ()
        assert report.missing_files == ()
        assert report.ignored_files == ()
        ds = fs.open(tmp_path / "packed")
        assert ds.verify() == []
        categories = ds.manifest["provenance"]["categories"]
        assert [category["id"] for category in categories] == [3, 44, 90]
        assert categories[2] == {"id": 90, "name": "toothbrush", "supercategory": "indoor"}
        theirs = reference(root / "annotations/instances_val.json")
        assert sorted(row["image_id"] for row in ds) == sorted(theirs.getImgIds())
        for number in range(len(ds)):
            row = ds[number]
            annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=[row["image_id"]]))
            assert row["annotation_id"].tolist() == [one["id"] for one in annotations]
            expected = [corners(one["bbox"]) for one in annotations]
            np.testing.assert_array_equal(row["boxes"], np.reshape(np.array(expected, np.float32), (-1, 4)))
            assert [categories[label]["id"] for label in row["labels"]] == [one["category_id"] for one in annotations]
            np.testing.assert_array_equal(row["area"], np.array([one["area"] for one in annotations], np.float32))
            assert row["iscrowd"].tolist() == [one["iscrowd"] for one in annotations]
            shapes = json.loads(row["segmentation"])
            assert shapes == [one["segmentation"] for one in annotations]
            height, width = row["image"].shape[:2]
            for shape, one in zip(shapes, annotations, strict=True):
                runs = (
                    shape if isinstance(shape, dict) else coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
                )
                np.testing.assert_array_equal(coco_mask.decode(runs), theirs.annToMask(one))

    def test_images_are_found_below_the_folder(self, coco):
        root, content = coco
        found = source(root)
        assert found.table["image"].to_pylist() == [f"val/{image['file_name']}" for image in content["images"]]
        assert found.row_numbers == tuple(range(1, 7))
        path = root / "annotations/instances_val.json"
        inside = source(root / "val", annotations=path)
        assert inside.table["image"].to_pylist() == [image["file_name"] for image in content["images"]]
        assert inside.table.drop_columns("image") == found.table.drop_columns("image")
        content["images"][0]["file_name"] = "./val//000000000000.jpg"
        write(root, content)
        assert source(root).table == found.table

    def test_images_without_annotations(self, coco):
        root, content = coco
        assert columns(source(root))["boxes"][5] == []
        labeled = source(root, drop_unlabeled=True)
        assert labeled.row_numbers == (1, 2, 3, 4, 5)
        content["annotations"] = []
        write(root, content)
        assert [len(boxes) for boxes in columns(source(root))["boxes"]] == [0] * 6
        with pytest.raises(fs.SourceError, match="none of its 6 images"):
            source(root, drop_unlabeled=True)
        del content["annotations"]
        write(root, content)
        assert [len(boxes) for boxes in columns(source(root))["labels"]] == [0] * 6

    def test_images_that_are_gone(self, coco, tmp_path):
        root, content = coco
        (root / "val/000000000002.jpg").unlink()
        (root / "val/extra.png").write_bytes(b"x")
        with pytest.raises(fs.SourceError, match=r"1 images without a file below .*'000000000002.jpg' \(image 3\)"):
            source(root)
        found = source(root, on_error="skip")
        assert found.missing_files == ((3, "000000000002.jpg"),)
        assert found.unused_files == ("val/extra.png",)
        assert found.table["image_id"].to_pylist() == [
            image["id"] for n, image in enumerate(content["images"]) if n != 2
        ]
        (root / "val/000000000001.jpg").write_bytes(b"no image")
        report = fs.pack(root, tmp_path / "packed", on_error="skip")
        assert [(skipped.row, skipped.path) for skipped in report.skipped] == [(2, "val/000000000001.jpg")]
        assert report.rows == 4
        for path in (root / "val").iterdir():
            path.unlink()
        with pytest.raises(fs.SourceError, match="none of its 6 images"):
            source(root, on_error="skip")

    def test_names_that_leave(self, coco, tmp_path):
        root, content = coco
        (tmp_path / "out").mkdir()
        (root / "val/000000000000.jpg").rename(tmp_path / "out/a.jpg")
        for name in (str(tmp_path / "out/a.jpg"), "../out/a.jpg", "val/../../out/a.jpg"):
            content["images"][0]["file_name"] = name
            write(root, content)
            with pytest.raises(fs.SourceError, match=r"image 1 \(id 1000\), field \"file_name\": .* may leave"):
                source(root)
        (root / "link").symlink_to(tmp_path / "out")
        content["images"][0]["file_name"] = "link/a.jpg"
        write(root, content)
        with pytest.raises(fs.SourceError, match=r"image 1: 'link/a.jpg' leads out of the source"):
            source(root)
        assert source(root, follow_symlinks=True).table.num_rows == 6

    def test_a_name_of_two_files(self, coco):
        root, _ = coco
        (root / "copy").mkdir()
        (root / "copy/000000000003.jpg").write_bytes(b"x")
        with pytest.raises(fs.SourceError, match=r"image 4: '000000000003.jpg' is the name of several files: copy/"):
            source(root)

    def test_one_file_of_several(self, coco):
        root, content = coco
        write(root, {"images": content["images"][:2]}, "image_info.json")
        with pytest.raises(
            fs.SourceError, match=r"Name one with annotations=; it has annotations/image_info.json, ann"
        ):
            source(root)
        assert source(root, annotations="annotations/image_info.json").table.num_rows == 2
        with pytest.raises(FileNotFoundError, match=r"gone.json: no such file of annotations"):
            source(root, annotations="gone.json")
        with pytest.raises(fs.SourceError, match="it has none in annotations/"):
            source(root / "val", source="coco")
        (root / "annotations").rename(root.parent / "elsewhere")
        (root / "annotations").symlink_to(root.parent / "elsewhere")
        with pytest.raises(fs.SourceError, match="it has none in annotations/"):
            source(root)
        assert source(root, annotations="annotations/instances_val.json").table.num_rows == 6

    def test_annotations_beside_the_images(self, coco):
        root, content = coco
        (root / "val/_annotations.coco.json").write_text(json.dumps(content))
        assert detect(root / "val") == "coco"
        found = source(root / "val")
        assert found.table.num_rows == 6
        assert found.ignored_files == ()

    def test_keypoints(self, coco, tmp_path):
        root, content = coco
        random = np.random.default_rng(1)
        for number, annotation in enumerate(content["annotations"]):
            if number != 4:
                annotation["keypoints"] = [*random.uniform(0, 60, 6).round(1).tolist()]
        content["categories"][1] |= {"keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}
        path = write(root, content)
        fs.pack(root, tmp_path / "packed", shuffle=False)
        ds = fs.open(tmp_path / "packed")
        assert ds.manifest["provenance"]["categories"][0]["keypoints"] == ["nose", "tail"]
        theirs = reference(path)
        for row in ds:
            annotations = theirs.loadAnns(theirs.getAnnIds(imgIds=[row["image_id"]]))
            expected = [one.get("keypoints", [0] * 6) for one in annotations]
            assert row["keypoints"].shape == (len(annotations), 2, 3)
            np.testing.assert_array_equal(row["keypoints"].reshape(-1), np.array(expected, np.float32).reshape(-1))

    def test_boxes_and_keypoints_follow_a_resize(self, coco, tmp_path):
        root, content = coco
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            annotation["keypoints"] = [x, y, 2, x + width, y + height, 1]
        write(root, content)
        fs.pack(root, tmp_path / "packed", shuffle=False, resize=(40, 50), encode="png")
        ds = fs.open(tmp_path / "packed")
        assert "segmentation" not in [item.name for item in ds.fields]
        theirs = reference(root / "annotations/instances_val.json")
        for row in ds:
            (image,) = theirs.loadImgs([row["image_id"]])
            canvas = (image["height"], image["width"])
            expected = []
            for one in theirs.loadAnns(theirs.getAnnIds(imgIds=[row["image_id"]])):
                box = tv_tensors.BoundingBoxes(corners(one["bbox"]), format="XYXY", canvas_size=canvas)
                expected.append(functional.resize(functional.clamp_bounding_boxes(box), [40, 50])[0].numpy())
            assert row["image"].shape == (40, 50, 3)
            np.testing.assert_allclose(row["boxes"], np.reshape(expected, (-1, 4)), rtol=1e-4)
            np.testing.assert_allclose(row["keypoints"][:, :, :2].reshape(-1, 4), row["boxes"], rtol=1e-4)

    def test_batches(self, coco, tmp_path):
        root, content = coco
        fs.pack(root, tmp_path / "packed", shuffle=False)
        loader = fs.Loader(
            fs.open(tmp_path / "packed"), 6, transforms={"image": fs.Resize((64, 64)), "boxes": fs.PadSequence(-1)}
        )
        (batch,) = loader
        assert batch["image_id"].tolist() == [image["id"] for image in content["images"]]
        most = batch["boxes_mask"].sum(1).max()
        assert batch["boxes"].shape == (6, most, 4)
        assert batch["labels"].shape == batch["annotation_id"].shape == batch["area"].shape == (6, most)
        assert [json.loads(text) == [] for text in batch["segmentation"]] == [False] * 5 + [True]

    def test_inspect_and_preview(self, coco, tmp_path):
        root, content = coco
        content["annotations"] = [one | {"bbox": [10, 20, 30, 15]} for one in content["annotations"][:1]]
        write(root, content)
        fs.pack(root, tmp_path / "packed", shuffle=False)
        run = CliRunner().invoke
        result = run(_cli.app, ["inspect", str(tmp_path / "packed")])
        assert result.exit_code == 0, result.stdout
        cells = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines()]
        assert [row[2:4] for row in cells if row[1:2] == ["toothbrush"]] == [["1", "100.0%"]]
        assert [row[2:5] for row in cells if row[1:2] == ["boxes"]] == [["boxes", "float32", "[any, 4]"]]
        (tmp_path / "one").mkdir()
        (root / "val/000000000000.jpg").rename(tmp_path / "one/000000000000.jpg")
        content["images"] = content["images"][:1]
        write(root, content)
        fs.pack(tmp_path / "one", tmp_path / "alone", annotations=root / "annotations/instances_val.json")
        options = ["--transform", "Resize((180, 120))"]  # twice as large
        assert run(_cli.app, ["preview", str(tmp_path / "alone"), str(tmp_path / "a.png"), *options]).exit_code == 0
        with Image.open(tmp_path / "a.png") as drawn:
            tile = np.asarray(drawn)[4:184, 4:124].astype(int)  # behind a margin of 4
        red = (tile == [255, 0, 0]).all(2)
        assert np.argwhere(red).min(0).tolist() == [40, 20]
        assert np.argwhere(red).max(0).tolist() == [69, 79]

    def test_captions(self, coco, tmp_path):
        root, content = coco
        annotations = [
            {"id": number, "image_id": one["image_id"], "caption": f'{number} \N{SNOWMAN} "quoted"\n'}
            for number, one in enumerate(content["annotations"])
        ]
        write(root, {"images": content["images"], "annotations": annotations}, "captions_val.json")
        fs.pack(root, tmp_path / "packed", annotations="annotations/captions_val.json", shuffle=False)
        ds = fs.open(tmp_path / "packed")
        theirs = reference(root / "annotations/captions_val.json")
        assert [item.name for item in ds.fields] == ["image", "image_id", "caption", "captions", "annotation_id"]
        for row in ds:
            captions = [one["caption"] for one in theirs.loadAnns(theirs.getAnnIds(imgIds=[row["image_id"]]))]
            assert json.loads(row["captions"]) == captions
            assert row["caption"] == (captions[0] if captions else "")

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"bbox": [1, 2, float("nan"), 4]}, r"annotation 4 \(id 5039\), field \"bbox\": .*found \"NaN,"),
            ({"bbox": [1, 2, float("inf"), 4]}, r"field \"bbox\": .*found \"Infinity,"),
            ({"bbox": [1, 2, 3, -0.5]}, r"field \"bbox\": \[1.0, 2.0, 3.0, -0.5\].* smaller than nothing"),
            ({"bbox": [1, 2, 3]}, r"field \"bbox\": 3 numbers, expected 4"),
            ({"bbox": [1, 2, 3, "4"]}, r"field \"bbox\": invalid type: string \"4\""),
            ({"bbox": None}, r"field \"bbox\": invalid type: null"),
            ({"image_id": 4}, r"annotation 4 \(id 5039\): image_id 4 is no image"),
            ({"image_id": "4"}, r"field \"image_id\": invalid type: string \"4\""),
            ({"category_id": 4}, r"annotation 4 \(id 5039\): category_id 4 is no category"),
            ({"category_id": None}, r"field \"category_id\": invalid type: null"),
            ({"id": 5000}, "annotations 1 and 4 have the same id, 5000"),
            ({"id": 2**64}, r"annotation 4, field \"id\""),
            ({"iscrowd": 2}, r"field \"iscrowd\": 2, expected 0 or 1"),
            ({"area": -1}, r"field \"area\": -1, expected"),
            ({"segmentation": [[1, 2, 3]]}, r"field \"segmentation\": a polygon of 3 numbers"),
            ({"segmentation": {"size": [1, 2]}}, r"field \"segmentation\": .* needs \"counts\""),
            ({"segmentation": "x"}, r"field \"segmentation\": invalid type: string"),
        ],
    )
    def test_bad_annotations(self, coco, tmp_path, change, named):
        root, content = coco
        content["annotations"][3] |= change
        path = write(root, content)
        with pytest.raises(fs.SourceError, match=f"{path}: .*{named}"):
            fs.pack(root, tmp_path / "packed")
        assert not (tmp_path / "packed").exists()

    def test_boxes_of_no_size_stay(self, coco):
        root, content = coco
        content["annotations"][0]["bbox"] = [3, 4, 0, 5]
        write(root, content)
        assert columns(source(root))["boxes"][0][0] == [3, 4, 3, 9]

    def test_other_files(self, coco):
        root, content = coco
        path = root / "annotations/instances_val.json"
        for text, named in [
            (json.dumps(content)[:-200], "EOF"),
            ("[]", "expected an object with images"),
            (json.dumps(content["annotations"]), "expected an object with images"),
            ('{"images": [], "categories": []}', "no images"),
            ('{"a": ' + "[" * 100_000 + "}", "expected"),
        ]:
            path.write_text(text)
            with pytest.raises(fs.SourceError, match=f"{path}: .*{named}"):
                source(root)
        path.write_bytes(b'{"images": [{"id": 1, "file_name": "\xff.jpg"}]}')
        with pytest.raises(fs.SourceError, match=r"image 1 \(id 1\), field \"file_name\": invalid unicode"):
            source(root)


YOLO_YAML = {
    "a list": "names: [cat, 'small dog', \"bird\"]\nnc: 3\n",
    "lines": "# comment\ntrain: images/train\nnames:\n- cat\n- small dog  # really\n- bird\ndownload: |\n  import os\n",
    "a map": "path: ../x\nnames:\n  0: cat\n  1: small dog\n\n  2: bird\nnc: 3\n",
    "long list": "names: [cat,\n  small dog,\n  bird\n  ]\nval: images/val\n",
}
# Lists of nine times the list before, twenty times over: nobody may write that out.
BOMB = "b0: &b0 [x]\n" + "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 21))
BOMB += "names: [*b20]"
LINES = ["1 0.5 0.25 0.5 0.125", "0 0.1 0.2 0.3 0.4 0.1 0.4", "", "2 0.5 0.5 0 0"]


@pytest.fixture
def yolo(tmp_path, pictures):
    root = tmp_path / "yolo"
    for number, picture in enumerate(pictures):
        split = "train2017" if number < 4 else "val"
        for folder in ("images", "labels"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        picture.save(root / "images" / split / f"{number}.jpg")
        lines = LINES[: number % 5]
        if lines:
            (root / "labels" / split / f"{number}.txt").write_text("\r\n".join(lines))
    (root / "data.yaml").write_text(YOLO_YAML["a list"])
    return root


class TestYolo:
    def test_lists(self, yolo, tmp_path):
        fs.pack(yolo, tmp_path / "packed", shuffle=False)
        ds = fs.open(tmp_path / "packed")
        rows = [ds[number] for number in range(6)]
        assert [row["split"] for row in rows] == ["train"] * 4 + ["val"] * 2
        assert [row["labels"].tolist() for row in rows] == [[], [1], [1, 0], [1, 0], [1, 0, 2], []]
        expected = np.array([[0.5, 0.25, 0.5, 0.125], [0.2, 0.3, 0.2, 0.2], [0.5, 0.5, 0, 0]], np.float32)
        np.testing.assert_allclose(rows[4]["boxes"], expected, rtol=1e-6)
        assert [json.loads(row["segmentation"]) for row in rows[:3]] == [
            [],
            [None],
            [None, [[0.1, 0.2, 0.3, 0.4, 0.1, 0.4]]],
        ]
        assert [category["name"] for category in ds.manifest["provenance"]["categories"]] == [
            "cat",
            "small dog",
            "bird",
        ]
        assert source(yolo, drop_unlabeled=True).table["image"].to_pylist() == [
            "images/train2017/1.jpg", "images/train2017/2.jpg", "images/train2017/3.jpg", "images/val/4.jpg",
        ]  # fmt: skip

    def test_pixels_are_those_of_torchvision(self, yolo):
        found = columns(source(yolo))
        with Image.open(yolo / found["image"][4]) as image:
            scale = np.array(image.size * 2, np.float32)
        ours = tv_tensors.BoundingBoxes(
            torch.tensor(found["boxes"][4]) * torch.tensor(scale), format="CXCYWH", canvas_size=image.size[::-1]
        )
        theirs = functional.convert_bounding_box_format(ours, new_format="XYXY")
        polygon = np.array(json.loads(found["segmentation"][4])[1][0]).reshape(-1, 2) * scale[:2]
        np.testing.assert_allclose(theirs[1], [*polygon.min(0), *polygon.max(0)], rtol=1e-5)

    def test_folders_of_splits(self, yolo):
        for split in ("train", "valid", "test"):
            (yolo / split).mkdir()
        (yolo / "images/train2017").rename(yolo / "train/images")
        (yolo / "labels/train2017").rename(yolo / "train/labels")
        (yolo / "images/val").rename(yolo / "valid/images")
        (yolo / "labels/val").rename(yolo / "valid/labels")
        found = source(yolo, source="yolo")
        assert found.table["split"].to_pylist() == ["train"] * 4 + ["val"] * 2
        assert found.table["image"].to_pylist()[4] == "valid/images/4.jpg"
        assert [len(labels) for labels in columns(found)["labels"]] == [0, 1, 2, 2, 3, 0]

    @pytest.mark.parametrize("form", YOLO_YAML)
    def test_names_with_and_without_pyyaml(self, tmp_path, form):
        text = YOLO_YAML[form]
        theirs, ours = yaml.safe_load(text), read_plain_yaml("data.yaml", text)
        assert ours["names"] == theirs["names"]
        assert ours.get("nc") == theirs.get("nc")
        (tmp_path / "dataset.yaml").write_text(text)
        assert read_names(str(tmp_path)).names == ["cat", "small dog", "bird"]

    @pytest.mark.parametrize(
        "names",
        ["[yes, a]", "[a, ~]", "[1.5]", "{0: a}", "['a, b', c]", "[a: b]", "&x [a]", "['it''s']", "\n  - - a", "|\n  a",
         "\n  010: a", "[2020-01-01]", "[a, b", '["a\\tb"]', "!!python/object:os.system [a]", "\n  a: b", "[*x]"],
    )  # fmt: skip
    def test_what_the_own_reader_leaves_to_pyyaml(self, names):
        with pytest.raises(fs.SourceError, match=r"data.yaml: line 2: names: .* install PyYAML"):
            read_plain_yaml("data.yaml", f"nc: 1\nnames: {names}\n")

    def test_without_pyyaml(self, yolo, monkeypatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        assert field(source(yolo), "labels")["class_names"] == ["cat", "small dog", "bird"]
        (yolo / "data.yaml").write_text("names: {0: cat, 1: dog}")
        with pytest.raises(fs.SourceError, match="install PyYAML"):
            source(yolo)

    def test_names_as_text(self, yolo):
        (yolo / "data.yaml").unlink()
        with pytest.raises(fs.SourceError, match="no names of classes"):
            source(yolo)
        (yolo / "classes.txt").write_text("cat\nsmall dog\nbird\n\n")
        assert source(yolo).provenance["categories"][1] == {"id": 1, "name": "small dog"}

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("names: []", "expected a list of the classes"),
            ("names: x", "names is 'x'"),
            ("nc: 3", "no names:"),
            ("names: [a, a]", "several classes are named 'a'"),
            ("names: [a, yes]", "the name of class 1 is True"),
            ("names: [a, 3]", "the name of class 1 is 3"),
            ("names: {0: a, 2: b}", "names has the numbers 0, 2"),
            ("names: [a]\nnc: 2", "nc is 2, but there are 1 names"),
            ("names: [a]\nkpt_shape: [17]", "kpt_shape is a list"),
            ("names: !!python/object/apply:os.system [a]", "could not determine a constructor"),
            ("names: [a", "expected ',' or"),
            (BOMB, "class 0 is a list"),
            ("names: " + "[" * 5000, "recursion|expected"),
            ("names: [" + "9" * 5000 + "]", "4300"),
        ],
    )  # fmt: skip
    def test_bad_names(self, yolo, text, named):
        (yolo / "data.yaml").write_text(text)
        with pytest.raises(fs.SourceError, match=f"data.yaml: [^$]*({named})"):
            source(yolo)

    @pytest.mark.parametrize(
        ("line", "named"),
        [
            ("1 0.5 0.5 0.5", "4 numbers; expected class"),
            ("1 0.5 0.5 0.5 0.5 0.9", "6 numbers; expected class"),
            ("1 0.5 0.5 0.5 0.5 0.9 0.1 0.2", "8 numbers; expected class"),
            ("1 0.5 0.5 x 0.5", "could not convert string to float: 'x'"),
            ("1 0.5 0.5 nan 0.5", "nan; expected finite"),
            ("1 0.5 inf 0.5 0.5", "inf; expected finite"),
            ("1 0.5 0.5 -0.5 0.5", "width -0.5, height 0.5; a box"),
            ("1 50 0.5 0.5 0.5", "50.0; expected shares of the image"),
            ("1 0.1 0.2 0.3 -0.4 0.1 0.4", "-0.4; expected shares"),
            ("3 0.5 0.5 0.5 0.5", "class 3; expected a number from 0 to 2"),
            ("-1 0.5 0.5 0.5 0.5", "class -1; expected"),
            ("0.5 0.5 0.5 0.5 0.5", "class 0.5; expected"),
            ("1e400 0.5 0.5 0.5 0.5", "1e400; expected finite"),
        ],
    )
    def test_bad_lines(self, yolo, tmp_path, line, named):
        path = yolo / "labels/val/4.txt"
        path.write_text(f"{LINES[0]}\n{line}\n")
        with pytest.raises(fs.SourceError, match=f"{path}: line 2: {named}"):
            fs.pack(yolo, tmp_path / "packed")
        assert not (tmp_path / "packed").exists()

    def test_keypoints(self, yolo, tmp_path):
        (yolo / "data.yaml").write_text("names: [cat, dog, bird]\nkpt_shape: [2, 3]\n")
        for path in (yolo / "labels").glob("*/*.txt"):
            path.write_text("2 0.5 0.5 0.25 0.25 0.4 0.4 2 0.6 0.6 1\n")
        (yolo / "labels/val/4.txt").write_text("2 2 0.5 0.25 0.25 0.4 0.4 2 0.6 0.6 1\n")
        with pytest.raises(fs.SourceError, match=r"2.0; expected shares"):
            source(yolo)
        (yolo / "labels/val/4.txt").write_text("2 0.5 0.5 0.25 0.25 0.4 0.4 2 0.6 0.6 1\n")
        found = source(yolo)
        assert field(found, "keypoints")["shape"] == [2, 3]
        with Image.open(yolo / "images/val/4.jpg") as image:
            width, height = image.size
        expected = [0.4 * width, 0.4 * height, 2, 0.6 * width, 0.6 * height, 1]
        np.testing.assert_allclose(columns(found)["keypoints"][4], [expected], rtol=1e-6)
        (yolo / "images/val/4.jpg").write_bytes(b"no image")
        with pytest.raises(fs.DecodeError, match=r"images/val/4.jpg"):
            fs.pack(yolo, tmp_path / "packed")
        (yolo / "labels/val/4.txt").write_text("2 0.5 0.5 0.25 0.25\n")
        with pytest.raises(fs.SourceError, match="line 1: 5 numbers; expected 11, with 2 keypoints"):
            source(yolo)

    def test_files_that_do_not_fit(self, yolo, tmp_path):
        (yolo / "labels/val/9.txt").write_text(LINES[0])
        with pytest.raises(fs.SourceError, match=r"1 files of labels without an image: labels/val/9.txt"):
            source(yolo)
        assert source(yolo, on_error="skip").missing_files == ((5, "labels/val/9.txt"),)
        (yolo / "labels/val/9.txt").unlink()
        (yolo / "images/val/4.png").write_bytes(b"x")
        with pytest.raises(fs.SourceError, match=r"share the labels labels/val/4.txt"):
            source(yolo)
        (yolo / "images/val/4.png").unlink()
        (yolo / "labels/val/4.txt").write_bytes(b"\xff\xff")
        with pytest.raises(fs.SourceError, match=r"labels/val/4.txt: not UTF-8"):
            source(yolo)
        with (yolo / "labels/val/4.txt").open("wb") as file:
            file.truncate(17 << 20)
        with pytest.raises(fs.SourceError, match="expected at most 16 MiB"):
            source(yolo)
        (yolo / "labels/val/4.txt").unlink()
        os.mkfifo(yolo / "labels/val/4.txt")  # to read it would never end
        assert columns(source(yolo))["labels"][4] == []
        (tmp_path / "out.txt").write_text(LINES[0])
        (yolo / "labels/val/5.txt").symlink_to(tmp_path / "out.txt")
        with pytest.raises(fs.SourceError, match=r"labels/val/5.txt: leads out of the source"):
            source(yolo)


def voc_object(name, box, extra=""):
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{edges}</bndbox></object>"


def voc_xml(objects):
    return f"<annotation>\n<filename>/etc/passwd</filename>{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path, pictures):
    """Below the folder that torchvision asks for; boxes 1 to 5, and images of both sets."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number, picture in enumerate(pictures):
        picture.save(root / f"JPEGImages/2007_{number}.jpg")
        pose = "<pose>Left</pose><truncated>1</truncated><difficult>0</difficult>"
        part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        objects = [
            voc_object("person", (1, 1, *picture.size), pose + part),
            voc_object("cat", (5, 6.5, 5, 20), "<difficult>1</difficult>"),
        ][: number % 3]
        (root / f"Annotations/2007_{number}.xml").write_text(voc_xml(objects))
    (root / "ImageSets/Main/train.txt").write_text("2007_0\n2007_1\n2007_2\n")
    (root / "ImageSets/Main/val.txt").write_text("2007_3\n2007_4\n")
    (root / "ImageSets/Main/trainval.txt").write_text("2007_0\n2007_1\n2007_2\n2007_3\n2007_4\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("2007_0 -1\n")
    for number in (1, 2):
        mask = pictures[number].convert("P")
        mask.save(root / f"SegmentationClass/2007_{number}.png")
    return root


class TestVoc:
    def test_says_what_torchvision_says(self, voc, tmp_path):
        fs.pack(voc, tmp_path / "packed", shuffle=False)
        ds = fs.open(tmp_path / "packed")
        names = [category["name"] for category in ds.manifest["provenance"]["categories"]]
        assert names == ["cat", "person"]
        theirs = torchvision.datasets.VOCDetection(tmp_path, "2012", "trainval")
        for row, (image, target) in zip(ds, theirs, strict=False):
            objects = target["annotation"].get("object", [])
            edges = [[float(one["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")] for one in objects]
            expected = np.array(edges, np.float32).reshape(-1, 4) - [1, 1, 0, 0]
            np.testing.assert_array_equal(row["boxes"], expected)
            assert [names[label] for label in row["labels"]] == [one["name"] for one in objects]
            assert row["difficult"].tolist() == [int(one["difficult"]) for one in objects]
            assert row["truncated"].tolist() == [int(one.get("truncated", 0)) for one in objects]
            assert row["image"].shape == np.asarray(image).shape
            if len(objects):  # the first person is the whole picture
                assert row["boxes"][0].tolist() == [0, 0, *image.size]
        assert [row["split"] for row in ds] == ["train"] * 3 + ["val"] * 2 + [""]
        found = columns(source(voc))
        assert found["pose"][2] == [1, 0]
        assert "occluded" not in found
        assert source(voc).unused_files == ("SegmentationClass/2007_1.png", "SegmentationClass/2007_2.png")

    def test_numbers_from_zero(self, voc):
        found = columns(source(voc, zero_based=True))
        assert found["boxes"][2][1] == [5, 6.5, 5, 20]
        (voc / "Annotations/2007_1.xml").write_text(voc_xml([voc_object("cat", (0, 1, 9, 9))]))
        with pytest.raises(
            fs.SourceError, match=r"2007_1.xml: object 1: begins at 0, 1, but VOC counts .*zero_based=True"
        ):
            source(voc)
        assert columns(source(voc, zero_based=True))["boxes"][1] == [[0, 1, 9, 9]]

    def test_masks(self, voc, tmp_path):
        fs.pack(voc, tmp_path / "packed", masks=True, shuffle=False)
        ds = fs.open(tmp_path / "packed")
        assert [item.name for item in ds.fields][:2] == ["image", "mask"]
        assert len(ds) == 2
        stored = ds.to_arrow().column("mask").to_pylist()
        assert [item["bytes"] for item in stored] == [
            (voc / f"SegmentationClass/2007_{number}.png").read_bytes() for number in (1, 2)
        ]
        assert all(row["mask"].shape == row["image"].shape for row in ds)

    def test_images_without_objects(self, voc):
        assert [len(labels) for labels in columns(source(voc))["labels"]] == [0, 1, 2, 0, 1, 2]
        assert [len(labels) for labels in columns(source(voc, drop_unlabeled=True))["labels"]] == [1, 2, 1, 2]

    @pytest.mark.parametrize(
        ("xml", "named"),
        [
            ("<!DOCTYPE x []><annotation/>", "has a DOCTYPE"),
            ('<!DOCTYPE a [<!ENTITY b "b">]><annotation><object><name>&b;</name></object></annotation>', "a DOCTYPE"),
            ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "has a DOCTYPE"),
            ("<annotation><object><name>&x;</name></object></annotation>", "undefined entity"),
            ("<annotation>", "no element found"),
            ("", "no element found"),
            ("<svg/>", "no annotation in it"),
            ("<a>" * 100_000, "elements lie 33 deep"),
            (voc_xml(["<object><name>cat</name></object>"]), "object 1: no xmin in its bndbox"),
            (voc_xml([voc_object("", (1, 2, 3, 4))]), "object 1: no name"),
            (voc_xml([voc_object("a", (1, 2, "x", 4))]), "object 1: xmax is 'x'; expected a number"),
            (voc_xml([voc_object("a", (1, 2, "nan", 4))]), "object 1: xmax is nan; expected a finite"),
            (voc_xml([voc_object("a", (1, 2, "1e300", 4))]), "object 1: xmax is 1e300; expected a finite"),
            (voc_xml([voc_object("a", (1, 2, 3, 1))]), "object 1: from 1, 2 to 3, 1; a box"),
            (voc_xml([voc_object("a", (1, 2, 3, 4), "<name>b</name>")]), "object 1: several name"),
            (voc_xml([voc_object("a", (1, 2, 3, 4), "<difficult>2</difficult>")]), "difficult is '2'; expected 0 or 1"),
        ],
    )  # fmt: skip
    def test_bad_xml(self, voc, tmp_path, xml, named):
        path = voc / "Annotations/2007_4.xml"
        path.write_text(xml)
        with pytest.raises(fs.SourceError, match=f"{path}: .*{named}"):
            fs.pack(voc, tmp_path / "packed")
        assert not (tmp_path / "packed").exists()

    def test_files_that_do_not_fit(self, voc):
        (voc / "Annotations/2007_9.xml").write_text(voc_xml([]))
        with pytest.raises(
            fs.SourceError, match=r"1 annotations without an image in JPEGImages: Annotations/2007_9.xml"
        ):
            source(voc)
        found = source(voc, on_error="skip")
        assert found.missing_files == ((7, "Annotations/2007_9.xml"),)
        assert found.table.num_rows == 6
        (voc / "JPEGImages/2007_9.jpg").write_bytes(b"x")
        (voc / "JPEGImages/2007_9.png").write_bytes(b"x")
        with pytest.raises(fs.SourceError, match="differ in their suffix only"):
            source(voc)
        (voc / "JPEGImages/2007_9.png").unlink()
        (voc / "ImageSets/Main/val.txt").write_text("2007_9\n\n2007_1\n")
        with pytest.raises(fs.SourceError, match=r"val.txt: line 3: '2007_1' is in train.txt, too"):
            source(voc)
        with (voc / "Annotations/2007_9.xml").open("wb") as file:
            file.truncate(17 << 20)
        with pytest.raises(fs.SourceError, match="expected an annotation in at most 16 MiB"):
            source(voc)


INFO = """[Sequence]
name={name}
imDir=img1
frameRate=30
seqLength=4
imWidth=80
imHeight=60
imExt=.jpg
"""
TRUTH = """2,7,10,20.5,5,6,1,1,0.75
1,7,1,1,80,60,1,1,1
1,-3,-4,3,10,10,0,8,0
2,9,3,3,0,1,1,3,0.5
"""


@pytest.fixture
def mot(tmp_path, pictures):
    root = tmp_path / "mot"
    for name in ("MOT-01", "MOT-02"):
        (root / "train" / name / "img1").mkdir(parents=True)
        (root / "train" / name / "gt").mkdir()
        (root / "train" / name / "seqinfo.ini").write_text(INFO.format(name=name))
        (root / "train" / name / "gt/gt.txt").write_text(TRUTH if name == "MOT-01" else "3,1,1,1,2,2,1,13,1\n")
        for number in range(4):
            pictures[number].resize((80, 60)).save(root / "train" / name / f"img1/{number + 1:06}.jpg")
    return root


class TestMot:
    def test_rows_by_frame(self, mot, tmp_path):
        report = fs.pack(mot, tmp_path / "packed", shuffle=False)
        assert report.ignored_files == ()
        assert report.unused_files == ()
        ds = fs.open(tmp_path / "packed")
        rows = [ds[number] for number in range(8)]
        assert [(row["sequence"], row["frame"]) for row in rows] == [
            (name, number) for name in ("MOT-01", "MOT-02") for number in range(1, 5)
        ]
        # From the text, by NumPy.
        table = np.loadtxt(mot / "train/MOT-01/gt/gt.txt", delimiter=",")
        for number, row in enumerate(rows[:4], start=1):
            mine = table[table[:, 0] == number]
            left, top, width, height = mine[:, 2:6].T
            expected = np.stack([left - 1, top - 1, left - 1 + width, top - 1 + height], axis=1)
            np.testing.assert_array_equal(row["boxes"], expected.astype(np.float32))
            assert row["track_ids"].tolist() == mine[:, 1].tolist()
            assert row["labels"].tolist() == (mine[:, 7] - 1).tolist()
            assert row["ignored"].tolist() == (mine[:, 6] == 0).tolist()
            np.testing.assert_array_equal(row["visibility"], mine[:, 8].astype(np.float32))
        assert rows[6]["labels"].tolist() == [12]
        provenance = ds.manifest["provenance"]
        assert provenance["categories"][12] == {"id": 13, "name": "crowd"}
        assert provenance["sequences"][1]["name"] == "MOT-02"
        assert rows[0]["boxes"][0].tolist() == [0, 0, 80, 60]

    def test_options(self, mot):
        assert columns(source(mot, zero_based=True))["boxes"][0][0] == [1, 1, 81, 61]
        found = source(mot, drop_unlabeled=True)
        assert found.table["frame"].to_pylist() == [1, 2, 3]
        assert source(mot / "train/MOT-01").table.num_rows == 4
        (mot / "train/MOT-02/gt/gt.txt").write_text("")
        assert source(mot).table.num_rows == 8

    @pytest.mark.parametrize(
        ("row", "named"),
        [
            ("0,1,1,1,1,1,1,1,1", "row 5: frame is 0; expected a whole number from 1 to 4"),
            ("5,1,1,1,1,1,1,1,1", "row 5: frame is 5"),
            ("1.5,1,1,1,1,1,1,1,1", "row 5: frame is 1.5"),
            ("1,1,1,1,-1,1,1,1,1", "row 5: width is -1; expected a number from 0"),
            ("1,1,1,1,1,nan,1,1,1", "row 5: height is nan"),
            ("1,1,inf,1,1,1,1,1,1", "row 5: left is inf"),
            ("1,1,1,1,1,1,2,1,1", "row 5: conf is 2; expected a whole number from 0 to 1"),
            ("1,1,1,1,1,1,1,14,1", "row 5: class is 14"),
            ("1,1,1,1,1,1,1,x,1", "Row #5: .*'x'"),
            ("1,1,1,1,1,1,1,1", "Expected 9 columns, got 8"),
            ("1,1,1,1,1,1,1,1,1,1", "Expected 9 columns, got 10"),
            ("1,7,1,1,1,1,1,1,1", "rows 2 and 5 both have id 7 in frame 1"),
        ],
    )
    def test_bad_rows(self, mot, tmp_path, row, named):
        path = mot / "train/MOT-01/gt/gt.txt"
        path.write_text(f"{TRUTH}{row}\n")
        with pytest.raises(fs.SourceError, match=f"{path}: .*{named}"):
            fs.pack(mot, tmp_path / "packed")
        assert not (tmp_path / "packed").exists()

    @pytest.mark.parametrize(
        ("old", "new", "named"),
        [
            ("[Sequence]", "", "no section headers"),
            ("[Sequence]", "[Other]", r"no section \[Sequence\]"),
            ("imDir=img1", "imDir=../img1", "imDir is '../img1'"),
            ("imDir=img1", "imDir=..", "imDir is '..'"),
            ("imDir=img1", "", "no imDir"),
            ("imExt=.jpg", "imExt=/../x", "imExt is '/../x'"),
            ("seqLength=4", "seqLength=9999999", "but its folder holds"),
            ("seqLength=4", "seqLength=4000000000", "seqLength is '4000000000'"),
            ("seqLength=4", "seqLength=99999999", "expected a number from 1 to 10,000,000"),
            ("seqLength=4", "seqLength=x", "seqLength is 'x'"),
            ("seqLength=4", "seqLength=4\nseqLength=5", "already exists"),
            ("frameRate=30", "frameRate=%(x)s", r"frameRate is '%\(x\)s'"),
        ],
    )
    def test_bad_info(self, mot, old, new, named):
        path = mot / "train/MOT-01/seqinfo.ini"
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(fs.SourceError, match=f"{path}: .*{named}"):
            source(mot)

    def test_sizes_are_checked(self, mot, pictures):
        pictures[0].resize((40, 30)).save(mot / "train/MOT-02/img1/000002.jpg")
        with pytest.raises(fs.SourceError, match=r"MOT-02/img1/000002.jpg: 40 x 30 pixels; seqinfo.ini says 80 x 60"):
            source(mot)

    def test_what_is_missing(self, mot, tmp_path):
        (mot / "train/MOT-02/img1/000003.jpg").unlink()
        with pytest.raises(fs.SourceError, match=r"1 frames without an image: train/MOT-02/img1/000003.jpg"):
            source(mot)
        found = source(mot, on_error="skip")
        assert found.missing_files == ((3, "train/MOT-02/img1/000003.jpg"),)
        assert found.table["frame"].to_pylist() == [1, 2, 3, 4, 1, 2, 4]
        assert columns(found)["labels"][4:] == [[], [], []]
        (mot / "train/MOT-02/gt/gt.txt").unlink()
        with pytest.raises(fs.SourceError, match=r"sequences without ground truth: train/MOT-02/gt/gt.txt"):
            source(mot)
        assert source(mot, on_error="skip").table.num_rows == 4
        (mot / "train/MOT-02/seqinfo.ini").write_text(INFO.format(name="MOT-01"))
        (mot / "train/MOT-02/gt/gt.txt").write_text("")
        with pytest.raises(fs.SourceError, match="several sequences are named 'MOT-01'"):
            source(mot)


def test_layouts_are_told_apart(coco, yolo, voc, mot, photo_folder, tmp_path):
    assert detect(coco[0]) == "coco"
    assert detect(yolo) == "yolo"
    assert detect(voc) == "voc"
    assert detect(mot) == detect(mot / "train") == detect(mot / "train/MOT-01") == "mot"
    assert detect(photo_folder) is None
    assert detect(tmp_path) is None


def test_options(coco, yolo, voc, photo_folder, tmp_path):
    root, _ = coco
    assert field(source(root / "val", source="folder"), "image")
    for path, options, named in [
        (root, {"masks": True}, "masks=True needs a folder of Pascal VOC's"),
        (yolo, {"zero_based": True}, "zero_based=True needs a folder of Pascal VOC's or MOT's"),
        (yolo, {"source": "voc", "annotations": "a"}, "annotations='a' needs a folder of COCO's"),
        (photo_folder, {"drop_unlabeled": True}, "drop_unlabeled=True needs a folder of COCO's"),
        (voc, {"source": "kitti"}, "source='kitti'"),
        (voc, {"source": "voc", "csv": "x.csv"}, r"csv='x\.csv' needs"),
    ]:
        with pytest.raises(ValueError, match=named):
            fs.pack(path, tmp_path / "packed", **options)
    with pytest.raises(ValueError, match="masks are stored as they are; expected no resize"):
        fs.pack(voc, tmp_path / "packed", masks=True, resize=32)
    with pytest.raises(TypeError, match="masks=1"):
        fs.pack(voc, tmp_path / "packed", masks=1)
    with pytest.raises(TypeError, match="src is list: expected a folder"):
        fs.pack([{"x": 1}], tmp_path / "packed", annotations="x")


def test_command_line(coco, voc, tmp_path):
    root, _ = coco
    run = CliRunner().invoke
    annotations = str(root / "annotations/instances_val.json")
    options = ["--source", "coco", "--annotations", annotations, "--drop-unlabeled", "-q"]
    assert run(_cli.app, ["pack", str(root), str(tmp_path / "a"), *options]).exit_code == 0
    assert len(fs.open(tmp_path / "a")) == 5
    # A folder that doesn't look like COCO's is one with annotations, and is said to be.
    told = run(_cli.app, ["pack", str(root / "val"), str(tmp_path / "c"), "--annotations", annotations])
    assert told.stdout.startswith(f"{root / 'val'}: folder of COCO's\n")
    gone = run(_cli.app, ["pack", str(tmp_path / "gone"), str(tmp_path / "d")])
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert run(_cli.app, ["pack", str(voc), str(tmp_path / "b"), "--masks", "--zero-based", "-q"]).exit_code == 0
    assert len(fs.open(tmp_path / "b")) == 2
