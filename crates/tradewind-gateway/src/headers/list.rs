//! The header fields of one message.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The fields of a head, most of which only pass through. A head has some ten of them, which are looked through quicker
/// than hashed, and what came as lines of text stays where it was read.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    /// What the lines are parts of.
    head: Bytes,
    lines: Vec<Line>,
    /// Those that were added here, or came over HTTP/2.
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// So many are added to those of a head, mostly.
const ROOM: usize = 6;

/// A field as it was read.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: Part,
    value: Part,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    start: u32,
    end: u32,
}

impl Part {
    /// `part` of `head`; an empty one may be of something else.
    fn of(head: &[u8], part: &[u8]) -> Self {
        if part.is_empty() {
            return Self { start: 0, end: 0 };
        }
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        assert!(start + part.len() <= head.len(), "a field is a part of its head");
        let offset = |at: usize| u32::try_from(at).expect("a head has a limit");
        Self { start: offset(start), end: offset(start + part.len()) }
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether it is that name. Most are told apart by their length, without a look at the head.
    #[inline]
    fn is(self, head: &[u8], name: &[u8]) -> bool {
        (self.end - self.start) as usize == name.len() && head[self.range()].eq_ignore_ascii_case(name)
    }
}

impl Headers {
    /// None yet of those that `head` has.
    pub(crate) fn of_head(head: &Bytes, lines: usize) -> Self {
        Self { head: head.clone(), lines: Vec::with_capacity(lines), fields: Vec::with_capacity(ROOM) }
    }

    /// Adds a field whose name and value are parts of the head.
    pub(crate) fn push_line(&mut self, name: &[u8], value: &[u8]) {
        self.lines.push(Line { name: Part::of(&self.head, name), value: Part::of(&self.head, value) });
    }

    /// All of them, in the order in which they came. Names are in the sender's case.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.lines.iter().map(|line| (&self.head[line.name.range()], &self.head[line.value.range()]));
        lines.chain(self.fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// The first of that name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let bytes = name.as_str().as_bytes();
        let line = self.lines.iter().find(|line| line.name.is(&self.head, bytes));
        let value = line.map(|line| &self.head[line.value.range()]);
        value.or_else(|| self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_bytes()))
    }

    /// The same, if it is text.
    pub(crate) fn text(&self, name: &HeaderName) -> Option<&str> {
        str::from_utf8(self.get(name)?).ok()
    }

    pub(crate) fn get_all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first cookie of that name, which is told apart by case.
    pub(crate) fn cookie(&self, name: &str) -> Option<&[u8]> {
        self.get_all(&header::COOKIE).find_map(|pairs| cookie_among(pairs, name.as_bytes()))
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// In the place of all others of that name.
    pub(crate) fn insert(&mut self, name: &HeaderName, value: HeaderValue) {
        self.remove(name);
        self.append(name, value);
    }

    /// Beside others of that name, if there are any.
    pub(crate) fn append(&mut self, name: &HeaderName, value: HeaderValue) {
        self.fields.push((name.clone(), value));
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        let Self { head, lines, fields } = self;
        let bytes = name.as_str().as_bytes();
        lines.retain(|line| !line.name.is(head, bytes));
        fields.retain(|(found, _)| found != name);
    }

    /// Leaves only those whose names may stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&[u8]) -> bool) {
        let head = &self.head;
        self.lines.retain(|line| stays(&head[line.name.range()]));
        self.fields.retain(|(name, _)| stays(name.as_str().as_bytes()));
    }
}

/// The value of a cookie among `a=1; b="2"`, without the quotes.
fn cookie_among<'a>(pairs: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pairs.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii_start().strip_prefix(name)?.strip_prefix(b"=")?.trim_ascii_end();
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// As HTTP/2 is spoken.
impl From<Headers> for HeaderMap {
    fn from(Headers { head, lines, fields }: Headers) -> Self {
        let mut map = Self::with_capacity(lines.len() + fields.len());
        for line in lines {
            let name = HeaderName::from_bytes(&head[line.name.range()]);
            // Neither fails for what was read as a field.
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(head.slice(line.value.range()))) {
                map.append(name, value);
            }
        }
        map.extend(fields);
        map
    }
}

impl From<HeaderMap> for Headers {
    fn from(map: HeaderMap) -> Self {
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(map.len());
        for (name, value) in map {
            // Of several with one name only the first comes with it.
            let name = name.or_else(|| fields.last().map(|(name, _)| name.clone()));
            fields.extend(name.map(|name| (name, value)));
        }
        Self { fields, ..Self::default() }
    }
}

/// Values are not told: some of them are secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, HOST, VIA};

    use super::*;

    /// As they are read from lines.
    fn read(lines: &'static str) -> Headers {
        let head = Bytes::from_static(lines.as_bytes());
        let mut headers = Headers::of_head(&head, 1);
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            headers.push_line(name.as_bytes(), value.as_bytes());
        }
        headers
    }

    fn written(headers: &Headers) -> Vec<String> {
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        headers.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    #[test]
    fn fields_are_found_in_any_case_and_pass_in_the_senders() {
        let mut headers = read("HOST: a\nVia: 1\nvia: 2\nX-Empty: ");
        assert_eq!((headers.get(&HOST), headers.text(&HOST)), (Some(&b"a"[..]), Some("a")));
        assert_eq!(headers.get_all(&VIA).collect::<Vec<_>>(), [b"1", b"2"]);
        assert!(!headers.contains(&ACCEPT));
        headers.insert(&VIA, HeaderValue::from_static("3"));
        headers.insert(&VIA, HeaderValue::from_static("4"));
        assert_eq!(written(&headers), ["HOST: a", "X-Empty: ", "via: 4"]);
        headers.remove(&HOST);
        assert_eq!(written(&headers), ["X-Empty: ", "via: 4"]);
        assert_eq!(format!("{headers:?}"), r#"["X-Empty", "via"]"#);
    }

    #[test]
    fn nothing_is_lost_between_the_protocols() {
        let mut headers = read("HOST: a\nVia: 1\nvia: 2\nX-Empty: ");
        headers.insert(&ACCEPT, HeaderValue::from_static("*/*"));
        let map = HeaderMap::from(headers);
        let again = Headers::from(map.clone());
        let mut found = written(&again);
        found.sort_unstable();
        assert_eq!(found, ["accept: */*", "host: a", "via: 1", "via: 2", "x-empty: "]);
        assert_eq!(HeaderMap::from(again), map);
    }

    #[test]
    #[should_panic(expected = "a field is a part of its head")]
    fn what_is_elsewhere_is_no_field() {
        Headers::of_head(&Bytes::from_static(b"a: b"), 1).push_line(b"a", b"b");
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let check = |pairs: &str, expected: Option<&str>| {
            assert_eq!(cookie_among(pairs.as_bytes(), b"uid"), expected.map(str::as_bytes), "{pairs}");
        };
        check("uid=ada", Some("ada"));
        check("theme=dark; uid=ada ; x=1", Some("ada"));
        check("theme=uid; myuid=bob;uid=\"ada=\"", Some("ada="));
        check("UID=ada; uidx=bob; uid", None);
        check("", None);
        check("uid=", Some(""));
        check("uid=\"", Some("\""));
    }
}
