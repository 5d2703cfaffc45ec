"""Results of searches, read from their folders, and the report that is made of them."""

import csv
import json
import math
import os
import re
import subprocess
import sys
import warnings

import pytest
from typer.testing import CliRunner

import fastshard as fs
from fastshard._cli import app as _cli
from fastshard.tune import _log, _page

tune = fs.tune
LOADER = {"samples": 640, "seconds": 2.0, "wait_seconds": 0.5, "first_batch_ms": 12.0, "cache_hits": 0}


def write(folder, values, method="random", mode="max", **options):
    """A search as engines leave it: for each trial a configuration, and the metric after each epoch."""
    told = {"version": 1, "method": method, "engine": "ray", "metric": "acc", "mode": mode, "seconds": 9.0} | options
    _log.write_json(folder / "search.json", told | {"stopped": "all trials done"})
    for number, (config, metrics) in enumerate(values):
        log = _log.TrialLog(folder, number)
        log.add("start", config=config, epoch=0, restored_from=None)
        for epoch, metric in enumerate(metrics, 1):
            spent = {"epoch": epoch, "fraction": 1.0, "seconds": 2.5 * epoch}
            log.add("report", metrics={"acc": metric}, loader={k: v * epoch for k, v in LOADER.items()}, **spent)
        log.end("finished", seconds=2.5 * len(metrics) + 0.5)
    return tune.Results(folder)


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def results(tmp_path):
    values = [({"lr": 0.1, "act": "relu"}, [0.5, 0.7]), ({"lr": 0.001, "act": "tanh"}, [0.6, 0.9, 0.8])]
    return write(tmp_path / "search", values)


def test_results(results):
    first, second = results.trials
    assert (first.value, first.epochs, first.state) == (0.7, 2, "finished")
    assert (second.value, second.epochs) == (0.9, 3)
    assert results.best == second
    assert first.seconds == 5.5
    assert first.stall_seconds == 1.0
    assert first.startup_seconds == 0.5  # of 2.5 seconds before the first report, 2 were passes over loaders
    assert first.train_seconds == 4.0
    assert first.samples_per_second == 320
    assert first.stall_percent == pytest.approx(100 / 5.5)
    assert "best acc=0.9 with {'lr': 0.001, 'act': 'tanh'}" in repr(results)


def test_the_best_of_the_least(tmp_path):
    results = write(tmp_path, [({"lr": 1}, [3, 2, 4]), ({"lr": 2}, [2.5])], mode="min")
    assert (results.best.number, results.best.value) == (0, 2)


def test_values_that_are_no_numbers(tmp_path):
    results = write(tmp_path, [({"lr": 1}, [math.nan, math.inf]), ({"lr": 2}, [])])
    assert results.best is None
    assert [trial.value for trial in results.trials] == [None, None]
    assert results.trials[0].epochs == 2
    assert "none finished" in repr(results)


def test_a_line_that_was_cut_off_is_left_out(results):
    path = results.path / "trials" / "00001.jsonl"
    for size in range(len(path.read_bytes()), 0, -37):
        path.write_bytes(path.read_bytes()[:size])
        trials = tune.Results(results.path).trials
        assert trials[0] == results.trials[0]
        assert [trial.reports for trial in trials[1:]] in (
            [],
            *([results.trials[1].reports[:count]] for count in range(4)),
        )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("search.json", "{", "search.json"),
        ("search.json", "[1]", "expected a JSON object"),
        ("search.json", '{"metric": "acc"}', "has no 'method'"),
        ("search.json", '{"method": "a", "metric": "acc", "mode": "max", "seconds": "9"}', "'seconds' is '9'"),
    ],
)
def test_damaged_folders(results, name, text, said):
    (results.path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        tune.Results(results.path)


START = '{"event": "start", "config": {"lr": 1}}\n'
GOOD = {"event": "report", "time": 1, "epoch": 1, "fraction": 1, "seconds": 1, "metrics": {"acc": 1}, "loader": LOADER}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no json\n", 1),
        ("[]\n", 1),
        ('{"event": 3}\n', 1),
        ("[" * 100_000 + "\n", 1),
        ('{"event": "report"}\n', 1),
        ('{"event": "start", "config": 3}\n', 1),
        ('{"event": "start", "config": {}, "restored_from": "x"}\n', 1),
        (START + '{"event": "end"}\n', 2),
        (START + '{"event": "end", "state": "failed", "error": 3}\n', 2),
        *(
            (START + json.dumps(GOOD | changed) + "\n", 2)
            for changed in (
                {"metrics": 3},
                {"metrics": {"acc": "high"}},
                {"loader": [1]},
                {"loader": {"samples": 3}},
                {"loader": LOADER | {"seconds": None}},
                {"seconds": "long"},
                {"epoch": None},
                {"epoch": math.inf},
                {"time": 10**400},
            )
        ),
    ],
)
def test_a_damaged_line_costs_no_other_trial(results, text, line):
    file = results.path / "trials" / "00000.jsonl"
    file.write_text(text)
    with pytest.warns(RuntimeWarning, match=f"00000.jsonl: line {line} is no event of a trial, and left out"):
        found = tune.Results(results.path)
    assert found.trials[-1] == results.trials[1]
    assert all(trial.reports == [] for trial in found.trials[:-1])


def test_a_line_that_was_cut_off_in_the_middle_of_a_log(results, tmp_path):
    """As a full disk leaves it where the search then went on: the next event follows in the same line."""
    file = results.path / "trials" / "00001.jsonl"
    start, first, second, third, end = file.read_text().splitlines(keepends=True)
    file.write_text(start + first + second[: len(second) // 2] + start + second + third + end)
    with pytest.warns(RuntimeWarning, match=r"00001\.jsonl: line 3 .* its beginning is left out"):
        found = tune.Results(results.path)
    assert found.trials[0] == results.trials[0]
    assert [report.metrics["acc"] for report in found.trials[1].reports] == [0.6, 0.9, 0.8]
    assert found.trials[1].state == "finished"
    with pytest.warns(RuntimeWarning, match="line 3"):
        tune.report(results.path, tmp_path / "report")
    assert len(read_csv(tmp_path / "report" / "trials.csv")) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = run(results.path)
    assert done.exit_code == 0, done.output
    assert "fastshard: warning: " in done.stderr
    assert "line 3" in done.stderr


def test_formulas_are_text_in_csv_files(tmp_path):
    values = [({"=lr": "=cmd|' /C calc'!A0", "neg": -1.5, "act": "relu"}, [-0.5])]
    results = write(tmp_path / "s", values, method="@random")
    tune.report(results, tmp_path / "report")
    for name in ("trials.csv", "searches.csv"):
        (row,) = read_csv(tmp_path / "report" / name)
        assert row["config/=lr"] == "'=cmd|' /C calc'!A0"
        assert (row["search"], row["config/neg"], row["config/act"]) == ("'@random", "-1.5", "relu")
    assert row["best acc"] == "-0.5"


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results of a search"):
        tune.Results(tmp_path / "gone")
    with pytest.raises(ValueError, match="expected the results of at least one search"):
        tune.report([], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_report_of_one_search(results, tmp_path):
    page = tune.report(results, tmp_path / "report")
    html = page.read_text()
    assert page == tmp_path / "report" / "report.html"
    # Nothing is fetched.
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", html)
    for said in ("Best so far", "Metric over time", "Configurations", "Where the time went", "0.001", "tanh"):
        assert said in html
    rows = read_csv(tmp_path / "report" / "trials.csv")
    assert [row["acc"] for row in rows] == ["0.7", "0.9"]
    columns = {"config/lr", "config/act", "epochs", "data_fraction", "seconds", "samples_per_second", "stall_percent"}
    assert columns | {"first_batch_ms", "state", "error"} <= set(rows[0])
    (search,) = read_csv(tmp_path / "report" / "searches.csv")
    assert (search["trials"], search["best acc"], search["config/act"], search["ended"]) == (
        "2",
        "0.9",
        "tanh",
        "all trials done",
    )


def test_searches_side_by_side(results, tmp_path):
    other = write(tmp_path / "b", [({"lr": 0.5}, [0.95])], method="bayes")
    for given, names in [
        ([results, other.path, other], ["random", "bayes", "bayes 2"]),
        ({"base": str(results.path), "better": other}, ["base", "better"]),
    ]:
        tune.report(given, tmp_path / "report")
        rows = read_csv(tmp_path / "report" / "searches.csv")
        assert [row["search"] for row in rows] == names
        html = (tmp_path / "report" / "report.html").read_text()
        assert all(f"Trials of {name}<" in html for name in names)


def test_a_report_of_a_search_without_trials(tmp_path):
    results = write(tmp_path / "s", [])
    assert "Searches" in tune.report(results, tmp_path / "report").read_text()


def test_names_and_values_are_text(tmp_path):
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    results = write(tmp_path / "s", [({bad: bad, "lr": 1.0}, [0.5]), ({bad: "b", "lr": 2.0}, [0.6])])
    html = tune.report({bad: results}, tmp_path / "report").read_text()
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert html.count("</script>") == html.count("<script")


def test_axes():
    numbers = _page._Axis([1.0, 5.0, 3.0])
    assert [numbers.place(value) for value in (1.0, 3.0, 5.0, None)] == [0, 0.5, 1, None]
    logs = _page._Axis([1e-4, 1e-2, 1.0])
    assert [logs.place(value) for value in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    names = _page._Axis(["relu", "tanh", True])
    assert [names.place(value) for value in (True, "relu", "tanh")] == [0, 0.5, 1]
    assert _page._Axis([2, 2]).place(2) == 0.5


def test_without_plotly(results, tmp_path):
    code = f"""
import sys
sys.modules["plotly"] = None
import fastshard as fs
fs.tune.report({str(results.path)!r}, {str(tmp_path / "report")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: the page needs plotly: pip install 'fastshard[report]'" in done.stderr


def run(*args):
    return CliRunner().invoke(_cli.app, ["report", *map(str, args)], env={"COLUMNS": "200", "NO_COLOR": "1"})


def test_command(results, tmp_path):
    done = run(results.path)
    assert done.exit_code == 0, done.output
    assert "best acc=0.9" in done.output
    assert (results.path / "report" / "report.html").exists()
    other = write(tmp_path / "b", [({"lr": 0.5}, [0.95])], method="bayes")
    assert run(results.path, other.path).exit_code == 2
    assert run(results.path, other.path, "--out", tmp_path / "both").exit_code == 0
    assert (tmp_path / "both" / "trials.csv").read_text().count("\n") == 4
    rows = json.loads(run(results.path, "--json").stdout)
    assert [row["acc"] for row in rows] == [0.7, 0.9]


def test_the_command_follows_no_link_that_is_in_the_search(results, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (results.path / "report").symlink_to(tmp_path / "elsewhere")
    done = run(results.path)
    assert done.exit_code == 1
    assert "is a link; name a folder for the report with --out" in done.stderr
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_command_without_a_search(tmp_path):
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "no results of a search" in done.output


@pytest.mark.parametrize("name", ["search.json", "trials/00000.jsonl"])
def test_a_pipe_is_not_waited_for(results, name):
    (results.path / name).unlink()
    os.mkfifo(results.path / name)
    with pytest.raises(ValueError, match="expected a regular file"):
        tune.Results(results.path)
