use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use cloze_data::text::Encoding;

use crate::queue::{Sight, Wanted};

/// What a place in the maps costs beside its numbers, about.
const PLACE_BYTES: usize = 256;

type Key = Arc<(Wanted, Sight)>;

/// One model's answers of late, as many as fit into so many bytes; the one that was asked for longest ago goes first.
///
/// Answers are found by what the encoder saw, so that a prompt, a cut or another spelling of the request can never be
/// mistaken for another. A cache lives and ends with its model.
pub struct Cache {
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<Key, Held>,
    /// Keys by the moment they were last asked for.
    order: BTreeMap<u64, Key>,
    moment: u64,
    bytes: usize,
}

struct Held {
    values: Arc<Vec<f32>>,
    moment: u64,
}

impl Cache {
    /// An empty one; none where it could hold nothing.
    pub fn new(most_bytes: usize) -> Option<Self> {
        (most_bytes > 0).then(|| Self {
            most_bytes,
            state: Mutex::default(),
        })
    }

    /// The answer to a text, or the key to put it under once it is there.
    pub fn find(&self, wanted: Wanted, text: &Encoding) -> Result<Arc<Vec<f32>>, Key> {
        let key = Arc::new((wanted, Sight::of(text)));
        let state = &mut *self.lock();
        let Some(held) = state.held.get_mut(&key) else {
            return Err(key);
        };
        state.moment += 1;
        let place = state.order.remove(&held.moment);
        held.moment = state.moment;
        state.order.insert(held.moment, place.unwrap_or(key));
        Ok(held.values.clone())
    }

    /// Keeps an answer, unless it alone is too large; bytes held afterwards.
    pub fn keep(&self, key: Key, values: Arc<Vec<f32>>) -> usize {
        let state = &mut *self.lock();
        let size = bytes(&key, &values);
        if size > self.most_bytes || state.held.contains_key(&key) {
            return state.bytes;
        }
        state.moment += 1;
        let moment = state.moment;
        state.bytes += size;
        state.order.insert(moment, key.clone());
        state.held.insert(key, Held { values, moment });
        while state.bytes > self.most_bytes
            && let Some((_, key)) = state.order.pop_first()
            && let Some(old) = state.held.remove(&key)
        {
            state.bytes -= bytes(&key, &old.values);
        }
        state.bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while the cache is held")
    }
}

fn bytes(key: &Key, values: &[f32]) -> usize {
    key.0.bytes() + key.1.bytes() + size_of_val(values) + PLACE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: u32) -> Encoding {
        Encoding {
            ids: vec![id; 4],
            ..Encoding::default()
        }
    }

    fn values(of: u32) -> Arc<Vec<f32>> {
        Arc::new(vec![of as f32; 100])
    }

    fn find(cache: &Cache, id: u32) -> Option<f32> {
        let found = cache.find(Wanted::Pooled, &text(id));
        found.ok().map(|values| values[0])
    }

    fn keep(cache: &Cache, id: u32) -> usize {
        let Err(key) = cache.find(Wanted::Pooled, &text(id)) else {
            panic!("{id} is not held yet");
        };
        cache.keep(key, values(id))
    }

    #[test]
    fn what_was_asked_for_longest_ago_goes_first() {
        let one = keep(&Cache::new(usize::MAX).unwrap(), 0);
        let cache = Cache::new(3 * one).unwrap();
        for id in 1..=3 {
            assert_eq!(keep(&cache, id), one * id as usize);
        }
        assert_eq!(find(&cache, 1), Some(1.0));
        assert_eq!(keep(&cache, 4), 3 * one, "the bound holds");
        assert_eq!(find(&cache, 2), None);
        for id in [1, 3, 4] {
            assert_eq!(find(&cache, id), Some(id as f32));
        }
        let state = cache.lock();
        assert_eq!((state.held.len(), state.order.len()), (3, 3));
    }

    #[test]
    fn what_is_wanted_and_what_is_seen_tell_answers_apart() {
        let cache = Cache::new(1 << 20).unwrap();
        keep(&cache, 1);
        assert!(cache.find(Wanted::Tokens, &text(1)).is_err());
        let mut other = text(1);
        other.prompt = 2;
        assert!(cache.find(Wanted::Pooled, &other).is_err());
        other.prompt = 0;
        other.offsets = vec![(0, 9); 4];
        assert!(
            cache.find(Wanted::Pooled, &other).is_ok(),
            "the same tokens of another spelling"
        );
    }

    #[test]
    fn what_alone_is_too_large_is_not_held() {
        assert!(Cache::new(0).is_none());
        let cache = Cache::new(300).unwrap();
        assert_eq!(keep(&cache, 1), 0);
        assert_eq!(find(&cache, 1), None);
    }
}
