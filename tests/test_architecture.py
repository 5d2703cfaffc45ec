"""Rooms and arrows: who imports whom, held against the tables of ARCHITECTURE.md, in Python and in Rust.

A room is a folder or a module with a line of its own in a table; what has none belongs to the room above it. Imports
inside functions count like all others. Imports that only type checkers see may lead anywhere in their own room, and
elsewhere only where any import may.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / "python" / "fastshard"
CORE = ROOT / "rust" / "fastshard-core" / "src"

# Who imports (a module), whom, and whether at run time.
Edges = set[tuple[str, str, bool]]

# --- Python ----------------------------------------------------------------------------------------------------------


def python_modules(root: Path) -> dict[str, Path]:
    """Dotted names below the package: ``_load.loader``; the package itself is ``__init__``."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def python_edges(root: Path) -> Edges:
    modules = python_modules(root)
    return {
        (module, target, at_run_time)
        for module, path in modules.items()
        for target, at_run_time in imported(path, package_of(module, path), set(modules))
        if target != module
    }


def package_of(module: str, path: Path) -> list[str]:
    if module == "__init__":
        return []
    return module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]


def imported(path: Path, package: list[str], known: set[str]) -> Iterator[tuple[str, bool]]:
    for node, at_run_time in imports(ast.parse(path.read_text())):
        if node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
        elif (node.module or "").split(".")[0] == "fastshard":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        base = [part for part in base if part]
        for name in node.names:
            full = ".".join([*base, name.name])
            target = full if full in known else ".".join(base)
            if target in known:
                yield target, at_run_time


def imports(node: ast.AST, at_run_time: bool = True) -> Iterator[tuple[ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            yield child, at_run_time
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports(child, at_run_time=False)
        else:
            yield from imports(child, at_run_time)


# --- Rust ------------------------------------------------------------------------------------------------------------

PATH = re.compile(r"\b(crate|(?:super::)*super)::((?:\w+::)*)(\w+|\{)")


def rust_modules(root: Path) -> dict[str, Path]:
    found = {}
    for path in root.rglob("*.rs"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "mod" else parts)] = path
    return found


def rust_edges(root: Path) -> Edges:
    modules = rust_modules(root)
    found = set()
    for module, path in modules.items():
        if module.split(".")[-1].endswith("tests") or module == "lib":
            continue
        for target in used(path.read_text(), module, set(modules)):
            if target != module and not module.startswith(f"{target}."):
                found.add((module, target, True))
    return found


def used(text: str, module: str, known: set[str]) -> Iterator[str]:
    text = re.sub(r"//[^\n]*", "", text.split("#[cfg(test)]\nmod ", maxsplit=1)[0])
    here = module.split(".")
    for match in PATH.finditer(text):
        ups = match[1].count("super")
        base = here[: len(here) - ups] if ups else []
        parts = [*base, *match[2].split("::")[:-1]]
        tails = names(text, match.end()) if match[3] == "{" else [match[3]]
        for tail in tails:
            full = [*parts, *(part for part in tail.split("::") if part != "self")]
            # The longest beginning that is a module.
            while full and ".".join(full) not in known:
                full.pop()
            if full:
                yield ".".join(full)


def names(text: str, start: int) -> list[str]:
    """The paths in a list in braces: ``a::b``, ``c`` of ``{a::{b}, c}``."""
    found, prefixes, word = [], [""], ""
    for letter in text[start:]:
        if letter == "{":
            prefixes.append(prefixes[-1] + word.strip())
            word = ""
        elif letter in ",}":
            if word.strip():
                found.append(prefixes[-1] + word.strip().split(" as ")[0])
            word = ""
            if letter == "}":
                prefixes.pop()
                if not prefixes:
                    break
        else:
            word += letter
    return found


# --- the tables ------------------------------------------------------------------------------------------------------


def table(heading: str, text: str) -> dict[str, set[str]]:
    """Rooms by name, and the rooms that each may import; of the table below a heading of ARCHITECTURE.md."""
    section = text.split(f"\n### {heading}\n", maxsplit=1)[1].split("\n#", maxsplit=1)[0]
    lines = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|$", section, re.MULTILINE)
    allowed = {name: set(re.findall(r"`([\w.]+)`", rooms)) for name, rooms in lines}
    assert allowed, f"no table below {heading}"
    assert set().union(*allowed.values()) <= set(allowed), "an arrow to a room without a line"
    return allowed


def room_of(module: str, rooms: Mapping[str, object]) -> str:
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in rooms:
            return ".".join(parts[:end])
    return module


def wrong_arrows(edges: Edges, allowed: Mapping[str, set[str]]) -> list[str]:
    found = []
    for module, target, _ in sorted(edges):
        ours, theirs = room_of(module, allowed), room_of(target, allowed)
        if ours != theirs and theirs not in allowed.get(ours, set()):
            found.append(f"{module} -> {target}: {ours} may not import {theirs}")
    return found


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other: Tarjan's strongly connected components of more than one node."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def graph_of(edges: Edges) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for module, target, at_run_time in edges:
        if at_run_time:
            graph.setdefault(module, set()).add(target)
    return graph


ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
LANGUAGES = {
    "Python": (python_edges, PYTHON, python_modules),
    "Rust": (rust_edges, CORE, rust_modules),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_arrows_are_those_of_the_table(language):
    edges, root, _ = LANGUAGES[language]
    assert wrong_arrows(edges(root), table(language, ARCHITECTURE)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_circles(language):
    edges, root, _ = LANGUAGES[language]
    assert circles(graph_of(edges(root))) == []
    assert circles(table(language, ARCHITECTURE)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_room_of_the_table_is_there(language):
    _, root, modules = LANGUAGES[language]
    known = modules(root)
    allowed = table(language, ARCHITECTURE)
    assert [room for room in allowed if room not in known] == []
    assert sorted({room_of(module, allowed) for module in known} - set(allowed) - {"lib"}) == []


def test_wrong_arrows_and_circles_are_found(tmp_path):
    """Of each way to write an import."""
    files = {
        "_base/check.py": "from fastshard._load import loader",
        "_base/names.py": "def f():\n    from .check import x",
        "_load/loader.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .._base.names import y",
        "_load/__init__.py": "from ._passes import z",
        "_load/_passes.py": "from fastshard._load import z",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    edges = python_edges(tmp_path)
    assert wrong_arrows(edges, {"_base": set(), "_load": {"_base"}}) == [
        "_base.check -> _load.loader: _base may not import _load"
    ]
    assert ("_base.names", "_base.check", True) in edges
    assert ("_load.loader", "_base.names", False) in edges
    assert circles(graph_of(edges)) == [["_load", "_load._passes"]]


def test_rust_paths_are_read(tmp_path):
    files = {
        "lib.rs": "mod a; mod b;",
        "a/mod.rs": "use crate::b::{self, c::{D, E as F}};",
        "a/x.rs": "fn f() { super::y::g(); crate::b::h() }\n#[cfg(test)]\nmod tests { use crate::b::only_tests::X; }",
        "a/y.rs": "// crate::b::c is only named here\nuse super::Thing;",
        "b/mod.rs": "",
        "b/c.rs": "use super::super::a::x;",
        "b/only_tests.rs": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert {edge[:2] for edge in rust_edges(tmp_path)} == {
        ("a", "b"),
        ("a", "b.c"),
        ("a.x", "a.y"),
        ("a.x", "b"),
        ("b.c", "a.x"),
    }
