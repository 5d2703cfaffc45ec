"""Audio files of a kind that decoders get wrong: MP3 with mixed windows, FLAC with 32 bits a sample."""

import io
import struct

import numpy as np
import pytest
import soundfile

import fastshard as fs
from sounds import encode

RATE = 44100


def pack(path, *encoded, **options):
    fs.pack([{"audio": one} for one in encoded], path, types={"audio": "audio"}, **options)
    return fs.open(path)


def clicks(channels):
    """Noise with clicks, for which encoders switch to short windows, between start and stop windows."""
    random = np.random.default_rng(channels)
    samples = 0.02 * random.standard_normal((2 * RATE, channels))
    for at in range(2000, len(samples) - 1000, 4410):
        samples[at : at + 300] += random.standard_normal((300, channels)) * np.linspace(0.5, 0, 300)[:, None]
    return samples.clip(-1, 1).astype(np.float32)


def bit(data, at):
    return data[at // 8] >> (7 - at % 8) & 1


def take(data, at, count):
    return sum(bit(data, at + place) << (count - 1 - place) for place in range(count))


def with_mixed_windows(mp3):
    """An MPEG 1 file whose start and stop windows are said to be mixed; and how many there are."""
    rates = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]
    out, at, found = bytearray(mp3), 0, 0
    while at + 4 <= len(mp3):
        head = struct.unpack_from(">I", mp3, at)[0]
        assert (head >> 21, head >> 19 & 3) == (0x7FF, 3), "MPEG 1"
        channels = 1 if head >> 6 & 3 == 3 else 2
        length = 144000 * rates[head >> 12 & 15] // RATE + (head >> 9 & 1)
        side = 8 * (at + 4 + (0 if head >> 16 & 1 else 2)) + 9 + (5 if channels == 1 else 3) + 4 * channels
        for part in range(2 * channels):
            switch = side + 59 * part + 33
            if bit(mp3, switch) and take(mp3, switch + 1, 2) in (1, 3):
                place = switch + 3
                out[place // 8] |= 1 << (7 - place % 8)
                found += 1
        at += length
    return bytes(out), found


@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_with_mixed_start_and_stop_windows(tmp_path, channels):
    plain = encode(clicks(channels), RATE, "mp3")
    mixed, found = with_mixed_windows(plain)
    assert found > 20
    theirs = [soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T for data in (plain, mixed)]
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-3, "the window makes a difference"
    dataset = pack(tmp_path / "ds", plain, mixed, check="decode")
    for row, expected in enumerate(theirs):
        ours = dataset[row]["audio"]
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours, expected, atol=2e-5)
    (batch,) = fs.Loader(dataset, 2, transforms={"audio": [fs.Mono(), fs.Window(frames=RATE, start=0)]})
    means = [expected[:, :RATE].mean(axis=0) for expected in theirs]
    np.testing.assert_allclose(batch["audio"].reshape(2, RATE), means, atol=2e-5)


def checksum(data, polynomial, bits):
    register = 0
    for byte in data:
        register ^= byte << (bits - 8)
        for _ in range(8):
            register = register << 1 ^ (polynomial if register >> (bits - 1) & 1 else 0)
            register &= (1 << bits) - 1
    return register


def flac(samples, bits, coded="apart"):
    """A FLAC file of unpacked samples, ``[frames, channels]``; two channels may be ``coded`` as differences."""
    size = 192
    body = b""
    for number, start in enumerate(range(0, len(samples), size)):
        columns = [column.tolist() for column in samples[start : start + size].T]
        kind = len(columns) - 1
        widths = [bits] * len(columns)
        if coded != "apart":
            left, right = columns
            side = [a - b for a, b in zip(left, right, strict=True)]
            kind, columns, widths = {
                "left": (8, [left, side], [bits, bits + 1]),
                "right": (9, [side, right], [bits + 1, bits]),
                "middle": (10, [[a + b >> 1 for a, b in zip(left, right, strict=True)], side], [bits, bits + 1]),
            }[coded]
        depth = {16: 4, 24: 6, 32: 7}[bits]
        head = bytes([0xFF, 0xF8, 0x19, kind << 4 | depth << 1, number])
        head += bytes([checksum(head, 0x07, 8)])
        text = "".join(
            "00000010" + "".join(f"{value & (1 << width) - 1:0{width}b}" for value in column)
            for column, width in zip(columns, widths, strict=True)
        )
        text += "0" * (-len(text) % 8)
        frame = head + int(text, 2).to_bytes(len(text) // 8)
        body += frame + struct.pack(">H", checksum(frame, 0x8005, 16))
    channels = samples.shape[1]
    packed = RATE << 44 | (channels - 1) << 41 | (bits - 1) << 36 | len(samples)
    info = struct.pack(">HH", size, size) + bytes(6) + packed.to_bytes(8) + bytes(16)
    return b"fLaC" + struct.pack(">I", 0x80 << 24 | len(info)) + info + body


def wide(bits, channels=2):
    """Samples over the whole range."""
    random = np.random.default_rng(bits)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    samples = random.integers(low, high, (192 * 3, channels), endpoint=True)
    samples[:2] = [[low, high][:channels], [high, low][:channels]]
    return samples


@pytest.mark.parametrize("coded", ["apart", "left", "right", "middle"])
@pytest.mark.parametrize("bits", [16, 24])
def test_flac_with_channels_as_differences(tmp_path, bits, coded):
    samples = wide(bits)
    encoded = flac(samples, bits, coded)
    theirs = soundfile.read(io.BytesIO(encoded), dtype="float32")[0].T
    expected = (samples.T / 2.0 ** (bits - 1)).astype(np.float32)
    np.testing.assert_array_equal(theirs, expected)
    np.testing.assert_array_equal(pack(tmp_path / "ds", encoded, check="decode")[0]["audio"], expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_of_32_bits(tmp_path, channels):
    samples = wide(32, channels)
    ours = pack(tmp_path / "ds", flac(samples, 32), check="decode")[0]["audio"]
    np.testing.assert_array_equal(ours, (samples.T / 2.0**31).astype(np.float32))


@pytest.mark.parametrize("check", ["header", "decode"])
@pytest.mark.parametrize("coded", ["left", "right", "middle"])
def test_flac_of_32_bits_with_channels_as_differences_is_refused(tmp_path, coded, check):
    samples = wide(32)
    # Neither the first nor the last frame tells.
    whole, apart = flac(samples, 32, coded), flac(samples, 32)
    pieces = [
        [file[42:][at * (len(file) - 42) // 3 :][: (len(file) - 42) // 3] for at in range(3)] for file in (whole, apart)
    ]
    hidden = apart[:42] + pieces[1][0] + pieces[0][1] + pieces[1][2]
    for encoded in (whole, hidden):
        with pytest.raises(fs.DecodeError, match=r"row 0: flac: 32 bits a sample with channels stored as differences"):
            pack(tmp_path / "ds", encoded, check=check)
