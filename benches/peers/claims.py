"""What fastshard promises against its peers, held against what was measured in this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loaders import PEERS
from report import Row

TF = ("tf", "tf-aliased")
ORIGINAL = ("fs-original",)
SEEKABLE = ("fs-seekable",)
EXACT = ("fs-original", "fs-seekable")
SCALED = (*EXACT, "fs-original-scaled", "fs-seekable-scaled")


@dataclass(frozen=True)
class Claim:
    """The fastest of `ours` is at least `target` times as fast as the fastest of `peers` on the track."""

    title: str
    track: str
    ours: tuple[str, ...]
    peers: tuple[str, ...]
    target: float
    peers_track: str = ""


CLAIMS = (
    Claim("train, seekable shards, against tf.data fused", "train", SEEKABLE, TF, 1.5),
    Claim("train, seekable shards, against FFCV", "train", SEEKABLE, ("ffcv",), 2.3),
    Claim("train, seekable shards, against torch + PIL", "train", SEEKABLE, ("pil",), 3.3),
    Claim("train, original bytes, against tf.data fused", "train", ORIGINAL, TF, 1.25),
    Claim("eval against tf.data fused", "eval", EXACT, TF, 1.3),
    Claim("eval against FFCV", "eval", EXACT, ("ffcv",), 1.5),
    Claim("float32 NCHW against our own uint8, seekable shards", "float", SEEKABLE, SEEKABLE, 0.88, "train"),
    Claim("float32 NCHW against our own uint8, original bytes", "float", ORIGINAL, ORIGINAL, 0.88, "train"),
    Claim("12 megapixels, random crops, against torchvision v2", "large", SCALED, ("v2",), 4.0),
    Claim("12 megapixels, centre crops, against torchvision v2", "large-eval", SCALED, ("v2",), 4.0),
    Claim("X-ray PNG against torch + PIL", "xray", ORIGINAL, ("pil",), 3.0),
    Claim("stored pixels, random crops, against FFCV", "raw-train", ("fs-raw",), ("ffcv-raw",), 1.2),
    Claim("augmentation set against Keras ImageDataGenerator", "augment", EXACT, ("keras-generator",), 10.0),
    Claim("augmentation set on pixels against Keras layers", "augment", ("fs-raw",), ("keras-layers",), 5.0),
    Claim("augmentation set on JPEGs against Keras layers on pixels", "augment", EXACT, ("keras-layers",), 5.0),
    Claim("RandAugment against torchvision v2", "randaugment", EXACT, ("v2",), 3.0),
)


@dataclass(frozen=True)
class Verdict:
    """A claim with the ratio of this run; None if a side of it was not measured."""

    claim: Claim
    ratio: float | None
    ours: str = ""
    peer: str = ""

    @property
    def word(self) -> str:
        if self.ratio is None:
            return "not measured"
        return "met" if self.ratio >= self.claim.target else "MISSED"

    def cells(self) -> list[str]:
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}x"
        sides = f"{self.ours} / {self.peer}" if self.ratio is not None else ""
        return [self.word, self.claim.title, sides, ratio, f"{self.claim.target:g}x"]


HEAD = ["", "claim", "measured as", "ratio", "target"]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """Every claim of a track that was measured at all."""
    rates = {(row.track, row.loader): row.rate for row in rows if row.rate}
    tracks = {row.track for row in rows}
    return [_verdict(claim, rates) for claim in CLAIMS if claim.track in tracks]


def _verdict(claim: Claim, rates: Mapping[tuple[str, str], float]) -> Verdict:
    ours = _fastest(claim.ours, claim.track, rates)
    peer = _fastest(claim.peers, claim.peers_track or claim.track, rates)
    if not ours or not peer:
        return Verdict(claim, None)
    return Verdict(claim, ours[1] / peer[1], PEERS[ours[0]].title, PEERS[peer[0]].title)


def _fastest(names: tuple[str, ...], track: str, rates: Mapping[tuple[str, str], float]) -> tuple[str, float] | None:
    known = [(name, rates[track, name]) for name in names if (track, name) in rates]
    return max(known, key=lambda item: item[1]) if known else None
