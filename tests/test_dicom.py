"""DICOM files as a source, against what pydicom makes of them; all files are those that it ships, or made of these."""

import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tensorflow as tf
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_rescale, apply_voi, apply_windowing
from pydicom.pixels.utils import pixel_array
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli.app import app

GRAY = ["693_J2KI.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "dicomdirtests/77654033/CR1/6154"]


def shipped(name):
    path = get_testdata_file(name, download=False)
    assert path is not None, name
    return path


def sample(path, **options):
    (found,) = fs.DicomFiles([path], **options)
    return found


def pixels(found):
    return np.asarray(Image.open(io.BytesIO(found["image"])))


def windowed(path, most, change=None):
    """What pydicom shows of a file, on a scale from 0 to ``most``."""
    header = pydicom.dcmread(path)
    if change is not None:
        change(header)
    low, high = (-(2 ** (header.BitsStored - 1)), 2 ** (header.BitsStored - 1) - 1)
    if not header.PixelRepresentation:
        low, high = 0, 2**header.BitsStored - 1
    slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    shown = apply_windowing(apply_rescale(pixel_array(header), header), header)
    shares = (shown - (low * slope + intercept)) / (high - low) / slope
    return (1 - shares if header.PhotometricInterpretation == "MONOCHROME1" else shares) * most


def changed(tmp_path, name, **values):
    header = pydicom.dcmread(shipped(name))
    for tag, value in values.items():
        setattr(header, tag, value)
    header.save_as(tmp_path / "changed.dcm")
    return tmp_path / "changed.dcm"


@pytest.mark.parametrize("name", GRAY)
@pytest.mark.parametrize("bits", [8, 16])
def test_windows_of_files_are_those_that_pydicom_applies(name, bits):
    path = shipped(name)
    found = pixels(sample(path, bits=bits))
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_allclose(found, windowed(path, 2**bits - 1), atol=0.501)


@pytest.mark.parametrize("window", [(40, 400), (-600, 1500), (1000.5, 1), (0, 2.5)])
def test_windows_that_are_given(window):
    path = shipped("CT_small.dcm")

    def change(header):
        header.WindowCenter, header.WindowWidth = window

    np.testing.assert_allclose(pixels(sample(path, window=window)), windowed(path, 255, change), atol=0.501)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_functions_of_windows(function, tmp_path):
    path = changed(tmp_path, "MR_small.dcm", VOILUTFunction=function)
    np.testing.assert_allclose(pixels(sample(path)), windowed(path, 255), atol=0.501)


def test_tables_of_files(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4096, -1024, 12]
    table.LUTData = (np.arange(4096) ** 2 // 4096).astype(np.uint16).tolist()
    header = pydicom.dcmread(shipped("CT_small.dcm"))
    table["LUTDescriptor"].VR, table["LUTData"].VR = "SS", "US"
    header.VOILUTSequence = [table]
    header.save_as(tmp_path / "table.dcm")
    header = pydicom.dcmread(tmp_path / "table.dcm")
    rescaled = apply_rescale(pixel_array(header), header).astype(np.int64)
    wanted = apply_voi(rescaled, header) / 4095 * 255
    np.testing.assert_allclose(pixels(sample(tmp_path / "table.dcm")), wanted, atol=0.501)


@pytest.mark.parametrize("name", ["CT_small.dcm", "rtdose_1frame.dcm", "liver_1frame.dcm"])
def test_auto_is_the_range_of_the_values(name):
    path = shipped(name)
    header = pydicom.dcmread(path)
    values = apply_rescale(pixel_array(header), header).astype(np.float64)
    wanted = (values - values.min()) / (values.max() - values.min()) * 255
    np.testing.assert_allclose(pixels(sample(path, window="auto")), wanted, atol=0.501)


@pytest.mark.parametrize("name", [*GRAY, "CT_small.dcm"])
def test_stored_values_are_rescaled_by_two_fields(name):
    path = shipped(name)
    found = sample(path, window="stored")
    header = pydicom.dcmread(path)
    shown = pixels(found)
    assert shown.dtype == np.uint16
    wanted = apply_rescale(pixel_array(header), header)
    np.testing.assert_allclose(shown * found["slope"] + found["intercept"], wanted, rtol=1e-12, atol=1e-9)


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path):
    path = changed(tmp_path, "SC_rgb_small_odd.dcm", PhotometricInterpretation="MONOCHROME2", SamplesPerPixel=1)
    header = pydicom.dcmread(path)
    header.Columns = 9
    header.save_as(path)
    np.testing.assert_array_equal(pixels(sample(path)), pixel_array(header))


@pytest.mark.parametrize(
    "name", ["examples_rgb_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle_16bit.dcm", "examples_palette.dcm"]
)
@pytest.mark.parametrize("window", ["file", "stored"])
def test_colours_stay(name, window):
    header = pydicom.dcmread(shipped(name))
    wanted = pixel_array(header)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        wanted = apply_color_lut(wanted, header)
    found = sample(shipped(name), window=window)
    # Pillow reads no colours of 16 bits.
    np.testing.assert_array_equal(tf.io.decode_png(found["image"], dtype=wanted.dtype).numpy(), wanted)


def test_frames_are_refused_or_become_samples():
    path = shipped("SC_rgb_rle_2frame.dcm")
    with pytest.raises(fs.SourceError, match="2 frames"):
        sample(path)
    found = list(fs.DicomFiles([path], frames="split"))
    assert [one["frame"] for one in found] == [0, 1]
    for frame, one in enumerate(found):
        np.testing.assert_array_equal(pixels(one), pixel_array(path, index=frame))


def test_tags_are_fields(tmp_path):
    header = pydicom.dcmread(shipped("CT_small.dcm"))
    tags = ["PatientID", "Modality", "SliceThickness", "ImagePositionPatient", "PatientComments", "KVP", "PatientName"]
    del header.KVP
    header.save_as(tmp_path / "a.dcm")
    found = sample(tmp_path / "a.dcm", window="auto", tags=tags)
    assert found["PatientID"] == header.PatientID
    assert found["Modality"] == "CT"
    assert found["SliceThickness"] == float(header.SliceThickness)
    assert found["ImagePositionPatient"].split("\\") == [str(one) for one in header.ImagePositionPatient]
    assert found["PatientName"] == str(header.PatientName)
    assert found["PatientComments"] == ""
    assert np.isnan(found["KVP"])


@pytest.fixture
def scans(tmp_path):
    """A folder of files in folders, one of them with another suffix."""
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    for number, name in enumerate(["MR_small.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm"]):
        shutil.copy(shipped(name), tmp_path / "scans" / "deep" / f"{number}.DCM")
    (tmp_path / "scans" / "notes.txt").write_text("no scan")
    shutil.copy(shipped("MR_small.dcm"), tmp_path / "scans" / "last.dicom")
    return tmp_path / "scans"


def test_a_folder_is_packed(scans, tmp_path):
    report = fs.pack(scans, tmp_path / "ds")
    ds = fs.open(tmp_path / "ds")
    assert report.rows == len(ds) == len(fs.DicomFiles(scans)) == 4
    assert ds.column("file").tolist() == ["deep/0.DCM", "deep/1.DCM", "deep/2.DCM", "last.dicom"]
    for i in range(4):
        wanted = windowed(scans / ds[i]["file"], 255)
        np.testing.assert_allclose(ds[i]["image"][..., 0], wanted, atol=0.501)
    assert len(set(ds.column("PatientID"))) == 2
    train, test = ds.split([0.5, 0.5], group="PatientID")
    assert set(train.column("PatientID")).isdisjoint(test.column("PatientID"))
    again = fs.pack(sorted(scans.rglob("*.DCM")), tmp_path / "list", window=(40, 400))
    assert again.rows == 3


def test_the_command_line_takes_a_window(scans, tmp_path):
    run = CliRunner().invoke
    assert run(app, ["pack", str(scans), str(tmp_path / "ds"), "--window", "600,1600", "--quiet"]).exit_code == 0
    wanted = windowed(scans / "last.dicom", 255)
    np.testing.assert_allclose(fs.open(tmp_path / "ds")[3]["image"][..., 0], wanted, atol=0.501)
    result = run(app, ["pack", str(scans), str(tmp_path / "other"), "--window", "bone"])
    assert result.exit_code == 1
    assert "--window bone: expected one of" in result.output
    assert not (tmp_path / "other").exists()


def truncated(path):
    data = path.read_bytes()
    path.write_bytes(data[:-1000])


def short_of_pixels(path):
    path.write_bytes(Path(shipped("MR_small.dcm")).read_bytes()[:-1000])


def no_dicom(path):
    path.write_bytes(b"\x89PNG" + bytes(200))


def empty(path):
    path.write_bytes(b"")


def without_pixels(path):
    shutil.copy(shipped("rtplan.dcm"), path)


def deflated(path):
    shutil.copy(shipped("image_dfl.dcm"), path)


def without_window(path):
    shutil.copy(shipped("CT_small.dcm"), path)


def of_no_function(path):
    header = pydicom.dcmread(path)
    header.VOILUTFunction = "CUBIC"
    header.save_as(path)


def of_no_frames(path):
    header = pydicom.dcmread(path)
    header.NumberOfFrames = -1
    header.save_as(path)


def of_endless_values(path):
    header = pydicom.dcmread(path)
    header.RescaleSlope, header.RescaleIntercept = "inf", 0
    header.save_as(path)


def of_no_width(path):
    header = pydicom.dcmread(path)
    header.WindowWidth = 0
    header.save_as(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncated, "holds no image, or ends too early"),
        (short_of_pixels, "can't be read as DICOM"),
        (no_dicom, "no DICOM file"),
        (empty, "no DICOM file"),
        (without_pixels, "holds no image"),
        (deflated, "deflated as a whole"),
        (without_window, "says no window"),
        (of_no_function, "function CUBIC"),
        (of_no_width, "a window of width 0"),
        (of_no_frames, "-1 frames"),
        (of_endless_values, "no finite numbers|can't be read"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_what_can_not_be_packed_is_named(scans, tmp_path, spoil, message):
    spoil(scans / "deep" / "1.DCM")
    with pytest.raises(fs.SourceError, match=f"1.DCM: .*({message})"):
        fs.pack(scans, tmp_path / "ds")
    assert not (tmp_path / "ds").exists()
    report = fs.pack(scans, tmp_path / "ds", on_error="skip")
    assert [(skipped.row, skipped.path) for skipped in report.skipped] == [(1, "deep/1.DCM")]
    assert re.search(message, report.skipped[0].error)
    assert fs.open(tmp_path / "ds").column("file").tolist() == ["deep/0.DCM", "deep/2.DCM", "last.dicom"]
    assert report.rows == 3


def test_a_folder_of_nothing_that_can_be_packed(tmp_path):
    (tmp_path / "scans").mkdir()
    no_dicom(tmp_path / "scans" / "only.dcm")
    with pytest.raises(fs.SourceError, match=r"the first that was skipped: only\.dcm"):
        fs.pack(tmp_path / "scans", tmp_path / "ds", on_error="skip")


def test_declared_sizes_are_bounded():
    with pytest.raises(fs.SourceError, match="more than max_pixels=1,000"):
        sample(shipped("MR_small.dcm"), max_pixels=1000)


def test_stored_values_that_16_bits_can_not_hold():
    with pytest.raises(fs.SourceError, match="more than 16 bits"):
        sample(shipped("rtdose_1frame.dcm"), window="stored")


def test_other_files_and_links_are_refused(scans, tmp_path, photo_folder):
    (tmp_path / "elsewhere.dcm").write_bytes(b"")
    link = scans / "link.dcm"
    link.symlink_to(tmp_path / "elsewhere.dcm")
    with pytest.raises(fs.SourceError, match="leads out of the source"):
        fs.DicomFiles(scans)
    link.unlink()
    shutil.copy(next(photo_folder.rglob("*.jpg")), scans / "photo.jpg")
    with pytest.raises(fs.SourceError, match="4 DICOM files and 1 other images"):
        fs.DicomFiles(scans)
    with pytest.raises(fs.SourceError, match="0 DICOM files and 40 other images"):
        fs.DicomFiles(photo_folder)
    with pytest.raises(FileNotFoundError):
        fs.DicomFiles(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "bone"}, "window='bone'"),
        ({"window": (1, 2, 3)}, r"window=\(1, 2, 3\)"),
        ({"window": (40, 0)}, "a width of at least 1"),
        ({"window": (40, float("nan"))}, "finite"),
        ({"bits": 12}, "bits=12"),
        ({"frames": "first"}, "frames='first'"),
        ({"tags": ["Nonsense"]}, "'Nonsense' is no keyword"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fs.DicomFiles([shipped("MR_small.dcm")], **options)


def test_a_window_needs_dicom_files(photo_folder, tmp_path):
    with pytest.raises(ValueError, match="window='auto' needs"):
        fs.pack(photo_folder, tmp_path / "ds", window="auto")


def test_without_pydicom_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("pydicom")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pydicom.datadict", None)
    with pytest.raises(ImportError, match=r"fastshard\[dicom\]"):
        fs.DicomFiles(["a.dcm"])
