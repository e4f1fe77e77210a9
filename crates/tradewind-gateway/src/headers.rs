//! Which headers cross the gateway, and which it adds.

pub(crate) mod name;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tradewind_api::gateway::USER_HEADER;
use tradewind_core::trace::{self, TraceId, TraceParent};

use name::{TRACE_PARENT, TRACE_STATE};

/// The longest request id that is kept from a client.
const REQUEST_ID_LIMIT: usize = 128;
/// Headers under this prefix are between Tradewind's processes; of a client's own, only the user's key passes.
const INTERNAL_PREFIX: &str = "x-tradewind-";

/// What a client says to the gateway alone, and what the next hop is told anew.
const NOT_FOR_REPLICAS: [HeaderName; 6] =
    [header::CONTENT_LENGTH, header::EXPECT, header::HOST, header::PROXY_AUTHORIZATION, header::TE, header::TRAILER];

/// Makes a client's headers fit for the next hop. What its HTTP/1 connection alone is told has been left out already.
pub(crate) fn clean_request(headers: &mut HeaderMap) {
    let internal = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with(INTERNAL_PREFIX) && name != USER_HEADER
    };
    // One look at the names there are is quicker than looking up all that may be.
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| NOT_FOR_REPLICAS.contains(name) || internal(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// The client's request id if it is one that can be logged safely, else a new one.
pub(crate) fn request_id(headers: &HeaderMap, random: impl Fn() -> u64) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
        (1..=REQUEST_ID_LIMIT).contains(&bytes.len()) && bytes.iter().all(allowed)
    };
    headers.get(&name::REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let mut digits = [0; 32];
        for (half, number) in digits.chunks_exact_mut(16).zip([random(), random()]) {
            for (place, digit) in half.iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(number >> (4 * place) & 15) as usize];
            }
        }
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are visible")
    })
}

/// The trace that a request belongs to. What came is passed on as it is, or not at all if it is not sound; where there
/// is none, one is begun if there is something to begin it with.
pub(crate) fn trace(headers: &mut HeaderMap, begin: Option<impl Fn() -> u64>) -> Option<TraceId> {
    let mut given = headers.get_all(&TRACE_PARENT).iter();
    let (first, second) = (given.next(), given.next());
    let parent = first.filter(|_| second.is_none()).and_then(|value| TraceParent::parse(value.as_bytes()));
    if first.is_some() && parent.is_none() {
        headers.remove(&TRACE_PARENT);
    }
    if headers.contains_key(&TRACE_STATE) && (parent.is_none() || !state_is_sound(headers)) {
        headers.remove(&TRACE_STATE);
    }
    parent.map(|parent| parent.trace).or_else(|| {
        // Who is not logged is not marked either: a mark that says `not sampled` would keep others from recording it.
        let parent = TraceParent::begin(begin?, true);
        let value = HeaderValue::from_str(&parent.to_string()).expect("hexadecimal digits are visible");
        headers.insert(TRACE_PARENT.clone(), value);
        Some(parent.trace)
    })
}

fn state_is_sound(headers: &HeaderMap) -> bool {
    let values: Vec<&[u8]> = headers.get_all(&TRACE_STATE).iter().map(HeaderValue::as_bytes).collect();
    trace::state_is_sound(&values.join(&b','))
}

/// Whether the tokens are equal, in a time that depends on their lengths alone.
pub(crate) fn same_token(presented: &[u8], expected: &[u8]) -> bool {
    presented.len() == expected.len() && presented.iter().zip(expected).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use tradewind_api::gateway::{PEER_HEADER, REQUEST_ID_HEADER};

    use super::*;

    #[test]
    fn only_what_is_the_users_crosses() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("te", "trailers"),
            ("content-length", "2"),
            (PEER_HEADER, "stolen"),
            ("x-tradewind-epoch", "9"),
            (USER_HEADER, "ada"),
            ("content-type", "application/json"),
            ("host", "example.com"),
        ] {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value));
        }
        clean_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", USER_HEADER]);
    }

    #[test]
    fn a_sane_request_id_is_kept() {
        let of = |value: &'static str| {
            let name = HeaderName::from_static(REQUEST_ID_HEADER);
            request_id(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]), rand::random)
        };
        assert_eq!(of("abc-123"), "abc-123");
        assert_eq!(of("a b\"c").len(), 32);
        assert_eq!(of("").len(), 32);
        assert_ne!(request_id(&HeaderMap::new(), rand::random), request_id(&HeaderMap::new(), rand::random));
    }

    #[test]
    fn a_sound_trace_is_passed_on_and_another_is_replaced() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |sent: &[(&HeaderName, &'static str)], begin: bool, expected: &[&str]| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let trace = trace(&mut headers, begin.then_some(|| 7)).map(|trace| trace.to_string());
            let left: Vec<_> = headers.values().map(|value| value.to_str().unwrap()).collect();
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

    /// Those of the lines that can be headers.
    fn headers(lines: &[u8]) -> HeaderMap {
        let fields = lines.split(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
            Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
        });
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        headers
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
                assert!(!headers.contains_key(name), "{name}");
            }
            let internal = |name: &&HeaderName| name.as_str().starts_with(INTERNAL_PREFIX);
            assert!(headers.keys().filter(internal).all(|name| name == USER_HEADER), "{headers:?}");
            let found = trace(&mut headers, Some(|| 7)).unwrap();
            let cleaned = headers.clone();
            clean_request(&mut headers);
            assert_eq!(trace(&mut headers, None::<fn() -> u64>), Some(found));
            assert_eq!(headers, cleaned, "what crossed once crosses again");
        });
    }
}
