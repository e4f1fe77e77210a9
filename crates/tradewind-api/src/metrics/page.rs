//! A page of metrics as text, in Prometheus' format 0.0.4 or as OpenMetrics 1.0.

use std::fmt::{self, Display, Write};

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{Distribution, Histogram, Kind, Metric, Single};

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    #[default]
    Text,
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
}

impl Format {
    /// What the field `Accept` of a request asks for. OpenMetrics goes only to those who name it, and who do not
    /// like text better.
    pub fn accepted(accept: &[u8]) -> Self {
        let accept = str::from_utf8(accept).unwrap_or_default();
        let quality = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_meant = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(wanted));
                let quality = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
                is_meant.then(|| quality.parse::<f32>().unwrap_or(0.0))
            });
            ranges.fold(0.0, f32::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= quality("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a role shows, metric after metric.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
}

impl Page {
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// In the format that the request asks for.
    pub fn asked(headers: &HeaderMap) -> Self {
        Self::new(Format::accepted(headers.get(header::ACCEPT).map(|value| value.as_bytes()).unwrap_or_default()))
    }

    /// Begins a metric; all of its series follow at once.
    ///
    /// # Panics
    /// In tests, when the metric stands on the page already.
    pub fn begin<K: Kind, const LABELS: usize>(&mut self, metric: &'static Metric<K, LABELS>) -> Series<'_, K, LABELS> {
        let family = match self.format {
            Format::OpenMetrics => metric.name.strip_suffix("_total").unwrap_or(metric.name),
            Format::Text => metric.name,
        };
        let (help, kind) = (metric.help, K::NAME);
        let head = format!("# HELP {family} {help}\n# TYPE {family} {kind}\n");
        debug_assert!(!self.text.contains(&head), "{family} was begun before");
        self.text.push_str(&head);
        Series { page: self, metric }
    }

    /// A metric with one series, without labels.
    pub fn one<K: Single>(&mut self, metric: &'static Metric<K, 0>, value: impl Into<Value>) {
        self.begin(metric).add([], value);
    }

    /// The text, and what it is called where it goes.
    pub fn finish(mut self) -> (&'static str, String) {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        (self.format.content_type(), self.text)
    }

    fn line(&mut self, name: impl Display, labels: &str, value: Value) {
        let written = match labels {
            "" => writeln!(self.text, "{name} {value}"),
            labels => writeln!(self.text, "{name}{{{labels}}} {value}"),
        };
        written.expect("a String takes everything");
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let (content_type, text) = self.finish();
        ([(header::CONTENT_TYPE, content_type)], text).into_response()
    }
}

/// The series of one metric.
#[derive(Debug)]
pub struct Series<'page, K: Kind, const LABELS: usize> {
    page: &'page mut Page,
    metric: &'static Metric<K, LABELS>,
}

impl<K: Kind, const LABELS: usize> Series<'_, K, LABELS> {
    fn labels(&self, values: [&dyn Display; LABELS]) -> String {
        let mut text = String::new();
        for (name, value) in self.metric.labels.iter().zip(values) {
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{name}=\"").expect("a String takes everything");
            write!(Escaping(&mut text), "{value}").expect("a String takes everything");
            text.push('"');
        }
        text
    }
}

impl<K: Single, const LABELS: usize> Series<'_, K, LABELS> {
    /// A series, by the values of its labels in the order of the definition.
    pub fn add(&mut self, labels: [&dyn Display; LABELS], value: impl Into<Value>) {
        let labels = self.labels(labels);
        self.page.line(self.metric.name, &labels, value.into());
    }
}

impl<const LABELS: usize> Series<'_, Histogram, LABELS> {
    /// The series of a histogram, by the values of its labels in the order of the definition.
    pub fn add(&mut self, labels: [&dyn Display; LABELS], distribution: &Distribution) {
        let (name, labels) = (self.metric.name, self.labels(labels));
        let Distribution { bounds, cumulative, count, sum_seconds } = distribution;
        for (bound, counted) in bounds.iter().zip(cumulative) {
            // A bound is written in one way in both formats, so that queries may name it.
            self.bucket(&labels, &Value::Float(*bound), *counted);
        }
        self.bucket(&labels, &"+Inf", *count);
        self.page.line(format_args!("{name}_sum"), &labels, Value::Float(*sum_seconds));
        self.page.line(format_args!("{name}_count"), &labels, Value::Integer(*count));
    }

    fn bucket(&mut self, labels: &str, bound: &dyn Display, count: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let name = self.metric.name;
        let written = writeln!(self.page.text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        written.expect("a String takes everything");
    }
}

/// A number as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Integer(u64),
    Float(f64),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            // `1` is written `1.0`, as OpenMetrics has it.
            Self::Float(value) if value.fract() == 0.0 => write!(f, "{value:.1}"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

macro_rules! from {
    ($variant:ident: $($number:ty),*) => {
        $(impl From<$number> for Value {
            fn from(value: $number) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
from!(Integer: u64, u32, bool);
from!(Float: f64);

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Integer(value as u64)
    }
}

/// Writes the value of a label.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.contains(['\\', '"', '\n']) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::{Buckets, control, replica};

    #[track_caller]
    fn check(format: Format, expected: &str) {
        let mut page = Page::new(format);
        page.one(&control::STORE_BYTES, 1_u64 << 40);
        let mut requests = page.begin(&control::REQUESTS);
        requests.add([&"GET", &"/v1/models", &200], 3_u64);
        requests.add([&"GET", &"a\\b\"c\nd", &404], 1_u64);
        assert_eq!(page.finish().1, expected);
    }

    #[test]
    fn a_page_names_each_metric_once_and_escapes_labels() {
        let text = r#"# HELP tradewind_control_store_bytes Bytes that the store holds, history included.
# TYPE tradewind_control_store_bytes gauge
tradewind_control_store_bytes 1099511627776
# HELP tradewind_control_requests_total Requests that were answered.
# TYPE tradewind_control_requests_total counter
tradewind_control_requests_total{method="GET",route="/v1/models",status="200"} 3
tradewind_control_requests_total{method="GET",route="a\\b\"c\nd",status="404"} 1
"#;
        check(Format::Text, text);
        let family = |line: &str| if line.starts_with('#') { line.replace("_total", "") } else { line.to_owned() };
        let lines: Vec<String> = text.lines().map(family).collect();
        check(Format::OpenMetrics, &(lines.join("\n") + "\n# EOF\n"));
    }

    #[test]
    fn histograms_are_cumulative_with_bounds_that_have_a_point() {
        let buckets = Buckets::new(&[0.00005, 1.0, 10.0]);
        buckets.record(Duration::from_micros(50));
        buckets.record(Duration::from_secs(2));
        buckets.record(Duration::from_secs(60));
        let mut page = Page::new(Format::Text);
        page.begin(&replica::INFERENCE_DURATION).add([&"digits", &2], &buckets.read());
        let (_, text) = page.finish();
        let lines: Vec<&str> = text.lines().skip(2).map(|line| line.rsplit_once("_seconds").unwrap().1).collect();
        let labels = "model=\"digits\",version=\"2\"";
        let bucket = |le: &str, count: u64| format!("_bucket{{{labels},le=\"{le}\"}} {count}");
        let expected = [
            bucket("0.00005", 1),
            bucket("1.0", 1),
            bucket("10.0", 2),
            bucket("+Inf", 3),
            format!("_sum{{{labels}}} 62.00005"),
            format!("_count{{{labels}}} 3"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn open_metrics_goes_to_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html", Format::Text),
            ("text/plain, application/openmetrics-text; q=0.9", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=none", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept.as_bytes()), expected, "{accept}");
        }
        assert_eq!(Format::accepted(b"\xff"), Format::Text);
    }
}
