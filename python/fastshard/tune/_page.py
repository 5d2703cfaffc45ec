"""The page of a report: tables, and plots by plotly, in one HTML file."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from fastshard._base.escape import html

from ._results import Results, TrialResult

__all__ = ["render"]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1f2933; max-width: 1200px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.15em; margin: 2em 0 .4em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88em; }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e7eb; }
th { background: #f5f7fa; position: sticky; top: 0; } td.text { text-align: left; } tr.best td { background: #e3f8e8; }
tr.failed td { background: #fdecea; } td.text { unicode-bidi: isolate; } p.note { color: #52606d; margin: .2em 0 .8em; }
"""
_COLORS = ("#2563eb", "#d97706", "#059669", "#c026d3", "#dc2626", "#0891b2", "#65a30d", "#7c3aed")
_WIDTH, _HEIGHT = 1160, 420
_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.S)
# Classes that the style knows.
_KINDS = frozenset({"best", "failed"})


def render(searches: Mapping[str, Results]) -> str:
    """The page, as text."""
    title = f"{', '.join(searches)}: {_metric(searches)}"
    plotly = f"<script>{get_plotlyjs()}</script>"
    plots = _plots(searches)
    parts = [f"<h1>{_text(title)}</h1>", _summaries(searches), *plots, _trials(searches)]
    head = f"<meta charset='utf-8'>{_policy([plotly, *plots])}<title>{_text(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}{plotly}</head><body>{''.join(parts)}</body></html>"


def _policy(parts: Iterable[str]) -> str:
    """Tells the browser which scripts are ours, by their hashes, and that the page fetches nothing.

    Names and errors that the page shows are escaped. This is for one that isn't. Plotly sets styles, and makes pictures
    of its plots.
    """
    scripts = [script for part in parts for script in _SCRIPT.findall(part)]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    rules = f"default-src 'none'; base-uri 'none'; form-action 'none'; script-src {allowed}; style-src 'unsafe-inline'"
    return f'<meta http-equiv="Content-Security-Policy" content="{rules}; img-src data: blob:">'


def _text(value: Any) -> str:
    return html(_shown(value))


def _label(value: Any) -> str:
    """Text for Plotly, which draws tags and entities, and puts values in place of ``%{...}``."""
    return _text(value).replace("%", "&#37;")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _table(rows: Iterable[Mapping[str, Any]], classes: Iterable[str]) -> str:
    rows = list(rows)
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) not in (None, "") for row in rows)
    ]
    head = "".join(f"<th>{_text(name.removeprefix('config/').replace('_', ' '))}</th>" for name in names)
    body = "".join(
        f"<tr class='{kind if kind in _KINDS else ''}'>{''.join(_cell(row.get(name)) for name in names)}</tr>"
        for row, kind in zip(rows, classes, strict=True)
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    kind = " class='text'" if isinstance(value, str) else ""
    return f"<td{kind}>{_text(value)}</td>"


def _summaries(searches: Mapping[str, Results]) -> str:
    rows = [{"search": name} | found.summary() for name, found in searches.items()]
    return f"<h2>Searches</h2>{_table(rows, [''] * len(rows))}"


def _trials(searches: Mapping[str, Results]) -> str:
    parts = []
    for name, found in searches.items():
        best = found.best
        kinds = ["best" if best is not None and trial.number == best.number else trial.state for trial in found.trials]
        parts.append(f"<h2>Trials of {_text(name)}</h2>{_table(found.rows(), kinds)}")
    return "".join(parts)


def _plots(searches: Mapping[str, Results]) -> list[str]:
    plots: list[tuple[str, str, Callable[[Mapping[str, Results]], go.Figure]]] = [
        ("Best so far", "The best value that any trial had reported by then.", _best_so_far),
        ("Metric over time", "A line for each trial, a dot for each epoch.", _curves),
        ("Configurations", "A line for each trial; the darker, the better. Click a search to hide it.", _coordinates),
        ("Where the time went", "Seconds of each trial: start-up, waiting for batches, training.", _times),
    ]
    return [
        f"<h2>{title}</h2><p class='note'>{note}</p>{_div(draw(searches), f'plot-{number}')}"
        for number, (title, note, draw) in enumerate(plots)
    ]


def _div(figure: go.Figure, name: str) -> str:
    """Plotly writes the figure as JSON in which no tag can end."""
    figure.update_layout(template="plotly_white", width=_WIDTH, height=_HEIGHT, margin={"t": 20, "b": 60})
    found: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name)
    return found


def _hover(trial: TrialResult) -> str:
    config = "<br>".join(f"{_label(name)}: {_label(value)}" for name, value in trial.config.items())
    return f"trial {trial.number} ({_label(trial.state)})<br>{config}"


def _color(number: int) -> str:
    return _COLORS[number % len(_COLORS)]


def _best_so_far(searches: Mapping[str, Results]) -> go.Figure:
    figure = go.Figure()
    for number, (name, found) in enumerate(searches.items()):
        better = max if found.mode == "max" else min
        reports = sorted((report for trial in found.trials for report in trial.reports), key=lambda report: report.time)
        valued = [(report, value) for report in reports if (value := report.metrics.get(found.metric)) is not None]
        best = list(accumulate((value for _, value in valued), better))
        began = min((report.time - report.seconds for report in reports), default=0.0)
        figure.add_scatter(
            x=[report.time - began for report, _ in valued],
            y=best,
            name=_label(name),
            mode="lines",
            line={"shape": "hv", "color": _color(number)},
        )
    figure.update_layout(
        xaxis_title="seconds since the first trial began", yaxis_title=_label(_metric(searches)), showlegend=True
    )
    return figure


def _metric(searches: Mapping[str, Results]) -> str:
    return ", ".join(sorted({found.metric for found in searches.values()}))


def _curves(searches: Mapping[str, Results]) -> go.Figure:
    figure = go.Figure()
    for number, (name, found) in enumerate(searches.items()):
        for trial in found.trials:
            figure.add_scatter(
                x=[report.seconds for report in trial.reports],
                y=[report.metrics.get(found.metric) for report in trial.reports],
                name=_label(name),
                legendgroup=name,
                showlegend=trial is found.trials[0],
                mode="lines+markers",
                marker={"size": 4},
                line={"width": 1.5, "color": _color(number)},
                opacity=0.7,
                text=_hover(trial),
                hovertemplate="%{y:.4g} after %{x:.1f} s<br>%{text}<extra></extra>",
            )
    figure.update_layout(xaxis_title="seconds since the trial began", yaxis_title=_label(_metric(searches)))
    return figure


def _coordinates(searches: Mapping[str, Results]) -> go.Figure:
    """Parallel coordinates, drawn as lines: they need no WebGL, and show several searches."""
    trials = [trial for found in searches.values() for trial in found.trials if trial.value is not None]
    names = list(dict.fromkeys(name for trial in trials for name in trial.config))
    axes = {name: _Axis([trial.config.get(name) for trial in trials]) for name in names}
    axes = {name: axis for name, axis in axes.items() if len(axis.ticks) > 1}
    value = _Axis([trial.value for trial in trials])
    figure = go.Figure()
    for number, (name, found) in enumerate(searches.items()):
        color = _color(number)
        # Of the legend, whose lines would otherwise be as pale as the first trial's.
        figure.add_scatter(x=[None], y=[None], name=_label(name), legendgroup=name, mode="lines", line={"color": color})
        for trial in found.trials:
            if trial.value is not None:
                places = [axis.place(trial.config.get(key)) for key, axis in axes.items()] + [value.place(trial.value)]
                _add_line(figure, places, name, color, found, trial)
    for at, (title, axis) in enumerate([*axes.items(), (_metric(searches), value)]):
        _add_axis(figure, at, title, axis)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _add_line(
    figure: go.Figure, places: list[float | None], name: str, color: str, found: Results, trial: TrialResult
) -> None:
    height = places[-1] or 0.0
    good = height if found.mode == "max" else 1 - height
    figure.add_scatter(
        x=list(range(len(places))),
        y=places,  # a trial without a value is no line there
        name=_label(name),
        legendgroup=name,
        showlegend=False,
        mode="lines+markers",
        marker={"size": 3},
        opacity=0.12 + 0.88 * good**2,
        line={"color": color, "width": 1 + 1.5 * good},
        text=_hover(trial),
        hovertemplate=f"%{{text}}<br>{_label(found.metric)}: {_label(trial.value)}<extra></extra>",
    )


def _add_axis(figure: go.Figure, at: int, title: str, axis: _Axis) -> None:
    figure.add_vline(x=at, line={"color": "#9aa5b1", "width": 1})
    small = {"showarrow": False, "font": {"size": 10}, "bgcolor": "rgba(255,255,255,0.75)"}
    for place, tick in axis.ticks:
        figure.add_annotation(x=at, y=place, text=_label(tick), xanchor="left", xshift=4, **small)
    figure.add_annotation(x=at, y=-0.12, text=_label(title), showarrow=False)


class _Axis:
    """Where values lie between 0 and 1: numbers by size or, over several magnitudes, by logarithm; others in order."""

    def __init__(self, values: list[Any]) -> None:
        known = [value for value in values if value is not None]
        self._categories: list[Any] | None = None
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
            self._categories = sorted(set(known), key=str)
            count = max(1, len(self._categories) - 1)
            self.ticks = [(at / count, value) for at, value in enumerate(self._categories)]
            return
        low, high = min(known, default=0), max(known, default=1)
        self._log = low > 0 and high / low > 30
        self._low, self._high = self._scaled(low), self._scaled(high)
        marks = sorted(set(known)) if len(set(known)) < 7 else [self._unscaled(at / 4) for at in range(5)]
        self.ticks = [(self.place(mark) or 0.0, mark) for mark in marks]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    def _unscaled(self, place: float) -> float:
        value = self._low + place * (self._high - self._low)
        return math.exp(value) if self._log else value

    def place(self, value: Any) -> float | None:
        """Where it lies, or None for what isn't there."""
        if value is None:
            return None
        if self._categories is not None:
            return self._categories.index(value) / max(1, len(self._categories) - 1)
        spread = self._high - self._low
        return min(1.0, max(0.0, (self._scaled(value) - self._low) / spread)) if spread else 0.5


def _times(searches: Mapping[str, Results]) -> go.Figure:
    figure = go.Figure()
    trials = [(_label(f"{name} {trial.number}"), trial) for name, found in searches.items() for trial in found.trials]
    parts: list[tuple[str, str, Callable[[TrialResult], float]]] = [
        ("training", "#2563eb", lambda trial: trial.train_seconds),
        ("waiting for batches", "#dc2626", lambda trial: trial.stall_seconds),
        ("start-up", "#9aa5b1", lambda trial: trial.startup_seconds),
    ]
    for title, color, seconds in parts:
        heights = [seconds(trial) for _, trial in trials]
        figure.add_bar(x=[name for name, _ in trials], y=heights, name=title, marker_color=color)
    figure.update_layout(barmode="stack", yaxis_title="seconds")
    return figure
