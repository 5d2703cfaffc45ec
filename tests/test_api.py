"""The public face: its names, and what importing it costs."""

import inspect
import pickle
import subprocess
import sys
import textwrap

import pytest

import fastshard as fs

HEAVY = ["torch", "tensorflow", "keras", "lightning", "datasets", "pandas", "rich", "typer", "PIL", "pyarrow"]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_all_names_what_there_is():
    public = {name for name, value in vars(fs).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert set(fs.__all__) - {"__version__"} == public - {"TYPE_CHECKING", "Any"}
    assert len(set(fs.__all__)) == len(fs.__all__)


def test_every_public_name_has_a_docstring():
    for name in fs.__all__:
        value = getattr(fs, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name


def test_all_steps_are_transforms():
    steps = [fs.Resize(8), fs.PadSequence(), fs.Truncate(3), fs.Mono(), fs.Standardize(), fs.MixUp(), fs.Lambda(dict)]
    steps += [fs.ConvertBoundingBoxFormat("xywh"), fs.SanitizeBoundingBoxes(), fs.InstanceMasks(), fs.RandAugment()]
    for step in steps:
        assert isinstance(step, fs.Transform), step
        assert pickle.loads(pickle.dumps(step)) == step
        assert repr(step).startswith(type(step).__name__ + "(")
    assert not issubclass(fs.Buckets, fs.Transform)


def test_options_of_loaders_are_named(packed):
    """Eighteen options by their place would be read wrong sooner or later."""
    with pytest.raises(TypeError, match="positional"):
        fs.Loader(packed, 4, True)


def test_import_loads_no_framework():
    loaded = python(f"import sys, fastshard; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded == "[]"


def test_import_is_quick():
    # Of the processor, so that a busy machine doesn't count.
    code = "import time; start = time.process_time(); import fastshard; print(time.process_time() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.15


@pytest.mark.parametrize("name", ["torch", "tensorflow", "lightning"])
def test_adapters_load_when_used(name):
    pytest.importorskip(name)
    code = f"import sys, fastshard as fs; fs.{name}; print('{name}' in sys.modules, fs.{name}.__name__)"
    assert python(code) == f"True fastshard.{name}"


@pytest.mark.parametrize(("name", "framework"), [("Keras", "keras"), ("Lightning", "lightning")])
def test_callbacks_load_their_framework_when_used(name, framework):
    heavy = [other for other in HEAVY[:4] if other not in (framework, "tensorflow", "torch")]
    code = f"""
        import sys, fastshard as fs
        import fastshard.callbacks
        before = "{framework}" in sys.modules
        stats, state = fs.callbacks.{name}LoaderStats, fs.callbacks.{name}LoaderState
        same = stats is fs.{framework}.LoaderStats and state is fs.{framework}.LoaderState
        print(before, same, [other for other in {heavy} if other in sys.modules])
    """
    assert python(textwrap.dedent(code)).splitlines()[-1] == "False True []"


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'LightningLoader'"):
        _ = fs.callbacks.LightningLoader
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fs.nothing


def test_errors_are_fastshards_own():
    assert issubclass(fs.CorruptionError, fs.FormatError)
    assert issubclass(fs.SourceError, ValueError)
    for error in (fs.FormatError, fs.DecodeError, fs.SourceError):
        assert issubclass(error, fs.FastshardError)
