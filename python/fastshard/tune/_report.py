"""The report of one search, or of several side by side: CSV for programs, and a page for people."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastshard._base import write
from fastshard._base.escape import csv_value

from ._results import Results

__all__ = ["report"]

Given = Results | str | os.PathLike[str]


def report(results: Given | Iterable[Given] | Mapping[str, Given], path: str | os.PathLike[str]) -> Path:
    """Writes ``trials.csv``, ``searches.csv`` and ``report.html`` into the folder ``path``; gives the page's path.

    - ``results``: of one search, or the folder of one; a list of them, or a dict by name, to compare searches.

    The page needs no other file and no network. It has a row for each search and for each trial (configuration, metric,
    duration, epochs, data fraction, samples a second, stall, time to the first batch), and plots: the metric of each
    trial over time, the best so far, parallel coordinates of all configurations, and where the time went. It can be
    written while a search runs. Files of an earlier report are replaced. In the CSV files, a text that a spreadsheet
    would take for a formula begins with an apostrophe.

    Raises ImportError without plotly, FileNotFoundError for folders without a search, and ValueError for damaged ones.
    """
    searches = _searches(results)
    html = _page(searches)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    trials = [{"search": name} | row for name, found in searches.items() for row in found.rows()]
    _write_csv(folder / "trials.csv", trials)
    _write_csv(folder / "searches.csv", [{"search": name} | found.summary() for name, found in searches.items()])
    page = folder / "report.html"
    write.write_file(page, html)
    return page


def _page(searches: Mapping[str, Results]) -> str:
    try:
        from . import _page as page
    except ImportError as error:
        raise ImportError(f"the page needs plotly: pip install 'fastshard[report]' ({error})") from None
    return page.render(searches)


def _searches(results: Given | Iterable[Given] | Mapping[str, Given]) -> dict[str, Results]:
    if isinstance(results, (Results, str, os.PathLike)):
        results = [results]
    if isinstance(results, Mapping):
        named = {str(name): _opened(one) for name, one in results.items()}
    else:
        named = {}
        for found in map(_opened, results):
            name, number = found.method, 2
            while name in named:
                name, number = f"{found.method} {number}", number + 1
            named[name] = found
    if not named:
        raise ValueError(f"results={results!r}: expected the results of at least one search")
    return named


def _opened(given: Given) -> Results:
    # Read anew: a search may have gone on.
    return Results(given.path if isinstance(given, Results) else given)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    # People open these in a spreadsheet, and names and errors are strangers'.
    rows = [{csv_value(name): csv_value(value) for name, value in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write.write_file(path, text.getvalue())
