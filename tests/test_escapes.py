"""Names and texts that strangers chose, on a terminal, in a page and in a spreadsheet."""

import io
import os
import sys

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

import fastshard as fs
from fastshard._base import escape as _escape
from fastshard._base.progress import progress_bar
from fastshard._cli import app as _cli
from fastshard._cli import words as _cli_words

HOSTILE = [
    "\x1b]0;owned\x07\x1b[2Jcat",
    "new\nfastshard: all is well",
    "a\r\tb",
    "[red]cat",
    "[/]",
    "[/foo]",
    "[link=http://evil.example]cat[/link]",
    ":smile:",
    "abc\u202egpj.exe",
    "\u2066isolated\u2069\u200f",
    "\x9b31m",
    "line\u2028separator",
    "tag\U000e0041",
    "back\\",
]


def run(*args):
    return CliRunner().invoke(_cli.app, [str(arg) for arg in args], env={"COLUMNS": "300", "NO_COLOR": "1"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, with = signs", "plain text, with = signs"),
        ("größe 図 e\u0301 👩\u200d👧", "größe 図 e\u0301 👩\u200d👧"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\x1b[31m\x07\x00\x7f\x9b", r"\x1b[31m\x07\x00\x7f\x9b"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202e\u2028\ufeff\U000e0041", r"\u202e\u2028\ufeff\U000e0041"),
        (os.fsdecode(b"\xff\xfe.jpg"), r"\xff\xfe.jpg"),
        ("\ud800", r"\ud800"),
        (17, "17"),
    ],
)
def test_printable(text, shown):
    assert _escape.printable(text) == shown
    shown.encode()


def test_lines_stay_lines():
    assert _escape.printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_is_no_markup(text):
    out = io.StringIO()
    table = Table("name")
    table.add_row(_escape.cell(text))
    Console(file=out, width=200, force_terminal=True, color_system="truecolor").print(table)
    assert _escape.printable(text) in out.getvalue()


def test_html():
    assert (
        _escape.html("<b title='x' alt=\"y\">&\x1b\n") == "&lt;b title=&#x27;x&#x27; alt=&quot;y&quot;&gt;&amp;\\x1b\n"
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("a;=1", "a;'=1"),
        ("a\n=1", "a\n'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1, b=-2", "a=1, b=-2"),
        ("", ""),
        (-1.5, -1.5),
        (None, None),
    ],
)
def test_csv(value, written):
    assert _escape.csv_value(value) == written


@pytest.mark.parametrize("name", HOSTILE)
def test_inspecting_a_dataset_of_strange_names(tmp_path, name):
    fs.pack([{"label": 0, name: 1.0}], tmp_path / "ds", class_names={"label": [name]})
    done = run("inspect", tmp_path / "ds")
    assert done.exit_code == 0, done.output
    shown = _escape.printable(name)
    lines = done.stdout.splitlines()
    assert any(shown in line and "100.0%" in line for line in lines)  # the class
    assert any(shown in line and "scalar" in line for line in lines)  # the field
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in repr(fs.open(tmp_path / "ds")).splitlines())


NAMES = [b"\x1b]0;owned\x07\x1b[31m.jpg", b"new\nfastshard: all is well.jpg", b"\xe2\x80\xae.jpg"]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_strange_names(tmp_path, photo_folder, name):
    folder = tmp_path / "src" / "cat"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes((photo_folder / "cat" / "0.jpg").read_bytes())
    path = os.fsencode(folder) + b"/" + name
    with open(path, "wb") as file:  # noqa: PTH123 - a name that is no text
        file.write(b"no image")
    for options in ((), ("--on-error", "skip")):
        done = run("pack", tmp_path / "src", tmp_path / "ds", *options)
        assert done.exit_code == (0 if options else 1), done.output
        for line in done.output.splitlines():
            assert line.isprintable()
            assert not line.startswith("fastshard: all is well")
        assert done.stderr.count("\n") == (0 if options else 1)
        # What the core says of a file, it says without the bytes that are no text.
        assert _escape.printable(os.fsdecode(name)) in done.output or b"\xff" in name


def test_errors_of_the_core_are_one_line_in_python_too(tmp_path):
    (tmp_path / "a\x1b[31m\n\u202e.jpg").write_bytes(b"no image")
    with pytest.raises(fs.DecodeError) as raised:
        fs.pack(tmp_path, tmp_path.with_name("ds"))
    assert str(raised.value).startswith(r"a\x1b[31m\n\u202e.jpg: not an image")
    assert str(raised.value).isprintable()


def test_a_name_that_is_no_text(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"no image")
    done = run("pack", tmp_path, tmp_path.with_name("ds"))
    assert done.exit_code == 1
    assert r"\xff\xfe.jpg" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_report_is_printable(tmp_path):
    report = fs.PackReport(
        tmp_path, 1, 1, 1, 0, 1.0, (fs.SkippedRow(0, "\x1b\n", "\x1b"),), ("\x1b",), (), ((1, "\n"),)
    )
    assert all(line.isprintable() for line in str(report).splitlines())


def test_a_problem_is_one_line():
    assert str(fs.Problem("shard\x1b", 3, "bad\nrow")) == r"shard\x1b, row 3: bad\nrow"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("replace it with overwrite=True", "replace it with --overwrite"),
        ("leave them out with on_error='skip'", "leave them out with --on-error skip"),
        ("a CSV file is given with csv=, beside it", "a CSV file is given with --csv, beside it"),
        ("label_sep='|': needs csv=", "--label-sep '|': needs --csv"),
        ("types={'a': 'b'}: bad", "--type {'a': 'b'}: bad"),
        ("label=['a', 'b c'] needs csv= or a table", "--label a --label 'b c' needs --csv or a table"),
        ("num_threads=0: expected more", "--threads 0: expected more"),
        ("seekable=True", "--seekable yes"),
        ("shuffle=False", "--no-shuffle"),
        ("masks=False", "no --masks"),
        ("dst='a b': lies in the source", "DST 'a b': lies in the source"),
        ("/data/csv=1/overwrite=True.jpg: not an image", "/data/csv=1/overwrite=True.jpg: not an image"),
        ("cat-overwrite=True", "cat-overwrite=True"),
        ("my_label=3", "my_label=3"),
    ],
)
def test_messages_in_the_words_of_the_command_line(message, said):
    assert _cli_words.spoken(message, _cli.pack) == said


@pytest.mark.parametrize(
    "error",
    [
        fs.FastshardError("bad"),
        fs.DecodeError("bad"),
        RuntimeError("bad"),
        MemoryError(),
        OverflowError("bad"),
        IndexError("bad"),
        KeyError("bad"),
        ValueError(),
        OSError(28, "No space left on device", "x"),
        NotImplementedError("bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_one_line(monkeypatch, error):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr(_cli, "pack_dataset", fails)
    done = run("pack", "a", "b", "-q")
    assert done.exit_code == 1
    assert done.stderr.startswith("fastshard: ")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) > len("fastshard: \n")
    assert done.exception is None or isinstance(done.exception, SystemExit)


class TestProgress:
    @pytest.fixture
    def notebook(self, monkeypatch):
        """A kernel of Jupyter, as Rich recognises it, without ipywidgets."""
        shell = type("ZMQInteractiveShell", (), {})
        monkeypatch.setattr("builtins.get_ipython", shell, raising=False)
        monkeypatch.setitem(sys.modules, "ipywidgets", None)

    def test_a_notebook_without_widgets_gets_a_line_of_text(self, notebook, capsys):
        with progress_bar("packing", True) as update:
            update(10, 2000)
            update(2000, 2000, 3)
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == "\rpacking: 10 of 2,000, 0 s\rpacking: 2,000 of 2,000, 0 s, 3 skipped\n"

    def test_bytes(self, notebook, capsys):
        with progress_bar("verifying", True, in_bytes=True) as update:
            update(5 << 20, 0)
        assert "\rverifying: 5 MiB, 0 s\n" in capsys.readouterr().err

    def test_silence(self, notebook, capsys):
        for show in (False, None):
            with progress_bar("packing", show) as update:
                update(1, 2)
        assert capsys.readouterr().err == ""
