//! The program's allocator.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

// Steps free and allocate the same large buffers over and over; the system's allocator gives their pages back and
// faults them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3: milliseconds until free pages are given back, or -1 for never.
const PURGE_DELAY: mi_option_t = 15;

/// Never gives free pages back, unless `MIMALLOC_PURGE_DELAY` says otherwise.
///
/// For training alone, which needs as many again at its next step: their faults take up to an eighth of its time. To be
/// called while no other thread runs.
#[expect(
    unsafe_code,
    reason = "an option of a C library, set before anything can read it"
)]
pub fn keep_pages() {
    unsafe { mi_option_set_default(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    /// The crate does not name the option, so a release that renumbers it shows here: 1000 is mimalloc's documented default.
    #[test]
    fn the_option_is_the_delay() {
        #[expect(unsafe_code, reason = "an option of a C library")]
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(delay(), 1000);
            keep_pages();
            assert_eq!(delay(), -1);
        }
    }
}
