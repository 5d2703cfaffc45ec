//! `tf.train.Example` as all writers write it: features, each a name and a list of one kind, packed or of a single value,
//! and nothing else. Whatever is written otherwise, be it right or wrong, is left to a reader that says what is wrong.

use std::ops::Range;

/// More than any data set has, and few enough to hold.
const MAX_FEATURES: usize = 10_000;
/// The tag of a field 1 that has a length.
const FIRST: u8 = 1 << 3 | 2;
const SECOND: u8 = 2 << 3 | 2;
const THIRD: u8 = 3 << 3 | 2;

/// What a feature's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// A value, which lies where the values do.
    Bytes,
    /// Four bytes each.
    Float,
    /// Varints.
    Int64,
}

/// A feature, and where its values lie.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Feature<'a> {
    pub name: &'a str,
    pub kind: FeatureKind,
    pub values: Range<usize>,
}

/// The features of an Example; nothing if it is not as all writers write it.
#[must_use]
pub fn usual_example(data: &[u8]) -> Option<Vec<Feature<'_>>> {
    let all = span(data, 0, data.len(), FIRST)?;
    if all.end != data.len() {
        return None;
    }
    let (mut features, mut at) = (Vec::new(), all.start);
    while at < data.len() {
        let entry = span(data, at, data.len(), FIRST)?;
        if features.len() == MAX_FEATURES {
            return None;
        }
        at = entry.end;
        features.push(feature(data, entry)?);
    }
    Some(features)
}

fn feature(data: &[u8], entry: Range<usize>) -> Option<Feature<'_>> {
    let name = span(data, entry.start, entry.end, FIRST)?;
    let value = span(data, name.end, entry.end, SECOND)?;
    let (tag, kind) = match *data.get(value.start)? {
        FIRST => (FIRST, FeatureKind::Bytes),
        SECOND => (SECOND, FeatureKind::Float),
        THIRD => (THIRD, FeatureKind::Int64),
        _ => return None,
    };
    let list = span(data, value.start, value.end, tag)?;
    let values = span(data, list.start, list.end, FIRST)?;
    let whole = [value.end, list.end, values.end] == [entry.end; 3];
    let fits = kind != FeatureKind::Float || values.len() % 4 == 0;
    (whole && fits).then_some(Feature {
        name: std::str::from_utf8(data.get(name)?).ok()?,
        kind,
        values,
    })
}

/// Where the value of a field with this tag, which has a length, lies.
fn span(data: &[u8], at: usize, end: usize, tag: u8) -> Option<Range<usize>> {
    let mut bytes = data.get(at..end)?.iter();
    if *bytes.next()? != tag {
        return None;
    }
    let mut length = 0u64;
    // Five bytes say more than a record holds.
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.next()?;
        length |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            let start = end - bytes.len();
            let stop = start.checked_add(usize::try_from(length).ok()?)?;
            return (stop <= end).then_some(start..stop);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag, value.len() as u8], value].concat()
    }

    fn example(entries: &[Vec<u8>]) -> Vec<u8> {
        field(FIRST, &entries.concat())
    }

    fn entry(name: &str, tag: u8, values: &[u8]) -> Vec<u8> {
        let list = field(tag, &field(FIRST, values));
        let parts = [field(FIRST, name.as_bytes()), field(SECOND, &list)];
        field(FIRST, &parts.concat())
    }

    #[test]
    fn finds_what_is_usual_and_leaves_the_rest() {
        let entries = [
            entry("image", FIRST, b"pixels"),
            entry("boxes", SECOND, &[0; 8]),
            entry("label", THIRD, &[7]),
        ];
        let data = example(&entries);
        let found = usual_example(&data).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|one| (one.name, one.kind, one.values.len()))
            .collect();
        assert_eq!(
            names,
            [
                ("image", FeatureKind::Bytes, 6),
                ("boxes", FeatureKind::Float, 8),
                ("label", FeatureKind::Int64, 1)
            ]
        );
        assert_eq!(&data[found[0].values.clone()], b"pixels");
        assert_eq!(usual_example(&example(&[])).unwrap(), []);
        for end in 0..data.len() {
            assert_eq!(usual_example(&data[..end]), None);
        }
        let unusual = [
            entry("odd", SECOND, &[0; 7]),
            entry("kind", 4 << 3 | 2, &[1]),
            [entry("more", FIRST, b"x"), vec![8, 1]].concat(),
        ];
        for one in unusual {
            assert_eq!(usual_example(&example(&[one])), None);
        }
        let long = [vec![FIRST, 255, 255, 255, 255, 255, 1], vec![0; 40]].concat();
        assert_eq!(usual_example(&long), None);
    }
}
