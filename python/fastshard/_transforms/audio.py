"""Transforms of audio fields: descriptions that the native threads carry out, decoding no more than they need.

Names and defaults follow torchaudio. They come in this order, each at most once: ``AudioDecode``, ``Mono``,
``Resample``, a window, ``LogMel``; or, without a window, ``Truncate`` and ``PadSequence``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastshard._base import check

from .base import Transform
from .lists import PadSequence, Truncate, list_spec

if TYPE_CHECKING:
    from fastshard._rows.opened import Field

__all__ = [
    "AudioDecode",
    "AudioTransform",
    "CenterWindow",
    "LogMel",
    "Mono",
    "RandomWindow",
    "Resample",
    "Window",
    "audio_spec",
]

_MAX_WINDOW = 2**32


class AudioTransform(Transform, ABC):
    """One step for an audio field. Use its subclasses."""

    @abstractmethod
    def _part(self) -> dict[str, Any]:
        """What it adds to the description of a field."""


@dataclass(frozen=True)
class AudioDecode(AudioTransform):
    """What is refused before anything is decoded; without it, these defaults hold.

    ``max_samples`` are frames times channels that a sample, or its window, takes: 2^28 are 1 GiB as float32.
    """

    max_samples: int = 2**28
    max_channels: int = 32
    max_sample_rate: int = 384_000

    def __post_init__(self) -> None:
        check.integer("max_samples", self.max_samples, 1, 2**40)
        check.integer("max_channels", self.max_channels, 1, 64)
        check.integer("max_sample_rate", self.max_sample_rate, 1, 2**32 - 1)

    def _part(self) -> dict[str, Any]:
        return {"limits": dict(vars(self))}


@dataclass(frozen=True)
class Mono(AudioTransform):
    """One channel: the mean of all. Samples lose their dimension of channels, those that had one channel too."""

    def _part(self) -> dict[str, Any]:
        return {"mono": True}


@dataclass(frozen=True)
class Resample(AudioTransform):
    """Converts to ``sample_rate``, in frames a second; files that have it already stay as they are.

    A sinc under a squared cosine, as ``torchaudio.functional.resample`` does it by default: ``lowpass_filter_width``
    zero crossings on each side, beginning to cut at ``rolloff`` times the lower Nyquist frequency. n frames become
    ceil(n * new / old).
    """

    sample_rate: int
    lowpass_filter_width: int = 6
    rolloff: float = 0.99

    def __post_init__(self) -> None:
        check.integer("sample_rate", self.sample_rate, 1, 2**20)
        check.integer("lowpass_filter_width", self.lowpass_filter_width, 1, 1024)
        rolloff = check.number("rolloff", self.rolloff, 0.0, 1.0)
        if rolloff == 0:
            raise ValueError(f"rolloff={self.rolloff!r}: expected a number above 0")

    def _part(self) -> dict[str, Any]:
        return {"resample": dict(vars(self))}


def _span(name: str, seconds: float | None, frames: int | None) -> dict[str, Any]:
    """A length, given in one of both units."""
    if (seconds is None) == (frames is None):
        raise ValueError(f"{name}: seconds={seconds!r}, frames={frames!r}: expected one of them")
    if frames is not None:
        return {"frames": check.integer("frames", frames, 1, _MAX_WINDOW)}
    length = check.number("seconds", seconds, 0.0, float(_MAX_WINDOW))
    if length == 0:
        raise ValueError(f"seconds={seconds!r}: expected a number above 0")
    return {"seconds": length}


@dataclass(frozen=True)
class _AnyWindow(AudioTransform):
    seconds: float | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        _span(type(self).__name__, self.seconds, self.frames)

    def _position(self) -> Any:
        raise NotImplementedError

    def _part(self) -> dict[str, Any]:
        length = _span(type(self).__name__, self.seconds, self.frames)
        return {"window": {"length": length, "position": self._position()}}


@dataclass(frozen=True)
class RandomWindow(_AnyWindow):
    """Cuts out so many ``seconds``, or ``frames`` (after resampling), from anywhere, drawn anew each epoch.

    Shorter samples are filled up with silence at the end. Only what the window shows is decoded.
    """

    def _position(self) -> Any:
        return "random"


@dataclass(frozen=True)
class CenterWindow(_AnyWindow):
    """Cuts so many ``seconds``, or ``frames``, out of the middle; shorter samples get silence on both sides."""

    def _position(self) -> Any:
        return "center"


@dataclass(frozen=True)
class Window(_AnyWindow):
    """Cuts out so many ``seconds``, or ``frames``, from ``start`` on (same unit); what is not there is silence."""

    start: float = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames is not None:
            check.integer("start", self.start, 0, _MAX_WINDOW)
        else:
            check.number("start", self.start, 0.0, float(_MAX_WINDOW))

    def _position(self) -> Any:
        return {"start": {"seconds": self.start} if self.frames is None else {"frames": self.start}}


@dataclass(frozen=True)
class LogMel(AudioTransform):
    """A log-mel spectrogram ``[n_mels, time]``, as ``torchaudio.transforms.MelSpectrogram`` and a logarithm give it.

    Frames of ``n_fft`` samples under a Hann window of ``win_length`` (by default ``n_fft``), every ``hop_length``; with
    ``center`` the signal is mirrored at both ends, and n samples have 1 + n // hop_length frames of time. Magnitudes
    are raised to ``power`` (1 or 2). Filters lie evenly between ``f_min`` and ``f_max`` (by default half of the sample
    rate) on the ``mel_scale`` ``"htk"`` or ``"slaney"``; ``norm="slaney"`` gives them an area of one. ``log`` is
    ``"ln"``, ``"log10"``, ``"db"`` (ten times ``"log10"``) or None, of values of at least ``floor``. At the end
    ``mean`` is subtracted and ``std`` divides, one number or one a filter.
    """

    n_fft: int = 400
    hop_length: int = 160
    n_mels: int = 80
    win_length: int | None = None
    f_min: float = 0.0
    f_max: float | None = None
    power: int = 2
    center: bool = True
    mel_scale: str = "htk"
    norm: str | None = None
    log: str | None = "ln"
    floor: float = 1e-10
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        check.integer("n_fft", self.n_fft, 2, 2**16)
        check.integer("hop_length", self.hop_length, 1)
        check.integer("n_mels", self.n_mels, 1, self.n_fft)
        if self.win_length is not None:
            check.integer("win_length", self.win_length, 1, self.n_fft)
        check.number("f_min", self.f_min, 0.0, 1e9)
        if self.f_max is not None and check.number("f_max", self.f_max, 0.0, 1e9) <= self.f_min:
            raise ValueError(f"f_max={self.f_max!r}: expected more than f_min={self.f_min!r}")
        check.one_of("power", self.power, (1, 2))
        check.boolean("center", self.center)
        check.one_of("mel_scale", self.mel_scale, ("htk", "slaney"))
        check.one_of("norm", self.norm, (None, "slaney"))
        check.one_of("log", self.log, (None, "ln", "log10", "db"))
        if check.number("floor", self.floor, 0.0, 1e9) < 1e-37:
            raise ValueError(f"floor={self.floor!r}: expected a number of at least 1e-37")
        for name in ("mean", "std"):
            values = self._numbers(name)
            if len(values) not in (0, 1, self.n_mels) or (name == "std" and 0 in values):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected one number or {self.n_mels}, std not 0")
            object.__setattr__(self, name, values or None)

    def _numbers(self, name: str) -> tuple[float, ...]:
        values = getattr(self, name)
        return () if values is None else check.numbers(name, values)

    def _part(self) -> dict[str, Any]:
        described = {
            **vars(self),
            "win_length": self.win_length or self.n_fft,
            "log": self.log or "none",
            "mean": self._numbers("mean"),
            "std": self._numbers("std"),
        }
        return {"log_mel": described}


_ORDER: tuple[type, ...] = (AudioDecode, Mono, Resample, _AnyWindow, LogMel)
_LISTS = (Truncate, PadSequence)


def audio_spec(field: Field, steps: Any) -> dict[str, Any]:
    """What the steps do to an audio field, for the native loader."""
    listed = list(steps) if isinstance(steps, Iterable) else [steps]
    order = [*_ORDER, *_LISTS]
    places = [next((at for at, kind in enumerate(order) if isinstance(step, kind)), -1) for step in listed]
    if -1 in places or places != sorted(set(places)):
        names = "AudioDecode, Mono, Resample, a window (RandomWindow, CenterWindow, Window), LogMel"
        wanted = f"expected some of {names}, Truncate and PadSequence, each once and in this order"
        raise ValueError(f"transforms for {field.name!r}={listed!r}: {wanted}")
    spec: dict[str, Any] = {}
    for place, step in enumerate(listed):
        if isinstance(step, AudioTransform):
            spec |= step._part()
        if isinstance(step, _AnyWindow):
            spec["window"]["place"] = place  # keys its draws
    cut = [step for step in listed if isinstance(step, _LISTS)]
    if cut and "log_mel" in spec:
        raise ValueError(f"transforms for {field.name!r}={listed!r}: LogMel needs a window, not {cut[0]!r}")
    if cut and not spec.get("mono"):
        raise ValueError(f"transforms for {field.name!r}={listed!r}: {cut[0]!r} needs Mono")
    return spec | ({"list": list_spec(field, cut)} if cut else {})
