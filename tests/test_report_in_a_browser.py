"""The report's page in a real browser: hostile names are shown, and nothing of theirs runs."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest

import fastshard as fs
from fastshard._base import escape as _escape

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
OWNED = "document.title='owned';document.documentElement.dataset.owned=1"
TEXTS = {
    "script": f"<script>{OWNED}</script>",
    "image": f'<img src=x onerror="{OWNED}">',
    "attribute": f'\'><img src=x onerror="{OWNED}">',
    "quotes": f'"\'><svg onload="{OWNED}">',
    "island": f"</script><script>{OWNED}</script>",
    "comment": f"--><script>{OWNED}</script><!--",
    "title": f"</title><script>{OWNED}</script>",
    "link": f'<a href="javascript:{OWNED}" onmouseover="{OWNED}">link</a>',
    "template": "%{x} {{7*7}} ${7*7} &lt;b&gt;",
    "turned": "abc\u202egpj.exe",
    "escape": "\x1b]0;owned\x07",
}


def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        # Not a skipped test: without it nobody would notice.
        pytest.fail(f"no browser ({', '.join(BROWSERS)}); run scripts/apt-install chromium-headless-shell")
    return found


def opened(page, tmp_path):
    """The page as it is after its scripts have run."""
    command = [browser(), "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


class Page(html.parser.HTMLParser):
    """Title, texts and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.title, self.cells, self.drawn, self.tags, self.handlers, self.root = "", [], [], set(), [], {}
        self._in = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "html":
            self.root = dict(attrs)
        if tag in ("td", "th", "text", "tspan", "title"):
            self._in.append(tag)
            {"td": self.cells, "th": self.cells}.get(tag, self.drawn).append("")

    def handle_endtag(self, tag):
        if self._in[-1:] == [tag]:
            self._in.pop()

    def handle_data(self, text):
        inside = self._in[-1] if self._in else None
        if inside in ("td", "th"):
            self.cells[-1] += text
        elif inside in ("text", "tspan"):
            self.drawn[-1] += text
        elif inside == "title" and "svg" not in self.tags:
            self.title += text


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A search that somebody else made: every text in it is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    everything = "".join(TEXTS.values())
    told = {"version": 1, "mode": "max", "metric": "acc" + everything, "seconds": 3.0, "options": {}, "epochs": 2}
    told |= dict.fromkeys(("method", "engine", "stopped", "data_fraction"), everything)
    (folder / "trials").mkdir()
    (folder / "search.json").write_text(json.dumps(told))
    for number, value in enumerate([0.5, 0.9, 0.7]):
        config = {name + text: text + str(number) for name, text in TEXTS.items()} | {"lr": number / 7}
        loader = {"seconds": 0.5, "samples": 5, "wait_seconds": 0.1, "first_batch_ms": 3.0}
        report = {"time": 2.0, "epoch": 1, "fraction": 1.0, "seconds": 1.0, "metrics": {told["metric"]: value}}
        events = [
            {"event": "start", "time": 1.0, "config": config, "epoch": 0, "restored_from": None},
            {"event": "report", **report, "loader": loader},
            {"event": "end", "time": 3.0, "state": everything, "error": everything, "fatal": False, "seconds": 2.0},
        ]
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (folder / "trials" / f"{number:05}.jsonl").write_text(lines)
    return fs.tune.report({everything: folder}, folder / "report")


def check_nothing_ran(page):
    assert page.title != "owned"
    assert "data-owned" not in page.root
    assert not page.tags & {"img", "iframe", "object", "embed"}
    assert not page.handlers


def check_texts_are_shown(page):
    for name, text in TEXTS.items():
        shown = _escape.printable(text)
        assert name + shown in page.cells  # the header of its column
        for number in range(3):
            assert shown + str(number) in page.cells
    assert any(cell == _escape.printable("".join(TEXTS.values())) for cell in page.cells)


def test_nothing_runs_and_all_is_shown(report, tmp_path):
    page = Page(opened(report, tmp_path))
    check_nothing_ran(page)
    check_texts_are_shown(page)
    assert "svg" in page.tags  # the plots are drawn, so the page's own scripts ran
    assert any(_escape.printable(TEXTS["script"]) in text for text in page.drawn)


HOVER = """
<script>
document.querySelectorAll(".plotly-graph-div").forEach(function (plot) {
  (plot.data || []).forEach(function (_, curve) {
    try { Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: 0}]); } catch (error) { console.log(error); }
  });
});
document.documentElement.dataset.hovered = document.querySelectorAll(".hovertext").length;
</script></body>"""


def test_escaping_alone_is_enough(report, tmp_path):
    """Without the policy that forbids foreign scripts, and with the plots' labels shown."""
    text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    assert count == 1
    bare = tmp_path / "bare.html"
    bare.write_text(text.replace("</body>", HOVER))
    page = Page(opened(bare, tmp_path))
    check_nothing_ran(page)
    check_texts_are_shown(page)
    assert int(page.root["data-hovered"]) > 0
    assert any("acc" in text and "%{x}" in text for text in page.drawn)


def test_the_policy_alone_is_enough(report, tmp_path):
    """A text that somebody forgot to escape."""
    injected = tmp_path / "injected.html"
    text = report.read_text().replace("<h1>", f"<h1>{TEXTS['script']}{TEXTS['image']}", 1)
    injected.write_text(text)
    page = Page(opened(injected, tmp_path))
    assert page.title != "owned"
    assert "data-owned" not in page.root
    # The test itself can fail: without the policy it runs.
    injected.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text))
    assert Page(opened(injected, tmp_path)).title == "owned"
