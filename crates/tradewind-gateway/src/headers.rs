//! Which headers cross the gateway, and which it adds.

mod list;
pub(crate) mod name;

use http::{HeaderName, HeaderValue, header};
use tradewind_api::{compression::Coding, grpc};
use tradewind_core::trace::{self, TraceParent};

use name::{TRACE_PARENT, TRACE_STATE};

pub(crate) use list::Headers;

/// The longest request id that is kept from a client.
const REQUEST_ID_LIMIT: usize = 128;
/// Headers under this prefix are between Tradewind's processes; of a client's own, only the user's key passes.
const INTERNAL_PREFIX: &[u8] = b"x-tradewind-";

/// What a client says to the gateway alone, and what the next hop is told anew.
const NOT_FOR_REPLICAS: [HeaderName; 6] =
    [header::CONTENT_LENGTH, header::EXPECT, header::HOST, header::PROXY_AUTHORIZATION, header::TE, header::TRAILER];

/// Makes a client's headers fit for the next hop. What its HTTP/1 connection alone is told has been left out already.
pub(crate) fn clean_request(headers: &mut Headers) {
    let is = |name: &[u8], other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
    headers.retain(|name| {
        let internal = is_internal(name) && !is(name, &name::USER);
        !internal && !NOT_FOR_REPLICAS.iter().any(|other| is(name, other))
    });
}

/// Makes a replica's headers fit for users: what is between Tradewind's processes is none of its.
pub(crate) fn clean_answer(headers: &mut Headers) {
    headers.retain(|name| !is_internal(name));
}

fn is_internal(name: &[u8]) -> bool {
    name.get(..INTERNAL_PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(INTERNAL_PREFIX))
}

/// Whether a request speaks gRPC.
pub(crate) fn is_grpc(headers: &Headers) -> bool {
    headers.get(&header::CONTENT_TYPE).is_some_and(grpc::is_grpc_type)
}

/// How messages of gRPC are compressed that say that they are.
pub(crate) fn coding(headers: &Headers) -> Option<Coding> {
    Coding::from_name(headers.get(&name::GRPC_ENCODING)?)
}

/// The client's request id if it is one that can be logged safely, else a new one.
pub(crate) fn request_id(headers: &Headers, random: impl Fn() -> u64) -> HeaderValue {
    let sane = |bytes: &&[u8]| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=REQUEST_ID_LIMIT).contains(&bytes.len()) && bytes.iter().all(allowed)
    };
    let given = headers.get(&name::REQUEST_ID).filter(sane);
    given.and_then(|given| HeaderValue::from_bytes(given).ok()).unwrap_or_else(|| {
        let mut digits = [0; 32];
        for (half, number) in digits.chunks_exact_mut(16).zip([random(), random()]) {
            for (place, digit) in half.iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
            }
        }
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are visible")
    })
}

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) parent: TraceParent,
    /// It begins here.
    pub(crate) begun: bool,
}

/// The trace that a request belongs to. What came is passed on as it is, or not at all if it is not sound; where there
/// is none, one is begun if there is something to begin it with.
pub(crate) fn trace(headers: &mut Headers, begin: Option<impl Fn() -> u64>) -> Option<Trace> {
    let parent = only(headers.get_all(&TRACE_PARENT)).and_then(TraceParent::parse);
    if parent.is_none() {
        headers.remove(&TRACE_PARENT);
    }
    if headers.contains(&TRACE_STATE) && (parent.is_none() || !state_is_sound(headers)) {
        headers.remove(&TRACE_STATE);
    }
    parent.map(|parent| Trace { parent, begun: false }).or_else(|| {
        // Who is not logged is not marked either: a mark that says `not sampled` would keep others from recording it.
        let parent = TraceParent::begin(begin?, true);
        tell_trace(headers, parent);
        Some(Trace { parent, begun: true })
    })
}

/// Whose child the next hop is.
pub(crate) fn tell_trace(headers: &mut Headers, parent: TraceParent) {
    let value = HeaderValue::from_str(&parent.to_string()).expect("hexadecimal digits are visible");
    headers.insert(&TRACE_PARENT, value);
}

fn only<T>(mut given: impl Iterator<Item = T>) -> Option<T> {
    let first = given.next()?;
    given.next().is_none().then_some(first)
}

fn state_is_sound(headers: &Headers) -> bool {
    let values: Vec<&[u8]> = headers.get_all(&TRACE_STATE).collect();
    trace::state_is_sound(&values.join(&b','))
}

/// Whether the tokens are equal, in a time that depends on their lengths alone.
pub(crate) fn same_token(presented: &[u8], expected: &[u8]) -> bool {
    presented.len() == expected.len() && presented.iter().zip(expected).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use tradewind_api::gateway::{PEER_HEADER, REQUEST_ID_HEADER, USER_HEADER};

    use super::*;

    /// Those of the lines that can be headers, as they are read.
    fn headers(lines: impl AsRef<[u8]>) -> Headers {
        let head = Bytes::copy_from_slice(lines.as_ref());
        let mut headers = Headers::of_head(&head, 1);
        for line in head.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if HeaderName::from_bytes(name).is_ok() && HeaderValue::from_bytes(value).is_ok() {
                headers.push_line(name, value);
            }
        }
        headers
    }

    fn names(headers: &Headers) -> Vec<String> {
        let mut names: Vec<String> =
            headers.iter().map(|(name, _)| str::from_utf8(name).unwrap().to_ascii_lowercase()).collect();
        names.sort_unstable();
        names
    }

    fn fields(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
        headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn only_what_is_the_users_crosses() {
        let mut headers = headers(format!(
            "TE: trailers\ncontent-length: 2\n{PEER_HEADER}: stolen\nX-Tradewind-Epoch: 9\n{USER_HEADER}: ada\n\
             Content-Type: application/json\nHost: example.com"
        ));
        clean_request(&mut headers);
        assert_eq!(names(&headers), ["content-type", USER_HEADER]);
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        let of = |value: &str| request_id(&headers(format!("{REQUEST_ID_HEADER}: {value}")), rand::random);
        assert_eq!(of("abc-123"), "abc-123");
        assert_eq!(of("a b\"c").len(), 32);
        assert_eq!(of("").len(), 32);
        assert_ne!(of(""), of(""));
    }

    #[test]
    fn a_sound_trace_is_passed_on_and_another_is_replaced() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |sent: &[(&HeaderName, &'static str)], begin: bool, expected: &[&str]| {
            let lines: Vec<String> = sent.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let mut headers = headers(lines.join("\n"));
            let trace = trace(&mut headers, begin.then_some(|| 7)).map(|trace| trace.parent.trace.to_string());
            let left: Vec<_> = headers.iter().map(|(_, value)| str::from_utf8(value).unwrap()).collect();
            assert_eq!(left, expected, "{sent:?}");
            assert!(left.first().is_none_or(|parent| parent[3..35] == trace.unwrap()));
        };
        let new = "00-00000000000000070000000000000007-0000000000000007-01";
        let (parent, state) = (&TRACE_PARENT, &TRACE_STATE);
        check(&[(parent, PARENT), (state, "a=1"), (state, "b=2")], true, &[PARENT, "a=1", "b=2"]);
        check(&[(parent, PARENT), (state, "a=1"), (state, "a=2")], true, &[PARENT]);
        check(&[(parent, PARENT), (parent, PARENT)], false, &[]);
        check(&[(parent, TRACE), (state, "a=1")], false, &[]);
        check(&[(parent, TRACE), (state, "a=1")], true, &[new]);
        check(&[(state, "a=1")], true, &[new]);
        check(&[], false, &[]);
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same_token(b"abc", b"abc"));
        assert!(!same_token(b"abd", b"abc"));
        assert!(!same_token(b"", b"abc"));
        assert!(!same_token(b"abcd", b"abc"));
    }

    #[test]
    fn whatever_headers_come_the_same_ones_cross() {
        let seeds = [
            "connection: close, x-per-hop\nx-per-hop: 1\nte: trailers\nx-tradewind-peer: a\nx-tradewind-user: ada\nhost: a",
            "x-request-id: abc-123\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n\
                tracestate: a=1,b@c=2\ntracestate: d=3\nkeep-alive: 5\nupgrade: h2c\nexpect: 100-continue",
        ];
        tradewind_fuzz::fuzz(&seeds, |lines| {
            let mut headers = headers(lines);
            let id = request_id(&headers, || 7);
            assert!(id.len() <= REQUEST_ID_LIMIT && id.to_str().is_ok_and(|id| !id.contains([' ', '"'])), "{id:?}");
            clean_request(&mut headers);
            for name in &NOT_FOR_REPLICAS {
                assert!(!headers.contains(name), "{name}");
            }
            let internal = |name: &&String| name.as_bytes().starts_with(INTERNAL_PREFIX);
            assert!(names(&headers).iter().filter(internal).all(|name| name == USER_HEADER), "{headers:?}");
            let found = trace(&mut headers, Some(|| 7)).unwrap();
            let cleaned = headers.clone();
            clean_request(&mut headers);
            let again = trace(&mut headers, None::<fn() -> u64>);
            assert_eq!(again.map(|trace| trace.parent), Some(found.parent));
            assert_eq!(fields(&headers), fields(&cleaned), "what crossed once crosses again");
            let map = HeaderMap::from(headers.clone());
            assert_eq!(map.len(), headers.iter().count(), "{headers:?}");
            for (name, value) in &map {
                assert!(headers.get_all(name).any(|found| found == value.as_bytes()), "{name}");
            }
        });
    }
}
