//! Batch buffers: allocated once, leased to whoever holds a batch, and returned to the pool when the last view is
//! dropped.
//!
//! # Life of a slot
//!
//! ```text
//! pool -- lease --> filled by workers --> handed over --> the last array on it is dropped --> pool, or freed
//! ```
//!
//! A [`Lease`] is shared by all arrays of a batch, so a slot can't be written to again while any of them lives. A
//! consumer that keeps batches makes the pool allocate more slots; at most `keep` idle ones stay.
//!
//! # Memory
//!
//! A slot is zeroed when it is allocated and never again. A row that failed so shows zeros or an earlier batch of the
//! same loader, never another program's memory. Slots of 2 MiB and more are aligned to huge pages and ask the kernel
//! for them, before their first page is touched.
//!
//! # Forks
//!
//! A forked child has copies of all leases, but not the threads. Its leases free their memory and leave the pool alone,
//! since a thread that doesn't exist in the child may have held the pool's lock.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::format::ALIGNMENT;
use crate::memory::{self, Denied};

/// From this size on, slots are aligned to huge pages and ask for them, which saves page faults and TLB misses.
const HUGE_PAGE: usize = 2 << 20;

/// A raw, aligned buffer.
#[derive(Debug)]
struct Slot {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a slot owns its memory, as a `Vec` does; who may touch which part of it is up to the holder of the lease.
#[expect(unsafe_code, reason = "owned memory may move between threads")]
unsafe impl Send for Slot {}
// SAFETY: as above: shared access goes through `Lease`, whose contract keeps writers apart.
#[expect(unsafe_code, reason = "owned memory may be shared between threads")]
unsafe impl Sync for Slot {}

impl Slot {
    fn new(bytes: usize) -> Result<Self, Denied> {
        memory::check(bytes as u64)?;
        let align = if bytes >= HUGE_PAGE {
            HUGE_PAGE
        } else {
            ALIGNMENT
        };
        let refused = || memory::refused(bytes as u64);
        let layout = Layout::from_size_align(bytes.max(1), align).map_err(|_| refused())?;
        // SAFETY: the layout's size is not zero.
        #[expect(unsafe_code, reason = "std has no safe aligned allocation")]
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).ok_or_else(refused)?;
        if align == HUGE_PAGE {
            // Before the first touch: pages that exist already stay small.
            advise_huge(start, bytes);
        }
        // SAFETY: freshly allocated with this size. Rows that a worker skips must not show another program's memory.
        #[expect(unsafe_code, reason = "std has no safe aligned allocation")]
        unsafe {
            start.write_bytes(0, layout.size());
        }
        Ok(Self { start, layout })
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(start: NonNull<u8>, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    // SAFETY: the range is this allocation, rounded down to whole huge pages; the advice changes no content. That the
    // kernel may refuse is of no consequence.
    #[expect(unsafe_code, reason = "a hint on memory that we own")]
    let _ = unsafe {
        madvise(
            start.as_ptr().cast(),
            bytes / HUGE_PAGE * HUGE_PAGE,
            Advice::LinuxHugepage,
        )
    };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_start: NonNull<u8>, _bytes: usize) {}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        #[expect(unsafe_code, reason = "the counterpart of the allocation")]
        unsafe {
            dealloc(self.start.as_ptr(), self.layout);
        }
    }
}

/// A pool of slots of one size, or larger. Batches that a consumer keeps take slots of their own; at most `keep` idle
/// ones stay.
#[derive(Debug)]
pub struct SlotPool {
    bytes: usize,
    keep: usize,
    process: u32,
    idle: Mutex<Vec<Slot>>,
}

impl SlotPool {
    /// A pool without slots; new ones will have this size in bytes, and at most `keep` stay when idle.
    #[must_use]
    pub fn new(bytes: usize, keep: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            keep,
            process: std::process::id(),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// The size of new slots, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leases an idle slot, or else a new one.
    pub fn lease(self: &Arc<Self>) -> Result<Lease, Denied> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let slot = idle.map_or_else(|| Slot::new(self.bytes), Ok)?;
        Ok(Lease {
            slot: Some(slot),
            pool: self.clone(),
        })
    }

    /// Leases a slot of at least this many bytes. An idle slot that is too small is freed, and a larger one takes its
    /// place.
    pub fn lease_of(self: &Arc<Self>, bytes: usize) -> Result<Lease, Denied> {
        let mut lease = self.lease()?;
        if lease.bytes() < bytes {
            lease.slot = None;
            let rounded = bytes.checked_next_power_of_two().unwrap_or(bytes);
            lease.slot = Some(Slot::new(rounded).or_else(|_| Slot::new(bytes))?);
        }
        Ok(lease)
    }

    /// How many slots are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

/// The right to a slot, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    slot: Option<Slot>,
    pool: Arc<SlotPool>,
}

impl Lease {
    fn slot(&self) -> &Slot {
        self.slot.as_ref().expect("present until dropped")
    }

    /// The slot's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slot().layout.size()
    }

    /// The address of a byte.
    ///
    /// # Panics
    /// When the slot is smaller.
    #[must_use]
    pub fn address(&self, offset: usize) -> *mut u8 {
        let slot = self.slot();
        let bytes = slot.layout.size();
        assert!(offset <= bytes, "offset {offset} of {bytes}");
        slot.start.as_ptr().wrapping_add(offset)
    }

    /// A part of the slot to write to.
    ///
    /// # Safety
    /// No other reference to these bytes may exist while this one lives. Workers see to that by writing only the rows
    /// they claimed, before the batch is handed over.
    ///
    /// # Panics
    /// When the slot is smaller.
    #[expect(
        unsafe_code,
        clippy::mut_from_ref,
        reason = "many workers fill one batch, each its own rows"
    )]
    #[must_use]
    pub unsafe fn part(&self, offset: usize, length: usize) -> &mut [u8] {
        let end = offset.checked_add(length).expect("small numbers");
        let bytes = self.bytes();
        assert!(end <= bytes, "part {offset}..{end} of {bytes}");
        // SAFETY: in bounds, initialised by `Slot::new`; exclusiveness is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address(offset), length) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // In a forked child the pool's lock may have been taken by a thread that doesn't exist here.
        if self.pool.process != std::process::id() {
            return;
        }
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.pool.keep {
            idle.extend(self.slot.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_returns_only_when_dropped() {
        let pool = SlotPool::new(100, 1);
        let (first, second) = (pool.lease().unwrap(), pool.lease().unwrap());
        let address = first.address(0);
        assert_ne!(address, second.address(0));
        assert_eq!(pool.idle(), 0);
        drop(first);
        assert_eq!(pool.idle(), 1);
        drop(second);
        assert_eq!(pool.idle(), 1, "no more than the pool keeps");
        assert_eq!(pool.lease().unwrap().address(0), address);
        assert_eq!(address as usize % ALIGNMENT, 0);
    }

    #[test]
    fn large_slots_are_aligned_to_huge_pages() {
        let lease = SlotPool::new(3 * HUGE_PAGE + 5, 1).lease().unwrap();
        assert_eq!(lease.address(0) as usize % HUGE_PAGE, 0);
    }

    #[test]
    fn slots_grow() {
        let pool = SlotPool::new(0, 2);
        let small = pool.lease_of(10).unwrap();
        assert!(small.bytes() >= 10);
        drop(small);
        assert!(pool.lease_of(1000).unwrap().bytes() >= 1000);
        let again = pool.lease_of(10).unwrap();
        assert!(again.bytes() >= 1000, "the larger one stays");
    }

    #[test]
    fn impossible_slots_are_errors() {
        for bytes in [usize::MAX, usize::MAX / 2, 1 << 50] {
            assert!(SlotPool::new(bytes, 1).lease().is_err());
            assert!(SlotPool::new(0, 1).lease_of(bytes).is_err());
        }
    }
}
