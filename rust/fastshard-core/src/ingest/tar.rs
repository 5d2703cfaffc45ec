//! Members of tar archives as all writers write them: a plain file behind its header, and perhaps a pax header that says
//! nothing of name and size. Whatever is written otherwise is left to a reader that takes it, or says what is wrong.

use std::ops::Range;

const BLOCK: usize = 512;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
/// What a pax header says that matters here.
const TELLING: [&[u8]; 3] = [b"path=", b"size=", b"GNU.sparse"];

/// A plain file, whose bytes begin behind its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TarMember<'a> {
    pub name: &'a str,
    pub size: u64,
    pub headers: usize,
}

/// The member whose headers these bytes begin with; nothing if they are not as usual, or not all here.
#[must_use]
pub fn usual_tar_member(bytes: &[u8]) -> Option<TarMember<'_>> {
    let first = Header::of(bytes, 0)?;
    if first.kind != b'x' {
        return first.member(BLOCK);
    }
    let length = usize::try_from(first.size).ok()?;
    let says = bytes.get(BLOCK..BLOCK.checked_add(length)?)?;
    let tells = |word: &[u8]| says.windows(word.len()).any(|part| part == word);
    if TELLING.iter().any(|word| tells(word)) {
        return None;
    }
    let at = BLOCK + length.next_multiple_of(BLOCK);
    Header::of(bytes, at)?.member(at + BLOCK)
}

struct Header<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    kind: u8,
    size: u64,
}

impl<'a> Header<'a> {
    /// The header at a place, whose checksum is right.
    fn of(bytes: &'a [u8], at: usize) -> Option<Self> {
        let block = bytes.get(at..at.checked_add(BLOCK)?)?;
        let sum = |part: &[u8]| part.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        // Its own place counts as spaces.
        let found = sum(block) - sum(&block[CHECKSUM]) + 8 * u64::from(b' ');
        let is_ustar = block[257..263] == *b"ustar\0";
        (octal(&block[CHECKSUM])? == found).then_some(Self {
            name: until_zero(&block[..100]),
            prefix: if is_ustar {
                until_zero(&block[345..500])
            } else {
                b""
            },
            kind: block[156],
            size: octal(&block[SIZE])?,
        })
    }

    fn member(&self, headers: usize) -> Option<TarMember<'a>> {
        let name = std::str::from_utf8(self.name).ok()?;
        let is_file = matches!(self.kind, b'0' | 0) && self.prefix.is_empty();
        (is_file && is_harmless(name)).then_some(TarMember {
            name,
            size: self.size,
            headers,
        })
    }
}

/// Whether a name is surely one of a file below the folder where it would be unpacked.
fn is_harmless(name: &str) -> bool {
    let odd = name.contains("..") || name.contains(['\\', ':']);
    !name.is_empty() && !odd && !name.starts_with('/') && !name.ends_with('/')
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Digits, behind which there are spaces or zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().rposition(|byte| !matches!(byte, b' ' | 0))? + 1;
    field[..end].iter().try_fold(0u64, |number, &digit| {
        matches!(digit, b'0'..=b'7').then(|| number << 3 | u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &[u8], kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[SIZE.start..SIZE.start + size.len()].copy_from_slice(size);
        block[CHECKSUM].fill(b' ');
        block[156] = kind;
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn pax(says: &[u8]) -> Vec<u8> {
        let mut all = header(b"x", b'x', format!("{:011o}", says.len()).as_bytes());
        all.extend(says);
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        all
    }

    #[test]
    fn finds_what_is_usual_and_leaves_the_rest() {
        let file = header(b"a/b.jpg", b'0', b"00000000017");
        let found = |headers| {
            Some(TarMember {
                name: "a/b.jpg",
                size: 15,
                headers,
            })
        };
        assert_eq!(usual_tar_member(&file), found(BLOCK));
        let timed = [pax(b"20 mtime=1700000.5\n"), file.clone()].concat();
        assert_eq!(usual_tar_member(&timed), found(3 * BLOCK));
        for end in 0..timed.len() {
            assert_eq!(usual_tar_member(&timed[..end]), None);
        }
        for at in 0..BLOCK {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(usual_tar_member(&damaged), None, "{at}");
        }
        let unusual = [
            header(b"a", b'2', b"0"),
            header(b"a", b'5', b"0"),
            header(b"a", b'0', b"-1"),
            header(b"a", b'0', b"\x80\0\0\x01"),
            header(b"a", b'0', b""),
            [pax(b"12 path=ab\n"), file.clone()].concat(),
            [pax(b"11 size=9\n"), file.clone()].concat(),
            [pax(b""), pax(b""), file.clone()].concat(),
            vec![0; 4 * BLOCK],
        ];
        for bytes in unusual {
            assert_eq!(usual_tar_member(&bytes), None);
        }
        for name in ["", "/a", "../a", "a/..", "a\\b", "c:/a", "a/", "\u{fc}"] {
            let harmless = name == "\u{fc}";
            let bytes = header(name.as_bytes(), b'0', b"0");
            assert_eq!(usual_tar_member(&bytes).is_some(), harmless, "{name:?}");
        }
        assert_eq!(usual_tar_member(&header(b"\xff", b'0', b"0")), None);
    }
}
