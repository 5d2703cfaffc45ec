"""From measurements of the peers to text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import report
from job import TRACKS
from loaders import PEERS
from peers import claims, formats
from peers.gate import STANDS_FOR
from quality import Quality
from report import Row

HEAD = ["loader", "reads", "img/s", "spread", "first batch", "CPU s/1000", "peak RSS", "errors", "off by", "PSNR"]
# Loader and track to the comparison of their pixels, or the reason why there is none.
Pixels = Mapping[tuple[str, str], Quality | str]
# Track and loader to the reason why there is no figure.
Missing = Mapping[tuple[str, str], str]


def text(rows: Sequence[Row], pixels: Pixels, missing: Missing, made: Sequence[formats.Made], about: Any) -> str:
    parts = [about, *map(str, made)]
    for track in dict.fromkeys(row.track for row in rows):
        parts += [f"\n{track}: {TRACKS[track]}", _table([row for row in rows if row.track == track], pixels)]
        parts += [f"  {PEERS[name].title}: {why}" for (where, name), why in missing.items() if where == track]
    parts += ["\n" + report.aligned([claims.HEAD, *(verdict.cells() for verdict in claims.judge(rows))], left=3)]
    return "\n".join(parts)


def _table(rows: Sequence[Row], pixels: Pixels) -> str:
    return report.aligned([[*HEAD, "fastshard is"], *(_cells(row, pixels) for row in rows if row.rate)], left=2)


def _cells(row: Row, pixels: Pixels) -> list[str]:
    title, rate, spread, first, cpu, rss, _, errors, ratio = report.cells(row)
    reads = formats.TITLES[formats.needed(PEERS[row.loader], row.track)]
    return [title, reads, rate, spread, first, cpu, rss, errors, *_quality(row, pixels), ratio]


def _quality(row: Row, pixels: Pixels) -> list[str]:
    found = pixels.get((row.loader, STANDS_FOR.get(row.track, "")))
    if isinstance(found, Quality):
        return [str(found.max_difference), f"{found.psnr:.1f} dB" if isfinite(found.psnr) else "same"]
    return [found if found and len(found) < 20 else "-", "-"]
