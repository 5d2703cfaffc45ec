"""From measurements to the summary, its text tables and the plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from job import TRACKS
from loaders import ADAPTERS, LOADERS, PEERS
from measure import Result
from quality import Quality

OURS = "fastshard"
PLOTTED = ("train", "eval", "resize", "float")
TF = ("tf-fused", "tf-fused-aliased", "tf-plain")
# What the project promises: our speed over the fastest of these peers, on this track.
PROMISES = (
    ("train", ("torch-pil",), 2.2),
    ("eval", ("torch-pil",), 2.2),
    ("train", TF, 1.0),
    ("eval", TF, 1.0),
    ("resize", ("keras",), 4.0),
    ("resize", ("keras-nearest",), 4.0),
)


class PackLike(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def bytes(self) -> int: ...
    @property
    def source_bytes(self) -> int: ...


@dataclass(frozen=True)
class Row:
    """All the repeats of one loader on one track: medians, with the slowest and the fastest rate."""

    track: str
    loader: str
    rate: float
    slowest: float
    fastest: float
    setup_s: float
    first_batch_s: float
    cpu_s_per_1000: float
    peak_rss: int
    peak_anonymous: int
    errors: int
    ratio: float | None


@dataclass(frozen=True)
class Goal:
    """A promised ratio beside the measured one."""

    track: str
    peer: str
    promised: float
    measured: float

    @property
    def kept(self) -> bool:
        return self.measured >= self.promised


def summarise(results: Sequence[Result], ours: Callable[[str], str] = lambda _: OURS) -> list[Row]:
    """A row per track and loader, fastest first within a track.

    `ratio` is fastshard's speed over this loader's; `ours` names the entry that stands for fastshard on a track.
    """
    pairs = dict.fromkeys((result.track, result.loader) for result in results)
    groups = {pair: [result for result in results if (result.track, result.loader) == pair] for pair in pairs}
    rates = {pair: median(run.rate for run in runs) for pair, runs in groups.items()}
    rows = [_row(pair, runs, rates.get((pair[0], ours(pair[0])))) for pair, runs in groups.items()]
    return sorted(rows, key=lambda row: (list(TRACKS).index(row.track), -row.rate))


def _row(pair: tuple[str, str], runs: list[Result], ours: float | None) -> Row:
    good = [run for run in runs if run.images] or runs
    rate = median(run.rate for run in good)
    return Row(
        track=pair[0],
        loader=pair[1],
        rate=rate,
        slowest=min(run.rate for run in good),
        fastest=max(run.rate for run in good),
        setup_s=median(run.setup_s for run in good),
        first_batch_s=median(run.first_batch_s for run in good),
        cpu_s_per_1000=median(1000 * run.cpu_s / max(run.images, 1) for run in good),
        peak_rss=max(run.peak_rss for run in good),
        peak_anonymous=max(run.peak_anonymous for run in good),
        errors=sum(bool(run.error) + run.wrong_batches for run in runs),
        ratio=ours / rate if ours and rate else None,
    )


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Each promise, held against the fastest of its peers that was measured."""
    kept = []
    for track, peers, promised in PROMISES:
        measured = [row for row in rows if row.track == track and row.loader in peers and row.ratio]
        if measured:
            best = max(measured, key=lambda row: row.rate)
            kept.append(Goal(track, best.loader, promised, best.ratio or 0.0))
    return kept


def text(
    rows: Sequence[Row],
    packs: Iterable[PackLike],
    quality: Quality | None,
    about: dict[str, Any],
    count: int,
    workers: int,
) -> str:
    """Everything a reader needs, as plain text."""
    head = (
        f"\n{about['cpu']}, {about['cores']} cores; {count:,} photos, batch 64, warm page cache, {workers} threads or"
        f" workers each\n"
    )
    parts = [head, *(_pack_line(pack, count) for pack in packs), str(quality) if quality else "quality not checked"]
    for track, title in TRACKS.items():
        if chosen := [row for row in rows if row.track == track]:
            parts += [f"\n{track}: {title}", table(chosen)]
    parts += ["", *map(_goal_line, goals(rows)), *_adapter_lines(rows)]
    return "\n".join(parts)


def _pack_line(pack: PackLike, count: int) -> str:
    return (
        f"packing, {pack.kind}: {pack.seconds:.1f} s ({count / pack.seconds:,.0f} img/s), {pack.bytes / 1e6:,.1f} MB "
        f"on disk from {pack.source_bytes / 1e6:,.1f} MB of JPEGs"
    )


def _goal_line(goal: Goal) -> str:
    verdict = "kept" if goal.kept else "MISSED"
    return f"{verdict}: {goal.track}, {goal.measured:.2f}x {LOADERS[goal.peer].title} (promised {goal.promised}x)"


def _adapter_lines(rows: Sequence[Row]) -> list[str]:
    return [
        f"{LOADERS[row.loader].title} on {row.track}: {100 / row.ratio:.0f} % of the bare loader's speed"
        for row in rows
        if row.loader in ADAPTERS and row.ratio
    ]


def table(rows: Sequence[Row]) -> str:
    """The last column says how many times as fast fastshard was."""
    head = ["loader", "img/s", "spread", "first batch", "CPU s/1000", "peak RSS", "anonymous", "errors", "fastshard is"]
    return aligned([head, *(cells(row) for row in rows)])


def aligned(lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns as wide as their longest cell, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def cells(row: Row) -> list[str]:
    return [
        (LOADERS | PEERS)[row.loader].title,
        f"{row.rate:,.0f}",
        f"{row.slowest:,.0f}-{row.fastest:,.0f}",
        f"{row.first_batch_s * 1000:,.0f} ms",
        f"{row.cpu_s_per_1000:.2f}",
        f"{row.peak_rss / 2**20:,.0f} MiB",
        f"{row.peak_anonymous / 2**20:,.0f} MiB",
        str(row.errors),
        f"{row.ratio:.2f}x" if row.ratio else "-",
    ]


def plot(rows: Sequence[Row], about: dict[str, Any], count: int, path: Path) -> None:
    """A bar per loader, a panel per track; the thin line is the spread over the repeats."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {track: [row for row in rows if row.track == track and row.loader not in ADAPTERS] for track in PLOTTED}
    panels = {track: chosen[::-1] for track, chosen in panels.items() if chosen}
    if not panels:
        return
    heights = [len(chosen) + 0.8 for chosen in panels.values()]
    figure, axes = plt.subplots(
        len(panels), squeeze=False, figsize=(9, 0.38 * sum(heights) + 1), height_ratios=heights, layout="constrained"
    )
    for axis, (track, chosen) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_panel(axis, TRACKS[track], chosen)
    figure.suptitle(f"Images per second, {count:,} JPEG photos, {about['cores']} cores ({about['cpu']})")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _draw_panel(axis: Any, title: str, rows: Sequence[Row]) -> None:
    labels = [LOADERS[row.loader].title for row in rows]
    spread = [[row.rate - row.slowest for row in rows], [row.fastest - row.rate for row in rows]]
    colours = ["#d1495b" if row.loader == OURS else "#8d99ae" for row in rows]
    bars = axis.barh(labels, [row.rate for row in rows], xerr=spread, color=colours, error_kw={"lw": 1})
    axis.bar_label(bars, [f"{row.rate:,.0f}" for row in rows], padding=4)
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_xlim(0, 1.15 * max(row.fastest for row in rows))
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
