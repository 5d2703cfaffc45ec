"""Audio: packed from every source, decoded as libsndfile does, windows, resampling and spectrograms as torchaudio's."""

import io
import itertools
import json
import re
import struct
import wave

import datasets
import numpy as np
import pyarrow.compute as pc
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli
from sounds import FORMATS, decode, encode, signal

# Decoders of lossy formats round differently.
TOLERANCE = dict.fromkeys(FORMATS, 0.0) | {"ogg": 1e-5, "mp3": 2e-4, "ulaw": 1e-4}
RATES = {"wav": 8000, "flac": 44100, "ogg": 22050, "mp3": 32000}


@pytest.fixture(scope="module")
def torchaudio():
    """Only functions that are plain torch are used, so that another build of CUDA than torch's is of no matter."""
    cuda, torch.version.cuda = torch.version.cuda, None
    try:
        return pytest.importorskip("torchaudio")
    finally:
        torch.version.cuda = cuda


@pytest.fixture(scope="module")
def files():
    """Files of every kind, of 1.5 to 3.5 seconds, mono and stereo."""
    return {
        (kind, channels): encode(signal(1.5 + at / 8 + channels / 3, 44100, channels, at), 44100, kind)
        for at, kind in enumerate(FORMATS)
        for channels in (1, 2)
    }


@pytest.fixture(scope="module")
def mixed(files, tmp_path_factory):
    """All of them, and what they should be decoded to."""
    path = tmp_path_factory.mktemp("audio") / "ds"
    report = fs.pack(
        ({"number": number, "audio": data} for number, data in enumerate(files.values())), path, check="decode"
    )
    assert report.rows == len(files)
    return fs.open(path)


def pack(tmp_path, *encoded, **options):
    fs.pack(({"number": number, "audio": one} for number, one in enumerate(encoded)), tmp_path / "ds", **options)
    return fs.open(tmp_path / "ds")


def whole(ds, *steps):
    """Every sample of a dataset, decoded alone."""
    loader = fs.Loader(ds, 1, transforms={"audio": list(steps)})
    return [batch["audio"].reshape(-1) for batch in loader]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", FORMATS)
def test_samples_are_those_of_libsndfile(mixed, files, kind, channels):
    row = list(files).index((kind, channels))
    expected, sample_rate = decode(files[kind, channels])
    sample = mixed[row]
    assert sample["audio_sample_rate"] == sample_rate == 44100
    assert sample["audio"].dtype == np.float32
    assert sample["audio"].shape == expected.shape
    assert np.abs(sample["audio"] - expected).max() <= TOLERANCE[kind]


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac"])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize("quality", [0.0, 0.9])
def test_windows_are_slices_of_the_whole(kind, sample_rate, quality, tmp_path):
    """At low bit rates and high compression, MP3 borrows most bits from frames long before."""
    samples = signal(4, sample_rate, 2)
    samples[: sample_rate // 2] *= 0.001  # what is left over there, the next frames may use
    data = encode(samples, sample_rate, kind, compression_level=quality)
    ds = pack(tmp_path, data)
    full = ds[0]["audio"]
    assert full.shape[1] == decode(data)[0].shape[1]
    for start in [0, 1, 575, 576, 577, 1151, 1153, 5000, 12345, full.shape[1] - 700, full.shape[1] - 1]:
        (batch,) = fs.Loader(ds, 1, transforms={"audio": fs.Window(frames=1500, start=start)})
        cut = full[:, start : start + 1500]
        expected = np.zeros((1, 2, 1500), np.float32)
        expected[0, :, : cut.shape[1]] = cut
        np.testing.assert_array_equal(batch["audio"], expected)


def ogg_checksum(page):
    """Of Ogg: CRC-32 without reflection, its own bytes as zeros."""
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ (0x104C11DB7 if value >> 31 else 0)
    return struct.pack("<I", value)


def with_other_packets(data):
    """A Vorbis file with noise for the packets on the pages in its middle, and right checksums."""
    starts = [*(found.start() for found in re.finditer(b"OggS", data)), len(data)]
    pages = [bytearray(data[start:end]) for start, end in itertools.pairwise(starts)]
    assert ogg_checksum(pages[3]) == pages[3][22:26]
    random = np.random.default_rng(0)
    for page in pages[3:-3]:
        body = 27 + page[26]
        noise = bytearray(random.bytes(len(page) - body))
        noise[0] &= 0xFE  # still a packet of audio
        page[body:] = noise
        page[22:26] = ogg_checksum(page)
    return b"".join(map(bytes, pages))


def test_files_of_vorbis_dont_know_of_each_other(tmp_path):
    """A thread keeps decoders from one file to the next, for files with the same codebooks."""
    kinds = [(44100, 1, 0.5), (44100, 2, 0.5), (22050, 1, 0.3), (44100, 1, 0.9), (16000, 2, 0.1), (8000, 1, 0.5)]
    files = [
        encode(signal(4, rate, channels, seed), rate, "ogg", compression_level=quality)
        for seed in range(3)
        for rate, channels, quality in kinds
    ]
    broken = with_other_packets(files[0])
    files[6:6] = [broken, files[0]]
    ds = pack(tmp_path, *files)
    steps = [fs.Mono(), fs.CenterWindow(frames=12_000)]
    options = {"transforms": {"audio": steps}, "on_error": "skip"}
    # Each iterator has threads of its own.
    alone = {}
    for row in range(len(ds)):
        for batch in fs.Loader(ds[row : row + 1], 1, **options):
            alone[row] = batch["audio"][0]
    assert len(alone) >= len(files) - 1
    loader = fs.Loader(ds, 1, shuffle=True, num_threads=1, **options)
    seen = 0
    for _ in range(4):
        for batch in loader:
            np.testing.assert_array_equal(batch["audio"][0], alone[int(batch["number"][0])])
            seen += 1
    assert seen == 4 * len(alone)
    for row, file in enumerate(files):
        if file != broken:
            middle = decode(file)[0].mean(axis=0)
            start = (len(middle) - 12_000) // 2
            np.testing.assert_allclose(alone[row], middle[start : start + 12_000], atol=2e-5)


def test_windows_of_wav_files(mixed, files):
    for row in (number for number, (kind, _) in enumerate(files) if kind.startswith("wav")):
        full = mixed[row]["audio"]
        for start in (0, 1000, 40_000):
            (batch,) = fs.Loader(
                mixed[row : row + 1], 1, transforms={"audio": [fs.Mono(), fs.Window(frames=3000, start=start)]}
            )
            expected = full[:, start : start + 3000].mean(axis=0)
            np.testing.assert_allclose(batch["audio"][0], expected, atol=1e-7)


def test_mp3_without_a_tag_of_its_encoder_and_with_others_around_it(tmp_path):
    """Without LAME's tag nothing says what the encoder added, so all of it stays; ID3 and junk are passed over."""
    data = encode(signal(1, 44100), 44100, "mp3")
    assert b"Info" in data[:200] or b"Xing" in data[:200]
    bare = data[data.index(data[:2], 4) :]  # from the second frame on
    id3 = b"ID3\x04\x00\x00\x00\x00\x02\x00" + b"\xff\xfb" * 128
    ds = pack(tmp_path, data, bare, id3 + data, bare + b"TAG" + bytes(125))
    lengths = [ds[row]["audio"].shape[1] for row in range(4)]
    assert lengths[0] == lengths[2] == 44100
    assert lengths[1] == lengths[3] > 44100
    assert lengths[1] % 576 == 0
    np.testing.assert_array_equal(ds[0]["audio"], ds[2]["audio"])
    theirs = decode(bare)[0]  # as long as it estimates
    shared = min(theirs.shape[1], lengths[1])
    assert shared > 10_000
    # The first frames lack the bits that they borrow, and decoders make of that what they like.
    np.testing.assert_allclose(ds[1]["audio"][:, 4000:shared], theirs[:, 4000:shared], atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(44100, 16000), (16000, 44100), (22050, 24000), (8000, 16000), (48000, 8000)])
def test_resampling_is_torchaudios(old, new, tmp_path, torchaudio):
    samples = signal(1.3, old, 2)
    ds = pack(tmp_path, encode(samples, old, "wavf"))
    (batch,) = fs.Loader(ds, 1, transforms={"audio": fs.Resample(new)})
    # In double precision: in single, torchaudio's own filters are off by 1e-5.
    expected = torchaudio.functional.resample(torch.from_numpy(samples.T.copy()).double(), old, new).numpy()
    assert batch["audio"].shape == (1, *expected.shape)
    assert np.abs(batch["audio"][0] - expected).max() < 2e-6
    (batch,) = fs.Loader(ds, 1, transforms={"audio": fs.Resample(new, lowpass_filter_width=20, rolloff=0.9)})
    expected = torchaudio.functional.resample(
        torch.from_numpy(samples.T.copy()).double(), old, new, lowpass_filter_width=20, rolloff=0.9
    ).numpy()
    assert np.abs(batch["audio"][0] - expected).max() < 2e-6


def test_resampled_windows_are_slices_of_the_whole(mixed):
    full = whole(mixed, fs.Mono(), fs.Resample(16000))
    for start in (0, 7, 4321, 20_000):
        steps = [fs.Mono(), fs.Resample(16000), fs.Window(frames=2000, start=start)]
        loader = fs.Loader(mixed, len(mixed), transforms={"audio": steps})
        (batch,) = loader
        assert batch["audio"].shape == (len(mixed), 2000)
        for found, expected in zip(batch["audio"], full, strict=True):
            cut = expected[start : start + 2000]
            np.testing.assert_array_equal(found[: len(cut)], cut)
            assert not found[len(cut) :].any()


@pytest.mark.parametrize(
    "options",
    [
        {"n_fft": 400, "hop_length": 160, "n_mels": 40},
        {"n_fft": 512, "win_length": 400, "hop_length": 128, "n_mels": 64, "f_min": 50.0, "f_max": 7000.0},
        {"n_fft": 1024, "hop_length": 256, "n_mels": 80, "mel_scale": "slaney", "norm": "slaney"},
        {"n_fft": 401, "hop_length": 100, "n_mels": 20, "power": 1, "center": False},
    ],
)
def test_spectrograms_are_torchaudios(options, tmp_path, torchaudio):
    samples = signal(1, 16000, 2)
    ds = pack(tmp_path, encode(samples, 16000, "wavf"))
    reference = torchaudio.transforms.MelSpectrogram(16000, **options)
    mel = reference(torch.from_numpy(samples.T.copy())).numpy()
    for log, expected in {
        None: mel,
        "ln": np.log(np.maximum(mel, 1e-5)),
        "log10": np.log10(np.maximum(mel, 1e-5)),
        "db": torchaudio.transforms.AmplitudeToDB(top_db=None)(torch.from_numpy(mel)).numpy(),
    }.items():
        floor = 1e-10 if log == "db" else 1e-5
        step = fs.LogMel(**options, log=log, floor=floor)
        (batch,) = fs.Loader(ds, 1, transforms={"audio": step})
        assert batch["audio"].shape == (1, *expected.shape)
        np.testing.assert_allclose(batch["audio"][0], expected, rtol=2e-4, atol=2e-4 if log else 1e-6)
    normalised = fs.LogMel(**options, mean=[1.5], std=2)
    (batch,) = fs.Loader(ds, 1, transforms={"audio": normalised})
    (plain,) = fs.Loader(ds, 1, transforms={"audio": fs.LogMel(**options)})
    np.testing.assert_allclose(batch["audio"], (plain["audio"] - 1.5) / 2, rtol=1e-6, atol=1e-6)


def test_spectrograms_of_windows(mixed):
    steps = [fs.Mono(), fs.Resample(16000), fs.RandomWindow(seconds=1)]
    (waves,) = fs.Loader(mixed, len(mixed), shuffle=True, seed=5, transforms={"audio": steps})
    (mels,) = fs.Loader(mixed, len(mixed), shuffle=True, seed=5, transforms={"audio": [*steps, fs.LogMel()]})
    assert waves["audio"].shape == (len(mixed), 16000)
    assert mels["audio"].shape == (len(mixed), 80, 101)
    assert waves["number"].tolist() == mels["number"].tolist()
    assert np.isfinite(mels["audio"]).all()


def test_random_windows_are_drawn_by_sample_and_epoch(mixed):
    steps = {"audio": [fs.Mono(), fs.RandomWindow(seconds=0.5)]}

    def epoch(number, **options):
        loader = fs.Loader(mixed, 4, shuffle=True, transforms=steps, **{"seed": 3, **options})
        batches = list(loader.iterate(epoch=number))
        order = np.argsort(np.concatenate([batch["number"] for batch in batches]))
        return np.concatenate([batch["audio"] for batch in batches])[order]

    first = epoch(0)
    np.testing.assert_array_equal(first, epoch(0, num_threads=3, prefetch=1))
    np.testing.assert_array_equal(first, epoch(0, num_threads=1))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(first, epoch(1), strict=True))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(first, epoch(0, seed=4), strict=True))
    for row, cut in enumerate(first):
        full = mixed[row]["audio"].mean(axis=0)
        places = np.flatnonzero(np.abs(full[: len(full) - len(cut) + 1] - cut[0]) < 1e-6)
        assert any(np.abs(full[at : at + len(cut)] - cut).max() < 1e-6 for at in places)


def test_random_windows_lie_everywhere(tmp_path):
    ramp = (np.arange(1000, dtype=np.float32) / 1000)[:, None]
    ds = pack(tmp_path, encode(ramp, 8000, "wavf"))
    loader = fs.Loader(ds, 1, transforms={"audio": [fs.Mono(), fs.RandomWindow(frames=100)]})
    starts = [round(float(next(iter(loader.iterate(epoch=epoch)))["audio"][0, 0]) * 1000) for epoch in range(600)]
    assert min(starts) < 20
    assert 880 < max(starts) <= 900
    assert np.abs(np.histogram(starts, 9, (0, 901))[0] - 600 / 9).max() < 40


def test_shorter_samples_are_filled_up_with_silence(tmp_path):
    samples = signal(0.1, 8000)
    ds = pack(tmp_path, encode(samples, 8000, "wavf"))
    for step, start in {
        fs.RandomWindow(seconds=0.2): 0,
        fs.Window(seconds=0.2): 0,
        fs.CenterWindow(seconds=0.2): 400,
        fs.CenterWindow(frames=1601): 400,
        fs.Window(frames=1600, start=790): -790,
        fs.Window(frames=1600, start=9999): -9999,
    }.items():
        (batch,) = fs.Loader(ds, 1, transforms={"audio": [fs.Mono(), step]})
        found = batch["audio"][0]
        expected = np.zeros(len(found) + 20_000, np.float32)
        expected[10_000 + start : 10_000 + start + 800] = samples[:, 0]
        np.testing.assert_array_equal(found, expected[10_000 : 10_000 + len(found)])
    (batch,) = fs.Loader(ds, 1, transforms={"audio": [fs.Mono(), fs.CenterWindow(frames=101)]})
    np.testing.assert_array_equal(batch["audio"][0], samples[349:450, 0])


def test_samples_of_all_lengths(mixed):
    full = whole(mixed, fs.Mono())
    assert len({len(one) for one in full}) > 10
    for batch in fs.Loader(mixed, 6, shuffle=True, transforms={"audio": fs.Mono()}, num_threads=3):
        parts = np.split(batch["audio"], batch["audio_offsets"][1:-1])
        for number, part in zip(batch["number"], parts, strict=True):
            np.testing.assert_array_equal(part, full[number])
    pad = fs.PadSequence(-2.5, multiple_of=64)
    loader = fs.Loader(
        mixed, 6, shuffle=True, transforms={"audio": [fs.Mono(), fs.Truncate(90_000), pad]}, buckets="audio"
    )
    spans = []
    for batch in loader:
        assert batch["audio"].shape == batch["audio_mask"].shape
        spans.append(np.ptp(batch["audio_mask"].sum(axis=1)))
        for number, found, mask in zip(batch["number"], batch["audio"], batch["audio_mask"], strict=True):
            np.testing.assert_array_equal(found[mask], full[number][:90_000])
            assert (found[~mask] == -2.5).all()
    assert max(spans) < 45_000


def test_files_of_one_length_need_no_window(tmp_path):
    ds = pack(tmp_path, *(encode(signal(0.5, 8000, 2, seed), 8000, "flac") for seed in range(4)))
    (batch,) = fs.Loader(ds, 4, transforms={"audio": [fs.Mono(), fs.PadSequence()]})
    assert batch["audio"].shape == (4, 4000)
    assert batch["audio_mask"].all()
    loader = fs.Loader(ds, 4)
    assert loader.batch_spec["audio"] == fs.BatchField((4, 2, 4000), "float32")
    (batch,) = loader
    np.testing.assert_array_equal(batch["audio"], [ds[row]["audio"] for row in range(4)])


def test_flac_that_does_not_say_how_long_it_is(tmp_path):
    sound = encode(signal(1, 8000), 8000, "flac")
    data = bytearray(sound)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    ds = pack(tmp_path, data)
    assert ds.column("_audio_frames").tolist() == [8000]
    np.testing.assert_array_equal(ds[0]["audio"], decode(sound)[0])


def test_folder(tmp_path):
    expected = {}
    for number, (kind, sample_rate) in enumerate(RATES.items()):
        for label in ("cat", "dog"):
            path = tmp_path / "src" / label / f"{number}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(signal(0.5, sample_rate, 1 + number % 2, number), sample_rate, kind))
            expected[f"{label}/{number}.{kind}"] = path.read_bytes(), label
    (tmp_path / "src" / "notes.txt").write_text("x")
    report = fs.pack(tmp_path / "src", tmp_path / "ds", check="decode")
    assert report.ignored_files == ("notes.txt",)
    ds = fs.open(tmp_path / "ds")
    assert [str(field) for field in ds.fields] == ["audio: audio float32", "label: class int64 (2 classes)"]
    assert ds.manifest["version"] == 4
    for row in range(len(ds)):
        data, path = ds.encoded(row, "audio")
        assert (data, ds.class_names[ds[row]["label"]]) == expected.pop(path)
    assert not expected
    assert sorted(set(ds.column("_audio_sample_rate").tolist())) == sorted(RATES.values())
    assert set(ds.column("_audio_channels").tolist()) == {1, 2}
    np.testing.assert_array_equal(ds.column("_audio_frames"), [ds[row]["audio"].shape[1] for row in range(len(ds))])
    assert ds.manifest["audio_ranges"]["audio"] == {
        "min_sample_rate": 8000,
        "max_sample_rate": 44100,
        "min_channels": 1,
        "max_channels": 2,
        "min_frames": 4000,
        "max_frames": 22050,
    }
    assert ds.verify() == []
    assert len(ds.filter(pc.field("_audio_sample_rate") > 10_000)) == 6


def test_folder_of_images_and_audio(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    for name in ("a.wav", "b.wav"):
        (src / name).write_bytes(encode(signal(0.1, 8000), 8000))
    Image.new("RGB", (8, 8)).save(src / "cover.png")
    with pytest.raises(fs.SourceError, match=r"1 images and 2 audio files, expected one kind: cover\.png"):
        fs.pack(src, tmp_path / "ds")
    report = fs.pack(src, tmp_path / "ds", on_error="skip")
    assert report.rows == 2
    assert report.ignored_files == ("cover.png",)
    with pytest.raises(ValueError, match="audio is stored as it came"):
        fs.pack(src, tmp_path / "other", on_error="skip", resize=4)


def test_csv(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    for number in range(4):
        (src / f"{number}.wav").write_bytes(encode(signal(0.1, 8000, seed=number), 8000))
    (src / "words.csv").write_text("path,word,label\n0.wav,yes,a\n2.wav,no,b\n3.wav,on,a\n")
    report = fs.pack(src, tmp_path / "ds", csv="words.csv", shuffle=False)
    assert report.unused_files == ("1.wav",)
    ds = fs.open(tmp_path / "ds")
    assert [sample["word"] for sample in ds] == ["yes", "no", "on"]
    assert [ds.encoded(row, "audio")[1] for row in range(3)] == ["0.wav", "2.wav", "3.wav"]
    Image.new("RGB", (8, 8)).save(src / "x.png")
    (src / "words.csv").write_text("path,word\n0.wav,yes\nx.png,no\n")
    with pytest.raises(fs.SourceError, match=r"expected one kind: 'x\.png' \(row 2\)"):
        fs.pack(src, tmp_path / "other", csv="words.csv")


def test_repacking_and_views(mixed, tmp_path):
    fs.pack(mixed[3:9], tmp_path / "part")
    part = fs.open(tmp_path / "part")
    assert [part.encoded(row, "audio") for row in range(6)] == [mixed.encoded(row, "audio") for row in range(3, 9)]
    both = fs.concat([part, mixed])
    np.testing.assert_array_equal(both[6]["audio"], mixed[0]["audio"])
    assert both.manifest["audio_ranges"] == mixed.manifest["audio_ranges"]


def test_hugging_face(mixed):
    found = mixed.to_hf()
    assert found.features["audio"] == datasets.Audio()
    plain = found.cast_column("audio", datasets.Audio(decode=False))
    for row in range(len(mixed)):
        data, path = mixed.encoded(row, "audio")
        assert plain[row]["audio"] == {"bytes": data, "path": path}
    metadata = json.loads(mixed.schema.metadata[b"huggingface"])
    assert metadata["info"]["features"]["audio"] == {"_type": "Audio"}


def test_torch(mixed):
    loader = fs.Loader(mixed, 4, transforms={"audio": [fs.Mono(), fs.RandomWindow(frames=1000)]}, drop_last=True)
    batches = list(torch.utils.data.DataLoader(fs.torch.ShardDataset(loader), batch_size=None, num_workers=2))
    assert all(batch["audio"].shape == (4, 1000) for batch in batches)
    assert batches[0]["audio"].dtype == torch.float32
    ragged = next(iter(fs.torch.ShardDataset(fs.Loader(mixed, 4, transforms={"audio": fs.Mono()}))))
    nested = torch.nested.nested_tensor_from_jagged(ragged["audio"], ragged["audio_offsets"])
    np.testing.assert_array_equal(nested.unbind()[2], mixed[2]["audio"].mean(axis=0))


def test_tensorflow(mixed):
    loader = fs.Loader(mixed, 4, transforms={"audio": [fs.Mono(), fs.Window(frames=1000), fs.LogMel(n_mels=8)]})
    data = fs.tensorflow.dataset(loader)
    assert data.element_spec["audio"].shape.as_list()[1:] == [8, 7]
    (expected, *_) = loader
    np.testing.assert_array_equal(next(iter(data))["audio"], expected["audio"])


def test_inspect_and_preview(mixed, tmp_path):
    runner = CliRunner()
    shown = json.loads(runner.invoke(_cli.app, ["inspect", str(mixed.path), "--json"]).stdout)["audio"]["audio"]
    seconds = [soundfile.info(io.BytesIO(mixed.encoded(row, "audio")[0])).duration for row in range(len(mixed))]
    assert shown["sample_rates"] == {"44100": len(mixed)}
    assert shown["channels"] == {"1": len(mixed) // 2, "2": len(mixed) // 2}
    assert shown["seconds"]["total"] == pytest.approx(sum(seconds))
    text = runner.invoke(_cli.app, ["inspect", str(mixed.path)]).stdout
    assert "audio: 44,100 Hz in 20 files" in text
    out = tmp_path / "grid.png"
    fs.pack(mixed.filter(pc.field("_audio_channels") == 2), tmp_path / "stereo")
    for path, options in (
        (mixed.path, []),
        (mixed.path, ["--transform", "Mono()", "--transform", "Window(1.0)"]),
        (tmp_path / "stereo", ["--transform", "Window(seconds=0.5)", "--field", "audio"]),
    ):
        result = runner.invoke(_cli.app, ["preview", str(path), str(out), "--count", "4", *options])
        assert result.exit_code == 0, result.output
        pixels = np.asarray(Image.open(out))
        assert (pixels == (0x1F, 0x5F, 0xA8)).all(axis=2).sum() > 2000
    spectrogram = ["--transform", "Mono()", "--transform", "Window(1.0)", "--transform", "LogMel()"]
    assert runner.invoke(_cli.app, ["preview", str(mixed.path), str(out), "--count", "4", *spectrogram]).exit_code == 0
    assert len(np.unique(np.asarray(Image.open(out)))) > 50
    plan = fs.Loader(mixed, 4, transforms={"audio": [fs.Mono(), fs.Resample(8000), fs.Window(1.0)]}).plan()
    assert "each epoch: decode what the window shows, mono, resample to 8,000 Hz; not cached" in plan


def test_options(mixed, tmp_path):
    for bad, message in [
        (lambda: fs.RandomWindow(), "expected one of them"),
        (lambda: fs.RandomWindow(seconds=1, frames=2), "expected one of them"),
        (lambda: fs.RandomWindow(seconds=0), "above 0"),
        (lambda: fs.Window(frames=0), "frames=0"),
        (lambda: fs.Window(frames=5, start=-1), "start=-1"),
        (lambda: fs.Resample(0), "sample_rate=0"),
        (lambda: fs.Resample(8000, rolloff=0), "rolloff=0"),
        (lambda: fs.LogMel(hop_length=0), "hop_length=0"),
        (lambda: fs.LogMel(win_length=401), "win_length=401"),
        (lambda: fs.LogMel(mel_scale="bark"), "mel_scale='bark'"),
        (lambda: fs.LogMel(mean=[1, 2]), r"mean=\[1, 2\]"),
        (lambda: fs.LogMel(std=0), "std=0"),
        (lambda: fs.LogMel(floor=0), "floor=0"),
        (lambda: fs.AudioDecode(max_samples=0), "max_samples=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            bad()
    for steps in (
        [fs.Window(1.0), fs.Mono()],
        [fs.LogMel(), fs.Window(1.0)],
        [fs.Window(1.0), fs.RandomWindow(1.0)],
        [fs.Window(1.0), fs.Resample(8000)],
        fs.Resize(8),
        [fs.Mono(), fs.Mono()],
    ):
        with pytest.raises(ValueError, match="each once and in this order"):
            fs.Loader(mixed, 4, transforms={"audio": steps})
    for steps, message in [
        ([fs.Mono(), fs.Window(1.0), fs.PadSequence()], "a window has one length"),
        ([fs.Mono(), fs.LogMel()], "RandomWindow"),
        ([fs.PadSequence()], "needs Mono"),
        ([fs.Window(1.0)], r"Mono\(\)"),
        ([], r"Mono\(\)"),
        ([fs.Mono(), fs.Window(frames=100), fs.LogMel()], "at least 201"),
        ([fs.Mono(), fs.Window(frames=1000), fs.LogMel(f_max=30_000)], "half of the sample rate"),
        ([fs.Mono(), fs.Window(frames=2**32)], "64 GiB|needs"),
    ]:
        with pytest.raises((ValueError, fs.DecodeError, MemoryError), match=message):
            fs.Loader(mixed, 4, transforms={"audio": steps})
    several = pack(tmp_path, *(encode(signal(0.5, rate), rate) for rate in (8000, 16000)))
    for steps in ([fs.Mono(), fs.Window(0.1)], [fs.Mono(), fs.Window(frames=800), fs.LogMel()]):
        with pytest.raises(ValueError, match="add Resample"):
            fs.Loader(several, 2, transforms={"audio": steps})
    (batch,) = fs.Loader(several, 2, transforms={"audio": [fs.Mono(), fs.Resample(8000), fs.Window(0.1)]})
    assert batch["audio"].shape == (2, 800)
    (batch,) = fs.Loader(several, 2, transforms={"audio": [fs.Mono(), fs.Window(frames=800)]})
    assert batch["audio"].shape == (2, 800)
    with pytest.raises(ValueError, match="expected an image field"):
        fs.Loader(several, 2, transforms={"number": fs.Mono()})
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    fs.pack([{"image": stream.getvalue()}], tmp_path / "image")
    with pytest.raises(TypeError, match=r"Mono\(\) is for audio fields"):
        fs.Loader(tmp_path / "image", 1, transforms={"image": fs.Mono()})


def test_limits(mixed):
    for step, message in [
        (fs.AudioDecode(max_samples=10_000), "samples to decode: expected at most 10000"),
        (fs.AudioDecode(max_channels=1), "2 channels: expected at least 1 and at most 1"),
        (fs.AudioDecode(max_sample_rate=40_000), "44100 frames a second"),
    ]:
        with pytest.raises(fs.DecodeError, match=message):
            list(fs.Loader(mixed, 4, transforms={"audio": [step, fs.Mono()]}))
    steps = [fs.AudioDecode(max_samples=10_000), fs.Mono(), fs.Window(frames=10_000)]
    assert len(list(fs.Loader(mixed, 4, transforms={"audio": steps}))) == 5


def wav(samples, sample_rate=8000, channels=1, width=2):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(sample_rate)
        file.writeframes(samples)
    return bytearray(stream.getvalue())


def hostile():
    good = {kind: encode(signal(1, 44100, 2), 44100, kind) for kind in ("wav", "flac", "ogg", "mp3")}
    for kind, data in good.items():
        yield f"{kind}, half of it", data[: len(data) // 2]
        yield f"{kind}, its start alone", data[:100]
        yield f"{kind}, and then noise", data[:60] + np.random.default_rng(0).bytes(5000)
    yield "mp3 without its last bytes", good["mp3"][:-50]
    yield "nothing", b""
    yield "noise", np.random.default_rng(1).bytes(5000)
    yield "an image", b"\x89PNG\r\n\x1a\n" + bytes(100)
    no_channels = wav(bytes(800))
    no_channels[22:24] = b"\0\0"
    yield "no channels", no_channels
    many_channels = wav(bytes(800))
    many_channels[22:24] = b"\xff\xff"
    yield "too many channels", many_channels
    no_rate = wav(bytes(800))
    no_rate[24:28] = bytes(4)
    yield "no sample rate", no_rate
    long = wav(bytes(800))
    long[40:44] = b"\xf0\xff\xff\x7f"
    yield "two gigabytes declared", long
    yield "no frames", wav(b"")
    stream = wav(bytes(800))
    stream[4:8] = stream[40:44] = b"\xff\xff\xff\xff"
    yield "a stream's header", stream
    absurd = bytearray(good["flac"])
    absurd[21:26] = bytes([absurd[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 2^36 - 1 frames
    yield "a billion frames declared", absurd
    for value in (float("nan"), float("inf")):
        broken = signal(0.5, 8000)
        broken[-1] = value
        yield f"a sample of {value}", encode(broken, 8000, "wavf")
    opus = bytearray(good["ogg"])
    opus[28:36] = b"OpusHead"
    yield "ogg of something else", opus


HOSTILE = dict(hostile())


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_files_are_named(name, tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    (src / "good.wav").write_bytes(encode(signal(0.5, 8000), 8000))
    (src / "bad.mp3").write_bytes(HOSTILE[name])
    with pytest.raises(fs.DecodeError, match=r"bad\.mp3"):
        fs.pack(src, tmp_path / "ds", shuffle=False)
    assert not (tmp_path / "ds").exists()
    report = fs.pack(src, tmp_path / "ds", on_error="skip")
    assert [(row.path, "bad.mp3" in row.error) for row in report.skipped] == [("bad.mp3", True)]
    assert len(fs.open(tmp_path / "ds")) == 1


def test_damage_inside_is_found_by_decoding(tmp_path):
    flac = bytearray(encode(signal(2, 44100, 2), 44100, "flac"))
    flac[len(flac) // 2 : len(flac) // 2 + 2000] = bytes(2000)
    with pytest.raises(fs.DecodeError, match="row 0"):
        pack(tmp_path, flac, check="decode")
    ds = pack(tmp_path, flac, encode(signal(2, 44100), 44100, "flac"))
    with pytest.raises(fs.DecodeError, match=r"row 0 .*frames 40960 to 45056 are missing"):
        ds[0]
    loader = fs.Loader(ds, 2, transforms={"audio": fs.Mono()}, on_error="skip")
    (batch,) = loader
    assert batch["number"].tolist() == [1]
    assert batch["audio"].shape == (1, 88200)
    assert loader.num_skipped == 1
    # A window beside the damage doesn't meet it.
    (batch,) = fs.Loader(ds, 2, transforms={"audio": [fs.Mono(), fs.Window(0.5)]})
    assert len(batch["audio"]) == 2


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_flipped_bytes_give_errors_and_nothing_worse(kind, tmp_path):
    data = encode(signal(0.6, 22050, 2), 22050, kind)
    random = np.random.default_rng(0)
    samples = []
    for _ in range(150):
        broken = bytearray(data)
        for at in random.integers(0, len(data) if random.random() < 0.5 else 300, 3):
            broken[at] = random.integers(256)
        samples.append({"audio": bytes(broken)})
    samples.insert(0, {"audio": data})
    fs.pack(samples, tmp_path / "ds", on_error="skip")
    ds = fs.open(tmp_path / "ds")
    steps = [fs.Mono(), fs.Resample(16000), fs.RandomWindow(seconds=0.2)]
    loader = fs.Loader(ds, 8, transforms={"audio": steps}, on_error="skip")
    batches = [batch["audio"] for _ in range(3) for batch in loader]
    assert all(np.isfinite(batch).all() for batch in batches)
    assert sum(map(len, batches)) + loader.num_skipped == 3 * len(ds)


def test_damaged_shards_are_found(tmp_path):
    ds = pack(tmp_path, *(encode(signal(0.5, 8000, seed=seed), 8000) for seed in range(3)))
    shard = tmp_path / "ds" / ds.manifest["shards"][0]["file"]
    content = bytearray(shard.read_bytes())
    at = content.index(ds.encoded(1, "audio")[0]) + 500
    content[at] ^= 1
    shard.write_bytes(content)
    damaged = fs.open(tmp_path / "ds")
    assert [problem.row for problem in damaged.verify()] == [1]
    with pytest.raises(fs.CorruptionError, match="row 1"):
        list(fs.Loader(damaged, 3, transforms={"audio": fs.Mono()}))
    with pytest.raises(fs.CorruptionError, match="row 1"):
        damaged[1]


def test_iterables_must_go_on_as_they_begin(tmp_path):
    samples = [{"audio": encode(signal(0.1, 8000), 8000)}, {"audio": "text"}]
    with pytest.raises(fs.SourceError, match=r"row 1, field 'audio'.*expected an audio file"):
        fs.pack(samples, tmp_path / "ds")
    with pytest.raises(fs.DecodeError, match="row 1: not audio in a known format"):
        fs.pack([samples[0], {"audio": b"something"}], tmp_path / "ds")


def test_a_field_of_its_own_keeps_its_name(tmp_path):
    data = encode(signal(0.1, 8000), 8000)
    fs.pack([{"audio": data, "audio_sample_rate": 5}, {"audio": data, "audio_sample_rate": 6}], tmp_path / "ds")
    assert fs.open(tmp_path / "ds")[1]["audio_sample_rate"] == 6


def test_beside_images_boxes_and_lists(files, tmp_path):
    """Each kind of field finds its own columns, whichever order they come in, and lists of both kinds their rows."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(picture, "PNG")
    sounds = list(files.values())[:6]
    samples = [
        {
            "audio": data,
            "boxes": [[0.0, 0.0, 10.0, 5.0 + n]] * (n % 3),
            "image": picture.getvalue(),
            "tokens": list(range(n + 1)),
            "labels": [n] * (n % 3),
            "second": sounds[-1 - n],
        }
        for n, data in enumerate(sounds)
    ]
    types = {"boxes": "boxes[xyxy]", "labels": "list[int64] along boxes", "tokens": "list[int32]"}
    fs.pack(samples, tmp_path / "ds", types=types, resize=(40, 80), encode="png")
    ds = fs.open(tmp_path / "ds")
    assert ds.verify() == []
    loader = fs.Loader(ds, 6, shuffle=True, transforms={"audio": fs.Mono(), "second": [fs.Mono(), fs.PadSequence()]})
    (batch,) = loader
    rows = batch["tokens_offsets"][1:] - batch["tokens_offsets"][:-1] - 1
    assert sorted(rows) == list(range(6))
    assert rows.tolist() != list(range(6))
    for at, row in enumerate(rows):
        for name, data in (("audio", sounds[row]), ("second", sounds[-1 - row])):
            expected = decode(data)[0].mean(axis=0)
            if name == "audio":
                found = batch["audio"][batch["audio_offsets"][at] : batch["audio_offsets"][at + 1]]
            else:
                found = batch["second"][at][batch["second_mask"][at]]
            np.testing.assert_allclose(found, expected, atol=1e-6)
        of_row = slice(*batch["boxes_offsets"][at : at + 2])
        assert batch["boxes"][of_row].tolist() == [[0, 0, 20, 10 + 2 * row]] * (row % 3)
        assert batch["labels"][of_row].tolist() == [row] * (row % 3)
    assert batch["image"].shape == (6, 40, 80, 3)
