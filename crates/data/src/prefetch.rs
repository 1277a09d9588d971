//! Making batches while others are learned from.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::batch::PackedBatch;
use crate::plan::BatchPlan;
use crate::text::batch::TextBatch;
use crate::text::examples::TextPlan;

/// Batches that wait to be taken, at most.
const DEPTH: usize = 3;

/// The batches of a plan in order, made ahead of time on a thread of its own.
///
/// If making one panics, so does the `next` that would have returned it. Dropping it stops the thread.
#[derive(Debug)]
pub struct Prefetch<T> {
    /// Taken away to tell the thread to stop.
    batches: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
    left: usize,
}

impl Prefetch<PackedBatch> {
    /// The batches of `plan` from `start` on.
    pub fn new(plan: BatchPlan, start: usize) -> Self {
        Self::with(plan.len().saturating_sub(start), move |index| {
            plan.build(start + index)
        })
    }
}

impl Prefetch<TextBatch> {
    /// The batches of `plan` from `start` on.
    pub fn of_texts(plan: TextPlan, start: usize) -> Self {
        Self::with(plan.len().saturating_sub(start), move |index| {
            plan.build(start + index)
        })
    }
}

impl<T: Send + 'static> Prefetch<T> {
    fn with(count: usize, build: impl Fn(usize) -> T + Send + 'static) -> Self {
        let (sender, batches) = sync_channel(DEPTH);
        let work = move || {
            for index in 0..count {
                if sender.send(build(index)).is_err() {
                    return;
                }
            }
        };
        Self {
            batches: Some(batches),
            thread: Some(thread::spawn(work)),
            left: count,
        }
    }
}

impl<T> Prefetch<T> {
    fn stop(&mut self) -> thread::Result<()> {
        self.batches = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let next = self.batches.as_ref()?.recv().ok();
        if next.is_some() {
            self.left -= 1;
        } else if let Err(panic) = self.stop() {
            resume_unwind(panic);
        }
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // A batch that nobody takes may as well have failed.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn numbered(index: usize) -> PackedBatch {
        let mut batch = PackedBatch::new();
        batch.push(&[index as u32]);
        batch
    }

    #[test]
    fn batches_come_in_order() {
        let prefetch = Prefetch::with(50, numbered);
        assert_eq!(prefetch.size_hint(), (50, Some(50)));
        assert!(prefetch.map(|batch| batch.tokens[0]).eq(0..50));
        assert_eq!(Prefetch::with(0, numbered).next(), None);
    }

    #[test]
    fn no_more_is_made_than_waits_and_dropping_stops_the_thread() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let mut prefetch = Prefetch::with(1_000_000, move |index| {
            counter.fetch_add(1, Ordering::SeqCst);
            numbered(index)
        });
        prefetch.next();
        drop(prefetch);
        // One taken, `DEPTH` waiting, and one that found no place to wait.
        assert!(made.load(Ordering::SeqCst) <= DEPTH + 2);
        assert_eq!(Arc::strong_count(&made), 1, "the thread has ended");
    }

    #[test]
    fn a_panic_reaches_the_one_who_asks_for_the_batch() {
        let mut prefetch = Prefetch::with(5, |index| {
            assert!(index != 2, "no batch 2");
            numbered(index)
        });
        assert!(prefetch.next().is_some() && prefetch.next().is_some());
        let panic = catch_unwind(AssertUnwindSafe(|| prefetch.next())).unwrap_err();
        assert!(
            panic
                .downcast_ref::<&str>()
                .is_some_and(|text| text.contains("no batch 2"))
        );
        assert_eq!(prefetch.next(), None);
    }
}
