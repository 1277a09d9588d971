use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::OpenAiFault;
use crate::{Fault, watch};

tokio::task_local! {
    /// On whose account the request under way goes, where that is limited or counted.
    static ACCOUNT: Arc<Account>;
}

/// A bearer key, and how much it may use.
#[derive(Clone, PartialEq)]
pub struct Key {
    secret: String,
    name: String,
    requests_per_second: Option<f64>,
    tokens_per_minute: Option<f64>,
}

impl Key {
    /// A key as a line of a file has it, `SECRET [name=NAME] [requests/s=NUMBER] [tokens/min=NUMBER]`: the name stands in
    /// metrics, and what has no limit is not limited.
    ///
    /// # Errors
    /// What was expected and found, without the secret.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let secret = words.next().ok_or("expected a key, found none")?;
        let mut key = Self::from(secret);
        for word in words {
            // What is no setting may be a part of the secret, and is not said.
            let Some((setting, value)) = word.split_once('=') else {
                return Err("expected name=, requests/s= or tokens/min= after the key, found a word without `=`".into());
            };
            let number = || match value.parse::<f64>() {
                Ok(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
                _ => Err(format!(
                    "{setting}: expected a number above 0, found {value:?}"
                )),
            };
            match setting {
                "name" if !value.is_empty() => value.clone_into(&mut key.name),
                "requests/s" => key.requests_per_second = number()?,
                "tokens/min" => key.tokens_per_minute = number()?,
                _ => {
                    return Err("expected name=, requests/s= or tokens/min= after the key, found another setting".into());
                }
            }
        }
        Ok(key)
    }
}

impl From<&str> for Key {
    /// A key without a name of its own and without limits.
    fn from(secret: &str) -> Self {
        Self {
            secret: secret.to_owned(),
            name: "unnamed".to_owned(),
            requests_per_second: None,
            tokens_per_minute: None,
        }
    }
}

/// Use of something that comes back at a steady rate. It may fall below nothing, by a request whose size was not known
/// when it was let in, and then rises again before the next one.
struct Bucket {
    /// A second.
    rate: f64,
    most: f64,
    level: f64,
    since: Instant,
}

impl Bucket {
    fn full(rate: f64, most: f64, now: Instant) -> Self {
        Self {
            rate,
            most,
            level: most,
            since: now,
        }
    }

    /// How long to wait until there is `wanted`.
    fn wait(&mut self, wanted: f64, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.since);
        self.since = now;
        self.level = (self.level + passed.as_secs_f64() * self.rate).min(self.most);
        let seconds = (wanted - self.level) / self.rate;
        (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(3600.0)))
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().expect("nothing panics while counting")
}

/// A key, and what it has used of late.
struct Account {
    key: Key,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

impl Account {
    fn new(key: Key, now: Instant) -> Self {
        let bucket = |rate, most| Mutex::new(Bucket::full(rate, most, now));
        Self {
            // At once a second's requests, and a minute's tokens.
            requests: key
                .requests_per_second
                .map(|rate| bucket(rate, rate.max(1.0))),
            tokens: key.tokens_per_minute.map(|rate| bucket(rate / 60.0, rate)),
            key,
        }
    }

    /// Lets a request in, or says when to come again.
    fn admit(&self, now: Instant) -> Result<(), Fault> {
        let refuse = |what, most: Option<f64>, retry_after| {
            watch::key_refused(&self.key.name, what);
            let most = most.unwrap_or_default();
            Err(Fault::Limited {
                what,
                most,
                retry_after,
            })
        };
        // A request's tokens are not known yet: any credit at all lets it in.
        if let Some(tokens) = &self.tokens
            && let Some(wait) = lock(tokens).wait(f64::EPSILON, now)
        {
            return refuse("tokens/min", self.key.tokens_per_minute, wait);
        }
        if let Some(requests) = &self.requests {
            let mut requests = lock(requests);
            if let Some(wait) = requests.wait(1.0, now) {
                return refuse("requests/s", self.key.requests_per_second, wait);
            }
            requests.level -= 1.0;
        }
        watch::key_request(&self.key.name);
        Ok(())
    }

    fn charge(&self, tokens: usize) {
        watch::key_tokens(&self.key.name, tokens);
        if let Some(bucket) = &self.tokens {
            lock(bucket).level -= tokens as f64;
        }
    }
}

/// Puts tokens on the account of the request under way.
pub fn charge(tokens: usize) {
    // Without keys there are no accounts.
    let _ = ACCOUNT.try_with(|account| account.charge(tokens));
}

/// The bearer keys that let a request in; all are let in where there are none.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<Option<Vec<Arc<Account>>>>>);

/// Who asks.
enum Found {
    /// Nobody asks for keys.
    Anyone,
    Known(Arc<Account>),
    Unknown,
}

impl Keys {
    /// Takes other keys from now on; with an empty list nothing is let in. Keys that stay as they are keep count of what they used.
    pub fn replace(&self, keys: Vec<Key>) {
        let now = Instant::now();
        let mut held = self.0.write().expect("nothing panics while keys are held");
        let old = held.take().unwrap_or_default();
        let account = |key: Key| {
            let same = old.iter().find(|account| account.key == key);
            same.cloned()
                .unwrap_or_else(|| Arc::new(Account::new(key, now)))
        };
        *held = Some(keys.into_iter().map(account).collect());
    }

    /// Whose key `given` is, in a time that depends on lengths only.
    fn find(&self, given: Option<&str>) -> Found {
        let keys = self.0.read().expect("nothing panics while keys are held");
        let Some(keys) = &*keys else {
            return Found::Anyone;
        };
        let given = given.unwrap_or_default().as_bytes();
        let mut found = u64::MAX;
        for (index, account) in (0..).zip(keys) {
            let is_same = account.key.secret.as_bytes().ct_eq(given);
            found.conditional_assign(&index, is_same);
        }
        let account = keys.get(found as usize).cloned();
        account.map_or(Found::Unknown, Found::Known)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Whether a token is `expected`, in a time that depends on lengths only.
pub fn is_same(given: Option<&str>, expected: &str) -> bool {
    let given = given.unwrap_or_default().as_bytes();
    !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(given))
}

/// Lets requests with a key through, within its limits; without one they get 401 and an empty body, as from
/// text-embeddings-inference.
pub async fn require(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    let account = match keys.find(bearer(request.headers())) {
        Found::Anyone => return next.run(request).await,
        Found::Unknown => return StatusCode::UNAUTHORIZED.into_response(),
        Found::Known(account) => account,
    };
    match account.admit(Instant::now()) {
        Ok(()) => ACCOUNT.scope(account, next.run(request)).await,
        Err(fault) if request.uri().path().starts_with("/v1/") => {
            OpenAiFault::from(fault).into_response()
        }
        Err(fault) => fault.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_let_in() {
        let keys = Keys::default();
        let lets_in = |given| !matches!(keys.find(given), Found::Unknown);
        assert!(lets_in(None), "nothing is asked for without keys");
        keys.replace(vec!["first".into(), "second".into()]);
        assert!(lets_in(Some("first")) && lets_in(Some("second")));
        for given in [
            None,
            Some(""),
            Some("firs"),
            Some("firstt"),
            Some("firstsecond"),
        ] {
            assert!(!lets_in(given), "{given:?}");
        }
        keys.replace(Vec::new());
        assert!(!lets_in(Some("first")) && !lets_in(None) && !lets_in(Some("")));
    }

    #[test]
    fn a_line_names_a_key_and_its_limits() {
        let read = |line| Key::parse(line).map_err(|error| assert!(!error.contains("s3cret")));
        assert!(read("s3cret").is_ok_and(|key| key == Key::from("s3cret")));
        let full = read("s3cret  name=search requests/s=0.5\ttokens/min=6000");
        let expected = Key {
            secret: "s3cret".into(),
            name: "search".into(),
            requests_per_second: Some(0.5),
            tokens_per_minute: Some(6000.0),
        };
        assert!(full.is_ok_and(|key| key == expected));
        for wrong in [
            "",
            "a s3cret",
            "a s3cret=1",
            "a name=",
            "a requests/s=0",
            "a requests/s=-1",
            "a tokens/min=many",
            "a tokens/min=inf",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    fn wait(account: &Account, now: Instant) -> Option<Duration> {
        match account.admit(now) {
            Ok(()) => None,
            Err(Fault::Limited { retry_after, .. }) => Some(retry_after),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn requests_come_back_at_their_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let key = Key::parse("a requests/s=2").expect("a key");
        let account = Account::new(key, start);
        assert_eq!([0; 2].map(|ms| wait(&account, at(ms))), [None; 2]);
        assert_eq!(wait(&account, at(100)), Some(Duration::from_millis(400)));
        assert_eq!(wait(&account, at(500)), None);
        assert!(wait(&account, at(500)).is_some());
        // No more is saved up than a second's.
        let later = [60_000; 3].map(|ms| wait(&account, at(ms)).is_none());
        assert_eq!(later, [true, true, false]);
    }

    #[test]
    fn tokens_are_paid_before_the_next_request() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let key = Key::parse("a tokens/min=60").expect("a key");
        let account = Account::new(key, start);
        assert_eq!(wait(&account, start), None);
        account.charge(90);
        let refused = wait(&account, start).expect("all are used, and more");
        assert!((30.0..30.01).contains(&refused.as_secs_f64()));
        assert!(wait(&account, at(29)).is_some());
        assert_eq!(wait(&account, at(31)), None);
    }

    #[test]
    fn a_key_that_stays_keeps_its_count() {
        let limited = || Key::parse("a requests/s=0.001").expect("a key");
        let keys = Keys::default();
        let is_let_in = || match keys.find(Some("a")) {
            Found::Known(account) => account.admit(Instant::now()).is_ok(),
            Found::Anyone | Found::Unknown => panic!("it is known"),
        };
        keys.replace(vec![limited()]);
        assert!(is_let_in() && !is_let_in());
        keys.replace(vec!["b".into(), limited()]);
        assert!(!is_let_in());
        keys.replace(vec!["a".into()]);
        assert!(is_let_in() && is_let_in(), "without a limit");
    }
}
