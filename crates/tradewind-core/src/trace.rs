//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to.
//!
//! Where spans are not exported, Tradewind takes no part in traces: what came is passed on as it is, so that the caller's
//! span is the parent of whatever a model server records. Where they are, each process passes on its own span.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names a trace in logs; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TraceId {
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

/// The header `traceparent`; as a value of JSON, its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    pub trace: TraceId,
    span: u64,
    /// Whether the caller may have recorded it.
    pub sampled: bool,
}

/// Bytes of version 00, which every later version begins with.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// The longest `tracestate` and the most of its entries that are passed on: the standard asks for 512 bytes at least and
/// 32 entries at most.
pub const STATE_LIMIT: usize = 2048;
pub const STATE_ENTRIES_LIMIT: usize = 32;

impl TraceParent {
    /// `None` for what the standard has to be ignored, with the `tracestate` beside it.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(LENGTH)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let (version, flags) = (hexadecimal(&known[..2])? as u8, hexadecimal(&known[53..])? as u8);
        let well_formed = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let (trace, span) = (hexadecimal(&known[3..35])?, hexadecimal(&known[36..52])? as u64);
        let parent = Self { trace: TraceId(trace), span, sampled: flags & SAMPLED != 0 };
        (dashes && well_formed && trace != 0 && span != 0).then_some(parent)
    }

    /// The beginning of a trace, of random numbers.
    pub fn begin(random: impl Fn() -> u64, sampled: bool) -> Self {
        let trace = u128::from(random()) << 64 | u128::from(random());
        // Zero means nothing.
        Self { trace: TraceId(trace.max(1)), span: random().max(1), sampled }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The span that stands for `what` in this trace: the same wherever and however often it is asked for.
    #[must_use]
    pub fn place(self, what: &str) -> Self {
        // FNV-1a (<https://datatracker.ietf.org/doc/html/rfc9923>): ids of one trace have to differ, no more.
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.child(what.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325 ^ self.span, fold))
    }

    pub fn span(self) -> u64 {
        self.span
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context of W3C")]
pub struct InvalidTraceParent;

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        Self::parse(text.as_bytes()).ok_or(InvalidTraceParent)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceParent;
    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

/// As version 00 writes it.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Whether a `tracestate`, all its headers joined by commas, is passed on.
pub fn state_is_sound(header: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(header).ok().filter(|text| text.len() <= STATE_LIMIT) else { return false };
    let mut keys = Vec::new();
    // Empty entries are allowed.
    for entry in text.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty()) {
        let Some((key, value)) = entry.split_once('=') else { return false };
        let fresh = !keys.contains(&key) && keys.len() < STATE_ENTRIES_LIMIT;
        if !fresh || !key_is_sound(key) || !value_is_sound(value) {
            return false;
        }
        keys.push(key);
    }
    true
}

fn value_is_sound(value: &str) -> bool {
    let allowed = |byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'=');
    (1..=256).contains(&value.len()) && value.bytes().all(allowed)
}

fn key_is_sound(key: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let part = |part: &str, limit: usize, first: fn(u8) -> bool| {
        part.len() <= limit && part.bytes().next().is_some_and(first) && part.bytes().all(allowed)
    };
    let letter = |byte: u8| byte.is_ascii_lowercase();
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, 241, letter_or_digit) && part(system, 14, letter),
        None => part(key, 256, letter_or_digit),
    }
}

/// Of lower-case digits; at most 32 of them.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn check(header: &str, expected: Option<bool>) {
        let parsed = TraceParent::parse(header.as_bytes());
        assert_eq!(parsed.map(|parent| parent.sampled), expected, "{header}");
        assert!(parsed.is_none_or(|parent| parent.trace.to_string() == TRACE), "{header}");
    }

    /// The examples and rules of the standard, and the cases of its test suite.
    #[test]
    fn parents_are_read_as_the_standard_says() {
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09", Some(true));
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02", Some(false));
        // Later versions may say more, after another dash.
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some(true));
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-holds", Some(true));
        for wrong in [
            "",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what-the-future-holds",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-701",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-.bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn states_are_passed_on_as_the_standard_says() {
        let long = format!("foo={}", "t".repeat(257));
        let many = (0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>();
        for (state, expected) in [
            ("congo=t61rcWkgMzE", true),
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true),
            ("foo=1 , \t bar=2,, baz=3", true),
            ("fw529a3039@dt=FfD3-7f,0a/b*c_d-e=x y", true),
            ("", true),
            ("foo", false),
            ("foo=1,foo=2", false),
            ("foo=bar=baz", false),
            ("Foo=1", false),
            ("foo@=1", false),
            ("@foo=1", false),
            ("foo@1bar=1", false),
            ("foo=", false),
            (&long, false),
            (&many[..32].join(","), true),
            (&many.join(","), false),
        ] {
            assert_eq!(state_is_sound(state.as_bytes()), expected, "{state}");
        }
    }

    #[test]
    fn a_place_in_a_trace_is_the_same_whoever_asks() {
        let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let places = ["deploy us-east1", "verify us-east1", "deploy europe-west1"].map(|what| parent.place(what));
        assert_eq!(places[0], parent.place("deploy us-east1"));
        assert!(places.iter().all(|place| place.trace == parent.trace && place.sampled));
        assert!(places[0] != places[1] && places[0] != places[2] && places[1] != places[2]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers: [u64; 3], sampled: bool) {
            let next = Cell::new(0);
            let random = || {
                next.set(next.get() + 1);
                numbers[next.get() - 1]
            };
            let parent = TraceParent::begin(random, sampled);
            prop_assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Some(parent));
            let json = serde_json::to_string(&parent).unwrap();
            prop_assert_eq!(serde_json::from_str::<TraceParent>(&json).unwrap(), parent);
        }

        #[test]
        fn anything_may_come(header: Vec<u8>) {
            let parsed = TraceParent::parse(&header);
            prop_assert!(parsed.is_none() || header.len() >= LENGTH);
            state_is_sound(&header);
        }
    }
}
