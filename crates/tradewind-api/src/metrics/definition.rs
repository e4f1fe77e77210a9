//! What a metric is: a name, a kind, a sentence of help and the names of its labels. What is wrong with one is an
//! error of compilation.

use std::marker::PhantomData;

/// What a metric counts or measures.
pub trait Kind: 'static {
    const NAME: &'static str;
}

/// Only grows, until its process ends.
#[derive(Debug, Clone, Copy)]
pub enum Counter {}

/// As it is now.
#[derive(Debug, Clone, Copy)]
pub enum Gauge {}

/// How often it was at most so much, for some bounds.
#[derive(Debug, Clone, Copy)]
pub enum Histogram {}

impl Kind for Counter {
    const NAME: &'static str = "counter";
}

impl Kind for Gauge {
    const NAME: &'static str = "gauge";
}

impl Kind for Histogram {
    const NAME: &'static str = "histogram";
}

/// A kind whose series are one number each.
pub trait Single: Kind {}

impl Single for Counter {}
impl Single for Gauge {}

/// A metric with so many labels.
#[derive(Debug)]
pub struct Metric<K, const LABELS: usize> {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: [&'static str; LABELS],
    kind: PhantomData<K>,
}

/// What is known of a metric of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

impl<K: Kind, const LABELS: usize> Metric<K, LABELS> {
    /// # Panics
    /// At compile time, when the name is none of the scheme.
    pub(super) const fn new(
        prefix: &'static str,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; LABELS],
    ) -> Self {
        assert!(starts_with(name, prefix), "a metric begins with what all of its role begin with");
        match K::NAME.as_bytes() {
            b"counter" => assert!(ends_with(name, "_total"), "a counter ends in _total"),
            b"histogram" => assert!(ends_with(name, "_seconds"), "a histogram ends in its unit"),
            _ => assert!(
                !ends_with(name, "_total")
                    && !ends_with(name, "_count")
                    && !ends_with(name, "_sum")
                    && !ends_with(name, "_bucket"),
                "a gauge does not end as a counter or a part of a histogram does"
            ),
        }
        Self { name, help, labels, kind: PhantomData }
    }

    pub(super) const fn definition(&'static self) -> Definition {
        Definition { name: self.name, kind: K::NAME, help: self.help, labels: &self.labels }
    }
}

const fn starts_with(text: &str, start: &str) -> bool {
    let (text, start) = (text.as_bytes(), start.as_bytes());
    text.len() >= start.len() && same(text, start, 0)
}

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    text.len() >= end.len() && same(text, end, text.len() - end.len())
}

/// Whether `part` stands in `text` at `offset`.
const fn same(text: &[u8], part: &[u8], offset: usize) -> bool {
    let mut index = 0;
    while index < part.len() {
        if text[offset + index] != part[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// The metrics of a role: `Kind CONSTANT = "name"(labels): "Help.";` each. Makes a static of each, and `ALL` of them.
macro_rules! metrics {
    ($prefix:literal $($kind:ident $constant:ident = $name:literal ($($label:ident),*): $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: $crate::metrics::Metric<
                $crate::metrics::$kind,
                { <[&str]>::len(&[$(stringify!($label)),*]) },
            > = $crate::metrics::Metric::new($prefix, $name, $help, [$(stringify!($label)),*]);
        )*

        /// All of them, in the order of their definition.
        pub static ALL: &[$crate::metrics::Definition] = &[$($constant.definition()),*];
    };
}

pub(super) use metrics;
