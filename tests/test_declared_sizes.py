"""Annotations that say how large their image is: packing holds them against the image."""

import json

import numpy as np
import pytest
from PIL import Image

import fastshard as fs

VOC = """<annotation><size><width>{}</width><height>{}</height><depth>3</depth></size><object><name>cat</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"""


def save(path, width, height, orientation=None):
    path.parent.mkdir(exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, exif=exif)


def coco(root, *declared, orientation=None):
    """Pictures of 60 x 40 pixels, and what is said of each."""
    root.mkdir()
    images, annotations = [], []
    for number, sizes in enumerate(declared, start=1):
        save(root / f"{number}.jpg", 60, 40, orientation)
        images.append({"id": 10 * number, "file_name": f"{number}.jpg", **sizes})
        annotations.append({"id": number, "image_id": 10 * number, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (root / "instances.json").write_text(json.dumps(content))
    return root


def pack(root, **options):
    return fs.pack(root, root.parent / "packed", annotations="instances.json", **options)


RIGHT = {"width": 60, "height": 40}


def test_right_ones_and_none(tmp_path):
    odd = {"width": "60", "height": None}
    report = pack(coco(tmp_path / "coco", RIGHT, {}, {"width": 60.0, "height": 40.0}, odd, {"width": 0, "height": 0}))
    assert report.rows == 5
    assert all(not field.name.startswith("_") for field in fs.open(report.path).fields)


@pytest.mark.parametrize("changed", [{}, {"resize": (20, 30), "encode": "png"}])
def test_a_wrong_one_is_named(changed, tmp_path):
    root = coco(tmp_path / "coco", RIGHT, {"width": 120, "height": 80})
    message = r"^2\.jpg: 60 x 40 \(width x height\), but image 2 of instances\.json says 120 x 80$"
    with pytest.raises(fs.SourceError, match=message):
        pack(root, **changed)
    assert not (root.parent / "packed").exists()
    report = pack(root, on_error="skip", **changed)
    assert report.rows == 1
    ((row, path, error),) = report.skipped
    assert (row, path) == (2, "2.jpg")
    assert "says 120 x 80" in error


def test_an_image_that_its_camera_turned(tmp_path):
    root = coco(tmp_path / "coco", {"width": 50, "height": 60}, orientation=6)
    message = (
        r"^1\.jpg: 60 x 40 \(width x height\), upright by its EXIF orientation 40 x 60, but image 1 of .* says 50 x 60$"
    )
    with pytest.raises(fs.SourceError, match=message):
        pack(root)


def test_voc(tmp_path):
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    for number, size in enumerate([(60, 40), ("", ""), (40, 60)]):
        save(root / "JPEGImages" / f"{number}.png", 60, 40)
        (root / "Annotations" / f"{number}.xml").write_text(VOC.format(*size))
    message = r"JPEGImages/2\.png: 60 x 40 .* but Annotations/2\.xml says 40 x 60$"
    with pytest.raises(fs.SourceError, match=message):
        fs.pack(root, tmp_path / "packed", source="voc")
    report = fs.pack(root, tmp_path / "packed", source="voc", on_error="skip")
    assert (report.rows, len(report.skipped)) == (2, 1)


def test_voc_says_it_twice(tmp_path):
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    save(root / "JPEGImages" / "0.png", 60, 40)
    text = VOC.format(60, 40).replace("<width>60</width>", "<width>60</width><width>60</width>")
    (root / "Annotations" / "0.xml").write_text(text)
    with pytest.raises(fs.SourceError, match=r"0\.xml: several width"):
        fs.pack(root, tmp_path / "packed", source="voc")
