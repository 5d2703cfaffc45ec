"""Boxes and masks in photographs that EXIF data turns: annotated upright, or as they are stored. Turned by PIL."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli.app import app

# pycocotools hands NumPy an array in a way that is out of date.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WIDTH, HEIGHT = 90, 120
VOC = """<annotation><size><width>{}</width><height>{}</height><depth>3</depth></size><object><name>cat</name>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>"""


def stored(picture, orientation):
    """How a camera stores what is to look like this."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return picture.transpose(turns[orientation]) if orientation > 1 else picture


def save(picture, orientation, path):
    """Saves it with this orientation, and checks that PIL turns it upright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored(picture, orientation).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if path.suffix == ".png":
            np.testing.assert_array_equal(np.asarray(upright), np.asarray(picture))
        return np.asarray(image), np.asarray(upright)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def runs_of(mask, compressed):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.concatenate([[0], np.flatnonzero(np.diff(flat))])
    return {"size": encoded["size"], "counts": np.diff(ends).tolist()}


def polygon_of(mask):
    left, top, right, bottom = box_of(mask)
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture(scope="module")
def scene(photos):
    """A picture, the masks of three objects (bright pixels, a disc, a rectangle) and a place, all upright."""
    picture = Image.fromarray(photos["astronaut"][:HEIGHT, 180 : 180 + WIDTH])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    bright = np.asarray(picture.convert("L")) > 150
    bright[:20] = bright[:, :7] = False
    masks = [bright, (x - 30) ** 2 + (y - 80) ** 2 < 300, (x >= 10) & (x < 40) & (y >= 5) & (y < 75)]
    return picture, [mask.astype(np.uint8) for mask in masks], [33.5, 17.5]


def turned(masks, orientation):
    return [np.asarray(stored(Image.fromarray(mask), orientation)) for mask in masks]


def place_of(place, orientation):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[int(place[1]), int(place[0])] = 1
    ((y, x),) = np.argwhere(turned([mask], orientation)[0])
    return [x + 0.5, y + 0.5]


def coco(root, scene, orientation, annotated, suffix=".png", declared=True):
    """A set of one image; what it looks like as PIL loads it and turns it."""
    picture, masks, place = scene
    pixels = save(picture, orientation, root / f"photo{suffix}")
    if annotated == "stored":
        masks, place = turned(masks, orientation), place_of(place, orientation)
    height, width = masks[0].shape
    shapes = [runs_of(masks[0], compressed=True), runs_of(masks[1], compressed=False), polygon_of(masks[2])]
    annotations = []
    for number, (mask, shape) in enumerate(zip(masks, shapes, strict=True), start=1):
        left, top, right, bottom = box_of(mask)
        about = {"bbox": [left, top, right - left, bottom - top], "area": int(mask.sum()), "segmentation": shape}
        about |= {"keypoints": [*place, 2], "num_keypoints": 1, "iscrowd": int(isinstance(shape, dict))}
        annotations.append({"id": number, "image_id": 1, "category_id": 1, **about})
    size = {"width": width, "height": height} if declared else {}
    content = {
        "images": [{"id": 1, "file_name": f"photo{suffix}", **size}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing", "keypoints": ["middle"], "skeleton": []}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return pixels


def pack(root, **options):
    report = fs.pack(root, root.parent / "packed", annotations="instances.json", overwrite=True, **options)
    return fs.open(report.path)


def load(dataset, size, upright):
    steps = [fs.Decode(exif_orientation=upright), fs.Resize(size)]
    fields = [field.name for field in dataset.fields if field.name in ("image", "boxes", "keypoints", "segmentation")]
    transforms = {"image": steps, **({"segmentation": fs.InstanceMasks()} if "segmentation" in fields else {})}
    (batch,) = fs.Loader(dataset, 1, transforms=transforms, fields=fields)
    return batch


def expect(batch, pixels, masks, place):
    np.testing.assert_array_equal(batch["image"][0], pixels)
    np.testing.assert_array_equal(batch["boxes"], [box_of(mask) for mask in masks])
    np.testing.assert_array_equal(batch["keypoints"][:, 0], [[*place, 2]] * len(masks))
    if "segmentation" in batch:
        np.testing.assert_array_equal(batch["segmentation"], masks)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["upright", "stored"])
def test_both_ways_of_annotating_and_of_loading(orientation, annotated, scene, tmp_path):
    as_stored, upright = coco(tmp_path / "coco", scene, orientation, annotated)
    # A quarter shows in the size; what doesn't has to be said.
    dataset = pack(tmp_path / "coco", **({} if orientation > 4 else {"annotated": annotated}))
    _, masks, place = scene
    expect(load(dataset, (HEIGHT, WIDTH), True), upright, masks, place)
    there = turned(masks, orientation), place_of(place, orientation)
    expect(load(dataset, as_stored.shape[:2], False), as_stored, *there)
    # What lies in the dataset belongs to the file that lies in it.
    np.testing.assert_array_equal(dataset[0]["boxes"], [box_of(mask) for mask in there[0]])
    shapes = json.loads(dataset[0]["segmentation"])
    for shape, mask in zip(shapes[:2], there[0], strict=False):
        encoded = shape if isinstance(shape["counts"], str) else coco_mask.frPyObjects(shape, *shape["size"])
        np.testing.assert_array_equal(coco_mask.decode(encoded), mask)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_as_their_cameras_turn_them(orientation, scene, tmp_path):
    as_stored, upright = coco(tmp_path / "coco", scene, orientation, "upright", ".jpg")
    dataset = pack(tmp_path / "coco", annotated="upright")
    _, masks, place = scene
    expect(load(dataset, (HEIGHT, WIDTH), True), upright, masks, place)
    expect(
        load(dataset, as_stored.shape[:2], False), as_stored, turned(masks, orientation), place_of(place, orientation)
    )


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("annotated", ["upright", "stored"])
def test_encoded_anew(orientation, annotated, scene, tmp_path):
    as_stored, upright = coco(tmp_path / "coco", scene, orientation, annotated)
    _, masks, place = scene
    if annotated == "stored":
        masks, place = turned(masks, orientation), place_of(place, orientation)
    shown = upright if annotated == "upright" else as_stored
    dataset = pack(tmp_path / "coco", annotated=annotated, encode="png")
    assert dataset.column("_image_orientation").tolist() == [1]
    for turn in (False, True):
        expect(load(dataset, shown.shape[:2], turn), shown, masks, place)
    for options in ({"encode": "png"}, {"encode": "raw"}):
        dataset = pack(
            tmp_path / "coco", annotated=annotated, resize=tuple(2 * side for side in shown.shape[:2]), **options
        )
        (batch,) = fs.Loader(dataset, 1, fields=["boxes"])
        np.testing.assert_array_equal(batch["boxes"], 2 * np.array([box_of(mask) for mask in masks]))


def test_half_a_turn_is_taken_as_stored(scene, tmp_path):
    as_stored, _ = coco(tmp_path / "coco", scene, 3, "stored")
    dataset = pack(tmp_path / "coco")
    expect(load(dataset, (HEIGHT, WIDTH), False), as_stored, turned(scene[1], 3), place_of(scene[2], 3))


def test_nothing_is_said_of_its_size(scene, tmp_path):
    _, upright = coco(tmp_path / "coco", scene, 6, "upright", declared=False)
    expect(load(pack(tmp_path / "coco", annotated="upright"), (HEIGHT, WIDTH), True), upright, *scene[1:])
    assert pack(tmp_path / "coco", encode="png").column("_image_width").tolist() == [HEIGHT]


def test_the_size_goes_before_the_option(scene, tmp_path):
    _, upright = coco(tmp_path / "coco", scene, 6, "upright")
    expect(load(pack(tmp_path / "coco", annotated="stored"), (HEIGHT, WIDTH), True), upright, *scene[1:])


def test_a_set_of_which_some_are_upright(scene, tmp_path):
    """A half turn can't be seen in a size; that others were annotated upright is reason to ask."""
    root = tmp_path / "coco"
    coco(root, scene, 6, "upright")
    (root / "photo.png").rename(root / "quarter.png")
    content = json.loads((root / "instances.json").read_text())
    _, upright = coco(root, scene, 3, "upright")
    content["images"][0]["file_name"] = "quarter.png"
    content["images"].append({"id": 2, "file_name": "photo.png", "width": WIDTH, "height": HEIGHT})
    content["annotations"] += [{**one, "id": one["id"] + 10, "image_id": 2} for one in content["annotations"]]
    (root / "instances.json").write_text(json.dumps(content))
    for options in ({}, {"on_error": "skip"}):
        with pytest.raises(
            ValueError, match=r'"auto": photo\.png .* those of quarter\.png .* expected "upright" or "stored"'
        ):
            pack(root, **options)
    dataset = pack(root, annotated="upright", shuffle=False)
    expect(load(dataset[1:], (HEIGHT, WIDTH), True), upright, *scene[1:])
    assert len(pack(root, annotated="stored")) == 2


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exported_and_packed_again(orientation, scene, tmp_path):
    as_stored, upright = coco(tmp_path / "coco", scene, orientation, "upright")
    dataset = pack(tmp_path / "coco", annotated="upright")
    dataset.export(tmp_path / "out", to="coco")
    again = fs.open(fs.pack(tmp_path / "out", tmp_path / "again", annotations="annotations.json").path)
    _, masks, place = scene
    expect(load(again, (HEIGHT, WIDTH), True), upright, masks, place)
    there = turned(masks, orientation), place_of(place, orientation)
    expect(load(again, as_stored.shape[:2], False), as_stored, *there)


@pytest.mark.parametrize("annotated", ["upright", "stored"])
def test_voc(annotated, scene, tmp_path):
    root = tmp_path / "voc"
    picture, masks, _ = scene
    as_stored, upright = save(picture, 8, root / "JPEGImages" / "1.jpg")
    mask = masks[1] if annotated == "upright" else turned(masks, 8)[1]
    left, top, right, bottom = box_of(mask)
    (root / "Annotations").mkdir()
    text = VOC.format(*mask.shape[::-1], left + 1, top + 1, right, bottom)
    (root / "Annotations" / "1.xml").write_text(text)
    fs.pack(root, tmp_path / "packed")
    batch = load(fs.open(tmp_path / "packed"), upright.shape[:2], True)
    np.testing.assert_array_equal(batch["boxes"], [box_of(masks[1])])
    batch = load(fs.open(tmp_path / "packed"), as_stored.shape[:2], False)
    np.testing.assert_array_equal(batch["boxes"], [box_of(turned(masks, 8)[1])])


def yolo(root, shape, lines, names="names: [thing]\n"):
    height, width = shape
    (root / "labels").mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text(names)
    rows = [[at / (height if number % 2 else width) for number, at in enumerate(line)] for line in lines]
    (root / "labels" / "1.txt").write_text("\n".join(" ".join(map(str, [0, *row])) for row in rows))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["auto", "stored"])
def test_yolo_is_upright_unless_told(orientation, annotated, scene, tmp_path):
    picture, masks, _ = scene
    as_stored, upright = save(picture, orientation, tmp_path / "yolo" / "images" / "1.jpg")
    theirs = turned(masks, orientation) if annotated == "stored" else masks
    yolo(tmp_path / "yolo", theirs[2].shape, polygon_of(theirs[2]))
    fs.pack(tmp_path / "yolo", tmp_path / "packed", annotated=annotated)
    dataset = fs.open(tmp_path / "packed")
    for pixels, turn, mask in ((upright, True, masks[2]), (as_stored, False, turned(masks, orientation)[2])):
        batch = load(dataset, pixels.shape[:2], turn)
        left, top, right, bottom = box_of(mask)
        whole = np.tile(mask.shape[::-1], 2)
        found = batch["boxes"][0] * whole
        np.testing.assert_allclose(
            found, [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], rtol=1e-5
        )
        np.testing.assert_array_equal(batch["segmentation"], [mask])


@pytest.mark.parametrize("annotated", ["auto", "stored"])
def test_keypoints_of_yolo(annotated, scene, tmp_path):
    picture, masks, place = scene
    save(picture, 6, tmp_path / "yolo" / "images" / "1.jpg")
    mask, own = (turned(masks, 6)[2], place_of(place, 6)) if annotated == "stored" else (masks[2], place)
    left, top, right, bottom = box_of(mask)
    line = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, *own]
    yolo(tmp_path / "yolo", mask.shape, [line], "names: [thing]\nkpt_shape: [1, 2]\n")
    fs.pack(tmp_path / "yolo", tmp_path / "packed", annotated=annotated)
    for turn, expected in ((True, place), (False, place_of(place, 6))):
        size = (HEIGHT, WIDTH) if turn else (WIDTH, HEIGHT)
        batch = load(fs.open(tmp_path / "packed"), size, turn)
        np.testing.assert_allclose(batch["keypoints"][0], [expected], rtol=1e-5)


def test_samples_and_the_command_line(scene, tmp_path):
    picture, masks, _ = scene
    save(picture, 6, tmp_path / "images" / "1.jpg")
    boxes = np.array([box_of(mask) for mask in masks], np.float32)
    sample = {"image": (tmp_path / "images" / "1.jpg").read_bytes(), "boxes": boxes}
    there = {"stored": boxes, "upright": [box_of(mask) for mask in turned(masks, 6)]}
    for annotated, expected in (there | {"auto": boxes}).items():
        target = tmp_path / annotated
        fs.pack([sample], target, types={"boxes": "boxes[xyxy]"}, annotated=annotated)
        np.testing.assert_array_equal(fs.open(target)[0]["boxes"], expected)
        # A dataset's boxes lie in what is stored.
        fs.pack(fs.open(target), tmp_path / f"{annotated}-again")
        np.testing.assert_array_equal(fs.open(tmp_path / f"{annotated}-again")[0]["boxes"], expected)
    coco(tmp_path / "coco", scene, 3, "upright")
    target = tmp_path / "cli"
    options = ["--annotations", "instances.json", "--annotated", "upright", "--quiet"]
    result = CliRunner().invoke(app, ["pack", str(tmp_path / "coco"), str(target), *options])
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(fs.open(target)[0]["boxes"], [box_of(mask) for mask in turned(masks, 3)])


def test_what_cannot_be_turned(scene, photo_folder, tmp_path):
    picture, masks, _ = scene
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(stream, "jpeg", exif=exif)
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    sample = {"image": stream.getvalue(), "boxes": boxes}
    types = {"boxes": "boxes[xyxy]", "segmentation": "text"}
    for text in ("no JSON", json.dumps([runs_of(masks[0], compressed=True)])):
        options = {"types": types, "annotated": "upright"}
        with pytest.raises(fs.DecodeError, match=r'row 0.*"segmentation", to be turned with its image: '):
            fs.pack([{**sample, "segmentation": text}], tmp_path / "ds", **options)
    with pytest.raises(ValueError, match="annotated='up': "):
        fs.pack([sample], tmp_path / "ds", types={"boxes": "boxes[xyxy]"}, annotated="up")
    with pytest.raises(ValueError, match="annotated='upright' needs a folder of images with boxes"):
        fs.pack(photo_folder, tmp_path / "ds", annotated="upright")
    with pytest.raises(ValueError, match="annotated is for images with boxes, and there are none"):
        fs.pack([{"image": stream.getvalue()}], tmp_path / "ds", annotated="upright")
