"""SPDL: a pipeline whose threads decode, crop and scale with FFmpeg, a batch a task."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import spdl.io
from spdl.pipeline import PipelineBuilder

from job import SIDE, XRAY_SIDE, Images, Job, Stream, list_files
from peers.windows import window


def stream(job: Job) -> Stream:
    files, _ = list_files(job.photos)

    def batches() -> Iterator[Images]:
        pipeline = (
            PipelineBuilder()
            .add_source(_shuffled(files, job))
            .aggregate(job.batch)
            .pipe(partial(_batch, job.track), concurrency=job.workers)
            .add_sink(3)
            .build(num_threads=job.workers)
        )
        with pipeline.auto_stop():
            yield from pipeline

    return batches


def _shuffled(files: list[str], job: Job) -> Iterator[str]:
    while True:
        yield from random.sample(files, len(files)) if job.shuffle else files


def _batch(track: str, paths: list[str]) -> Any:
    frames = [_picture(track, path) for path in paths]
    if track == "decode":
        return [spdl.io.to_numpy(spdl.io.convert_frames(frame)) for frame in frames]
    return spdl.io.to_numpy(spdl.io.convert_frames(frames))


def _picture(track: str, path: str) -> Any:
    packets = spdl.io.demux_image(path)
    return spdl.io.decode_packets(packets, filter_desc=_filters(track, packets.height, packets.width))


def _filters(track: str, height: int, width: int) -> str:
    if track == "decode":
        return "format=pix_fmts=rgb24"
    if track == "xray":
        fit = f"scale={XRAY_SIDE}:{XRAY_SIDE}:force_original_aspect_ratio=decrease:flags=bilinear"
        return f"{fit},pad={XRAY_SIDE}:{XRAY_SIDE}:-1:-1,format=pix_fmts=gray"
    top, left, high, wide = window(track, height, width)
    flip = ",hflip" if track in ("train", "large") and random.random() < 0.5 else ""
    scale = f"scale={SIDE}:{SIDE}:flags=bilinear"
    return f"crop={wide}:{high}:{left}:{top}:exact=1,{scale}{flip},format=pix_fmts=rgb24"
