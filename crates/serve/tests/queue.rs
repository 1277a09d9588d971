//! The line before the encoder, with an encoder that does as it is told.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use cloze_data::text::Encoding;
use cloze_serve::queue::{Answer, Bounds, Compute, Fills, Lost, Queue, Wanted};

const BOUNDS: Bounds = Bounds {
    batch_tokens: 8,
    waiting_tokens: 100,
};

/// A text of `len` tokens, all of them `id`.
fn text(id: u32, len: usize) -> Encoding {
    Encoding {
        ids: vec![id; len],
        ..Encoding::default()
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// Gives each text its first id and length.
fn echo() -> Arc<Compute> {
    Arc::new(|_, texts| {
        Ok(texts
            .iter()
            .map(|text| vec![text.ids[0] as f32, text.len() as f32])
            .collect())
    })
}

/// An encoder whose batches wait until they are let go, and the ids of the texts of each batch.
struct Gate {
    compute: Arc<Compute>,
    open: mpsc::Sender<()>,
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
}

fn gate() -> Gate {
    let (open, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let batches = Arc::new(Mutex::new(Vec::new()));
    let seen = batches.clone();
    let compute = move |_: Wanted, texts: &[&Encoding]| {
        seen.lock()
            .unwrap()
            .push(texts.iter().map(|text| text.ids[0]).collect());
        gate.lock().unwrap().recv().unwrap();
        Ok(texts.iter().map(|text| vec![text.ids[0] as f32]).collect())
    };
    Gate {
        compute: Arc::new(compute),
        open,
        batches,
    }
}

impl Gate {
    /// Waits until so many batches have begun.
    fn wait_for(&self, count: usize) {
        while self.batches.lock().unwrap().len() < count {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

type Place = tokio::sync::oneshot::Receiver<Result<Answer, Lost>>;

fn values(place: Place) -> Vec<f32> {
    place.blocking_recv().unwrap().unwrap().values.to_vec()
}

#[test]
fn answers_come_to_whoever_asked() {
    let queue = Arc::new(Queue::new(BOUNDS, echo()).unwrap());
    let threads: Vec<_> = (0..8_u32)
        .map(|thread| {
            let queue = queue.clone();
            std::thread::spawn(move || {
                for round in 0..50_u32 {
                    let id = thread * 1000 + round;
                    let texts = vec![text(id, 1 + round as usize % 5), text(id + 500, 2)];
                    // Refused ones come again: the line is short.
                    let places = loop {
                        match queue.submit(texts.clone(), Wanted::Pooled, later()) {
                            Ok(places) => break places,
                            Err(lost) => assert!(matches!(lost, Lost::Overloaded { .. })),
                        }
                    };
                    let found: Vec<_> = places.into_iter().map(values).collect();
                    let first = vec![id as f32, (1 + round % 5) as f32];
                    assert_eq!(found, [first, vec![(id + 500) as f32, 2.0]]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(queue.under_way(), 0);
}

#[test]
fn a_short_request_passes_the_rest_of_a_long_one_and_no_other() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let long: Vec<_> = (1..=4).map(|id| text(id, 8)).collect();
    let mut places = queue.submit(long, Wanted::Pooled, later()).unwrap();
    gate.wait_for(1);
    let other = vec![text(11, 8), text(12, 8)];
    places.extend(queue.submit(other, Wanted::Pooled, later()).unwrap());
    places.extend(
        queue
            .submit(vec![text(21, 2)], Wanted::Pooled, later())
            .unwrap(),
    );
    for _ in 0..8 {
        gate.open.send(()).unwrap();
    }
    for place in places {
        values(place);
    }
    let order: Vec<u32> = gate.batches.lock().unwrap().concat();
    // The first texts of later requests before the second of the long one; then in turns.
    assert_eq!(order, [1, 11, 21, 2, 12, 3, 4]);
}

#[test]
fn the_rest_of_a_request_is_not_passed_for_ever() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let long = vec![text(1, 8), text(2, 8)];
    let mut places = queue.submit(long, Wanted::Pooled, later()).unwrap();
    for batch in 1..=5 {
        gate.wait_for(batch);
        let newcomer = vec![text(10 + batch as u32, 8)];
        places.extend(queue.submit(newcomer, Wanted::Pooled, later()).unwrap());
        gate.open.send(()).unwrap();
    }
    for _ in 0..2 {
        gate.open.send(()).unwrap();
    }
    for place in places {
        values(place);
    }
    let order: Vec<u32> = gate.batches.lock().unwrap().concat();
    assert_eq!(order, [1, 11, 2, 12, 13, 14, 15]);
}

#[test]
fn batches_keep_to_their_tokens_and_longer_texts_come_alone() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let lens = [1, 3, 4, 5, 20, 1, 1];
    let texts = (0_u32..).zip(lens).map(|(id, len)| text(id, len)).collect();
    // Held back by a first text, so that all the others are in line when batches are formed.
    let mut places = queue
        .submit(vec![text(99, 1)], Wanted::Pooled, later())
        .unwrap();
    gate.wait_for(1);
    places.extend(queue.submit(texts, Wanted::Pooled, later()).unwrap());
    for _ in 0..8 {
        gate.open.send(()).unwrap();
    }
    for place in places {
        values(place);
    }
    let batches = gate.batches.lock().unwrap().clone();
    assert_eq!(
        batches,
        [vec![99], vec![0, 1, 2], vec![3], vec![4], vec![5, 6]]
    );
}

#[test]
fn what_does_not_fit_is_refused_whole_and_at_once() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let large = queue.submit(vec![text(1, 300)], Wanted::Pooled, later());
    let large = large.expect("an idle queue takes any request");
    let refused = queue.submit(vec![text(2, 1), text(3, 1)], Wanted::Pooled, later());
    assert!(matches!(refused, Err(Lost::Overloaded { .. })));
    assert_eq!(queue.under_way(), 300);
    gate.open.send(()).unwrap();
    for place in large {
        values(place);
    }
    assert_eq!(queue.under_way(), 0);
    let places = queue
        .submit(vec![text(2, 50), text(3, 50)], Wanted::Pooled, later())
        .unwrap();
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    for place in places {
        values(place);
    }
}

#[test]
fn nothing_is_computed_for_the_late_and_the_gone() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let first = queue
        .submit(vec![text(1, 1)], Wanted::Pooled, later())
        .unwrap();
    gate.wait_for(1);
    let late = queue
        .submit(vec![text(2, 1)], Wanted::Pooled, Instant::now())
        .unwrap();
    drop(
        queue
            .submit(vec![text(3, 1)], Wanted::Pooled, later())
            .unwrap(),
    );
    let last = queue
        .submit(vec![text(4, 1)], Wanted::Pooled, later())
        .unwrap();
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    for place in first.into_iter().chain(last) {
        values(place);
    }
    for place in late {
        assert_eq!(place.blocking_recv().unwrap().unwrap_err(), Lost::Late);
    }
    assert_eq!(*gate.batches.lock().unwrap(), [vec![1], vec![4]]);
    assert_eq!(queue.under_way(), 0);
}

#[test]
fn equal_texts_of_a_batch_are_computed_once() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let mut places = queue
        .submit(vec![text(9, 1)], Wanted::Pooled, later())
        .unwrap();
    gate.wait_for(1);
    let mut prompted = text(1, 2);
    prompted.prompt = 1;
    let texts = vec![text(1, 2), text(2, 2), text(1, 2), prompted];
    places.extend(queue.submit(texts, Wanted::Pooled, later()).unwrap());
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    let found: Vec<_> = places.into_iter().flat_map(values).collect();
    assert_eq!(found, [9.0, 1.0, 2.0, 1.0, 1.0]);
    // A prompt of the same token may not be pooled over: not an equal text.
    assert_eq!(gate.batches.lock().unwrap()[1], [1, 2, 1]);
}

#[test]
fn equal_texts_are_computed_for_each_thing_that_is_wanted() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let fills = |top| {
        let candidates = Vec::new();
        Wanted::Fills(Arc::new(Fills { top, candidates }))
    };
    let ask = |id, wanted| queue.submit(vec![text(id, 2)], wanted, later()).unwrap();
    let mut places = ask(9, Wanted::Pooled);
    gate.wait_for(1);
    for top in [1, 2, 1] {
        places.extend(ask(1, fills(top)));
    }
    for _ in 0..3 {
        gate.open.send(()).unwrap();
    }
    let found: Vec<_> = places.into_iter().flat_map(values).collect();
    assert_eq!(found, [9.0, 1.0, 1.0, 1.0]);
    assert_eq!(*gate.batches.lock().unwrap(), [[9], [1], [1]]);
}

#[test]
fn a_panic_costs_its_batch_and_no_other() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let compute = move |_: Wanted, texts: &[&Encoding]| {
        count.fetch_add(1, Ordering::Relaxed);
        assert!(texts[0].ids[0] != 13, "an unlucky batch");
        if texts[0].ids[0] == 14 {
            return Err("refused".to_owned());
        }
        Ok(vec![vec![0.0]; texts.len()])
    };
    let queue = Queue::new(BOUNDS, Arc::new(compute)).unwrap();
    let ask = |id| {
        let places = queue.submit(vec![text(id, 1)], Wanted::Pooled, later());
        let place = places.unwrap().remove(0);
        place.blocking_recv().unwrap().map(|_| ())
    };
    assert_eq!(ask(13), Err(Lost::Panicked));
    assert_eq!(ask(14), Err(Lost::Refused("refused".to_owned())));
    assert_eq!(ask(15), Ok(()));
    assert!(queue.is_healthy(Duration::from_mins(1)));
    assert_eq!(queue.under_way(), 0);
}

#[test]
fn a_stuck_batch_shows_and_a_closed_queue_answers_what_is_in_line() {
    let gate = gate();
    let queue = Queue::new(BOUNDS, gate.compute.clone()).unwrap();
    let texts = (0..3).map(|id| text(id, 8)).collect();
    let places = queue.submit(texts, Wanted::Pooled, later()).unwrap();
    gate.wait_for(1);
    std::thread::sleep(Duration::from_millis(5));
    assert!(!queue.is_healthy(Duration::from_millis(1)));
    assert!(queue.is_healthy(Duration::from_mins(1)));
    for _ in 0..3 {
        gate.open.send(()).unwrap();
    }
    drop(queue);
    let found: BTreeSet<_> = places
        .into_iter()
        .map(|place| values(place)[0] as u32)
        .collect();
    assert_eq!(found, BTreeSet::from([0, 1, 2]));
}
