"""Views: splits, folds, subsets, filters, weights and concatenations, against scikit-learn and NumPy."""

import itertools
import pickle
from collections import Counter

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, train_test_split

import fastshard as fs
from fastshard._rows.groups import parts_of_groups

ROWS = 1000


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    """1,000 rows: ``n``, five unequal classes in no order, a text and a number."""
    path = tmp_path_factory.mktemp("views") / "ds"
    fs.pack(rows(ROWS), path)
    return fs.open(path)


def rows(count, first=0, seed=0):
    labels = np.random.default_rng(seed).choice(5, count, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    for n, label in enumerate(labels, first):
        yield {"n": n, "label": int(label), "text": f"t{n % 7}", "x": n / 8}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """300 more rows of the same kind."""
    path = tmp_path_factory.mktemp("views") / "other"
    fs.pack(rows(300, first=5000, seed=1), path)
    return fs.open(path)


@pytest.fixture(scope="module")
def pets(packed):
    return fs.open(packed)


def n_of(dataset):
    return dataset.column("n").tolist()


def counts(dataset, field="label"):
    return dict(Counter(dataset.column(field).tolist()))


class TestSplit:
    @pytest.mark.parametrize(
        "parts", [[0.9, 0.1], [0.7, 0.2, 0.1], [1.0], [900, 100], [0, 1000], [1 / 3, 1 / 3, 1 / 3]]
    )
    @pytest.mark.parametrize("stratify", [None, "label"])
    def test_parts_share_nothing_and_leave_nothing_out(self, ds, parts, stratify):
        views = ds.split(parts, stratify=stratify, seed=3)
        assert sorted(n for view in views for n in n_of(view)) == list(range(ROWS))
        for view, part in zip(views, parts, strict=True):
            assert n_of(view) == sorted(n_of(view))
            assert abs(len(view) - (part if isinstance(part, int) else part * ROWS)) <= 1

    def test_by_name(self, ds):
        views = ds.split({"train": 0.8, "val": 0.2}, seed=1)
        assert {name: len(view) for name, view in views.items()} == {"train": 800, "val": 200}
        assert n_of(views["val"]) == n_of(ds.split([0.8, 0.2], seed=1)[1])

    @pytest.mark.parametrize("rows", [1000, 997, 333, 101])
    @pytest.mark.parametrize("test_size", [0.05, 0.1, 0.25, 0.5])
    def test_stratified_as_scikit_learn(self, ds, rows, test_size):
        part = ds.select(np.flatnonzero(np.isin(ds.column("label"), [0, 1, 2]))[:rows])
        labels = part.column("label")
        train, val = part.split([1 - test_size, test_size], stratify="label", seed=5)
        theirs = train_test_split(labels, test_size=test_size, stratify=labels, random_state=0)
        assert [len(train), len(val)] == [len(labels) for labels in theirs]
        for ours, other in zip((train, val), theirs, strict=True):
            expected = Counter(other.tolist())
            # Equal remainders are shared out at random, there and here.
            assert all(abs(count - expected[label]) <= 1 for label, count in counts(ours).items())
        quotas = np.bincount(labels) * (len(train) / len(labels))
        if len(set(np.round(quotas % 1, 9))) == len(quotas):
            assert counts(train) == dict(Counter(theirs[0].tolist()))

    def test_seeds(self, ds):
        one, same, other = (n_of(ds.split([0.5, 0.5], seed=seed)[0]) for seed in (1, 1, 2))
        assert one == same != other

    def test_of_a_split(self, ds):
        train, _ = ds.split([0.9, 0.1])
        inner, val = train.split([0.5, 0.5], stratify="label")
        assert sorted(n_of(inner) + n_of(val)) == n_of(train)

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ([0.9, 0.2], "add up to 1"),
            ([0.5], "add up to 1"),
            ([-0.5, 1.5], "add up to 1"),
            ([500, 400], "add up to 900 rows, expected all 1,000"),
            ([], "at least one"),
            ([float("nan"), 1], "finite"),
        ],
    )
    def test_refused(self, ds, parts, message):
        with pytest.raises(ValueError, match=message):
            ds.split(parts)

    def test_stratify_by_no_field_or_no_column(self, ds, pets):
        with pytest.raises(KeyError, match="breed"):
            ds.split([0.5, 0.5], stratify="breed")
        with pytest.raises(ValueError, match="images"):
            pets.split([0.5, 0.5], stratify="image")


class TestFolds:
    @pytest.mark.parametrize("stratify", [None, "label", "text"])
    def test_each_row_validates_once(self, ds, stratify):
        folds = ds.kfold(7, stratify=stratify, seed=2)
        assert sorted(n for _, val in folds for n in n_of(val)) == list(range(ROWS))
        for train, val in folds:
            assert sorted(n_of(train) + n_of(val)) == list(range(ROWS))
        assert {len(val) for _, val in folds} == {142, 143}

    @pytest.mark.parametrize("k", [2, 5, 9])
    def test_stratified_as_scikit_learn(self, ds, k):
        ds = ds.where(label=[0, 1, 2, 3])
        labels = ds.column("label")
        theirs = StratifiedKFold(k).split(labels, labels)
        for (_, val), (_, indices) in zip(ds.kfold(k, stratify="label"), theirs, strict=True):
            assert counts(val) == dict(Counter(labels[indices].tolist()))

    @pytest.mark.parametrize("k", [1, ROWS + 1])
    def test_refused(self, ds, k):
        with pytest.raises(ValueError, match="expected an integer from 2 to 1000"):
            ds.kfold(k)


def patients(count, seed=0):
    """Group of each row, few of them large, and a class that goes along with it."""
    random = np.random.default_rng(seed)
    sizes = random.geometric(0.2, count)
    group = random.permutation(np.repeat(np.arange(count), sizes))
    return group, (group % 7 + random.integers(0, 3, len(group))) // 3


@pytest.fixture(scope="module")
def scans():
    """Rows of 300 groups, with classes as numbers and multi-hot, and a number for each."""
    group, label = patients(300)
    random = np.random.default_rng(4)
    hot = (random.random((len(group), 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]).astype(np.float32)
    return fs.from_arrays({"patient": group * 10 - 50, "label": label, "hot": hot, "n": np.arange(len(group))})


class TestGroups:
    @pytest.mark.parametrize("parts", [[0.8, 0.2], [0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.995, 0.005], [1.0, 0.0]])
    @pytest.mark.parametrize("stratify", [None, "label", "hot"])
    def test_no_group_is_in_two_parts(self, scans, parts, stratify):
        views = scans.split(parts, group="patient", stratify=stratify, seed=2)
        assert sorted(n for view in views for n in n_of(view)) == list(range(len(scans)))
        sides = [set(view.column("patient").tolist()) for view in views]
        for one, other in itertools.combinations(sides, 2):
            assert not one & other
        for view, part in zip(views, parts, strict=True):
            assert n_of(view) == sorted(n_of(view))
            assert abs(len(view) - part * len(scans)) <= (3 if stratify is None else 12)
            assert bool(len(view)) == bool(part)

    @pytest.mark.parametrize("stratify", ["label", "hot"])
    def test_classes_come_in_proportion(self, scans, stratify):
        def held(view):
            values = view.column(stratify)
            return values.sum(0) if values.ndim > 1 else np.bincount(values, minlength=3)

        whole = held(scans)
        for view, part in zip(scans.split([0.75, 0.25], group="patient", stratify=stratify), (0.75, 0.25), strict=True):
            np.testing.assert_allclose(held(view) / whole, part, atol=0.02 if stratify == "label" else 0.05)

    @pytest.mark.parametrize("k", [2, 3, 5])
    @pytest.mark.parametrize("seed", range(3))
    def test_the_method_is_that_of_scikit_learn(self, k, seed):
        group, label = patients(120, seed)
        group = np.unique(group, return_inverse=True)[1]
        counts = np.zeros((group.max() + 1, label.max() + 1))
        np.add.at(counts, (group, label), 1)
        # Scikit-learn's groups are in the order of their numbers, so ours have to be met in it.
        part = parts_of_groups(group, counts, [1 / k] * k, np.argsort(group, kind="stable"))
        folds = StratifiedGroupKFold(k).split(label, label, group)
        for at, (_, validation) in enumerate(folds):
            np.testing.assert_array_equal(np.flatnonzero(part == at), validation)

    def test_folds_are_as_even_as_those_of_scikit_learn(self, scans):
        group = scans.column("patient")
        theirs = sorted(len(validation) for _, validation in GroupKFold(5).split(group, groups=group))
        folds = scans.kfold(5, group="patient", seed=8)
        assert sorted(len(validation) for _, validation in folds) == theirs
        for train, validation in folds:
            assert not set(train.column("patient")) & set(validation.column("patient"))
            assert len(train) + len(validation) == len(scans)
        assert sorted(n for _, validation in folds for n in n_of(validation)) == list(range(len(scans)))

    def test_stratified_folds_are_as_good_as_those_of_scikit_learn(self, scans):
        label, group = scans.column("label"), scans.column("patient")

        def unevenness(parts):
            held = np.array([np.bincount(part, minlength=3) for part in parts]) / np.bincount(label)
            return held.std(axis=0).mean()

        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(label, label, group)
        theirs = unevenness([label[validation] for _, validation in folds])
        ours = unevenness([part.column("label") for _, part in scans.kfold(5, stratify="label", group="patient")])
        assert ours < max(0.01, 1.5 * theirs)

    def test_the_seed_decides_and_nothing_else(self, scans):
        one, again, other = (scans.split([0.5, 0.5], group="patient", seed=seed)[1] for seed in (1, 1, 2))
        assert n_of(one) == n_of(again) != n_of(other)
        assert one.fingerprint == again.fingerprint
        by_name = scans.split({"a": 0.5, "b": 0.5}, group="patient", seed=1)
        assert n_of(by_name["b"]) == n_of(one)

    def test_large_groups_are_placed_as_they_fit(self):
        group = np.repeat(np.arange(5), [500, 300, 100, 50, 50])
        ds = fs.from_arrays({"group": group})
        for seed in range(5):
            assert [len(part) for part in ds.split([0.9, 0.1], group="group", seed=seed)] == [900, 100]
            assert [len(part) for part in ds.split([700, 300], group="group", seed=seed)] == [700, 300]

    def test_views_and_texts(self, ds):
        view = ds.where(label=[0, 1])
        train, test = view.split([0.6, 0.4], group="text")
        assert set(train.column("text")).isdisjoint(test.column("text"))
        assert len(train) + len(test) == len(view)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"parts": [0.2] * 5, "group": "few"}, "group='few': 5 parts of 2 groups"),
            ({"parts": [0.5, 0.5], "group": "hot"}, "expected one value a row"),
            ({"parts": [0.5, 0.5], "group": "few", "stratify": "odd"}, "numbers of at least 0"),
        ],
    )
    def test_what_can_not_be_is_refused(self, options, message):
        odd = np.full((10, 3), -1.0)
        ds = fs.from_arrays({"few": np.arange(10) % 2, "hot": np.eye(10), "odd": odd})
        with pytest.raises(ValueError, match=message):
            ds.split(**options)

    def test_an_empty_view_has_empty_parts(self, scans):
        for stratify in (None, "label", "hot"):
            parts = scans[:0].split([0.5, 0.5], group="patient", stratify=stratify)
            assert [len(part) for part in parts] == [0, 0]


class TestSubset:
    @pytest.mark.parametrize("stratify", [None, "label"])
    def test_smaller_ones_lie_inside(self, ds, stratify):
        sizes = [0, 1, 0.001, 7, 0.1, 0.2, 333, 0.9, ROWS, 1.0]
        subsets = [set(n_of(ds.subset(size, stratify=stratify, seed=4))) for size in sizes]
        assert [len(subset) for subset in subsets] == [0, 1, 1, 7, 100, 200, 333, 900, 1000, 1000]
        for small, large in itertools.pairwise(subsets):
            assert small <= large

    @pytest.mark.parametrize("size", [0.05, 0.1, 0.37, 0.8])
    def test_stratified(self, ds, size):
        whole = counts(ds)
        part = counts(ds.subset(size, stratify="label"))
        assert all(abs(part.get(label, 0) - count * size) <= 1 for label, count in whole.items())

    @pytest.mark.parametrize("size", [1.5, -0.1, ROWS + 1, -1])
    def test_refused(self, ds, size):
        with pytest.raises(ValueError, match="size="):
            ds.subset(size)


class TestChosen:
    def test_filter_by_expression(self, ds):
        view = ds.filter((pc.field("label") == 3) & (pc.field("x") < 60))
        labels, x = ds.column("label"), ds.column("x")
        assert n_of(view) == np.flatnonzero((labels == 3) & (x < 60)).tolist()
        assert n_of(ds[::-3].filter(pc.field("n") < 10)) == [9, 6, 3, 0]

    def test_filter_by_mask(self, ds):
        assert n_of(ds[:5].filter([True, False, True, False, True])) == [0, 2, 4]
        with pytest.raises(TypeError, match="mask of 1,000 booleans"):
            ds.filter([True])
        with pytest.raises(TypeError, match="mask of 1,000 booleans"):
            ds.filter(np.ones(ROWS))

    def test_filter_reads_what_it_names_only(self, pets):
        view = pets.filter(pc.field("_image_width") > 200)
        assert [sample["image"].shape[1] > 200 for sample in view] == [True] * len(view)
        assert 0 < len(view) < len(pets)

    def test_where(self, ds, pets):
        assert n_of(ds.where(label=2, text=["t1", "t4"])) == [
            n for n, (label, text) in enumerate(zip(ds.column("label"), ds.column("text"), strict=True))
            if label == 2 and text in ("t1", "t4")
        ]  # fmt: skip
        assert pets.where(label="cat").column("label").tolist() == [1] * 8
        assert counts(pets.where(label=["cat", "temple"])) == {1: 8, 4: 8}
        assert counts(pets.where(label=[0, "cat"])) == {0: 8, 1: 8}
        with pytest.raises(ValueError, match="label='dog': expected one of astronaut, cat"):
            pets.where(label="dog")
        with pytest.raises(ValueError, match="label=5"):
            pets.where(label=5)
        with pytest.raises(KeyError, match="breed"):
            pets.where(breed="dog")

    def test_select(self, ds):
        assert n_of(ds.select([5, 5, -1])) == [5, 5, 999]
        with pytest.raises(IndexError, match="1000"):
            ds.select([1000])


def drawn(loader):
    return [n for batch in loader for n in batch["n"].tolist()]


class TestWeighted:
    def test_rows_come_as_their_weights_say(self, ds):
        weights = np.where(ds.column("label") == 3, 10.0, 1.0)
        weights[:100] = 0
        loader = fs.Loader(ds.weighted(weights, num_samples=5000), 64, shuffle=True)
        found = np.bincount(drawn(loader), minlength=ROWS)
        assert found.sum() == 5000
        assert np.abs(found - weights / weights.sum() * 5000).max() < 2
        assert not found[:100].any()

    def test_equal_weights_are_a_plain_epoch(self, ds):
        loader = fs.Loader(ds.weighted(np.ones(ROWS)), 64, shuffle=True)
        first, second = drawn(loader), drawn(loader)
        assert sorted(first) == sorted(second) == list(range(ROWS))
        assert first != second

    def test_balanced(self, ds, pets):
        loader = fs.Loader(ds.balanced("label", num_samples=500), 50, shuffle=True, seed=1)
        labels = Counter(label for batch in loader for label in batch["label"].tolist())
        assert set(labels) == set(range(5))
        assert all(abs(count - 100) <= 1 for count in labels.values())
        assert len(pets.balanced()) == len(pets)
        with pytest.raises(ValueError, match="one field with classes"):
            ds.balanced()

    def test_a_row_that_comes_twice_looks_different(self, pets):
        view = pets.weighted([1.0] + [0.0] * 39, num_samples=6)
        steps = {"image": fs.RandomResizedCrop(32)}
        (batch,) = fs.Loader(view, 6, transforms=steps, shuffle=True)
        images = {image.tobytes() for image in batch["image"]}
        assert len(images) == 6

    def test_views_of_it_keep_the_weights(self, ds):
        view = ds.weighted(np.arange(ROWS))
        assert set(drawn(fs.Loader(view[:2], 4))) == {1}
        assert set(drawn(fs.Loader(view.select([0, 1, 0]), 4))) == {1}
        assert pickle.loads(pickle.dumps(view)).fingerprint == view.fingerprint

    @pytest.mark.parametrize(
        "weights", [[1.0], np.ones((ROWS, 2)), np.full(ROWS, -1), np.full(ROWS, np.nan), np.zeros(ROWS)], ids=str
    )
    def test_refused(self, ds, weights):
        with pytest.raises(ValueError, match="weights"):
            ds.weighted(weights)


class TestConcat:
    def test_rows_follow_each_other(self, ds, other):
        both = fs.concat([ds[-3:], other])
        assert n_of(both) == [997, 998, 999, *range(5000, 5300)]
        assert drawn(fs.Loader(both, 7)) == n_of(both)
        assert sorted(drawn(fs.Loader(both, 7, shuffle=True))) == n_of(both)
        assert both[3]["text"] == other[0]["text"]
        assert both.to_arrow().column("n").to_pylist() == n_of(both)
        assert n_of(both.filter(pc.field("n") > 5297)) == [5298, 5299]
        assert not both.verify()
        assert both.paths == (ds.path, other.path)
        with pytest.raises(ValueError, match="use paths"):
            _ = both.path

    def test_of_parts_and_of_concatenations(self, ds, other):
        train, val = ds.split([0.9, 0.1])
        assert n_of(train.concat(val)) == n_of(train) + n_of(val)
        assert train.concat(val).path == ds.path
        assert n_of(fs.concat([other[:1].concat(ds[:1]), ds[5:6], other[7:8]])) == [5000, 0, 5, 5007]
        assert n_of(fs.concat([ds[:2], ds[2:5]])) == [0, 1, 2, 3, 4]

    def test_pickles(self, ds, other):
        both = fs.concat([ds, other])[::100]
        again = pickle.loads(pickle.dumps(both))
        assert n_of(again) == n_of(both)
        assert again.fingerprint == both.fingerprint

    def test_mix(self, ds, other):
        loader = fs.Loader(fs.mix([ds, other], [0.25, 0.75], num_samples=400), 32, shuffle=True)
        found = drawn(loader)
        assert len(found) == 400
        assert abs(sum(n >= 5000 for n in found) - 300) <= 1
        only = fs.mix([ds, other], [0, 1])
        assert only.num_samples == 1300
        assert min(drawn(fs.Loader(only, 32))) == 5000
        for weights in ([1], [0, 0], [-1, 2]):
            with pytest.raises(ValueError, match="weights="):
                fs.mix([ds, other], weights)

    def test_other_fields_are_refused(self, ds, pets):
        with pytest.raises(ValueError, match="can't be put behind"):
            fs.concat([ds, pets])
        with pytest.raises(TypeError, match="at least one"):
            fs.concat([])


def test_fingerprints(ds):
    views = [
        ds,
        ds[:-1],
        ds[::-1],
        ds.subset(0.5),
        ds.subset(0.5, seed=1),
        ds.weighted(np.ones(ROWS)),
        ds.weighted(np.ones(ROWS), 10),
        fs.concat([ds, ds]),
    ]
    prints = [view.fingerprint for view in views]
    assert len(set(prints)) == len(prints)
    assert ds[:-1].fingerprint == ds.select(range(ROWS - 1)).fingerprint
    assert ds[:].fingerprint == ds.fingerprint == ds.manifest["fingerprint"]
    assert ds.subset(0.5).fingerprint == fs.open(ds.path).subset(0.5).fingerprint


def test_views_are_views(ds):
    """Composed ones too hold row numbers, and read the same mapping."""
    view = ds.split([0.8, 0.2], stratify="label")[0].subset(0.5).where(label=[0, 1]).balanced("label")
    assert view._opened is ds._opened
    assert set(counts(view)) == {0, 1}
