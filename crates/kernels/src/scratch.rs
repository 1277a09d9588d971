//! Scratch memory that threads keep between calls, so that hot loops do not allocate.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A cache line, so that no vector of packed floats straddles two.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _floats: [f32; LINE],
}

const LINE: usize = 16;

impl Line {
    const ZERO: Self = Self {
        _floats: [0.0; LINE],
    };
}

/// Floats from the start of a cache line on, for as long as their owner lives.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line::ZERO; len.div_ceil(LINE)],
            len,
        }
    }
}

/// Floats borrowed from the thread; they return to the thread that drops them. Contents are unspecified.
///
/// Taken out rather than borrowed in place: while one task waits, its thread may run another.
pub(crate) struct Scratch(Aligned);

impl Scratch {
    pub(crate) fn take(len: usize) -> Self {
        let wanted = len.div_ceil(LINE);
        let mut lines = FREE.with_borrow_mut(|free| {
            // Smallest first: the first that fits, else the largest, which then grows.
            let fits = free.iter().position(|one| one.len() >= wanted);
            fits.map(|at| free.remove(at))
                .or_else(|| free.pop())
                .unwrap_or_default()
        });
        if lines.len() < wanted {
            lines.resize(wanted, Line::ZERO);
        }
        Self(Aligned { lines, len })
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: a line is LINE floats without padding, and there are lines for `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.0.lines);
        // A thread on its way out has no list any more; then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            let at = free.partition_point(|one| one.len() < lines.len());
            free.insert(at, lines);
        });
    }
}

/// A pointer that tasks share; each writes a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32);

// SAFETY: users promise, where they write, that no two tasks touch the same floats.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr())
    }

    pub(crate) fn from_ptr(data: *mut f32) -> Self {
        Self(data)
    }

    /// The pointer, `offset` floats on.
    pub(crate) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}
