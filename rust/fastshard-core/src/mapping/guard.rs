//! Reading mapped files that may shrink: a missing page becomes zeros and a flag, not the end of the process.
//!
//! # The problem
//!
//! The kernel sends SIGBUS to a thread that touches a page of a mapping which has no file behind it any more (somebody
//! truncated the file), or whose block can't be read (a failing disk). No check can prevent that: between any look at
//! the file's length and the read that follows, the file may shrink.
//!
//! # Idea
//!
//! [`watch`] notes where each file is mapped. A handler of SIGBUS maps a page of zeros in the place of the missing one,
//! and sets the flag of the mapping. The reader goes on, with zeros, and must ask [`Watch::lost`] before it hands on
//! what it made of them. To keep that cheap, [`any_lost`] reads one counter for all mappings.
//!
//! # Memory
//!
//! ```text
//! HEAD -> node -> node -> ... -> null        node: start, end, lost, taken, next
//! ```
//!
//! The list only grows and nodes are never freed, so a signal handler can walk it at any moment, without a lock and
//! without allocating. A node is taken by a compare-and-swap of `taken`, and reused once its mapping is gone. `start`
//! is written last when a mapping appears and cleared first when it goes, and 0 means that the node is free.
//!
//! # Other handlers
//!
//! - Faults outside of watched mappings go to the handler that was there before, so that other libraries, and Python's
//!   `faulthandler`, see theirs.
//! - Some programs note all handlers and put them back later, but see only those of Python: Lightning's `Trainer` does
//!   so after each `fit`, which removes ours. So [`keep`] looks at each call from Python whether the signal has fallen
//!   back to its default, and takes it again. A handler that somebody else has set stays, and is then in charge of
//!   missing pages.
//!
//! # Cost
//!
//! Nothing runs on the way of a read that succeeds. A watched mapping costs one node.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// A watched mapping.
#[derive(Debug)]
struct Node {
    /// First address of the mapping; 0 while the node is free.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
    taken: AtomicBool,
    next: AtomicPtr<Node>,
}

static HEAD: AtomicPtr<Node> = AtomicPtr::new(std::ptr::null_mut());
/// How many pages were missing, in all mappings. While it is 0, no mapping needs to be looked at.
static MISSING: AtomicUsize = AtomicUsize::new(0);
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
/// Whether somebody has replaced our handler, and so the previous one, by the default since.
static RESET: AtomicBool = AtomicBool::new(false);
static INSTALL: Once = Once::new();

/// All nodes. They are never freed, so references stay valid, in a signal handler too.
fn nodes() -> impl Iterator<Item = &'static Node> {
    let mut at = HEAD.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: null, or a node that was leaked.
        #[expect(unsafe_code, reason = "a list that a signal handler reads")]
        let node = unsafe { at.as_ref() }?;
        at = node.next.load(Ordering::Acquire);
        Some(node)
    })
}

/// Whether pages of any mapping were missing.
#[inline]
pub(crate) fn any_lost() -> bool {
    MISSING.load(Ordering::Acquire) != 0
}

/// The mark of a mapping; drop it before the mapping.
#[derive(Debug)]
pub(crate) struct Watch(&'static Node);

/// Tells whether pages of one mapping were missing; valid as long as the mapping is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost(&'static Node);

impl Lost {
    /// Whether zeros were read in the place of at least one page.
    pub(crate) fn get(self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

/// Watches a mapping of so many bytes.
pub(crate) fn watch(address: usize, length: usize) -> Watch {
    INSTALL.call_once(install);
    let free = nodes().find(|node| {
        let taken = &node.taken;
        taken
            .compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    });
    let node = free.unwrap_or_else(push);
    node.lost.store(false, Ordering::Release);
    node.end.store(address + length, Ordering::Release);
    node.start.store(address, Ordering::Release);
    Watch(node)
}

fn push() -> &'static Node {
    let node: &'static Node = Box::leak(Box::new(Node {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost: AtomicBool::new(false),
        taken: AtomicBool::new(true),
        next: AtomicPtr::default(),
    }));
    let address = std::ptr::from_ref(node).cast_mut();
    let mut head = HEAD.load(Ordering::Acquire);
    loop {
        node.next.store(head, Ordering::Release);
        match HEAD.compare_exchange(head, address, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return node,
            Err(other) => head = other,
        }
    }
}

impl Watch {
    pub(crate) fn lost(&self) -> Lost {
        Lost(self.0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn install() {
    let Some(previous) = current() else { return };
    // Before ours can run.
    let _ = PREVIOUS.set(previous);
    set_ours();
}

/// Takes the signal again where it has fallen back to its default; one system call where it hasn't.
pub fn keep() {
    if !INSTALL.is_completed() {
        return; // nothing is mapped yet
    }
    let reset =
        |action: libc::sigaction| [libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
    if current().is_some_and(reset) {
        RESET.store(true, Ordering::Release);
        set_ours();
    }
}

/// The present action of the signal.
fn current() -> Option<libc::sigaction> {
    // SAFETY: the structure is plain numbers, for which zeros are valid.
    #[expect(unsafe_code, reason = "signal handlers are looked up by a call of C")]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let done = libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action);
        (done == 0).then_some(action)
    }
}

fn set_ours() {
    // SAFETY: the structure is plain numbers, for which zeros are valid, and the handler does only what a signal handler
    // may: atomics and system calls.
    #[expect(unsafe_code, reason = "signal handlers are installed by a call of C")]
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = handle as Handler as libc::sighandler_t;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        libc::sigemptyset(&raw mut ours.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut());
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over a valid `info`, and of its kind only for faults is the address looked at.
    #[expect(unsafe_code, reason = "what the kernel hands over is a pointer")]
    let address = unsafe {
        match info.as_ref() {
            Some(info) if info.si_code == libc::BUS_ADRERR => info.si_addr().addr(),
            _ => 0,
        }
    };
    if address == 0 || !put_zeros(address) {
        pass_on(signal, info, context);
    }
}

/// Puts a page of zeros where one is missing; false where no watched mapping is.
fn put_zeros(address: usize) -> bool {
    let found = nodes().find(|node| {
        let start = node.start.load(Ordering::Acquire);
        start != 0 && (start..node.end.load(Ordering::Acquire)).contains(&address)
    });
    let Some(node) = found else { return false };
    let page_size = rustix::param::page_size();
    let page = (address - address % page_size) as *mut libc::c_void;
    // SAFETY: the page belongs to a mapping of ours, as its mark is dropped before the mapping is.
    #[expect(unsafe_code, reason = "a system call that takes an address")]
    let put = unsafe {
        libc::mmap(
            page,
            page_size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    if put == libc::MAP_FAILED {
        return false;
    }
    node.lost.store(true, Ordering::Release);
    MISSING.fetch_add(1, Ordering::AcqRel);
    true
}

/// Does what would have happened without this handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().filter(|_| !RESET.load(Ordering::Acquire));
    let handler = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    // SAFETY: the pointer is of a handler that somebody installed, called as its flags say; the default ends the process
    // when the instruction runs again, or the signal is raised again.
    #[expect(unsafe_code, reason = "signal handlers are pointers")]
    unsafe {
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            libc::signal(signal, libc::SIG_DFL);
            if info.as_ref().is_none_or(|info| info.si_code <= 0) {
                libc::raise(signal);
            }
        } else if previous.is_some_and(|one| one.sa_flags & libc::SA_SIGINFO != 0) {
            std::mem::transmute::<libc::sighandler_t, Handler>(handler)(signal, info, context);
        } else {
            std::mem::transmute::<libc::sighandler_t, extern "C" fn(libc::c_int)>(handler)(signal);
        }
    }
}
