//! Where spans go, as flags and the environment say.

use std::env;

use url::Url;

/// The variables of OpenTelemetry's specification. The exporter reads further ones: headers, timeout, compression.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
pub(crate) const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const DISABLED: &str = "OTEL_SDK_DISABLED";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not the address of a collector: write it like http://127.0.0.1:4318")]
    Endpoint(String),
    #[error("cannot export traces")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Base address of an OTLP/HTTP collector, to which `/v1/traces` is added. The environment may say it instead.
    pub endpoint: Option<String>,
    /// The part of the requests without a trace that begin one, from 0 to 1.
    pub sample: f64,
    /// What tells this process from others: region, model.
    pub attributes: Vec<(&'static str, String)>,
}

impl Options {
    /// The whole address, if there is one.
    pub(crate) fn endpoint(&self) -> Result<Option<String>, Error> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        resolve(self.endpoint.clone(), variable(TRACES_ENDPOINT), variable(ENDPOINT))
    }
}

/// A flag goes before the environment, and what is said of traces before what is said of everything.
fn resolve(flag: Option<String>, traces: Option<String>, everything: Option<String>) -> Result<Option<String>, Error> {
    let (given, whole) = match (flag, traces, everything) {
        (Some(base), _, _) | (None, None, Some(base)) => (base, false),
        (None, Some(whole), _) => (whole, true),
        (None, None, None) => return Ok(None),
    };
    let url = Url::parse(&given).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        return Err(Error::Endpoint(given));
    }
    Ok(Some(if whole { given } else { format!("{}/v1/traces", given.trim_end_matches('/')) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_counts() {
        let check = |flag: Option<&str>, traces: Option<&str>, everything: Option<&str>, expected: Option<&str>| {
            let [flag, traces, everything] = [flag, traces, everything].map(|word| word.map(str::to_owned));
            assert_eq!(resolve(flag, traces, everything).ok().flatten().as_deref(), expected);
        };
        check(None, None, None, None);
        check(None, None, Some("http://c:4318/"), Some("http://c:4318/v1/traces"));
        check(None, Some("http://t:1/spans"), Some("http://c:4318"), Some("http://t:1/spans"));
        check(Some("https://f:2/base"), Some("http://t:1"), Some("http://c:4318"), Some("https://f:2/base/v1/traces"));
        check(Some("127.0.0.1:4318"), None, None, None);
        check(Some("grpc://c:4317"), None, None, None);
    }
}
