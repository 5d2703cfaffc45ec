"""Datasets behind each other: with other classes, packed as one, and verified."""

import shutil

import numpy as np
import pytest

import fastshard as fs

SOURCE_ROWS = 40


def named(dataset):
    """(class name, pixels) of every row."""
    return [(dataset.class_names[row["label"]], row["image"].tobytes()) for row in dataset]


@pytest.fixture(scope="module")
def cats(photo_folder, tmp_path_factory):
    """Some of the classes, and one of its own that comes first in the order of names."""
    root = tmp_path_factory.mktemp("cats")
    for name in ("cat", "coffee"):
        shutil.copytree(photo_folder / name, root / "photos" / name)
    shutil.copytree(photo_folder / "temple", root / "photos" / "abbey")
    fs.pack(root / "photos", root / "ds")
    return fs.open(root / "ds")


@pytest.fixture(scope="module")
def pets(packed):
    return fs.open(packed)


def test_other_classes_are_refused_with_what_to_do(pets, cats):
    with pytest.raises(ValueError, match=r"'label' has other classes \(not in both: abbey, astronaut.*fastshard\.pack"):
        fs.concat([pets, cats])
    with pytest.raises(ValueError, match=r"fastshard\.pack"):
        fs.mix([pets, cats], [0.5, 0.5])


def test_the_same_classes_in_another_order_are_refused(tmp_path):
    for name, classes in (("a", ["x", "y"]), ("b", ["y", "x"])):
        fs.pack([{"label": "x"}, {"label": "y"}], tmp_path / name, class_names={"label": classes})
    with pytest.raises(ValueError, match="the same in another order"):
        fs.concat([fs.open(tmp_path / "a"), fs.open(tmp_path / "b")])
    fs.pack([fs.open(tmp_path / "a"), fs.open(tmp_path / "b")], tmp_path / "both")
    both = fs.open(tmp_path / "both")
    assert (both.class_names, both.column("label").tolist()) == (("x", "y"), [0, 1, 0, 1])


@pytest.mark.parametrize("swapped", [False, True])
def test_packed_as_one_they_have_the_classes_of_each(pets, cats, tmp_path, swapped):
    parts = [cats, pets[5:35:3]] if swapped else [pets[5:35:3], cats]
    report = fs.pack(parts, tmp_path / "both", shard_size="100KiB")
    both = fs.open(tmp_path / "both")
    assert report.rows == len(both) == 34
    assert report.shards > 1
    own, new = parts[0].class_names, [name for name in parts[1].class_names if name not in parts[0].class_names]
    assert both.class_names == (*own, *new)
    assert named(both) == named(parts[0]) + named(parts[1])
    assert both.verify() == []
    provenance = both.manifest["provenance"]
    assert [part["fingerprint"] for part in provenance["parts"]] == [part.fingerprint for part in parts]
    # And so they stand behind each other from now on.
    assert len(fs.concat([both, both[:3]])) == 37


def test_a_concatenation_is_packed(pets, tmp_path):
    fs.pack(pets[10:], tmp_path / "rest", seekable=True)
    whole = fs.concat([pets[:10], fs.open(tmp_path / "rest")])
    fs.pack(whole, tmp_path / "whole", seekable=False)
    packed = fs.open(tmp_path / "whole")
    assert named(packed) == named(pets)
    assert packed.manifest["provenance"]["path"] == [str(pets.path), str(tmp_path / "rest")]
    assert packed.verify() == []


def test_arrays_in_memory_are_packed(tmp_path):
    arrays = {"x": np.arange(10), "y": np.arange(30, dtype=np.float32).reshape(10, 3)}
    fs.pack([fs.from_arrays(arrays)[2:], fs.from_arrays(arrays)], tmp_path / "ds")
    packed = fs.open(tmp_path / "ds")
    np.testing.assert_array_equal(packed.column("x"), [*range(2, 10), *range(10)])
    np.testing.assert_array_equal(packed.column("y"), np.concatenate([arrays["y"][2:], arrays["y"]]))


def test_what_can_not_be_one_is_refused(pets, tmp_path):
    fs.pack([{"label": 1, "image": np.zeros((4, 4, 3), np.uint8)}], tmp_path / "other")
    other = fs.open(tmp_path / "other")
    with pytest.raises(fs.SourceError, match=r"other has .*; expected the fields of the first, image: image"):
        fs.pack([pets, other], tmp_path / "both")
    with pytest.raises(TypeError, match=r"src holds str: expected a fastshard\.Dataset"):
        fs.pack([pets, "other"], tmp_path / "both")
    for target in (tmp_path / "other", tmp_path / "other" / "new"):
        with pytest.raises((ValueError, FileExistsError), match=r"expected another place|a dataset already"):
            fs.pack([other, other[:1]], target)
    with pytest.raises(ValueError, match="class_names"):
        fs.pack([pets, pets], tmp_path / "both", class_names={"label": ["a"]})
    assert not (tmp_path / "both").exists()


@pytest.fixture
def spoilt(packed, tmp_path):
    """A copy with a bit flipped in the image of row 7."""
    shutil.copytree(packed, tmp_path / "spoilt")
    shard = tmp_path / "spoilt/shard-00000.arrow"
    whole, data = bytearray(shard.read_bytes()), fs.open(packed).encoded(7)[0]
    whole[whole.index(data) + len(data) // 3] ^= 0x10
    shard.write_bytes(whole)
    return fs.open(tmp_path / "spoilt")


def test_verify_names_the_folder_and_the_row_of_the_whole(pets, spoilt):
    (alone,) = spoilt.verify()
    assert (alone.shard, alone.row) == ("shard-00000.arrow", 7)
    for whole, row in ((fs.concat([pets, spoilt]), SOURCE_ROWS + 7), (fs.concat([spoilt[:1], pets]), 7)):
        (problem,) = whole.verify(num_threads=1)
        assert problem == (str(spoilt.path / "shard-00000.arrow"), row, alone.error)


def test_nothing_is_packed_from_a_spoilt_one(pets, spoilt, tmp_path):
    for source in ([pets, spoilt], fs.concat([pets, spoilt])):
        with pytest.raises(fs.CorruptionError, match=r"spoilt.*shard-00000.arrow, row .*nothing is packed"):
            fs.pack(source, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_verifying_shows_one_bar_for_all(pets, packed, tmp_path, monkeypatch):
    shutil.copytree(packed, tmp_path / "copy")
    shown = []

    class Bar:
        def __enter__(self):
            return lambda done, total: shown.append((done, total))

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("fastshard._rows.verify.progress_bar", lambda *_, **__: Bar())
    whole = fs.concat([pets, fs.open(tmp_path / "copy")])
    assert whole.verify() == []
    total = sum(shard["bytes"] for shard in whole.manifest["shards"])
    assert {all_of_it for _, all_of_it in shown} == {total}
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert shown[-1] == (total, total)
