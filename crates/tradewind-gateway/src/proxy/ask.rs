//! What a request asks for: which model, in which way, and until when.

mod message;

use std::time::Duration;

use http::{HeaderValue, StatusCode, header, uri::PathAndQuery};
use memchr::memchr;
use tokio::time::Instant;
use tradewind_api::grpc::{self, timeout};
use tradewind_core::duration::Span;

use crate::{
    body::{Arriving, Fault, Inbound},
    headers::{self, Headers, is_grpc, name},
    link::Protocol,
    message::Head,
    reply::{Dialect, Reply},
    server::Incoming,
};

/// Requests of the Open Inference Protocol.
pub(crate) const MODELS_PATH: &str = "/v2/models/";
/// What all models of one server have done: no model's name, though it stands where one would.
pub(crate) const STATISTICS_PATH: &str = "/v2/models/stats";
/// Requests for a model server of the user's own, whose paths are its own.
pub(crate) const CUSTOM_PATH: &str = "/models/";
/// The head of an answer comes within this time, unless the sender sets another.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The longest time that a sender may set.
const LONGEST_ANSWER: Duration = Duration::from_secs(3600);

/// How a request names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `/v2/models/{model}/...`
    Rest,
    /// `/models/{model}/...`
    Custom,
    /// A method of the Open Inference Protocol: in the message.
    Grpc,
    /// Any other method: in a header.
    Called,
}

/// The model that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) model: &'a str,
    pub(super) version: Option<&'a str>,
}

impl Way {
    /// `None` for what the gateway answers itself.
    pub(crate) fn of(head: &Head) -> Option<Self> {
        let path = head.path.path();
        if path.starts_with(MODELS_PATH) {
            return (path != STATISTICS_PATH).then_some(Self::Rest);
        }
        if is_grpc(&head.headers) {
            if head.headers.contains(&name::MODEL) {
                return Some(Self::Called);
            }
            let method = grpc::Method::from_path(path);
            return method.filter(|method| method.names_a_model()).map(|_| Self::Grpc);
        }
        path.starts_with(CUSTOM_PATH).then_some(Self::Custom)
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Rest | Self::Custom => Dialect::Rest,
            Self::Grpc | Self::Called => Dialect::Grpc,
        }
    }

    /// What a replica is spoken to in.
    pub(super) fn protocol(self) -> Protocol {
        match self.dialect() {
            Dialect::Rest => Protocol::Http1,
            Dialect::Grpc => Protocol::Http2,
        }
    }

    /// What a replica is asked for: its own paths know nothing of the gateway's.
    pub(super) fn path_at_replica(self, path: &PathAndQuery) -> PathAndQuery {
        if self != Self::Custom {
            return path.clone();
        }
        let rest = path.as_str().strip_prefix(CUSTOM_PATH).unwrap_or_default();
        let begin = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let path = if begin.starts_with('/') { begin.to_owned() } else { format!("/{begin}") };
        path.try_into().unwrap_or_else(|_| PathAndQuery::from_static("/"))
    }

    /// The model as far as the head tells; `None` for a path that might mean something else to a replica than here.
    pub(super) fn named<'a>(self, path: &'a str, headers: &'a Headers) -> Option<Named<'a>> {
        match self {
            Self::Rest => in_path(path, MODELS_PATH, true),
            Self::Custom => in_path(path, CUSTOM_PATH, false),
            Self::Called => Some(Named { model: headers.text(&name::MODEL)?, version: None }),
            Self::Grpc => None,
        }
    }
}

/// A request as far as it has to be read to know its model.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) way: Way,
    pub(super) model: String,
    version: Option<String>,
    pub(super) path: PathAndQuery,
    pub(super) deadline: Deadline,
}

impl Asked {
    /// Also holds as much of the body as may have to be sent again.
    pub(super) async fn read(
        way: Way,
        head: &Head,
        incoming: Incoming,
        now: Instant,
    ) -> Result<(Self, Inbound), Refused> {
        let deadline = Deadline::read(&head.headers, way.dialect(), now).map_err(Refused)?;
        let path = head.path.clone();
        let arriving = Arriving::new(incoming, now)?;
        let (model, version, body) = match way {
            Way::Grpc => {
                let coding = headers::coding(&head.headers);
                let (arriving, model, version) = message::read_target(arriving, coding).await?;
                let conversation = grpc::Method::from_path(path.path()).is_some_and(grpc::Method::is_a_conversation);
                let body = if conversation { arriving.converse() } else { arriving.gather().await? };
                (model, version, body)
            }
            Way::Rest | Way::Custom | Way::Called => {
                let malformed = || Refused(Reply::error(StatusCode::BAD_REQUEST, "the path is malformed"));
                let named = way.named(path.path(), &head.headers).ok_or_else(malformed)?;
                let (model, version) = (named.model.to_owned(), named.version.map(str::to_owned));
                // A method that is not known may be a conversation: its end must not be waited for.
                let body = if way == Way::Called { arriving.converse() } else { arriving.gather().await? };
                (model, version, body)
            }
        };
        Ok((Self { way, model, version, path, deadline }, body))
    }

    pub(super) fn named(&self) -> Named<'_> {
        Named { model: &self.model, version: self.version.as_deref() }
    }

    /// Under which all paths are the model's; `None` where paths do not say the model.
    pub(super) fn path_of_model(&self) -> Option<String> {
        let prefix = match self.way {
            Way::Rest => MODELS_PATH,
            Way::Custom => CUSTOM_PATH,
            Way::Grpc | Way::Called => return None,
        };
        Some(format!("{prefix}{}", self.model))
    }
}

/// Why a request is not passed on.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Reply);

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self(fault_reply(fault))
    }
}

pub(super) fn fault_reply(fault: Fault) -> Reply {
    let status = match fault {
        Fault::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Fault::TooFine | Fault::Broken => StatusCode::BAD_REQUEST,
    };
    Reply::error(status, fault.to_string())
}

fn segment_end(path: &str) -> usize {
    memchr(b'/', path.as_bytes()).unwrap_or(path.len())
}

fn in_path<'a>(path: &'a str, prefix: &str, versions: bool) -> Option<Named<'a>> {
    let rest = path.strip_prefix(prefix)?;
    let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    // Nothing to look for in the usual path.
    let suspicious = rest.bytes().any(|byte| matches!(byte, b'.' | b'%' | b'\\'));
    if suspicious && (rest.split(['/', '\\']).any(dots) || rest.to_ascii_lowercase().contains("%2f")) {
        return None;
    }
    let (model, rest) = rest.split_at(segment_end(rest));
    let version = rest.strip_prefix("/versions/").filter(|_| versions).map(|rest| &rest[..segment_end(rest)]);
    Some(Named { model, version }).filter(|_| !model.is_empty())
}

/// Until when the sender waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    /// Whether the next hop is to be told.
    told: bool,
}

impl Deadline {
    pub(super) fn read(headers: &Headers, dialect: Dialect, now: Instant) -> Result<Self, Reply> {
        let malformed = |message: &str| Reply::error(StatusCode::BAD_REQUEST, message);
        let time = match dialect {
            Dialect::Grpc => match headers.get(&name::GRPC_TIMEOUT) {
                None => None,
                Some(value) => {
                    let time = timeout::read(value);
                    Some(time.map_err(|error| malformed(&error.to_string()))?)
                }
            },
            Dialect::Rest => match headers.get(&name::TIMEOUT) {
                None => None,
                Some(value) => {
                    let span = str::from_utf8(value).ok().and_then(|text| text.parse::<Span>().ok());
                    let span = span.ok_or_else(|| malformed("x-request-timeout is written like 500ms or 2s"))?;
                    Some(span.duration())
                }
            },
        };
        let at = now + time.unwrap_or(ANSWER_LIMIT).min(LONGEST_ANSWER);
        Ok(Self { at, told: time.is_some() })
    }

    /// Its time begins now, unless the sender has set it.
    pub(super) fn begin(&mut self) {
        if !self.told {
            self.at = Instant::now() + ANSWER_LIMIT;
        }
    }

    pub(super) fn is_the_senders(self) -> bool {
        self.told
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    pub(super) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Tells the next hop how much of the time is left.
    pub(super) fn tell(self, headers: &mut Headers, dialect: Dialect) {
        if !self.told {
            return;
        }
        let (name, value) = match dialect {
            Dialect::Grpc => (&name::GRPC_TIMEOUT, timeout::write(self.left())),
            Dialect::Rest => (&name::TIMEOUT, format!("{}ms", self.left().as_millis())),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// gRPC needs both on every hop.
pub(super) fn mark_grpc(headers: &mut Headers) {
    headers.insert(&header::TE, HeaderValue::from_static("trailers"));
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_path_names_a_model_and_perhaps_a_version() {
        let named = |path| {
            Way::Rest
                .named(path, &Headers::default())
                .map(|named| (named.model.to_owned(), named.version.map(str::to_owned)))
        };
        let check = |path, model: &str, version: Option<&str>| {
            assert_eq!(named(path), Some((model.to_owned(), version.map(str::to_owned))), "{path}");
        };
        check("/v2/models/digits", "digits", None);
        check("/v2/models/digits/infer", "digits", None);
        check("/v2/models/digits/versions/3/infer", "digits", Some("3"));
        check("/v2/models/digits/versions", "digits", None);
        check("/v2/models/di.gits/infer", "di.gits", None);
        for path in [
            "/v2/models/",
            "/v2/models/digits/../../repository/index",
            "/v2/models/digits/%2E%2e/x",
            "/v2/models/digits%2finfer",
            "/v2/models/..\\x",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
    }

    #[test]
    fn a_custom_server_gets_its_own_path() {
        for (path, expected) in [
            ("/models/chat/v1/completions?stream=1", "/v1/completions?stream=1"),
            ("/models/chat", "/"),
            ("/models/chat/", "/"),
            ("/models/chat?x=1", "/?x=1"),
        ] {
            let path = PathAndQuery::from_static(path);
            assert_eq!(Way::Custom.path_at_replica(&path), expected, "{path}");
        }
        let path = PathAndQuery::from_static("/v2/models/digits/infer?x");
        assert_eq!(Way::Rest.path_at_replica(&path), path);
    }

    #[test]
    fn deadlines_are_read_and_passed_on() {
        let read = |name: &'static str, value: &'static str, dialect| {
            let mut headers = Headers::default();
            headers.insert(&HeaderName::from_static(name), HeaderValue::from_static(value));
            Deadline::read(&headers, dialect, Instant::now()).map(|deadline| {
                let mut passed = Headers::default();
                deadline.tell(&mut passed, dialect);
                passed.text(&HeaderName::from_static(name)).map(str::to_owned)
            })
        };
        let within = |value: Result<Option<String>, Reply>, unit: &str, most: u64| {
            let value = value.unwrap().unwrap();
            let number: u64 = value.strip_suffix(unit).unwrap().parse().unwrap();
            assert!(number <= most && number > most / 2, "{value}");
        };
        within(read("x-request-timeout", "2s", Dialect::Rest), "ms", 2000);
        within(read("grpc-timeout", "5S", Dialect::Grpc), "u", 5_000_000);
        assert!(read("x-request-timeout", "soon", Dialect::Rest).is_err());
        assert!(read("grpc-timeout", "5", Dialect::Grpc).is_err());
        assert_eq!(read("accept", "*/*", Dialect::Rest).unwrap(), None);
    }

    #[test]
    fn whatever_deadline_comes_the_next_hop_gets_no_later_one() {
        let seeds = ["500ms", "2s", "1m30s", "99999999H", "1S", "20m", "7u", "0n", "18446744073709551615ms"];
        tradewind_fuzz::fuzz(&seeds, |value| {
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            for (name, dialect) in [(&name::TIMEOUT, Dialect::Rest), (&name::GRPC_TIMEOUT, Dialect::Grpc)] {
                let mut headers = Headers::default();
                headers.insert(name, value.clone());
                let before = Instant::now();
                let Ok(deadline) = Deadline::read(&headers, dialect, before) else { continue };
                assert!(deadline.left() <= LONGEST_ANSWER && deadline.is_the_senders());
                deadline.tell(&mut headers, dialect);
                let next = Deadline::read(&headers, dialect, Instant::now()).expect("it is told as it is read");
                assert!(next.at <= deadline.at + before.elapsed(), "{value:?}");
            }
        });
    }

    #[test]
    fn whatever_path_comes_names_one_model_here_and_there() {
        let seeds = [
            "/v2/models/digits/versions/3/infer?x=1",
            "/v2/models/di.gits%20/infer",
            "/models/chat/v1/completions?stream=1",
            "/models/chat/%2e%2E/..\\x/%2f",
        ];
        tradewind_fuzz::fuzz(&seeds, |path| {
            let Ok(path) = PathAndQuery::try_from(path) else { return };
            for way in [Way::Rest, Way::Custom] {
                let Some(named) = way.named(path.path(), &Headers::default()).map(|named| named.model.to_owned())
                else {
                    continue;
                };
                assert!(!named.is_empty() && !named.contains('/'), "{named}");
                let there = way.path_at_replica(&path);
                assert!(there.path().starts_with('/'), "{there}");
                let climbs =
                    |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
                assert!(!there.path().split(['/', '\\']).any(climbs), "{there}");
            }
        });
    }
}
