"""The picture for the README: a panel a track, a bar a loader. Transparent, its colours show on white and on black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loaders import PEERS
from report import Row

# Two tracks side by side, those with about as many bars.
TITLES = {
    "train": "RandomResizedCrop 224, flip",
    "eval": "Resize 256, CenterCrop 224",
    "large": "12 megapixels: RandomResizedCrop 224",
    "large-eval": "12 megapixels: Resize 256, CenterCrop 224",
    "float": "the first, normalised to float32 NCHW",
    "decode": "decoding alone",
    "xray": "gray PNG of 1024 to 512",
    "raw-train": "stored pixels: RandomResizedCrop 224",
    "augment": "flips, rotation, contrast, zoom, shear",
    "randaugment": "the first, then RandAugment",
}
PAIRS = tuple(zip(list(TITLES)[::2], list(TITLES)[1::2], strict=True))
OURS, THEIRS, TEXT = "#d1495b", "#8d99ae", "#6e7781"


def draw(rows: Sequence[Row], subtitle: str, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    # The same figures give the same file; text stays text, which is a fifth of its outlines' size.
    mpl.rcParams |= {"svg.hashsalt": "peers", "svg.fonttype": "none", "text.color": TEXT, "ytick.color": TEXT}
    from matplotlib import pyplot as plt

    panels = {track: [row for row in rows if row.track == track and row.rate][::-1] for pair in PAIRS for track in pair}
    pairs = [pair for pair in PAIRS if any(panels[track] for track in pair)]
    heights = [max(len(panels[track]) for track in pair) + 1.2 for pair in pairs]
    figure, axes = plt.subplots(
        len(pairs),
        2,
        squeeze=False,
        figsize=(14, 0.3 * sum(heights) + 0.8),
        height_ratios=heights,
        layout="constrained",
    )
    for line, pair, height in zip(axes, pairs, heights, strict=True):
        for axis, track in zip(line, pair, strict=True):
            _draw_panel(axis, TITLES[track], panels[track], height)
    figure.suptitle(f"Images per second. {subtitle}", fontsize=11)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


def _draw_panel(axis: Any, title: str, rows: Sequence[Row], height: float) -> None:
    if not rows:
        axis.set_visible(False)
        return
    spread = [[row.rate - row.slowest for row in rows], [row.fastest - row.rate for row in rows]]
    colours = [OURS if row.loader.startswith("fs-") else THEIRS for row in rows]
    bars = axis.barh(
        [PEERS[row.loader].title for row in rows],
        [row.rate for row in rows],
        xerr=spread,
        color=colours,
        error_kw={"lw": 1, "ecolor": TEXT},
    )
    axis.bar_label(bars, [f"{row.rate:,.0f}" for row in rows], padding=4, fontsize=9)
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlim(0, 1.15 * max(row.fastest for row in rows))
    # Bars of one thickness, whatever the neighbour's number of them.
    axis.set_ylim(len(rows) - height + 0.4, len(rows) - 0.4)
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines[["top", "right", "bottom", "left"]].set_visible(False)
