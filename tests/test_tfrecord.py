"""TFRecord files as TensorFlow writes them, and files that it would not."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

import fastshard as fs
from fastshard._base.crc import masked_crc
from fastshard._fastshard import crc32c
from fastshard._sources.archives.protobuf import read_example


def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(**features):
    named = {name.replace("__", "/"): feature(values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def write(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression)) as sink:
        for record in records:
            sink.write(record)
    return path


@pytest.fixture(scope="module")
def records(photo_folder):
    files = sorted(photo_folder.rglob("*.jpg"))
    return [
        example(
            image__encoded=[path.read_bytes()],
            image__class__label=[number % 5 - 2],
            text=[f"größe {number}".encode()],
            raw=[bytes([number, 255])],
            big=[2**63 - 1 - number, -(2**63) + number, 300, number],
            floats=[number / 3, float(number)],
            tokens=list(range(100, 101 + number * 7)),
        )
        for number, path in enumerate(files)
    ]


@pytest.fixture(scope="module")
def file(records, tmp_path_factory):
    return write(tmp_path_factory.mktemp("tf") / "photos.tfrecord", records)


def parsed(record):
    """The record as TensorFlow reads it."""
    fixed, none = tf.io.FixedLenFeature, []
    spec = {
        "image/encoded": fixed(none, tf.string),
        "image/class/label": fixed(none, tf.int64),
        "text": fixed(none, tf.string),
        "raw": fixed(none, tf.string),
        "big": fixed([4], tf.int64),
        "floats": fixed([2], tf.float32),
        "tokens": tf.io.RaggedFeature(tf.int64),
    }
    return {name: value.numpy() for name, value in tf.io.parse_single_example(record, spec).items()}


def check(dataset, records):
    assert len(dataset) == len(records)
    for row, record in enumerate(records):
        expected, found = parsed(record), dataset[row]
        assert dataset.encoded(row, "image/encoded")[0] == expected.pop("image/encoded")
        assert found["text"] == expected.pop("text").decode()
        assert found["raw"] == expected.pop("raw")
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


class TestWhatComesOut:
    def test_the_same_as_went_in(self, file, records, tmp_path):
        report = fs.pack(file, tmp_path / "ds", seekable=False)
        assert report.source == f"{file}: TFRecord of tf.train.Example"
        dataset = fs.open(tmp_path / "ds")
        check(dataset, records)
        kinds = {field.name: (field.type, field.dtype, field.shape) for field in dataset.fields}
        assert kinds["image/class/label"] == ("scalar", "int64", ())
        assert kinds["floats"] == ("tensor", "float32", (2,))
        assert kinds["tokens"] == ("list", "int64", ())
        assert dataset.encoded(4, "image/encoded")[1] == "photos.tfrecord/4"

    def test_compressed_and_several(self, records, tmp_path):
        write(tmp_path / "train-00000-of-00003", records[:10])
        write(tmp_path / "train-00001-of-00003.gz", records[10:25], "GZIP")
        write(tmp_path / "train-00002-of-00003", records[25:])
        fs.pack(tmp_path, tmp_path.parent / f"{tmp_path.name}-ds", seekable=False)
        check(fs.open(tmp_path.parent / f"{tmp_path.name}-ds"), records)

    def test_types_and_classes(self, tmp_path):
        path = write(tmp_path / "a.tfrecord", [example(x=[1, 2], y=[b"abc"], z=[n % 2]) for n in range(5)])
        fs.pack(path, tmp_path / "ds", types={"x": "list[int32]", "y": "bytes"}, class_names={"z": ["no", "yes"]})
        dataset = fs.open(tmp_path / "ds")
        assert [(field.type, field.dtype) for field in dataset.fields] == [
            ("list", "int32"),
            ("bytes", "bytes"),
            ("class", "int64"),
        ]
        assert dataset.class_names == ("no", "yes")

        with pytest.raises(ValueError, match=r"types\['x'\]='int32': expected"):
            fs.pack(path, tmp_path / "none", types={"x": "int32"})
        with pytest.raises(fs.SourceError, match="types for 'w': the first sample has 'x', 'y', 'z'"):
            fs.pack(path, tmp_path / "none", types={"w": "bytes"})

    def test_lists_without_elements(self, tmp_path):
        none = tf.train.Example().SerializeToString()
        path = write(tmp_path / "a.tfrecord", [example(x=[1.5]), none, example(x=[1.0, 2.0])])
        fs.pack(path, tmp_path / "ds")
        assert [list(one) for one in fs.open(tmp_path / "ds").column("x")] == [[1.5], [], [1.0, 2.0]]

    def test_numbers_that_are_not_packed(self, tmp_path):
        def field(number, wire, body):
            return bytes([number << 3 | wire]) + body

        def message(number, body):
            return field(number, 2, bytes([len(body)]) + body)

        floats = message(2, field(1, 5, struct.pack("<f", 1.5)) + field(1, 5, struct.pack("<f", -2)))
        integers = message(3, field(1, 0, b"\x05") + field(1, 0, b"\xff" * 9 + b"\x01"))
        entries = [message(1, b"f") + message(2, floats), message(1, b"i") + message(2, integers)]
        record = message(1, b"".join(message(1, entry) for entry in entries))
        spec = {"f": tf.io.FixedLenFeature([2], tf.float32), "i": tf.io.FixedLenFeature([2], tf.int64)}
        expected = tf.io.parse_single_example(record, spec)
        found = read_example(record, 0, len(record))
        for name in spec:
            np.testing.assert_array_equal(found[name][1], expected[name].numpy())


def test_checksums():
    # The example of RFC 3720, B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"x" + bytes(32) + b"y", 1, 33) == 0x8A9136AA
    for start, end in ((2, 1), (0, 4), (5, None)):
        with pytest.raises(ValueError, match="of 3"):
            crc32c(b"abc", start, end)


def framed(data):
    length = struct.pack("<Q", len(data))
    return (
        length + struct.pack("<I", masked_crc(length, 0, 8)) + data + struct.pack("<I", masked_crc(data, 0, len(data)))
    )


class TestHostile:
    @pytest.mark.parametrize("keep", [1, 7, 11, 12, 100, 0.5, -1, -4, -5])
    @pytest.mark.parametrize("packed", [False, True])
    def test_truncated(self, file, tmp_path, keep, packed):
        data = gzip.compress(file.read_bytes()) if packed else file.read_bytes()
        (tmp_path / "a.tfrecord").write_bytes(data[: int(keep * len(data)) if keep == 0.5 else keep])
        with pytest.raises(fs.SourceError, match=r"a\.tfrecord: "):
            fs.pack(tmp_path / "a.tfrecord", tmp_path / "ds")
        assert not (tmp_path / "ds").exists()

    def test_flipped_bits(self, records, tmp_path):
        data = b"".join(map(framed, records[:3]))
        second = len(framed(records[0]))
        for at, named in ((3, "length"), (9, "length"), (40, "data"), (len(records[1]) + 13, "data")):
            damaged = bytearray(data)
            damaged[second + at] ^= 4
            (tmp_path / "a.tfrecord").write_bytes(damaged)
            place = rf"a.tfrecord: record 1 at byte {second:,}: the checksum of its {named} is wrong"
            with pytest.raises(fs.SourceError, match=place):
                fs.pack(tmp_path / "a.tfrecord", tmp_path / "ds")

    def test_a_length_that_lies(self, tmp_path):
        for size, packed in ((2**31, False), (2**63, True), (2**31 - 1, False), (2**31 - 1, True)):
            length = struct.pack("<Q", size)
            data = length + struct.pack("<I", masked_crc(length, 0, 8)) + b"x" * 100
            (tmp_path / "a.tfrecord").write_bytes(gzip.compress(data) if packed else data)
            tracemalloc.start()
            with pytest.raises(fs.SourceError, match=r"a.tfrecord: record 0 at byte 0: (truncated|.*at most 2 GiB)"):
                fs.pack(tmp_path / "a.tfrecord", tmp_path / "ds")
            assert tracemalloc.get_traced_memory()[1] < 50 << 20
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("record", "named"),
        [
            (b"\x08\x01", "features of wire type 0; expected 2"),
            (b"\x0a\x05abc", "a field of 5 bytes, 3 are left"),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "more than"),
            (b"\x0a\x80", "goes on behind the end"),
            (b"\x0b", "wire type 3"),
            (b"\x00\x01", "field 0"),
            (b"\x0a\x02\x08\x01", "an entry of the features of wire type 0"),
            (b"\x0a\x06\x0a\x04\x0a\x02\xff\xfe", "the name of a feature is not UTF-8"),
            (b"\x0a\x09\x0a\x07\x0a\x01a\x12\x02\x08\x01", "the bytes list of feature 'a' of wire type 0"),
            (b"\x0a\x0b\x0a\x09\x0a\x01a\x12\x04\x0a\x02\x08\x01", "a value of feature 'a' of wire type 0"),
            (b"\x0a\x0c\x0a\x0a\x0a\x01a\x12\x05\x12\x03\x0a\x01x", "1 bytes of wire type 2 as floats"),
            (b"\x0a\x0c\x0a\x0a\x0a\x01a\x12\x05\x1a\x03\x0a\x01\x80", "goes on behind the end"),
            (b"\x0a\x0f\x0a\x0d\x0a\x01a\x12\x08\x1a\x06\x0d\x01\x02\x03\x04", "field of|whole numbers"),
        ],
    )
    def test_records_that_are_no_examples(self, tmp_path, record, named):
        path = tmp_path / "a.tfrecord"
        path.write_bytes(framed(example(a=[1])) + framed(record))
        with pytest.raises(fs.SourceError, match=rf"a.tfrecord: record 1 at byte \d+: byte \d+ of \d+: .*({named})"):
            fs.pack(path, tmp_path / "ds")
        report = fs.pack(path, tmp_path / "ds", on_error="skip")
        assert (report.rows, [row.row for row in report.skipped]) == (1, [1])

    def test_packed_numbers_at_their_bounds(self):
        def integers(body):
            inner = b"\x0a" + bytes([len(body)]) + body
            feature = b"\x1a" + bytes([len(inner)]) + inner
            entry = b"\x0a\x01a\x12" + bytes([len(feature)]) + feature
            features = b"\x0a" + bytes([len(entry)]) + entry
            return b"\x0a" + bytes([len(features)]) + features

        for filling in (b"", b"\x01" * 40):  # read one by one, and all at once
            for body, named in [
                (b"\xff" * 10 + b"\x01", "more than ten bytes"),
                (b"\xff" * 9 + b"\x02", "more than 64 bits"),
                (b"\xff", "goes on behind the end"),
            ]:
                record = integers(filling + body)
                with pytest.raises(fs.SourceError, match=named):
                    read_example(record, 0, len(record))
            record = integers(filling + b"\xff" * 9 + b"\x01" + b"\x00" + b"\x96\x01")
            assert read_example(record, 0, len(record))["a"][1][-3:].tolist() == [-1, 0, 150]

    def test_later_records_must_match(self, tmp_path):
        first = [example(a=[1], b=[1, 2])] * 64
        for later, named in [
            (example(a=[1, 2], b=[1, 2]), "feature 'a': 2 values of type int64; expected scalar; types="),
            (example(a=[1.5], b=[1, 2]), "row 64, field 'a': .*expected int64"),
            (example(a=[b"x"], b=[1, 2]), "feature 'a': 1 values of type bytes; expected scalar"),
            (example(a=[1], b=[1]), "row 64, field 'b'"),
            (example(a=[1]), "feature 'b': 0 values of type none; expected tensor"),
            (example(a=[1], b=[1, 2], c=[1]), "feature 'c': the first records have none of that name"),
        ]:
            path = write(tmp_path / "a.tfrecord", [*first, later])
            with pytest.raises(fs.SourceError, match=rf"record 64 at byte [\d,]+: .*{named}"):
                fs.pack(path, tmp_path / "ds")


def test_sequence_examples_are_refused(tmp_path):
    context = {"label": feature([1])}
    frames = tf.train.FeatureList(feature=[feature([1.0, 2.0]), feature([3.0, 4.0])])
    sequence = tf.train.SequenceExample(
        context=tf.train.Features(feature=context), feature_lists=tf.train.FeatureLists(feature_list={"rgb": frames})
    )
    write(tmp_path / "x.tfrecord", [sequence.SerializeToString()] * 2)
    with pytest.raises(
        fs.SourceError, match="record 0 at byte 0: a SequenceExample, whose feature lists no field holds"
    ):
        fs.pack(tmp_path / "x.tfrecord", tmp_path / "ds")
    # One without lists is an Example to the byte.
    plain = tf.train.SequenceExample(context=tf.train.Features(feature=context)).SerializeToString()
    write(tmp_path / "x.tfrecord", [plain])
    fs.pack(tmp_path / "x.tfrecord", tmp_path / "ds")
    assert fs.open(tmp_path / "ds")[0]["label"] == 1


def test_fields_of_later_versions_are_passed_over():
    known = example(label=[7])
    later = known + bytes([2 << 3 | 0, 5]) + bytes([3 << 3 | 2, 2]) + b"ab" + bytes([2 << 3 | 2, 2]) + b"\xff\xff"
    assert read_example(later, 0, len(later))["label"][1].tolist() == [7]
