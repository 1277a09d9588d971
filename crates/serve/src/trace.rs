//! What a request did and when, for whoever collects that.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;

tokio::task_local! {
    /// Where the parts of the request under way are put, if somebody wants them.
    static PARTS: Arc<Mutex<Vec<Part>>>;
}

/// Takes what requests did.
pub type Collect = Arc<dyn Fn(Trace) + Send + Sync>;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Of all that belongs together, perhaps on several machines.
    pub trace_id: u128,
    /// Its own.
    pub span_id: u64,
    /// Of what sent it, by the header `traceparent`.
    pub parent: Option<u64>,
    /// Method and route.
    pub name: String,
    /// The answer's status.
    pub status: u16,
    /// When its head was read.
    pub start: Instant,
    /// When its answer was ready to be written.
    pub end: Instant,
    /// What it went through, in order.
    pub parts: Vec<Part>,
}

/// A part of a request's time.
#[derive(Clone, Debug)]
pub struct Part {
    /// `tokenize`, `queue`, `batch` or `answer`.
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// Texts it was about.
    pub texts: usize,
}

/// Notes a part of the request under way.
pub fn note(part: Part) {
    // Nobody may want to know.
    let _ = PARTS.try_with(|parts| lock(parts).push(part));
}

fn lock(parts: &Mutex<Vec<Part>>) -> MutexGuard<'_, Vec<Part>> {
    parts.lock().expect("nothing panics while parts are held")
}

/// Follows a request, unless whoever sent it says that this one is not followed.
pub async fn follow(State(collect): State<Collect>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let (trace_id, parent) = match traceparent(request.headers()) {
        Some(Parent { is_sampled, .. }) if !is_sampled => return next.run(request).await,
        Some(parent) => (parent.trace_id, Some(parent.span_id)),
        None => (u128::from(number()) << 64 | u128::from(number()), None),
    };
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    let name = format!("{} {route}", request.method());
    let parts = Arc::<Mutex<Vec<Part>>>::default();
    let response = PARTS.scope(parts.clone(), next.run(request)).await;
    let end = Instant::now();
    let mut parts = std::mem::take(&mut *lock(&parts));
    if let Some(last) = parts.last() {
        parts.push(Part {
            name: "answer",
            start: last.end.min(end),
            end,
            texts: last.texts,
        });
    }
    collect(Trace {
        trace_id,
        span_id: number(),
        parent,
        name,
        status: response.status().as_u16(),
        start,
        end,
        parts,
    });
    response
}

struct Parent {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
}

/// The header as W3C Trace Context, level 1, section 3.2 has it; none if it is something else.
fn traceparent(headers: &HeaderMap) -> Option<Parent> {
    let header = headers.get("traceparent")?.to_str().ok()?;
    let mut fields = header.split('-');
    let mut hex = |digits: usize| {
        let field = fields.next()?;
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (field.len() == digits && field.bytes().all(is_hex)).then_some(field)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // Later versions may say more at the end, this one does not.
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    let parent = Parent {
        trace_id: u128::from_str_radix(trace, 16).ok()?,
        span_id: u64::from_str_radix(span, 16).ok()?,
        is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    };
    (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
}

/// A number that nobody else has, and that is not 0: the standard library's keys of hash maps are random.
pub fn number() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_taken_over_as_the_standard_has_it() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().expect("a header"));
            traceparent(&headers).map(|p| (p.trace_id, p.span_id, p.is_sampled))
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let span = "b7ad6b7169203331";
        let expected = |sampled| {
            Some((
                0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
                0xb7ad_6b71_6920_3331,
                sampled,
            ))
        };
        assert_eq!(read(&format!("00-{trace}-{span}-01")), expected(true));
        assert_eq!(read(&format!("00-{trace}-{span}-00")), expected(false));
        assert_eq!(read(&format!("cc-{trace}-{span}-03-more")), expected(true));
        let zero = "0".repeat(32);
        for wrong in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{zero}-{span}-01"),
            format!("00-{trace}-{}-01", &zero[..16]),
            format!("00-+{}-{span}-01", &trace[1..]),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
        assert_ne!(number(), number());
    }
}
