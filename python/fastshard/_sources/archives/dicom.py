"""DICOM files as samples for packing: pixels as PNG, what is known of them as fields."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastshard._base import check
from fastshard._base.records import SkippedRow
from fastshard._fastshard import SourceError
from fastshard._transforms.image import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastshard._sources.base import Sample

__all__ = ["DicomFiles", "holds_dicom", "is_dicom_name"]

Window = str | tuple[float, float]

_SUFFIXES = (".dcm", ".dicom")
_WINDOWS = ("file", "auto", "stored")
_TAGS = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientSex",
    "PatientAge",
)
_NUMBERS = ("DS", "FD", "FL", "IS", "SL", "SS", "UL", "US")
# Its files are inflated whole, to any size, before anything of them is known.
_DEFLATED = "1.2.840.10008.1.2.1.99"


class DicomFiles:
    """The images of DICOM files, as an iterable of samples that ``fastshard.pack`` takes.

        files = fs.DicomFiles("scans/", window=(40, 400))
        fs.pack(files, "packed/")

    ``src``: a folder, in which all files that end in .dcm or .dicom are taken, sorted, or a list of files. A sample is
    ``image`` (a PNG file), ``file`` (its path below the folder), ``frame``, and ``tags``: by default the ids of
    patient, study, series and image, modality, body part, view, sex and age. Values that are missing are ``""``, or NaN
    where the standard says that they are numbers. Needs the package ``pydicom``.

    **Gray values** are rescaled by the file's slope and intercept (or its table), and then a range of them, the
    ``window``, becomes black to white, in ``bits`` (8 or 16): ``"file"``, the first window, or table, of the file
    (8-bit files without one stay as they are; others are an error); ``"auto"``, from the smallest to the largest value
    of the image; or ``(center, width)`` in rescaled values. MONOCHROME1 is inverted, so that more is brighter
    everywhere. With ``"stored"``, PNG files hold the stored values in 16 bits, and the fields ``slope`` and
    ``intercept`` turn ``pixel * slope + intercept`` into rescaled ones, inversion included. Colours stay as they are,
    as RGB.

    ``frames="split"`` makes a sample of each frame of files that hold several; by default these are an error.

    Raises SourceError, with the file, for one that is no DICOM file, holds no image or can't be decoded.
    """

    def __init__(
        self,
        src: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        window: Window = "file",
        bits: int = 8,
        frames: str = "refuse",
        tags: Sequence[str] = _TAGS,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self._window = _checked_window(window)
        self._bits = check.one_of("bits", bits, (8, 16))
        self._frames = check.one_of("frames", frames, ("refuse", "split"))
        self._max_pixels = check.integer("max_pixels", max_pixels, 1)
        self._is_number = {tag: _is_number(tag) for tag in tags}
        self._root, self._names = _found(src)

    def __len__(self) -> int:
        """The files; with ``frames="split"`` there may be more samples."""
        return len(self._names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for name in self._names:
            yield from self._file(name)

    def readable(self, skipped: list[SkippedRow]) -> Iterator[Sample]:
        """The samples of files that can be read; the others are noted."""
        from fastshard._sources.base import Sample

        for row, name in enumerate(self._names):
            try:
                samples = list(self._file(name))
            except (SourceError, OSError) as error:
                skipped.append(SkippedRow(row, name, str(error)))
                continue
            yield from (Sample(str(self._root / name), row, sample) for sample in samples)

    def _file(self, name: str) -> Iterator[dict[str, Any]]:
        path = self._root / name
        try:
            yield from self._samples(path, name)
        except (SourceError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 # pydicom lets through whatever its parsers run into
            raise SourceError(f"{path}: can't be read as DICOM: {type(error).__name__}: {error}") from None

    def _samples(self, path: Path, name: str) -> Iterator[dict[str, Any]]:
        from pydicom.pixels.utils import pixel_array

        from fastshard._base.png import png

        header = self._header(path)
        count = int(header.get("NumberOfFrames") or 1)
        if count < 1:
            raise SourceError(f"{path}: {count} frames; expected one at least")
        if count > 1 and self._frames == "refuse":
            raise SourceError(f"{path}: {count} frames; expected one, or frames='split' to make samples of them")
        for frame in range(count):
            values = pixel_array(header, index=frame)
            pixels, scale = self._pixels(path, header, values)
            image = png(pixels if pixels.ndim == 3 else pixels[:, :, None])
            yield {"image": image, "file": name, "frame": frame, **scale, **self._described(header)}

    def _header(self, path: Path) -> Any:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.filereader import read_file_meta_info

        try:
            meta = read_file_meta_info(path)
            if meta.get("TransferSyntaxUID") == _DEFLATED:
                raise SourceError(f"{path}: deflated as a whole, which may take any amount of memory to open")
            header = pydicom.dcmread(path)
        except InvalidDicomError:
            raise SourceError(f"{path}: no DICOM file") from None
        height, width = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        if not height or not width:
            raise SourceError(f"{path}: holds no image, or ends too early")
        if height * width > self._max_pixels:
            raise SourceError(f"{path}: {width} x {height} pixels are more than max_pixels={self._max_pixels:,}")
        return header

    def _described(self, header: Any) -> dict[str, Any]:
        return {tag: _value(header.get(tag), is_number) for tag, is_number in self._is_number.items()}

    def _pixels(self, path: Path, header: Any, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, float]]:
        import numpy as np
        from pydicom.pixels.processing import apply_modality_lut

        is_gray = str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
        if self._window == "stored":
            return _stored(path, header, values) if is_gray else (_colors(path, header, values), _scale(1.0, 0.0))
        if not is_gray:
            return _colors(path, header, values), {}
        rescaled = apply_modality_lut(values, header)
        if not np.isfinite(rescaled).all():
            raise SourceError(f"{path}: holds values that are no finite numbers")
        shares = self._windowed(path, header, rescaled)
        if header.PhotometricInterpretation == "MONOCHROME1":
            shares = 1 - shares
        return _whole(shares, self._bits), {}

    def _windowed(self, path: Path, header: Any, values: NDArray[Any]) -> NDArray[np.float64]:
        """The values as shares of white, 0 to 1."""
        import numpy as np

        if self._window == "auto":
            low, high = float(np.min(values)), float(np.max(values))
            return (values.astype(np.float64) - low) / ((high - low) or 1)
        if not isinstance(self._window, str):
            return _in_window(values, *self._window, "LINEAR")
        return _as_the_file_says(path, header, values)


def is_dicom_name(path: Any) -> bool:
    """Whether a file is called like one of DICOM's."""
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).lower().endswith(_SUFFIXES)


def holds_dicom(folder: Path) -> bool:
    """Whether the first files that are found in a folder are DICOM's; images may be hundreds of thousands."""
    for _, _, files in os.walk(folder):
        if shown := [name for name in files if not name.startswith(".")]:
            return any(map(is_dicom_name, shown))
    return False


def _found(src: Any) -> tuple[Path, list[str]]:
    from fastshard._sources.walk import walk

    if isinstance(src, (list, tuple)) or is_dicom_name(src):
        return Path(), [os.fspath(one) for one in (src if isinstance(src, (list, tuple)) else [src])]
    root = os.fspath(src)
    found = walk(root)
    for name, target in found.outside.items():
        raise SourceError(f"{root}/{name}: leads out of the source, to {target}; copy it")
    names = [name for name in found.others if is_dicom_name(name) and name not in found.special]
    if not names or found.images:
        there = f"{len(names):,} DICOM files and {len(found.images):,} other images"
        raise SourceError(f"{root}: {there}; expected files that end in .dcm or .dicom, and no others")
    return Path(root), names


def _checked_window(window: Any) -> Window:
    if isinstance(window, str):
        return check.one_of("window", window, _WINDOWS)
    center, width = _pair(window)
    if width < 1:
        raise ValueError(f"window={window!r}: expected a width of at least 1")
    return center, width


def _pair(window: Any) -> tuple[float, float]:
    numbers = check.numbers("window", window)
    if len(numbers) != 2:
        raise ValueError(f"window={window!r}: expected (center, width), or one of {', '.join(map(repr, _WINDOWS))}")
    return numbers[0], numbers[1]


def _is_number(tag: str) -> bool:
    """Whether the standard says that a tag holds one number."""
    try:
        from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
    except ImportError:
        raise ImportError("DICOM files need the package pydicom: pip install 'fastshard[dicom]'") from None

    number = tag_for_keyword(tag)
    if number is None:
        raise ValueError(f"tags: {tag!r} is no keyword of DICOM; expected such as 'PatientID'")
    return dictionary_VR(number) in _NUMBERS and dictionary_VM(number) == "1"


def _value(value: Any, is_number: bool) -> Any:
    """A number or NaN, or text."""
    if is_number:
        return math.nan if value is None or value == "" else float(value)
    if value is None:
        return ""
    several = not isinstance(value, (str, bytes)) and hasattr(value, "__iter__") and not hasattr(value, "components")
    return "\\".join(map(str, value)) if several else str(value)


def _scale(slope: float, intercept: float) -> dict[str, float]:
    return {"slope": slope, "intercept": intercept}


def _stored(path: Path, header: Any, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, float]]:
    """The stored values moved to where 16 bits without a sign can hold them, and what turns them into rescaled ones."""
    import numpy as np

    if values.dtype.kind not in "iu" or values.itemsize > 2 or "ModalityLUTSequence" in header:
        raise SourceError(f"{path}: {values.dtype} with a table or of more than 16 bits; window='stored' can't hold it")
    bits = int(header.BitsStored)
    low = -(1 << (bits - 1)) if values.dtype.kind == "i" else 0
    high = low + (1 << bits) - 1
    if values.min() < low or values.max() > high:
        raise SourceError(f"{path}: holds {values.min()} to {values.max()}, more than its {bits} bits stored")
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    pixels = (values.astype(np.int32) - low).astype(np.uint16)
    intercept += slope * low
    if header.PhotometricInterpretation == "MONOCHROME1":
        return np.uint16(high - low) - pixels, _scale(-slope, intercept + slope * (high - low))
    return pixels, _scale(slope, intercept)


def _colors(path: Path, header: Any, values: NDArray[Any]) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_color_lut

    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        values = apply_color_lut(values, header)
    if values.dtype.name not in ("uint8", "uint16") or values.ndim != 3 or values.shape[2] != 3:
        kind = header.get("PhotometricInterpretation")
        raise SourceError(
            f"{path}: {kind} as {values.dtype} of shape {values.shape}; expected gray, or RGB of 8 or 16 bits"
        )
    return values


def _whole(shares: NDArray[np.float64], bits: int) -> NDArray[Any]:
    import numpy as np

    whole: NDArray[Any] = np.rint(shares * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    return whole


def _as_the_file_says(path: Path, header: Any, values: NDArray[Any]) -> NDArray[np.float64]:
    """By the file's table or first window; 8 bits without one stay as they are."""
    import numpy as np
    from pydicom.pixels.processing import apply_voi

    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        # Tables are for whole numbers; rescaling makes floats of them.
        shown = apply_voi(np.rint(values).astype(np.int64), header)
        return np.asarray(shown / (2**bits - 1), np.float64)
    center, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None:
        kind = str(header.get("VOILUTFunction") or "LINEAR").upper()
        if kind not in _LEAST_WIDTH or width < _LEAST_WIDTH[kind] or not math.isfinite(center + width):
            raise SourceError(f"{path}: a window of width {width} and function {kind}, which the standard doesn't know")
        return _in_window(values, center, width, kind)
    if values.dtype == np.uint8:
        return np.asarray(values / 255)
    wanted = "expected one, or window='auto' or window=(center, width)"
    raise SourceError(f"{path}: says no window for its {values.dtype} values, {wanted}")


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return float(value[0]) if len(value) else None
    return float(value)


# The least width of a window by function; sigmoids and exact ones must be wider than nothing.
_LEAST_WIDTH = {"LINEAR": 1.0, "LINEAR_EXACT": 1e-9, "SIGMOID": 1e-9}


def _in_window(values: NDArray[Any], center: float, width: float, kind: str) -> NDArray[np.float64]:
    """Shares of white as the standard's part 3, C.11.2.1.2 and C.11.2.1.3, computes them."""
    import numpy as np

    distance = values.astype(np.float64) - center
    if kind == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * distance / width, -700, 700))))
    if kind == "LINEAR":
        distance, width = distance + 0.5, width - 1
    if width == 0:
        return (distance > 0).astype(np.float64)
    return np.clip(distance / width + 0.5, 0, 1)
