//! Before and after, for people.

use super::{Figures, Report};
use crate::terminal::{
    Paint, Table, Tone,
    table::Cell,
    units::{bytes, latency, rate},
};

pub(super) fn describe(report: &Report, paint: Paint) -> String {
    let Report { model, version, before, after, int8, .. } = report;
    let how = int8.as_deref().map(|how| format!(", int8 ({how})")).unwrap_or_default();
    let mut text = format!("{model} version {version}{how}\n\n");
    text += &table(before, after).render(paint);
    let end = match report.published {
        Some(published) => {
            format!("kept as version {published}\n  tradewind deploy --regions REGIONS {model}:{published}\n")
        }
        None if report.refused.is_empty() => "it would be kept\n".to_owned(),
        None => report.refused.iter().map(|reason| format!("not kept: {reason}\n")).collect(),
    };
    let tone = if report.refused.is_empty() { Tone::Good } else { Tone::Bad };
    let (first, rest) = end.split_once('\n').unwrap_or((&end, ""));
    text += &format!("\n{}\n{rest}", paint.on(first, tone));
    text
}

fn table(before: &Figures, after: &Figures) -> Table {
    let mut table = Table::new(&["", "BEFORE", "AFTER", ""]);
    let mut row = |what: &str, (was, is): (String, String), change: String| {
        table.row([what, &was, &is, &change].map(|text| Cell::new(text, Tone::Plain)));
    };
    let times = |was: f64, is: f64| if was > 0.0 { format!("{:.2} x", is / was) } else { String::new() };
    let of = |value: fn(&Figures) -> f64| times(value(before), value(after));
    let both = |value: fn(&Figures) -> String| (value(before), value(after));
    row("model file", both(|it| bytes(it.bytes)), of(|it| it.bytes as f64));
    row("memory of a replica", both(|it| bytes(it.memory_bytes)), of(|it| it.memory_bytes as f64));
    row("p50, 1 client", both(|it| latency(it.p50_us)), of(|it| it.p50_us as f64));
    row("p99, 1 client", both(|it| latency(it.p99_us)), of(|it| it.p99_us as f64));
    row("answers, 1 client", both(|it| rate(it.per_second)), of(|it| it.per_second));
    row("answers, 16 clients", both(|it| rate(it.per_second_of_many)), of(|it| it.per_second_of_many));
    let golden = |it: &Figures| format!("{}/{}", it.quality.golden_cases_held, it.quality.golden_cases);
    row("golden cases", both(golden), String::new());
    if let (Some(was), Some(is)) = (before.quality.accuracy, after.quality.accuracy) {
        row("accuracy", (format!("{was:.4}"), format!("{is:.4}")), format!("{:+.4}", is - was));
    }
    table
}
