"""Image files as cameras, old programs and broken transfers leave them: read as PIL reads them, or refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps, PngImagePlugin

import fastshard as fs
import jpegs
from fastshard._transforms.image import to_json

SIZE = (93, 123)  # height and width
FILM = b"\0\0\0\x18ftypmp42" + bytes(range(1, 255)) * 20


@pytest.fixture(scope="module")
def photo(photos):
    return np.ascontiguousarray(photos["cat"][: SIZE[0], : SIZE[1]])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ds"


def save(pixels, kind="JPEG", **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def rows(path, *steps):
    native = fs.open(path)._opened.native
    spec = {"image": to_json(steps)}
    return [np.asarray(native.row(row, ["image"], spec)["image"]) for row in range(len(fs.open(path)))]


def decode(path, encoded, *steps, **options):
    fs.pack([{"image": image} for image in encoded], path, overwrite=True, **options)
    return rows(path, *steps)


def pil(encoded, mode="RGB", upright=False):
    image = Image.open(io.BytesIO(encoded))
    image = ImageOps.exif_transpose(image) if upright else image
    pixels = np.asarray(image.convert(mode))
    return pixels[..., None] if mode == "L" else pixels


def same(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


def at_segment(encoded, marker, more):
    """The file with bytes before its first segment with this marker."""
    at = next(at for found, at, _ in jpegs.segments(encoded) if found == marker)
    return encoded[:at] + more + encoded[at:]


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


# JPEG: between segments, and behind the last one


def loose(photo):
    """Files with bytes that belong to no segment."""
    files = {}
    for kind, options in {"4:2:0": {}, "4:4:4": {"subsampling": 0}, "progressive": {"progressive": True}}.items():
        plain = save(photo, **options)
        frame = 0xC2 if kind == "progressive" else 0xC0
        for name, marker in {"DQT": 0xDB, "SOF": frame, "DHT": 0xC4, "SOS": 0xDA}.items():
            files[f"{kind}, two bytes before {name}"] = at_segment(plain, marker, b"\x12\x34")
        files[f"{kind}, a stuffed zero"] = at_segment(plain, 0xDB, b"\xff\x00")
        files[f"{kind}, a restart marker"] = at_segment(plain, 0xDB, b"\xff\xd3")
        everywhere = plain
        for _, at, _ in reversed(jpegs.segments(plain)[1:]):
            everywhere = everywhere[:at] + b"\1" * 99 + b"\xff\xd0\x55" + everywhere[at:]
        files[f"{kind}, everywhere"] = everywhere
    return files


@pytest.mark.parametrize("options", [{"seekable": False}, {"seekable": True}, {"metadata": "drop", "seekable": True}])
def test_jpeg_with_bytes_between_its_segments(photo, path, options):
    files = loose(photo)
    for (name, encoded), ours in zip(files.items(), decode(path, files.values(), **options), strict=True):
        assert np.array_equal(ours, pil(encoded)), name
    crop = fs.CenterCrop((33, 41))
    for (name, encoded), ours in zip(files.items(), rows(path, crop), strict=True):
        assert np.array_equal(ours, pil(encoded)[30:63, 41:82]), name
    if options["seekable"]:
        assert all(jpegs.tiles(path))


ENDS = {
    "surplus bytes, then a trailer": lambda jpeg: jpeg[:-2] + b"\x11" * 54 + b"\xff\xd9" + FILM,
    "surplus bytes": lambda jpeg: jpeg[:-2] + b"\x11" * 54 + b"\xff\xd9",
    "no end, then zeros": lambda jpeg: jpeg[:-2] + bytes(300),
    "no end, then a trailer": lambda jpeg: jpeg[:-2] + b"SEFHe\0\0\0" + FILM,
    "cut by half, with an end": lambda jpeg: jpeg[: len(jpeg) // 2] + b"\xff\xd9",
}


@pytest.mark.parametrize("check", ["header", "decode"])
@pytest.mark.parametrize("name", ENDS)
def test_jpeg_ends_that_pil_reads(photo, path, name, check):
    files = [ENDS[name](save(photo, **options)) for options in ({}, {"subsampling": 0}, {"restart_marker_rows": 1})]
    for encoded, ours in zip(files, decode(path, files, check=check), strict=True):
        same(ours, pil(encoded))
    for encoded, ours in zip(files, rows(path, fs.CenterCrop((33, 41))), strict=True):
        same(ours, pil(encoded)[30:63, 41:82])


@pytest.mark.parametrize("check", ["header", "decode"])
def test_jpeg_with_damage_inside_is_read_as_by_pil(photo, path, check):
    plain = save(photo)
    restarts = save(photo, restart_marker_blocks=3)
    gone = restarts.index(b"\xff\xd2", jpegs.scan_start(restarts))
    middle = jpegs.scan_start(plain) + 900
    files = [
        restarts[:gone] + restarts[gone + 2 :],
        plain[:middle] + bytes([plain[middle] ^ 0x10]) + plain[middle + 1 :],
        at_segment(plain, 0xDB, segment(0xEE, b"Adobe\0\x64\0\0\0\0\2")).replace(plain[2:20], b"", 1),
    ]
    for encoded, ours in zip(files, decode(path, files, check=check), strict=True):
        same(ours, pil(encoded))


def cut(photo):
    """Files without an end, of which pixels are missing."""
    plain, progressive = save(photo), save(photo, progressive=True)
    restarts = save(photo, restart_marker_rows=1)
    boundary = restarts.index(b"\xff\xd1", jpegs.scan_start(restarts))
    return {
        "half": plain[: len(plain) // 2],
        "half, then zeros": plain[: len(plain) // 2] + bytes(5000),
        "eight bytes": plain[:-10],
        "two bytes, then zeros": plain[:-4] + bytes(300),
        "rows that restart": restarts[:boundary],
        "rows that restart, then zeros": restarts[:boundary] + bytes(5000),
        "progressive": progressive[:-2],
        "progressive, half, then zeros": progressive[: len(progressive) // 2] + bytes(5000),
    }


@pytest.mark.parametrize("check", ["header", "decode"])
def test_jpeg_that_was_cut_is_refused(photo, path, check):
    for name, encoded in cut(photo).items():
        with pytest.raises(fs.DecodeError, match="row 0: JPEG"):
            fs.pack([{"image": encoded}], path, check=check)
        assert not path.exists(), name


def test_jpeg_with_several_images_keeps_them(photo, path):
    encoded = save(photo, "MPO", save_all=True, append_images=[Image.fromarray(photo[::-1])])
    decode(path, [encoded], seekable=True)
    (stored,) = fs.open(path).to_arrow().column("image").to_pylist()
    assert stored["bytes"] == encoded
    same(decode(path, [encoded], seekable=True, metadata="drop")[0], pil(encoded))
    (stored,) = fs.open(path).to_arrow().column("image").to_pylist()
    assert Image.open(io.BytesIO(stored["bytes"])).format == "JPEG"
    assert all(jpegs.tiles(path))


# Lossless JPEG


def lossless_jpeg(pixels):
    """ITU-T T.81, annex H, with the left neighbour as the guess and codes of five bits for all lengths."""
    height, width, channels = pixels.shape
    values = pixels.astype(int)
    guess = np.empty_like(values)
    guess[:, 1:], guess[1:, 0], guess[0, 0] = values[:, :-1], values[:-1, 0], 128
    bits = []
    for difference in (values - guess).ravel().tolist():
        length = abs(difference).bit_length()
        low = difference if difference >= 0 else difference + (1 << length) - 1
        bits.append(f"{length:05b}" + (f"{low:0{length}b}" if length else ""))
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    data = int(stream, 2).to_bytes(len(stream) // 8).replace(b"\xff", b"\xff\0")
    ids = range(1, channels + 1) if channels == 1 else b"RGB"
    frame = struct.pack(">BHHB", 8, height, width, channels) + b"".join(bytes([one, 0x11, 0]) for one in ids)
    codes = b"\0" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    scan = bytes([channels]) + b"".join(bytes([one, 0]) for one in ids) + b"\1\0\0"
    return b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, codes) + segment(0xDA, scan) + data + b"\xff\xd9"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("check", ["header", "decode"])
def test_lossless_jpeg_in_other_channels_than_its_own(photo, path, mode, dtype, check):
    files = [lossless_jpeg(photo[..., :1]), lossless_jpeg(photo)]
    same(pil(files[1]), photo)
    factor = 257 if dtype == "uint16" else 1
    for encoded, ours in zip(files, decode(path, files, fs.Decode(mode, dtype=dtype), check=check), strict=True):
        theirs = pil(encoded, mode)
        assert ours.dtype == dtype
        if dtype == "uint16" and mode == "L":
            assert np.abs(ours.astype(int) - theirs.astype(int) * 257).max() <= 257
        else:
            same(ours, theirs.astype(ours.dtype) * factor)


# What a header tells


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_chunks(encoded):
    at = 8
    while at < len(encoded):
        (length,) = struct.unpack_from(">I", encoded, at)
        yield encoded[at + 4 : at + 8], encoded[at + 8 : at + 8 + length]
        at += 12 + length


def png_without(encoded, kind):
    return encoded[:8] + b"".join(png_chunk(*chunk) for chunk in png_chunks(encoded) if chunk[0] != kind)


def png_with(encoded, chunk, behind):
    """The file with a chunk behind the first of a kind."""
    at = encoded.index(behind) - 4
    at += 12 + struct.unpack_from(">I", encoded, at)[0]
    return encoded[:at] + chunk + encoded[at:]


def unloadable(photo):
    """Files that no loader can decode, as their headers tell."""
    plain = save(photo)
    deep = bytearray(plain)
    deep[plain.index(b"\xff\xc0") + 4] = 12
    palette = save(Image.fromarray(photo).quantize(50), "PNG")
    frame = plain.index(b"\xff\xc0")
    files = {"12 bits.jpg": bytes(deep), "palette.png": png_without(palette, b"PLTE")}
    files["hierarchical.jpg"] = plain[:frame] + b"\xff\xc5" + plain[frame + 2 :]
    two = plain[frame + 4 : frame + 9] + b"\2" + plain[frame + 10 : frame + 16]
    files["two channels.jpg"] = plain[:frame] + segment(0xC0, two) + plain[frame + 19 :]
    tables = [at for marker, at, _ in jpegs.segments(plain) if marker == 0xDB]
    files["no table.jpg"] = plain[: tables[0]] + plain[tables[0] + 69 :]
    return files


def test_what_the_header_tells_is_refused_when_packing(photo, tmp_path):
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    files = unloadable(photo)
    for name, encoded in files.items():
        (folder / name).write_bytes(encoded)
    (folder / "good.jpg").write_bytes(save(photo))
    with pytest.raises(fs.DecodeError, match=r"cat/[a-z0-9 ]+\.(jpg|png): (JPEG|png): "):
        fs.pack(tmp_path / "images", tmp_path / "ds")
    report = fs.pack(tmp_path / "images", tmp_path / "ds", on_error="skip")
    assert (report.rows, sorted(row.path for row in report.skipped)) == (1, sorted(f"cat/{name}" for name in files))
    assert len(list(fs.Loader(tmp_path / "ds", 1))) == 1


@pytest.mark.parametrize("pixels", ["colour", "gray"])
def test_png_with_a_wrong_checksum_of_its_pixels_is_refused(photo, path, pixels):
    encoded = bytearray(save(photo if pixels == "colour" else photo[..., 0], "PNG"))
    encoded[-17] ^= 1  # the last byte of the checksum before IEND
    with pytest.raises(fs.DecodeError, match="row 0: png"):
        fs.pack([{"image": bytes(encoded)}], path, check="decode")
    with pytest.raises(fs.DecodeError, match=r"row 0 .*png"):
        decode(path, [bytes(encoded)], fs.Decode("L"))


def test_png_with_a_wrong_checksum_of_its_text_is_read(photo, path):
    encoded = bytearray(save(photo, "PNG", pnginfo=text("comment", "hello")))
    encoded[encoded.index(b"hello") + 5] ^= 1
    same(decode(path, [bytes(encoded)])[0], photo)


# Orientation


def text(key, value, **options):
    info = PngImagePlugin.PngInfo()
    (info.add_itxt if options.pop("itxt", False) else info.add_text)(key, value, **options)
    return info


def exif(kind, count, value, order="<", orientation=0x0112):
    """EXIF data of one entry, without a prefix."""
    head = struct.pack(order + "2sHIHHHI", b"II" if order == "<" else b"MM", 42, 8, 1, orientation, kind, count)
    behind = b"" if len(value) <= 4 else value
    return head + (value.ljust(4, b"\0") if not behind else struct.pack(order + "I", 26)) + bytes(4) + behind


def values(order):
    """EXIF data that say 6 in all ways, and some that don't."""
    pack = lambda code, *numbers: struct.pack(order + code, *numbers)  # noqa: E731
    return {
        "SHORT": exif(3, 1, pack("H", 6), order),
        "LONG": exif(4, 1, pack("I", 6), order),
        "SBYTE": exif(6, 1, pack("b", 6), order),
        "SSHORT": exif(8, 1, pack("h", 6), order),
        "SLONG": exif(9, 1, pack("i", 6), order),
        "RATIONAL": exif(5, 1, pack("II", 12, 2), order),
        "SRATIONAL": exif(10, 1, pack("ii", -6, -1), order),
        "FLOAT": exif(11, 1, pack("f", 6), order),
        "DOUBLE": exif(12, 1, pack("d", 6), order),
        "two SHORTs": exif(3, 2, pack("HH", 6, 3), order),
        "three SHORTs": exif(3, 3, pack("HHH", 6, 3, 1), order),
        "BYTE": exif(1, 1, pack("B", 6), order),
        "a half": exif(5, 1, pack("II", 13, 2), order),
        "nine": exif(3, 1, pack("H", 9), order),
        "zero": exif(3, 1, pack("H", 0), order),
        "an unknown type": exif(99, 1, pack("H", 6), order),
        "behind the end": exif(4, 1000, pack("I", 6) * 3, order),
        "another tag": exif(3, 1, pack("H", 6), order, 0x0113),
    }


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Make="a" tiff:Orientation{}/></x:xmpmeta>'
TEXTS = {
    "attribute": XMP.format('="6"'),
    "element": XMP.format(">6<"),
    "nine": XMP.format('="9"'),
    "none": XMP.format("='6'"),
}


def jpeg_with(encoded, *bodies):
    return encoded[:2] + b"".join(segment(0xE1, body) for body in bodies) + encoded[2:]


def oriented_jpegs(photo):
    plain = save(photo)
    short, nothing = exif(3, 1, struct.pack("<H", 6)), exif(3, 1, struct.pack("<H", 6), orientation=0x0113)
    upright = exif(3, 1, struct.pack("<H", 1))
    space = b"http://ns.adobe.com/xap/1.0/\0"
    files = {
        f"{name} {order}": jpeg_with(plain, b"Exif\0\0" + data)
        for order in "<>"
        for name, data in values(order).items()
    }
    files |= {f"XMP {name}": jpeg_with(plain, space + value.encode()) for name, value in TEXTS.items()}
    xmp = space + TEXTS["attribute"].encode()
    files["XMP and other EXIF"] = jpeg_with(plain, b"Exif\0\0" + nothing, xmp)
    files["XMP and upright EXIF"] = jpeg_with(plain, b"Exif\0\0" + upright, xmp)
    files["two XMP"] = jpeg_with(plain, xmp, space + XMP.format('="3"').encode())
    files["two EXIF"] = jpeg_with(plain, b"Exif\0\0" + upright, b"Exif\0\0" + short)
    files["EXIF in two"] = jpeg_with(plain, b"Exif\0\0" + short[:12], b"Exif\0\0" + short[12:])
    files["prefixed twice"] = jpeg_with(plain, b"Exif\0\0Exif\0\0" + short)
    files["before the scan"] = at_segment(plain, 0xDA, segment(0xE1, b"Exif\0\0" + short))
    return files


def oriented_pngs(photo):
    plain = save(photo, "PNG")
    short = exif(3, 1, struct.pack("<H", 6))
    upright = exif(3, 1, struct.pack("<H", 1))
    hexadecimal = f"\nexif\n{len(short) + 6:8}\n{(b'Exif' + bytes(2) + short).hex()}\n"
    xmp = TEXTS["attribute"]
    before = {
        "eXIf": png_with(plain, png_chunk(b"eXIf", short), b"IHDR"),
        "eXIf behind": png_with(plain, png_chunk(b"eXIf", short), b"IDAT"),
        "eXIf prefixed": png_with(plain, png_chunk(b"eXIf", b"Exif\0\0" + short), b"IHDR"),
        "profile": save(photo, "PNG", pnginfo=text("Raw profile type exif", hexadecimal)),
        "packed profile": save(photo, "PNG", pnginfo=text("Raw profile type exif", hexadecimal, zip=True)),
        "broken profile": save(photo, "PNG", pnginfo=text("Raw profile type xxif", hexadecimal)),
        "XMP": save(photo, "PNG", pnginfo=text("XML:com.adobe.xmp", xmp, itxt=True)),
        "packed XMP": save(photo, "PNG", pnginfo=text("XML:com.adobe.xmp", xmp, itxt=True, zip=True)),
        "XMP as plain text": save(photo, "PNG", pnginfo=text("XML:com.adobe.xmp", xmp)),
    }
    before["upright eXIf and a profile"] = png_with(before["profile"], png_chunk(b"eXIf", upright), b"IHDR")
    return before


def webp_with(encoded, exif=b"", xmp=b"", flags=None):
    """A WebP file in the long form, with chunks behind its image."""
    body = encoded[12:]
    flags = 8 * bool(exif) + 4 * bool(xmp) if flags is None else flags
    size = struct.pack("<I", SIZE[1] - 1)[:3] + struct.pack("<I", SIZE[0] - 1)[:3]
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + size + body
    for kind, data in {b"EXIF": exif, b"XMP ": xmp}.items():
        if data:
            chunks += kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def oriented_webps(photo):
    plain = save(photo, "WEBP", lossless=True)
    short = exif(3, 1, struct.pack("<H", 6))
    return {
        "EXIF": webp_with(plain, short),
        "EXIF prefixed": webp_with(plain, b"Exif\0\0" + short),
        "XMP": webp_with(plain, xmp=TEXTS["attribute"].encode()),
        "EXIF that is not announced": webp_with(plain, short, flags=0),
        "none": plain,
    }


def oriented_tiffs(photo):
    return {
        "SHORT": save(photo, "TIFF", tiffinfo={274: 6}),
        "XMP": save(photo, "TIFF", tiffinfo={700: TEXTS["attribute"].encode()}),
        "none": save(photo, "TIFF"),
    }


@pytest.mark.filterwarnings("ignore")  # PIL complains of some of them
@pytest.mark.parametrize("kind", [oriented_jpegs, oriented_pngs, oriented_webps, oriented_tiffs])
def test_orientation_wherever_pil_finds_it(photo, path, kind):
    files = kind(photo)
    found = decode(path, files.values(), fs.Decode(exif_orientation=True))
    turned = 0
    for (name, encoded), ours in zip(files.items(), found, strict=True):
        theirs = pil(encoded, upright=True)
        assert ours.shape == theirs.shape, name
        assert np.array_equal(ours, theirs), name
        turned += theirs.shape[:2] == SIZE[::-1]
    assert turned > len(files) // 3
    for ours, encoded in zip(rows(path), files.values(), strict=True):
        if kind is not oriented_tiffs:  # PIL turns them unasked
            same(ours, pil(encoded))


@pytest.mark.filterwarnings("ignore")
def test_orientation_survives_dropped_metadata(photo, path):
    files = oriented_jpegs(photo)
    decode(path, files.values(), metadata="drop", seekable=True)
    stored = fs.open(path).to_arrow().column("image").to_pylist()
    assert all(jpegs.tiles(path))
    for (name, encoded), file in zip(files.items(), stored, strict=True):
        assert len(file["bytes"]) < len(encoded) + 2000
        assert np.array_equal(pil(file["bytes"], upright=True), pil(encoded, upright=True)), name


# TIFF


def tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def lowest_bit_first(encoded):
    """A little-endian TIFF with the bits of its data turned about, and a tag that says so in place of DocumentName."""
    out = bytearray(encoded)
    (at,) = struct.unpack_from("<I", encoded, 4)
    (count,) = struct.unpack_from("<H", encoded, at)
    entries = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from("<HHI", encoded, entry)
        code, size = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("B", 1))
        start = entry + 8 if length * size <= 4 else struct.unpack_from("<I", encoded, entry + 8)[0]
        entries[tag] = struct.unpack_from(f"<{length}{code}", encoded, start)
        if tag == 269:  # DocumentName, with a sorted place right behind
            struct.pack_into("<HHIHH", out, entry, 266, 3, 1, 2, 0)
    assert 269 in entries
    reverse = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
    places = (273, 279) if 273 in entries else (324, 325)
    for start, length in zip(entries[places[0]], entries[places[1]], strict=True):
        out[start : start + length] = encoded[start : start + length].translate(reverse)
    return bytes(out)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (32, 32)}, {"rowsperstrip": 7}], ids=str)
def test_tiff_with_the_lowest_bit_first(photo, path, options):
    named = [(269, "s", 0, "name", True)]
    wide = photo.astype(np.uint16) * 251
    files = [
        lowest_bit_first(tiff(pixels, photometric=kind, extratags=named, **options))
        for kind, pixels in {"rgb": photo, "minisblack": photo[..., 0]}.items()
    ]
    files += [lowest_bit_first(tiff(wide[..., 0], photometric="minisblack", extratags=named, **options))]
    theirs = [tifffile.imread(io.BytesIO(encoded)) for encoded in files]
    np.testing.assert_array_equal(theirs[0], photo)
    found = decode(path, files, fs.Decode(dtype="uint16"))
    same(found[0], photo.astype(np.uint16) * 257)
    same(found[1], np.repeat(photo[..., :1].astype(np.uint16) * 257, 3, axis=2))
    same(found[2], np.repeat(theirs[2][..., None], 3, axis=2))
    same(rows(path)[0], pil(files[0]))


def test_fax_tiff_with_the_lowest_bit_first(photo, path):
    image = Image.fromarray(photo).convert("1")
    encoded = save(image, "TIFF", compression="group4", tiffinfo={266: 2})
    assert tifffile.TiffFile(io.BytesIO(encoded)).pages[0].fillorder == 2
    same(decode(path, [encoded])[0], pil(encoded))


def test_what_a_codec_does_not_expect_is_refused_by_name(photo, tmp_path):
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    planes = tiff(np.moveaxis(photo, 2, 0).copy(), photometric="rgb", planarconfig="separate", tile=(32, 32))
    (folder / "planes.tif").write_bytes(planes)
    (folder / "good.jpg").write_bytes(save(photo))
    with pytest.raises(fs.DecodeError, match=r"cat/planes\.tif: tiff: .*not supported"):
        fs.pack(tmp_path / "images", tmp_path / "ds")
    report = fs.pack(tmp_path / "images", tmp_path / "ds", on_error="skip")
    assert (report.rows, [row.path for row in report.skipped]) == (1, ["cat/planes.tif"])
