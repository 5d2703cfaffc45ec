"""Audio for tests: signals that are nothing like each other anywhere, encoded by libsndfile."""

import io

import numpy as np
import soundfile

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "wav8": {"format": "WAV", "subtype": "PCM_U8"},
    "wav24": {"format": "WAV", "subtype": "PCM_24"},
    "wavf": {"format": "WAV", "subtype": "FLOAT"},
    "wavd": {"format": "WAV", "subtype": "DOUBLE"},
    "ulaw": {"format": "WAV", "subtype": "ULAW"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "flac24": {"format": "FLAC", "subtype": "PCM_24"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
}


def signal(seconds, sample_rate, channels=1, seed=0):
    """A chirp a channel with a beat and some noise, ``[frames, channels]``."""
    random = np.random.default_rng(seed)
    frames = round(seconds * sample_rate)
    time = np.arange(frames)[:, None] / sample_rate
    pitch = random.uniform(100, 400, channels)
    sweep = random.uniform(0.1, 0.4, channels) * sample_rate / 4 / max(seconds, 1e-3)
    tone = np.sin(2 * np.pi * (pitch * time + sweep / 2 * time**2)) * (0.6 + 0.3 * np.sin(7 * time))
    return (0.8 * tone + 0.02 * random.standard_normal((frames, channels))).astype(np.float32)


def encode(samples, sample_rate, kind="wav", **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, sample_rate, **FORMATS[kind], **options)
    return stream.getvalue()


def decode(data):
    """What libsndfile makes of it: float32 ``[channels, frames]`` and the sample rate."""
    samples, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return samples.T, sample_rate
