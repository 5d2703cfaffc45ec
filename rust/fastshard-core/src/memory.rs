//! Memory whose size comes from a file or an option: an error that names the size where it can't be had.
//!
//! Rust's own collections end the process when the allocator refuses. Linux seldom refuses: it grants more memory than
//! there is, and kills the process that touches it. So large sizes are compared with what this process may use, then
//! requested in a way that can fail.

use std::path::Path;

use bytemuck::Zeroable;

use crate::error::Error;

/// Smaller sizes go straight to the allocator: looking the limits up takes longer than such an allocation.
const LARGE: u64 = 64 << 20;

/// An allocation that can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    bytes: u64,
    limit: u64,
}

impl Denied {
    /// The error that says what was to be allocated, and what to change.
    #[must_use]
    pub fn of(self, what: impl Into<String>, advice: impl Into<String>) -> Error {
        Error::Memory {
            what: what.into(),
            bytes: self.bytes,
            limit: self.limit,
            advice: advice.into(),
        }
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        denied.of("this sample", "use smaller images, lists or windows")
    }
}

/// Refuses what is more than this process may ever use.
pub fn check(bytes: u64) -> Result<(), Denied> {
    if bytes < LARGE {
        return Ok(());
    }
    let limit = limit();
    if bytes > limit || isize::try_from(bytes).is_err() {
        return Err(Denied { bytes, limit });
    }
    Ok(())
}

/// The refusal of an allocator.
pub(crate) fn refused(bytes: u64) -> Denied {
    let limit = limit();
    Denied { bytes, limit }
}

fn size_of_many<T>(count: usize) -> u64 {
    (count as u64).saturating_mul(size_of::<T>() as u64)
}

/// `count` zeros. Pages of the system's that nobody writes to cost nothing.
pub fn zeros<T: Zeroable>(count: usize) -> Result<Vec<T>, Denied> {
    let bytes = size_of_many::<T>(count);
    check(bytes)?;
    bytemuck::allocation::try_zeroed_vec(count).map_err(|()| refused(bytes))
}

/// An empty vector with room for `count` elements.
pub fn room<T>(count: usize) -> Result<Vec<T>, Denied> {
    let mut all = Vec::new();
    reserve(&mut all, count)?;
    Ok(all)
}

/// Room for `count` more elements.
pub fn reserve<T>(all: &mut Vec<T>, count: usize) -> Result<(), Denied> {
    let bytes = size_of_many::<T>(all.len().saturating_add(count));
    check(bytes)?;
    all.try_reserve(count).map_err(|_| refused(bytes))
}

/// `count` times the same element.
pub fn filled<T: Clone>(count: usize, element: T) -> Result<Vec<T>, Denied> {
    let mut all = room(count)?;
    all.resize(count, element);
    Ok(all)
}

/// Makes a vector as long as `count`.
pub fn resize<T: Clone>(all: &mut Vec<T>, count: usize, element: T) -> Result<(), Denied> {
    reserve(all, count.saturating_sub(all.len()))?;
    all.resize(count, element);
    Ok(())
}

/// A copy.
pub fn copied<T: Copy>(from: &[T]) -> Result<Vec<T>, Denied> {
    let mut all = room(from.len())?;
    all.extend_from_slice(from);
    Ok(all)
}

/// The most that this process may use: memory and swap of the machine or of its control group, or its address space.
#[must_use]
pub fn limit() -> u64 {
    let total = total().map(|bytes| bytes.saturating_add(meminfo("SwapTotal:").unwrap_or(0)));
    let address_space = address_space();
    (total.into_iter().chain(address_space))
        .min()
        .unwrap_or(u64::MAX)
}

/// The memory of the machine, or less where this process's control group may have less.
#[must_use]
pub fn total() -> Option<u64> {
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups(&group).filter_map(|limit| {
        let text = std::fs::read_to_string(limit).ok()?;
        text.trim().parse().ok()
    });
    meminfo("MemTotal:").into_iter().chain(groups).min()
}

#[cfg(target_os = "linux")]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(target_os = "linux"))]
fn address_space() -> Option<u64> {
    None
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    kibibytes.checked_mul(1 << 10)
}

/// The files with the limits of the control groups in `/proc/self/cgroup`, those of the groups above them included. In a
/// container a group may lie elsewhere than it is said to; the topmost one is then its own.
fn groups(text: &str) -> impl Iterator<Item = String> {
    let of_line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return None;
        };
        let above: Vec<_> = Path::new(&path)
            .ancestors()
            .map(|group| {
                format!(
                    "{root}{}/{file}",
                    group.display().to_string().trim_end_matches('/')
                )
            })
            .collect();
        Some(above)
    };
    text.lines()
        .filter_map(of_line)
        .flatten()
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_errors() {
        for count in [usize::MAX, usize::MAX / 8, 1 << 50] {
            assert!(zeros::<u64>(count).is_err());
            assert!(room::<u64>(count).is_err());
            assert!(filled(count, 1u64).is_err());
            assert!(reserve(&mut vec![0u64], count).is_err());
        }
        assert_eq!(zeros::<u16>(3).unwrap(), [0; 3]);
        assert_eq!(filled(2, 7).unwrap(), [7, 7]);
        assert_eq!(copied(&[1, 2]).unwrap(), [1, 2]);
        let error = check(1 << 60)
            .unwrap_err()
            .of("a batch", "lower batch_size");
        let text = error.to_string();
        assert!(
            text.starts_with("a batch needs 1.0 EiB of memory"),
            "{text}"
        );
        assert!(text.ends_with("lower batch_size"), "{text}");
    }

    #[test]
    fn limits_are_looked_up_in_groups_and_those_above() {
        let found: Vec<_> = groups("5:devices:/x\n4:cpu,memory:/a/b\n0::/c\n").collect();
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(found, expected);
        assert!(limit() > 1 << 20);
    }
}
