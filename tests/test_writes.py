"""Files are written, renamed and removed in one place, which survives full disks, kills and other people's links."""

import ast
import errno
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import fastshard as fs
from fastshard._base import write

ROOT = Path(__file__).parent.parent

# --- nobody else writes ----------------------------------------------------------------------------------------------

# Methods and functions that write, rename or remove, by name; then those that only modules of these names have.
WRITES = {
    *("write_text", "write_bytes", "touch", "unlink", "rename", "rmtree", "rmdir", "removedirs", "renames", "move"),
    *("copyfile", "copytree", "copy2", "copyfileobj", "symlink_to", "hardlink_to", "mkstemp"),
    *("mkdtemp", "NamedTemporaryFile", "TemporaryFile", "ftruncate", "truncate", "fsync", "fdatasync", "pwrite"),
    *("memmap", "tofile", "savez", "savez_compressed", "output_stream", "mkfifo"),
}
OF_MODULES = {"os", "shutil", "pq", "feather", "csv"}
OF_THEM = {"remove", "replace", "write", "link", "symlink", "write_table", "write_feather", "write_csv"}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            of = node.func
            owner = of.value.id if isinstance(of, ast.Attribute) and isinstance(of.value, ast.Name) else None
            name = of.attr if isinstance(of, ast.Attribute) else getattr(of, "id", "")
            yield node, owner, name


def opens_for_writing(node, owner, name):
    if name not in ("open", "fdopen", "OSFile", "memory_map"):
        return False
    if owner == "os" and name == "open":
        return not ast.unparse(node.args[1]).startswith("os.O_RDONLY")
    # open(path, mode), path.open(mode): reading is what has no letter of writing.
    given = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    given += [one.value.value for one in node.keywords if one.arg == "mode" and isinstance(one.value, ast.Constant)]
    return any(re.fullmatch("[rwxabt+]{1,3}", mode) and set(mode) & set("wxa+") for mode in given)


def writes(path):
    for node, owner, name in calls(path):
        is_path = name == "replace" and len(node.args) == 1 and not node.keywords and owner != "dataclasses"
        if owner in ("write", "_write"):
            continue
        if name in WRITES or (owner in OF_MODULES and name in OF_THEM) or is_path:
            yield node.lineno, name
        elif opens_for_writing(node, owner, name):
            yield node.lineno, "open"


def test_python_writes_in_one_module():
    found = {
        f"{path.name}:{line} {name}"
        for path in (ROOT / "python").rglob("*.py")
        if path.relative_to(ROOT / "python/fastshard") != Path("_base/write.py")
        for line, name in writes(path)
    }
    assert not found, "these belong into _base/write.py"


def test_what_writes_is_found(tmp_path):
    code = tmp_path / "code.py"
    lines = [
        "open(path, 'w')",
        "Path(path).open('xb', 0)",
        "open(path, mode='r+b')",
        "os.open(path, os.O_WRONLY)",
        "path.replace(other)",
        "os.replace(path, other)",
        "path.write_text('')",
        "shutil.rmtree(path)",
        "os.write(file, b'')",
        "pa.OSFile(path, 'wb')",
    ]
    code.write_text(
        "\n".join(
            [*lines, "open(path, 'rb')", "text.replace('a', 'b')", "os.open(path, os.O_RDONLY)", "write.rename(a, b)"]
        )
    )
    assert [line for line, _ in writes(code)] == list(range(1, 1 + len(lines)))


RUST = re.compile(
    r"File::create|OpenOptions|fs::(rename|remove|create|write|copy|hard_link|set_perm)|renameat|unlinkat|syncfs|mkdirat"
)


def test_rust_writes_in_one_module():
    found = {}
    for path in (ROOT / "rust").rglob("src/**/*.rs"):
        code = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
        if path.name not in ("disk.rs", "tests.rs") and (match := RUST.search(code)):
            found[path.name] = match.group()
    assert not found, "these belong into disk.rs"


# --- single files ----------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path):
    path = tmp_path / "state.json"
    write.write_file(path, "old")
    path.chmod(0o640)
    write.write_file(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_what_a_killed_process_left_is_used_and_goes(tmp_path):
    (tmp_path / ".state.json.tmp").write_text("half of something longer")
    write.write_file(tmp_path / "state.json", "new")
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"state.json": "new"}


@pytest.mark.parametrize("plant", [lambda link, mine: link.symlink_to(mine), lambda link, mine: link.hardlink_to(mine)])
def test_no_link_under_a_name_that_can_be_foreseen_is_written_through(tmp_path, plant):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    plant(tmp_path / ".state.json.tmp", mine)
    with pytest.raises(OSError, match=r"\.state\.json\.tmp"):
        write.write_file(tmp_path / "state.json", "new")
    assert mine.read_text() == "precious"


def test_a_link_of_ones_own_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there/file")
    write.write_file(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/file").read_text() == "new"


def test_pipes_and_devices_stay():
    code = "from fastshard._base import write; write.write_file('/dev/stdout', 'to a pipe')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"to a pipe"
    assert Path("/dev/stdout").is_symlink()


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3]))
    write.write_file(tmp_path / "a", b"0123456789")
    assert write.new_file(tmp_path / "b", b"0123456789") == 10
    write.append_lines(tmp_path / "c", "one line\n")
    found = [(tmp_path / name).read_bytes() for name in "abc"]
    assert found == [b"0123456789", b"0123456789", b"one line\n"]


def test_lines_are_there_as_a_whole_or_not(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n{"b": ')  # as a kill leaves it
    write.append_lines(path, '{"c": 3}\n')
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'
    real = os.write

    def full(file, data):
        if len(data) < 9:
            raise OSError(errno.ENOSPC, "full")
        return real(file, data[:5])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        write.append_lines(path, '{"d": 4}\n')
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'


# --- folders ---------------------------------------------------------------------------------------------------------


def rows(count):
    return [{"n": number, "text": "x" * number} for number in range(count)]


def test_a_checkpoint_that_lost_its_name_is_found(tmp_path):
    from fastshard.tune import _worker

    for left in (".00000.replaced", ".00000-abc.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "model").write_text(left)
        _worker._recover(tmp_path / "00000")
        assert (tmp_path / "00000/model").read_text() == left
        assert [one.name for one in tmp_path.iterdir()] == ["00000"]
        (tmp_path / "00000/model").unlink()
        (tmp_path / "00000").rmdir()


def test_the_next_pack_removes_what_a_killed_one_replaced(tmp_path):
    ds = tmp_path / "ds"
    fs.pack(iter(rows(3)), ds, progress=False)
    (ds / "lock").touch()  # published, but killed while it removed the old one
    old = tmp_path / "ds.partial"
    old.mkdir()
    (old / "shard-00001.arrow").write_bytes(b"part of the old one, its manifest is gone")
    with pytest.raises(FileExistsError):
        fs.pack(iter(rows(5)), ds, progress=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ds"]
    assert sorted(one.name for one in ds.iterdir()) == ["manifest.json", "shard-00000.arrow"]
    assert len(fs.open(ds)) == 3


def test_what_is_somebody_elses_stays(tmp_path):
    ds = tmp_path / "ds"
    fs.pack(iter(rows(3)), ds, progress=False)
    (tmp_path / "ds.partial").mkdir()
    (tmp_path / "ds.partial/thesis.tex").write_text("x")
    (ds / "lock").touch()
    with pytest.raises((OSError, ValueError), match=r"ds\.partial"):
        fs.pack(iter(rows(5)), ds, progress=False, overwrite=True)
    assert (tmp_path / "ds.partial/thesis.tex").exists()
    assert len(fs.open(ds)) == 3


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / "ds.partial").mkdir()
    (tmp_path / "ds.partial/lock").symlink_to(mine)
    with pytest.raises(OSError, match=r"ds\.partial/lock"):
        fs.pack(iter(rows(3)), tmp_path / "ds", progress=False)
    assert mine.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
@pytest.mark.parametrize("suffix", ["partial", "exporting"])
def test_no_folder_of_another_user_is_used(tmp_path, suffix):
    fs.pack(iter(rows(3)), tmp_path / "source", progress=False)
    left = tmp_path / f"new.{suffix}"
    left.mkdir()
    os.chown(left, 65534, 65534)
    write = {
        "partial": lambda path: fs.pack(iter(rows(3)), path, progress=False),
        "exporting": lambda path: fs.export(tmp_path / "source", path, to="webdataset", progress=False),
    }
    with pytest.raises((ValueError, PermissionError), match=r"another user \(uid 65534\)"):
        write[suffix](tmp_path / "new")
    assert list(left.iterdir()) == []


FULL = """
import resource, signal, sys
import fastshard as fs
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
fs.export(sys.argv[1], sys.argv[2], to=sys.argv[3], progress=False)
"""


@pytest.mark.parametrize("to", ["folder", "webdataset", "parquet", "tfrecord"])
def test_an_export_that_does_not_fit_is_an_error(tmp_path, to):
    import io

    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)).save(file, "PNG")
    fs.pack(iter([{"image": file.getvalue()}]), tmp_path / "ds", progress=False)
    command = [sys.executable, "-c", FULL, str(tmp_path / "ds"), str(tmp_path / "out"), to]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["ds"]


def test_a_replaced_dataset_that_can_not_be_removed_is_told(tmp_path, monkeypatch):
    fs.pack(iter(rows(3)), tmp_path / "source", progress=False)
    fs.export(tmp_path / "source", tmp_path / "out", to="webdataset", progress=False)

    def refuse(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(write, "_remove_folder", refuse)
    with pytest.warns(UserWarning, match=r"out: written, but what it replaced could not be removed.*broken"):
        fs.export(tmp_path / "source", tmp_path / "out", to="parquet", progress=False, overwrite=True)
    monkeypatch.undo()
    assert json.loads((tmp_path / "out/.fastshard-export.json").read_text())["to"] == "parquet"
    fs.export(tmp_path / "source", tmp_path / "out", to="tfrecord", progress=False, overwrite=True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out", "source"]
