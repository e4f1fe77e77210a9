//! What each worker did when, as SVG: a row for each worker, a bar for each attempt.

use std::fmt::Write;

use tradewind_core::pipeline::journal::Story;
use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

/// In pixels.
const WIDTH: f64 = 960.0;
const ROW: f64 = 22.0;
const BAR: f64 = 16.0;
/// Around the bars: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (72.0, 48.0, 24.0, 40.0);
/// So many attempts are drawn, the first ones.
const SPANS_LIMIT: usize = 20_000;

pub(super) fn svg(story: &Story) -> String {
    let (left, top, right, bottom) = MARGIN;
    let rows = story.spans.iter().map(|span| span.worker + 1).max().unwrap_or(1);
    let height = top + rows as f64 * ROW + bottom;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let across = Scale::over([seconds(story.at_ms).max(0.001)].into_iter(), false);
    let x = |ms: u64| left + across.place(seconds(ms)) * (WIDTH - left - right);
    let mut svg = String::new();
    push(
        &mut svg,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"{INK}\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"
        ),
    );
    let names = names(story);
    for (index, name) in names.iter().enumerate() {
        let at = left + index as f64 * 140.0;
        push(
            &mut svg,
            format_args!("<rect x=\"{at:.1}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{}\"/>", colour(index)),
        );
        text(&mut svg, (at + 18.0, 24.0), "start", &escaped(name));
    }
    for tick in across.ticks() {
        let at = x((tick * 1000.0) as u64);
        let end = height - bottom;
        push(
            &mut svg,
            format_args!("<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{end:.1}\" stroke=\"{FAINT}\"/>"),
        );
        text(&mut svg, (at, end + 18.0), "middle", &format!("{} s", label(tick)));
    }
    for row in 0..rows {
        text(&mut svg, (left - 8.0, top + row as f64 * ROW + BAR - 3.0), "end", &format!("worker {}", row + 1));
    }
    for span in story.spans.iter().take(SPANS_LIMIT) {
        let (from, to) = (x(span.from_ms), x(span.to_ms.unwrap_or(story.at_ms)));
        let (y, width) = (top + span.worker as f64 * ROW, (to - from).max(0.5));
        let index = names.iter().position(|name| **name == span.step).unwrap_or_default();
        let batch = span.batch.and_then(|at| story.batches.get(at)).map(|batch| format!(" of {}", batch.name));
        let outline = if span.failed { " stroke=\"#cf222e\" stroke-width=\"2\"" } else { "" };
        let fate = if span.failed { ", failed" } else { "" };
        push(
            &mut svg,
            format_args!(
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"{outline}>\
                 <title>{}{}{fate}</title></rect>",
                colour(index),
                escaped(&span.step),
                escaped(&batch.unwrap_or_default()),
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The steps in the order in which they come.
fn names(story: &Story) -> Vec<&String> {
    let mut names: Vec<&String> = story.steps.iter().collect();
    for span in &story.spans {
        if !names.contains(&&span.step) {
            names.push(&span.step);
        }
    }
    names
}

fn escaped(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '<' | '>' | '&' | '"' => {
                // Writing to a String succeeds.
                let _ = write!(escaped, "&#{};", letter as u32);
            }
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_is_a_bar_in_its_workers_row() {
        let mut story = Story::default();
        for line in [
            r#"{"at": 0, "event": "planned", "workers": 2, "steps": ["train"],
                "batches": [{"name": "<a>", "bytes": 1, "steps": [0]}, {"name": "b", "bytes": 1, "steps": [0]}]}"#,
            r#"{"at": 0, "event": "started", "step": "train", "batch": 0, "worker": 0, "attempt": 1}"#,
            r#"{"at": 0, "event": "started", "step": "train", "batch": 1, "worker": 1, "attempt": 1}"#,
            r#"{"at": 500, "event": "failed", "step": "train", "batch": 0, "error": "no", "again": false}"#,
            r#"{"at": 1000, "event": "finished", "step": "train", "batch": 1, "key": "k", "took_ms": 1000}"#,
        ] {
            story.take(serde_json::from_str(line).unwrap());
        }
        let svg = svg(&story);
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(
            svg.contains("<title>train of &#60;a&#62;, failed</title>") && svg.contains("<title>train of b</title>")
        );
        assert!(svg.contains(">worker 2</text>") && !svg.contains(">worker 3</text>"));
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("<title>"))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
    }
}
