"""Decoding against PIL, TensorFlow (libjpeg-turbo and libpng of its own) and tifffile: the same pixels, bit by bit."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image, ImageOps

import fastshard as fs
from fastshard._transforms.image import to_json

ODD = (117, 203)  # height and width that no block size divides


def decode(path, encoded, *steps):
    """The images of one dataset, decoded after ``steps``."""
    fs.pack([{"image": image} for image in encoded], path, overwrite=True)
    native = fs.open(path)._opened.native
    return [np.asarray(native.row(row, ["image"], {"image": to_json(steps)})["image"]) for row in range(len(encoded))]


def save(pixels, kind, **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def pil(encoded, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert(mode))


def difference(ours, theirs):
    assert ours.shape == (*theirs.shape[:2], ours.shape[2])
    return int(np.abs(ours.astype(int) - theirs.reshape(*theirs.shape[:2], -1)).max())


def resample(encoded, factors, height, width):
    """A JPEG whose chroma is sampled in a way that PIL can't write: other factors, the same blocks a unit."""
    at = next(encoded.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in encoded)
    frame = bytearray(encoded)
    frame[at + 5 : at + 9] = struct.pack(">HH", height, width)
    frame[at + 11] = factors
    return bytes(frame)


def with_thumbnail(encoded, thumbnail):
    body = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + encoded[2:]


def png(pixels, bits, color, interlaced=False, palette=None):
    """A PNG made by hand, since PIL writes neither interlaced ones nor every depth. ``pixels``: [height, width, n]."""
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        b"\0" + packed_row(row, bits)
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
        if row.size
    ]

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, color, 0, 0, interlaced)
    colors = b"" if palette is None else chunk(b"PLTE", palette.tobytes())
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colors + body + chunk(b"IEND", b"")


def packed_row(row, bits):
    if bits == 16:
        return row.astype(">u2").tobytes()
    planes = np.unpackbits(row.reshape(-1, 1).astype(np.uint8), axis=1)[:, 8 - bits :]
    return np.packbits(planes).tobytes()


@pytest.fixture(scope="module")
def photo(photos):
    return np.ascontiguousarray(photos["cat"][: ODD[0], : ODD[1]])


@pytest.fixture(scope="module")
def wide(photo):
    """A 16-bit picture whose low bytes matter."""
    return photo.astype(np.uint16) * 257 // 3


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ds"


JPEGS = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "progressive 4:4:4": {"progressive": True, "subsampling": "4:4:4"},
    "optimised": {"optimize": True},
    "restart markers": {"restart_marker_blocks": 3},
    "restart rows, progressive": {"restart_marker_rows": 1, "progressive": True},
    "low quality": {"quality": 5},
    "best quality": {"quality": 100, "subsampling": "4:4:4"},
    "RGB stored": {"keep_rgb": True},
}


@pytest.fixture(scope="module")
def jpegs(photo):
    files = {name: save(photo, "JPEG", **options) for name, options in JPEGS.items()}
    for size in [(1, 1), (7, 9), (8, 8), (15, 33), (16, 17), (1, 64), (64, 1)]:
        files[f"{size}"] = save(photo[: size[0], : size[1]], "JPEG")
    files["gray"] = save(photo[..., 0], "JPEG")
    files["progressive gray"] = save(photo[..., 0], "JPEG", progressive=True)
    files["4:1:1"] = resample(save(photo[:112, :96], "JPEG", subsampling="4:2:0"), 0x41, 53, 189)
    files["4:4:0"] = resample(save(photo[:64, :96], "JPEG", subsampling="4:2:2"), 0x12, 125, 47)
    files["4:4:1"] = resample(save(photo[:64, :96], "JPEG", subsampling="4:2:0"), 0x14, 125, 47)
    files["progressive 4:1:1"] = resample(
        save(photo[:112, :96], "JPEG", subsampling="4:2:0", progressive=True), 0x41, 56, 192
    )
    files["trailing zeros"] = files["4:2:0"] + bytes(100)
    files["trailing film"] = files["4:2:0"] + b"ftypmp42" * 100
    files["fill bytes"] = files["4:2:0"].replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)
    files["thumbnail"] = with_thumbnail(files["4:2:0"], files["(16, 17)"])
    return files


def test_jpeg_equals_pil(jpegs, path):
    for name, encoded, ours in zip(jpegs, jpegs.values(), decode(path, list(jpegs.values())), strict=True):
        assert difference(ours, pil(encoded)) == 0, name


def test_jpeg_equals_tensorflow(jpegs, path):
    for name, encoded, ours in zip(jpegs, jpegs.values(), decode(path, list(jpegs.values())), strict=True):
        theirs = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        assert difference(ours, theirs) == 0, name


def test_gray_jpeg_is_its_luma(jpegs, path):
    names = [name for name in jpegs if name != "RGB stored"]
    for name, ours in zip(names, decode(path, [jpegs[name] for name in names], fs.Decode("L")), strict=True):
        image = Image.open(io.BytesIO(jpegs[name]))
        image.draft("L", image.size)
        assert image.mode == "L"
        assert difference(ours, np.asarray(image)) == 0, name


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", ["CMYK", "YCCK", "plain CMYK"])
def test_four_inks(photo, path, mode, kind):
    encoded = bytearray(save(Image.fromarray(photo).convert("CMYK"), "JPEG", quality=95))
    adobe = encoded.index(b"Adobe")
    if kind == "YCCK":
        encoded[adobe + 11] = 2
    elif kind == "plain CMYK":
        del encoded[adobe - 4 : adobe + 12]
    (ours,) = decode(path, [bytes(encoded)], fs.Decode(mode))
    assert difference(ours, pil(bytes(encoded), mode)) == 0


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(photo, path, kind, upright):
    files = []
    for orientation in range(9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        files.append(save(photo, kind, exif=exif if orientation else b"", **options))
    for encoded, ours in zip(files, decode(path, files, fs.Decode(exif_orientation=upright)), strict=True):
        image = Image.open(io.BytesIO(encoded))
        theirs = np.asarray(ImageOps.exif_transpose(image) if upright else image)
        assert difference(ours, theirs) == 0


def test_tiff_orientation(photo, path):
    # PIL turns TIFF files on its own, without being asked.
    files = [save(photo, "TIFF", tiffinfo={0x0112: n}) for n in range(1, 9)]
    for encoded, ours in zip(files, decode(path, files, fs.Decode(exif_orientation=True)), strict=True):
        assert difference(ours, pil(encoded)) == 0
    for ours in decode(path, files):
        assert difference(ours, photo) == 0


def test_orientation_comes_before_transforms(photo, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = save(photo, "JPEG", exif=exif)
    (ours,) = decode(path, [encoded], fs.Decode(exif_orientation=True), fs.CenterCrop((60, 40)))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))))
    top, left = (upright.shape[0] - 60) / 2, (upright.shape[1] - 40) / 2
    assert difference(ours, upright[round(top) : round(top) + 60, round(left) : round(left) + 40]) == 0


# Colour type, bits, channels.
PNGS = [(0, 1, 1), (0, 2, 1), (0, 4, 1), (0, 8, 1), (0, 16, 1), (2, 8, 3), (2, 16, 3), (3, 1, 1), (3, 2, 1), (3, 4, 1)]
PNGS += [(3, 8, 1), (4, 8, 2), (4, 16, 2), (6, 8, 4), (6, 16, 4)]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits", "channels"), PNGS)
def test_png(path, color, bits, channels, interlaced):
    random = np.random.default_rng(bits)
    palette = random.integers(0, 256, (2 ** min(bits, 8), 3), dtype=np.uint8) if color == 3 else None
    files = [
        png(random.integers(0, 2**bits, (*size, channels)), bits, color, interlaced, palette)
        for size in [(29, 37), (1, 1), (3, 2), (8, 9)]
    ]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, _png_twin(encoded, bits, color)) == 0
    for encoded, ours in zip(files, decode(path, files, fs.Decode("L")), strict=True):
        theirs = _png_twin(encoded, bits, color)
        assert difference(ours, np.asarray(Image.fromarray(theirs).convert("L"))) == 0


def _png_twin(encoded, bits, color):
    # PIL clips gray values of 16 bits; libpng, as everybody else, takes the high byte.
    return tf.io.decode_png(encoded, channels=3).numpy() if bits == 16 and color in (0, 4) else pil(encoded)


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_16_bits_equal_tensorflow(path, wide, color, channels):
    pixels = np.concatenate([wide, wide[..., :1]], axis=2)[..., :channels]
    encoded = png(pixels, 16, color)
    theirs = tf.io.decode_png(encoded, channels=3, dtype=tf.uint16).numpy()
    (ours,) = decode(path, [encoded], fs.Decode(dtype="uint16"))
    assert ours.dtype == np.uint16
    assert difference(ours, theirs) == 0
    assert difference(ours, np.repeat(wide[..., :1], 3, axis=2) if channels < 3 else wide) == 0


def test_gray_png_equals_pil(photo, path):
    gray = photo[..., 1]
    files = [
        save(np.ascontiguousarray(gray[:height, :width]), "PNG", compress_level=level)
        for height, width in [(1, 1), (9, 1), (1, 9), (40, 7), (40, 8), (41, 9), (7, 100), ODD]
        for level in (0, 1, 6, 9)
    ]
    files += [save(np.zeros(ODD, np.uint8), "PNG"), save(photo[..., 0], "PNG", transparency=7)]
    for encoded, ours in zip(files, decode(path, files, fs.Decode("L")), strict=True):
        assert difference(ours, pil(encoded, "L")) == 0
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0


def test_damaged_gray_png_is_refused(photo, path):
    sound = save(photo[..., 1], "PNG")
    middle = len(sound) // 2
    for broken in (sound[:middle], sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]):
        with pytest.raises(fs.FastshardError, match="png"):
            decode(path, [broken], fs.Decode("L"))


def test_png_alpha_and_transparency(photo, path):
    alpha = np.dstack([photo, photo[..., 0]])
    palette = Image.fromarray(photo).quantize(50)
    files = [
        save(alpha, "PNG"),
        save(Image.fromarray(photo).convert("LA"), "PNG"),
        save(palette, "PNG", transparency=3),
        save(photo, "PNG", transparency=(255, 0, 0)),
    ]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_8_bits_fill_16(photo, path, kind):
    encoded = save(photo, kind)
    (narrow,), (ours,) = decode(path, [encoded]), decode(path, [encoded], fs.Decode(dtype="uint16"))
    assert ours.dtype == np.uint16
    assert difference(ours, narrow.astype(np.uint16) * 257) == 0


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_webp_lossless(photo, path, mode):
    alpha = np.dstack([photo, photo[..., 1]])
    files = [save(pixels, "WEBP", lossless=True, exact=True) for pixels in (photo, alpha, photo[:1, :1], photo[..., 0])]
    for encoded, ours in zip(files, decode(path, files, fs.Decode(mode)), strict=True):
        assert difference(ours, pil(encoded, mode)) == 0


@pytest.mark.parametrize("quality", [10, 80, 100])
def test_webp_lossy(photo, path, quality):
    alpha = np.dstack([photo, photo[..., 1]])
    files = [save(pixels, "WEBP", quality=quality) for pixels in (photo, alpha, photo[:33, :31], photo[:1, :1])]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0


def test_animations_show_their_first_frame(photo, path):
    frames = [Image.fromarray(np.roll(photo, 40 * n, axis=1)) for n in range(3)]
    files = [
        save(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        save(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        save(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
    ]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (kind, mode)
        for kind in ("BMP", "GIF", "TIFF")
        for mode in ("1", "L", "P", "RGB", "RGBA")
        if kind + mode != "TIFFP"
    ],
)
def test_simple_formats(photo, path, kind, mode):
    image = Image.fromarray(np.dstack([photo, photo[..., 1]])).convert("RGB").convert(mode)
    encoded = save(image, kind)
    for wanted in ("RGB", "L"):
        (ours,) = decode(path, [encoded], fs.Decode(wanted))
        assert difference(ours, pil(encoded, wanted)) == 0


def test_interlaced_gif(photo, path):
    encoded = save(photo, "GIF", interlace=1)
    (ours,) = decode(path, [encoded])
    assert difference(ours, pil(encoded)) == 0


@pytest.mark.parametrize("compression", [None, "raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff(photo, path, compression):
    files = [save(pixels, "TIFF", compression=compression) for pixels in (photo, photo[..., 0], photo[:1, :1])]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0


def tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 5}, {"predictor": True}])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_16_bits(wide, path, byteorder, options, compression):
    if "predictor" in options and compression is None:
        options = {}
    files = [
        tiff(wide, photometric="rgb", byteorder=byteorder, compression=compression, **options),
        tiff(wide[..., 0], photometric="minisblack", byteorder=byteorder, compression=compression, **options),
    ]
    decoded = decode(path, files, fs.Decode(dtype="uint16"))
    for encoded, ours in zip(files, decoded, strict=True):
        theirs = tifffile.imread(io.BytesIO(encoded))
        assert difference(ours, theirs) == 0
    for ours, narrow in zip(decoded, decode(path, files), strict=True):
        assert difference(narrow, ours >> 8) == 0


def test_formats_mix_in_one_dataset(photo, path):
    kinds = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"]
    fs.pack([{"image": save(photo, kind)} for kind in kinds], path)
    loader = fs.Loader(path, batch_size=6, transforms={"image": fs.CenterCrop(64)})
    (batch,) = loader
    assert batch["image"].shape == (6, 64, 64, 3)
    top, left = round((ODD[0] - 64) / 2), round((ODD[1] - 64) / 2)
    for pixels in batch["image"][[1, 3, 5]]:
        assert difference(pixels, photo[top : top + 64, left : left + 64]) == 0


def test_unusual_tiff(photo, path):
    image = Image.fromarray(photo)
    files = [
        save(image.convert("CMYK"), "TIFF"),
        save(image.convert("1"), "TIFF", compression="group4"),
        tiff(np.moveaxis(photo, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        tiff(photo[..., 0], photometric="miniswhite"),
    ]
    for encoded, ours in zip(files, decode(path, files), strict=True):
        assert difference(ours, pil(encoded)) == 0
    (ours,) = decode(path, [save(image, "TIFF", compression="jpeg")])
    assert difference(ours, pil(save(image, "TIFF", compression="jpeg"))) <= 1


def test_unsupported_pixels_are_named(photo, path):
    float_tiff = tiff(photo[..., 0].astype(np.float32))
    with pytest.raises(fs.DecodeError, match=r"row 0: tiff: .*not support"):
        fs.pack([{"image": float_tiff}], path)
