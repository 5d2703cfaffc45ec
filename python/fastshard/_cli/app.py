"""The command ``fastshard``: what the Python functions do, with progress bars, tables and errors of one line."""

from __future__ import annotations

import functools
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console

from fastshard import _fastshard
from fastshard._base.escape import printable, printable_lines
from fastshard._base.names import counted
from fastshard._base.write import write_file
from fastshard._dataset import Dataset, Problem
from fastshard._fastshard import FastshardError
from fastshard._load.cache import Cache
from fastshard._load.loader import Loader
from fastshard._pack.pack import pack as pack_dataset
from fastshard._sources.kinds import recognise
from fastshard._transforms.image import RandomCrop
from fastshard._transforms.parse import parse_transform

from .words import spoken

__all__ = ["app", "main"]

P = ParamSpec("P")

INTERRUPTED = 130

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="fastshard",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings=_HELP,
    help="Packs images and their labels once, and then feeds them to training at the speed of the machine.\n\n"
    "[bold]Start here[/bold]\n\n"
    "  fastshard pack photos/ pets/                 a folder for each class\n\n"
    "  fastshard inspect pets/                      what is in it\n\n"
    "  fastshard preview pets/ grid.png             a picture of some samples\n\n"
    "  fastshard bench pets/                        how fast this machine reads it\n\n"
    "  fastshard export pets/ out/ --to folder      files again, also for other libraries\n\n"
    "  fastshard report searches/random/            what a hyperparameter search has found",
)


cache_app = typer.Typer(
    no_args_is_help=True,
    context_settings=_HELP,
    help="The decoded images that loaders keep for each other: list them, fill in ahead, clear.",
)
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Runs the command line and exits."""
    app()


# What fastshard, Python and the packages below raise for input or a machine that isn't as expected. Anything else is a
# bug, which needs its traceback.
_ERRORS = (
    FastshardError,
    ArithmeticError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _guarded(command: Callable[P, None], hint: str = "") -> Callable[P, None]:
    """Turns errors into one line on stderr and exit code 1, and Ctrl-C into exit code 130 and a hint."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with _warnings_as_lines():
                command(*args, **kwargs)
        except (typer.Exit, typer.Abort):  # which are RuntimeErrors
            raise
        except _ERRORS as error:
            _complain(spoken(_message(error), command))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print(file=sys.stderr)
            _complain(f"interrupted{hint}")
            raise typer.Exit(INTERRUPTED) from None

    return run


def _message(error: Exception) -> str:
    # The text of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, MemoryError):
        return text or "not enough memory"
    return text or type(error).__name__


def _say(text: object) -> None:
    """Prints lines on stdout. Names in them are strangers'."""
    print(printable_lines(text))


def _complain(text: str) -> None:
    """Prints one line on stderr."""
    print(f"fastshard: {printable(text)}", file=sys.stderr)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Shows warnings as one line each, without the place in the code."""

    def show(message: Warning | str, *_: object) -> None:
        _complain(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _command(
    hint: str = "", example: str = "", of: typer.Typer = app
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    epilog = f"[bold]For example[/bold]\n\n{example}"
    return lambda command: of.command(epilog=epilog)(_guarded(command, hint))


def _show_version(wanted: bool) -> None:
    if wanted:
        info = _fastshard.build_info()
        details = ", ".join(f"{name} {value}" for name, value in info.items() if name != "version")
        print(f"fastshard {_fastshard.__version__} ({details})")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _size(text: str | None) -> int | tuple[int, int] | None:
    """``256`` or ``224x320`` (height, width)."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) > 2:
        raise typer.BadParameter(f"{text!r}: expected 256 or 224x320 (height, width)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _columns(items: list[str] | None, header: bool) -> list[str | int] | None:
    """Names, or numbers where there are no names."""
    return [item if header or not item.isdecimal() else int(item) for item in items] if items else None


def _window(text: str | None) -> str | tuple[float, float] | None:
    numbers = re.fullmatch(r"\s*(-?[\d.]+)\s*,\s*([\d.]+)\s*", text or "")
    return (float(numbers[1]), float(numbers[2])) if numbers else text


def _missing(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _seekable(text: str) -> bool | str:
    choices: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}
    if text not in choices:
        raise typer.BadParameter(f"--seekable {text}: expected auto, yes or no")
    return choices[text]


def _types(items: list[str] | None, header: bool) -> dict[str | int, str] | None:
    for item in items or ():
        if "=" not in item:
            raise typer.BadParameter(f"{item!r}: expected COLUMN=TYPE, such as age=int32")
    pairs = (item.rsplit("=", 1) for item in items or ())
    return {name if header or not name.isdecimal() else int(name): kind for name, kind in pairs} or None


DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="A folder that `fastshard pack` made.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads; by default all cores it may use.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no report.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Transforms = Annotated[
    list[str] | None, typer.Option("--transform", help="Such as 'RandomResizedCrop(224)'; several in their order.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


@_command(
    hint=": finished shards are kept, and the same command goes on where it was",
    example="fastshard pack photos/ pets/ --resize 256\n\n"
    "fastshard pack nih/ xray/ --csv Data_Entry_2017.csv --label 'Finding Labels' --label-sep '|' "
    "--no-label 'No Finding' --gray\n\n"
    "fastshard pack coco/ coco-val/ --annotations annotations/instances_val2017.json\n\n"
    "fastshard pack pets/ pets-seekable/ --seekable yes\n\n"
    "fastshard pack 'train-{000000..000099}.tar' train/\n\n"
    "fastshard pack HIGGS.csv.gz higgs/ --no-header --label 0 --features all --type 0=int64",
)
def pack(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder of images or audio: a folder for each class, or see --csv; or a ZIP of one. Or a table: .csv, "
            ".tsv (also .gz), .parquet, .arrow, .feather. Or WebDataset .tar, TFRecord, MDS (also .gz). Or a dataset. "
            "Several files: a pattern, such as 'train-{000..009}.tar' or 'data/*.tfrecord'.",
        ),
    ],
    dst: Annotated[str, typer.Argument(metavar="DST", help="Folder of the dataset; appears when all is done.")],
    source: Annotated[
        str | None, typer.Option(help="What SRC is, such as webdataset or folder, where it isn't what it seems.")
    ] = None,
    annotations: Annotated[str | None, typer.Option(help="Of COCO: the JSON file, from here or from SRC.")] = None,
    masks: Annotated[
        bool, typer.Option("--masks", help="Of VOC: SegmentationClass too; images that have one.")
    ] = False,
    zero_based: Annotated[bool, typer.Option("--zero-based", help="VOC and MOT whose pixels count from 0.")] = False,
    drop_unlabeled: Annotated[bool, typer.Option("--drop-unlabeled", help="Leave out images without a box.")] = False,
    annotated: Annotated[
        str,
        typer.Option(help="Boxes in images that EXIF data turns lie in the upright or the stored one; auto: see docs."),
    ] = "auto",
    csv: Annotated[str | None, typer.Option(help="CSV file with a row for each file.")] = None,
    file_column: Annotated[str | None, typer.Option(help="Its column of file names.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Column of labels; can be given several times.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Of a table: columns that become one tensor; 'all' but the label, or one each time."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Their type.")] = "float32",
    missing: Annotated[
        str, typer.Option(help="Empty cells and NaN of a table: error, mean, keep, or a number that stands for them.")
    ] = "error",
    header: Annotated[
        bool, typer.Option(help="Whether a CSV table begins with names; else columns go by number.")
    ] = True,
    label_sep: Annotated[str | None, typer.Option(help="What separates several labels of a cell, such as '|'.")] = None,
    no_label: Annotated[str | None, typer.Option(help="The label that means none, such as 'No Finding'.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="COLUMN=TYPE, such as age=int32.")] = None,
    resize: Annotated[str | None, typer.Option(help="Shorter side, or HEIGHTxWIDTH.")] = None,
    resize_pad: Annotated[str | None, typer.Option(help="Fit into a square, or HEIGHTxWIDTH, and pad.")] = None,
    gray: Annotated[bool, typer.Option("--gray", help="One channel.")] = False,
    encode: Annotated[str | None, typer.Option(help="original, jpeg, png or raw; original unless changed.")] = None,
    quality: Annotated[int, typer.Option(help="Quality of JPEG, 1 to 100.")] = 90,
    seekable: Annotated[
        str,
        typer.Option(help="Re-code JPEGs, without loss, so that crops decode faster: auto (where it pays), yes or no."),
    ] = "auto",
    metadata: Annotated[str, typer.Option(help="Of re-coded JPEGs: keep, or drop EXIF, ICC and comments.")] = "keep",
    shard_size: Annotated[str, typer.Option(help="Largest size of a shard.")] = "256MiB",
    threads: Threads = None,
    shuffle: Annotated[
        bool | None, typer.Option(help="Store the samples in random order (the default, but for datasets).")
    ] = None,
    seed: Seed = 0,
    on_error: Annotated[
        str, typer.Option(help="raise, or skip: leave out what can't be packed, and say so.")
    ] = "raise",
    check: Annotated[
        str, typer.Option(help="header, or decode: decode every file to see whether it can be.")
    ] = "header",
    max_pixels: Annotated[int, typer.Option(help="Refuse images that declare more.")] = 89_478_485,
    follow_symlinks: Annotated[bool, typer.Option("--follow-symlinks", help="Also links that leave SRC.")] = False,
    pickles: Annotated[
        str, typer.Option(help="Pickles in archives: refuse, or bytes, which keeps them as such, unread.")
    ] = "refuse",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    window: Annotated[
        str | None, typer.Option(help="Of DICOM: file (default), auto, stored, or CENTER,WIDTH such as 40,400.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Pack a folder of images or audio, with or without a CSV file, or another source of samples, into a dataset."""
    if not quiet:
        look, kind = recognise(src, has_csv=csv is not None, has_annotations=annotations is not None, source=source)
        # What isn't there is nothing yet; packing says so.
        if all(Path(path).exists() for path in look.paths):
            _say(f"{look}: {kind.title}")
    report = pack_dataset(
        src,
        dst,
        source=source,
        annotations=annotations,
        masks=masks,
        zero_based=zero_based,
        drop_unlabeled=drop_unlabeled,
        annotated=annotated,
        csv=csv,
        file_column=file_column,
        label=_columns(label, header),
        features="all" if features == ["all"] else _columns(features, header),
        dtype=dtype,
        missing=_missing(missing),
        header=header,
        label_sep=label_sep,
        no_label=no_label,
        types=_types(types, header),
        resize=_size(resize),
        resize_pad=_size(resize_pad),
        gray=gray,
        encode=encode,
        quality=quality,
        seekable=_seekable(seekable),
        metadata=metadata,
        shard_size=int(shard_size) if shard_size.isdecimal() else shard_size,
        num_threads=threads,
        shuffle=shuffle,
        seed=seed,
        on_error=on_error,
        check=check,
        max_pixels=max_pixels,
        follow_symlinks=follow_symlinks,
        pickles=pickles,
        overwrite=overwrite,
        progress=False if quiet else None,
        window=_window(window),
    )
    if not quiet:
        _say(report)
    for what, files in (("files without a row", report.unused_files), ("rows without a file", report.missing_files)):
        if files:
            _complain(f"warning: {len(files):,} {what}")


@_command(example="fastshard inspect pets/\n\nfastshard inspect pets/ --json | jq .classes")
def inspect(dataset: DatasetArgument, as_json: AsJson = False) -> None:
    """Show rows, fields, shards, image sizes and class balance."""
    from .inspect import show, summarize

    summary = summarize(Dataset(dataset))
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        show(summary, Console())


@_command(example="fastshard verify pets/\n\nfastshard verify pets/ --decode")
def verify(
    dataset: DatasetArgument,
    decode: Annotated[
        bool, typer.Option("--decode", help="Also decode every image and audio file; list the rows that fail.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Compare every byte with its checksum; name each bad row. Exit code 1 if anything is wrong."""
    opened = Dataset(dataset)
    problems = opened.verify(num_threads=threads, progress=False if quiet else None, decode=decode)
    if problems and decode:
        _complain(f"{dataset}: {counted(len(problems), 'problem')}")
        _show_problems(problems)
        if all(problem.row is not None for problem in problems):
            _complain(f"to train without these rows: ds = fastshard.open({str(dataset)!r}); {_WITHOUT}")
        else:
            _complain("restore shards that are damaged as a whole, or pack the dataset again")
    elif problems:
        for problem in problems:
            _complain(f"{dataset}: {problem}")
    if problems:
        raise typer.Exit(1)
    if not quiet:
        rows, shards = counted(len(opened), "row"), counted(len(opened.manifest["shards"]), "shard")
        _say(f"{dataset}: {rows} in {shards}, all as they were written{', and all decode' if decode else ''}")


_WITHOUT = "ds = ds.without(ds.verify(decode=True))"


def _show_problems(problems: list[Problem]) -> None:
    """A line for each, in columns, on stderr; never cut off, so that it can be searched."""
    cells = [(problem.shard, "" if problem.row is None else str(problem.row)) for problem in problems]
    wide, digits = (max(map(len, column)) for column in zip(("shard", "row"), *cells, strict=True))
    print(f"{'shard':{wide}}  {'row':>{digits}}  problem", file=sys.stderr)
    for (shard, row), problem in zip(cells, problems, strict=True):
        print(printable(f"{shard:{wide}}  {row:>{digits}}  {problem.error}"), file=sys.stderr)


@_command(
    hint=": nothing is left behind",
    example="fastshard export pets/ photos/ --to folder\n\n"
    "fastshard export pets/ tars/ --to webdataset --name train --shard-size 1GB\n\n"
    "fastshard export pets/ parquet/ --to parquet --field image --field label\n\n"
    "fastshard export boxes/ coco/ --to coco --categories instances.json",
)
def export(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the files; appears when all is done.")],
    to: Annotated[str, typer.Option(help="folder (of images), webdataset, parquet, tfrecord or coco.")],
    field: Annotated[list[str] | None, typer.Option(help="Only this field; can be given several times.")] = None,
    label: Annotated[str | None, typer.Option(help="Of folder: the field whose classes become folders.")] = None,
    name: Annotated[str | None, typer.Option(help="What names of files begin with, such as train.")] = None,
    shard_size: Annotated[
        str | None, typer.Option(help="About what a file holds, of webdataset, parquet and tfrecord; 256MiB.")
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="Of coco: a JSON file with a list of {id, name}, or with 'categories'.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of folder and coco; by default all cores.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a dataset as files for other programs: class folders, WebDataset, Parquet, TFRecord or COCO.

    Images come out byte for byte as the dataset stores them, and every row is held against its checksum first.
    """
    from fastshard._export.run import export as export_dataset

    report = export_dataset(
        dataset,
        out,
        to=to,
        fields=field,
        label=label,
        name=name,
        shard_size=int(shard_size) if shard_size is not None and shard_size.isdecimal() else shard_size,
        categories=None if categories is None else _categories(categories),
        num_threads=threads,
        overwrite=overwrite,
        progress=False if quiet else None,
    )
    if not quiet:
        _say(report)


def _categories(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_bytes())
    listed = found.get("categories") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ValueError(f"{path}: expected a JSON list of objects with id and name, or one under 'categories'")
    return listed


@_command(
    example="fastshard preview pets/ grid.png\n\n"
    "fastshard preview pets/ grid.png --count 36 --transform 'RandomResizedCrop(224)' --seed 1"
)
def preview(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.")],
    count: Annotated[int, typer.Option(min=1, max=1024, help="How many samples.")] = 16,
    transform: Transforms = None,
    seed: Seed = 0,
    field: Annotated[
        str | None, typer.Option(help="The image or audio field; by default the first one.", show_default=False)
    ] = None,
) -> None:
    """Draw random samples as training would see them, as PNG: images with boxes, masks and captions, or waveforms."""
    from .preview import file_of
    from .preview import preview as draw

    steps = [parse_transform(text) for text in transform or ()]
    shown = draw(Dataset(dataset), field, count, steps, seed)
    write_file(out, file_of(shown, out.suffix))
    _say(out)


@_command(
    example="fastshard bench pets/\n\n"
    "fastshard bench pets/ --transform 'Resize(256)' --transform 'CenterCrop(224)' --threads 2\n\n"
    "fastshard bench pets/ --trials 3 --step-ms 50"
)
def bench(
    dataset: DatasetArgument,
    transform: Transforms = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a batch.")] = 64,
    threads: Threads = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, after the first batch.")] = 10.0,
    shuffle: Annotated[bool, typer.Option(help="Random order.")] = True,
    seed: Seed = 0,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Instead, start so many processes one after another that share a cache of decoded images, as the "
            "trials of a search do: each reads one epoch, for --seconds at most. The first decodes, the others start "
            "hot.",
        ),
    ] = None,
    step_ms: Annotated[
        float | None,
        typer.Option(min=0, help="With --trials: how long to pretend to train on each batch. Stalls are what is left."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="With --trials: the folder of the cache; by default an empty one, removed in the end."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this dataset on this machine: images a second, first batch, peak memory; or trials that share a cache."""
    from . import bench as _bench
    from . import trials as _trials

    options: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed, "num_threads": threads}
    if trials is not None:
        result = _trials.run(dataset, transform or None, trials, seconds, step_ms or 0.0, cache, options)
        show = _trials.show
    elif step_ms is not None or cache is not None:
        raise typer.BadParameter("--step-ms and --cache are for --trials, such as --trials 3")
    else:
        steps = [parse_transform(text) for text in transform] if transform else None
        result, show = _bench.measure(dataset, steps, seconds, options), _bench.show
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result, Console())


@_command(
    example="fastshard report searches/random-20260131-101500\n\n"
    "fastshard report searches/* --out comparison/                 several side by side"
)
def report(
    searches: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that searches have left.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for the page and the tables; by default DIR/report.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page and CSV files about hyperparameter searches: configurations, metrics, plots, where the time went."""
    from fastshard import tune

    found = [tune.Results(folder) for folder in searches]
    if as_json:
        print(json.dumps([row for results in found for row in results.rows()], indent=2))
        return
    if out is None and len(found) > 1:
        raise typer.BadParameter("several searches need --out, a folder for their comparison")
    for results in found:
        _say(results)
    _say(tune.report(found, out or _report_folder(searches[0])))


def _report_folder(search: Path) -> Path:
    """Where the report of a search goes by default. The search may be a stranger's, and a link in it lead anywhere."""
    folder = search / "report"
    if folder.is_symlink():
        raise ValueError(f"{folder}: is a link; name a folder for the report with --out")
    return folder


CacheFolder = Annotated[
    Path | None, typer.Option("--folder", help="Of the cache; by default $FASTSHARD_CACHE or ~/.cache/fastshard.")
]


@_command(example="fastshard cache ls", of=cache_app)
def ls(folder: CacheFolder = None, as_json: AsJson = False) -> None:
    """Show what is kept: dataset, field, operations, size, last use."""
    entries = Cache(folder).entries()
    if as_json:
        print(json.dumps([vars(entry) for entry in entries], indent=2, default=str))
        return
    for entry in entries:
        size = f"{entry.bytes / 2**20:,.1f} of {entry.full_bytes / 2**20:,.1f} MiB"
        used = "in use" if entry.in_use else f"used {entry.used:%Y-%m-%d %H:%M}"
        _say(f"{' + '.join(entry.datasets)} {entry.field}: {entry.transforms or 'decode'}: {size}, {used}")
    total = sum(entry.bytes for entry in entries)
    _say(f"{Cache(folder).folder}: {len(entries):,} entries, {total / 2**20:,.1f} MiB")


@_command(
    hint=": what is decoded already stays", example="fastshard cache warm pets/ --transform 'Resize(256)'", of=cache_app
)
def warm(
    dataset: DatasetArgument,
    transform: Transforms = None,
    folder: CacheFolder = None,
    max_bytes: Annotated[str | None, typer.Option(help="The most that the cache may take, such as 50GB.")] = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Decode every image once, up to the first random operation, so that every trial finds it done."""
    steps = [parse_transform(text) for text in transform or ()]
    opened = Dataset(dataset)
    images = [field.name for field in opened.fields if field.type == "image"]
    if not images:
        raise ValueError(f"{dataset}: holds no encoded images to decode")
    # One pixel of each image, so that images of all sizes fit in a batch.
    transforms = {name: [*steps, RandomCrop(1)] for name in images}
    options: dict[str, Any] = {"fields": images, "transforms": transforms, "num_threads": threads}
    loader = Loader(opened, 64, cache=Cache(folder, max_bytes), **options)
    stored = loader.warm(progress=False if quiet else None)
    if not quiet:
        _say(f"{stored:,} of {len(opened) * len(images):,} images are in {Cache(folder).folder}")


@_command(example="fastshard cache clear", of=cache_app)
def clear(folder: CacheFolder = None, quiet: Quiet = False) -> None:
    """Remove all that no process is using."""
    count, size = Cache(folder).clear()
    if not quiet:
        print(f"removed {count:,} entries, {size / 2**20:,.1f} MiB")
