//! Latency over throughput: what was measured, and what nothing beats.

use tradewind_core::tune::Measured;
use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

use super::{Report, words};

/// Of the drawing in the terminal, in characters.
const COLUMNS: usize = 60;
const ROWS: usize = 12;
/// Of the drawing in a file, in pixels.
const PANEL: (f64, f64) = (560.0, 320.0);
/// Around it: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (72.0, 64.0, 32.0, 52.0);

fn milliseconds(one: &Measured) -> f64 {
    one.p99_us.max(1) as f64 / 1000.0
}

fn scales(report: &Report) -> (Scale, Scale) {
    let across = Scale::over(report.measured.iter().map(|one| one.throughput), false);
    let up = Scale::over(report.measured.iter().map(milliseconds), true);
    (across, up)
}

/// A drawing of characters: all measurements, those that nothing beats, and the one to take.
pub(super) fn terminal(report: &Report) -> String {
    let (across, up) = scales(report);
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let mut put = |one: &Measured, mark: char| {
        let place =
            |part: f64, cells: usize| (part * (cells - 1) as f64).round().clamp(0.0, (cells - 1) as f64) as usize;
        cells[ROWS - 1 - place(up.place(milliseconds(one)), ROWS)][place(across.place(one.throughput), COLUMNS)] = mark;
    };
    report.measured.iter().for_each(|one| put(one, '·'));
    report.frontier.iter().for_each(|one| put(one, 'o'));
    if let Some(recommended) = &report.recommended {
        put(&recommended.best, '@');
    }
    let ticks = up.ticks();
    let (top, bottom) = (ticks.last().copied().unwrap_or_default(), ticks.first().copied().unwrap_or_default());
    let mut drawn = String::from("  p99, ms\n");
    for (number, row) in cells.iter().enumerate() {
        let tick = match number {
            0 => label(top),
            _ if number == ROWS - 1 => label(bottom),
            _ => String::new(),
        };
        drawn += format!("  {tick:>7} |{}", row.iter().collect::<String>()).trim_end();
        drawn.push('\n');
    }
    let most = across.ticks().last().copied().unwrap_or_default();
    let end = (across.place(most) * (COLUMNS - 1) as f64) as usize;
    drawn += &format!("  {:>7} +{}\n", "", "-".repeat(COLUMNS));
    drawn += &format!("  {:>7}  0{:>end$} answers a second    o unbeaten  @ recommended\n", "", label(most));
    drawn
}

/// The same in a file.
pub(super) fn svg(report: &Report) -> String {
    let (across, up) = scales(report);
    let (width, height) = (MARGIN.0 + PANEL.0 + MARGIN.2, MARGIN.1 + PANEL.1 + MARGIN.3);
    let (left, bottom) = (MARGIN.0, MARGIN.1 + PANEL.1);
    let place = |one: &Measured| {
        (left + PANEL.0 * across.place(one.throughput), bottom - PANEL.1 * up.place(milliseconds(one)))
    };
    let title = format!("{} version {} on {} cores", report.model, report.version, report.cores);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    push(&mut svg, format_args!("<text x=\"{left}\" y=\"24\" font-weight=\"bold\">{title}</text>"));
    text(&mut svg, (left, MARGIN.1 - 14.0), "start", "slowest hundredth, ms");
    text(&mut svg, (left + PANEL.0 / 2.0, bottom + 40.0), "middle", "answers a second");
    for tick in up.ticks() {
        let at = bottom - PANEL.1 * up.place(tick);
        push(&mut svg, format_args!("<path d=\"M{left} {at:.1}h{}\" stroke=\"{FAINT}\"/>", PANEL.0));
        text(&mut svg, (left - 8.0, at + 4.0), "end", &label(tick));
    }
    for tick in across.ticks() {
        text(&mut svg, (left + PANEL.0 * across.place(tick), bottom + 18.0), "middle", &label(tick));
    }
    for one in &report.measured {
        let (x, y) = place(one);
        push(&mut svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{FAINT}\"/>"));
    }
    let line: Vec<String> = report.frontier.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (line, blue) = (line.join(" "), colour(0));
    push(&mut svg, format_args!("<polyline points=\"{line}\" fill=\"none\" stroke=\"{blue}\" stroke-width=\"2\"/>"));
    for one in &report.frontier {
        let (x, y) = place(one);
        let words = format!("{}, {} clients", words::setup(one.setup), one.clients);
        push(
            &mut svg,
            format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{blue}\"><title>{words}</title></circle>"),
        );
    }
    if let Some(recommended) = &report.recommended {
        let ((x, y), orange) = (place(&recommended.best), colour(1));
        push(
            &mut svg,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\" fill=\"none\" stroke=\"{orange}\" stroke-width=\"2.5\"/>"
            ),
        );
        let anchor = if x > left + PANEL.0 / 2.0 { "end" } else { "start" };
        text(&mut svg, (x, y - 14.0), anchor, &words::setup(recommended.best.setup));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tradewind_core::tune::{self, Setup};

    use super::*;

    fn report() -> Report {
        let measured = |replicas, clients, throughput, p99_us| Measured {
            setup: Setup { replicas, threads: 1, max_batch_rows: 1 },
            clients,
            throughput,
            p50_us: p99_us / 2,
            p99_us,
        };
        let measured = vec![
            measured(1, 1, 900.0, 1_200),
            measured(1, 16, 1_000.0, 17_000),
            measured(2, 1, 880.0, 1_300),
            measured(2, 16, 1_900.0, 9_500),
        ];
        Report {
            schema_version: 1,
            model: "digits".parse().unwrap(),
            version: "3".parse().unwrap(),
            cores: 2,
            latency_budget: None,
            frontier: tune::frontier(&measured),
            recommended: tune::recommend(&measured, Some(Duration::from_millis(20))),
            measured,
            rollout: None,
        }
    }

    #[test]
    fn the_drawing_and_the_words_in_a_terminal() {
        insta::assert_snapshot!(words::describe(&report(), crate::terminal::Paint::plain()));
    }

    #[test]
    fn the_drawing_in_a_file_has_every_measurement_and_the_frontier() {
        let svg = svg(&report());
        assert_eq!(svg.matches("<circle").count(), 4 + 2 + 1);
        assert!(svg.contains("<title>2 replicas of 1 thread, no batches, 16 clients</title>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
