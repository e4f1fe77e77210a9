//! The plot in the documentation, drawn by hand: four panels over the number of regions, a line for each way to deploy.

use std::fmt::Write;

use super::Row;

const PANEL: (f64, f64) = (300.0, 190.0);
/// Around a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (56.0, 44.0, 24.0, 40.0);
const COLOURS: &[&str] = &["#1f6feb", "#c2410c", "#15803d", "#7c3aed"];
const INK: &str = "#24292f";
const FAINT: &str = "#d0d7de";

struct Panel {
    title: &'static str,
    value: fn(&Row) -> f64,
    logarithmic: bool,
}

const PANELS: [Panel; 4] = [
    Panel { title: "wall time, s", value: |row| row.summary.wall_ms.median / 1e3, logarithmic: true },
    Panel {
        title: "writes per region",
        value: |row| per_region(row, row.summary.transactions.median),
        logarithmic: false,
    },
    Panel {
        title: "stored per region, KiB",
        value: |row| per_region(row, row.summary.stored_bytes.median / 1024.0),
        logarithmic: false,
    },
    Panel { title: "CPU per region, ms", value: |row| per_region(row, row.summary.cpu_ms.median), logarithmic: false },
];

fn per_region(row: &Row, value: f64) -> f64 {
    value / row.regions as f64
}

pub(super) fn svg(rows: &[Row]) -> String {
    let cell = (MARGIN.0 + PANEL.0 + MARGIN.2, MARGIN.1 + PANEL.1 + MARGIN.3);
    let (width, height) = (2.0 * cell.0, 2.0 * cell.1 + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>What a rollout costs the control plane</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    legend(&mut svg, rows);
    for (index, panel) in PANELS.iter().enumerate() {
        let (column, line) = ((index % 2) as f64, (index / 2) as f64);
        let origin = (column * cell.0 + MARGIN.0, line * cell.1 + MARGIN.1 + 30.0);
        draw(&mut svg, panel, rows, origin);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The ways to deploy, in the order in which they were measured.
fn series(rows: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.max_parallel.as_str()) {
            names.push(&row.max_parallel);
        }
    }
    names
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn legend(svg: &mut String, rows: &[Row]) {
    text(svg, (MARGIN.0, 28.0), "start", "regions at once:");
    for (index, name) in series(rows).into_iter().enumerate() {
        let x = MARGIN.0 + 110.0 + 70.0 * index as f64;
        push(svg, format_args!("<path d=\"M{x} 24h20\" stroke=\"{}\" stroke-width=\"2.5\"/>", colour(index)));
        text(svg, (x + 26.0, 28.0), "start", name);
    }
}

fn draw(svg: &mut String, panel: &Panel, rows: &[Row], (left, top): (f64, f64)) {
    let bottom = top + PANEL.1;
    let values = rows.iter().map(panel.value);
    let scale = Scale::over(values, panel.logarithmic);
    let across = Scale::over(rows.iter().map(|row| row.regions as f64), true);
    let x = |regions: usize| left + PANEL.0 * across.place(regions as f64);
    let y = |value: f64| bottom - PANEL.1 * scale.place(value);

    push(svg, format_args!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 12.0, panel.title));
    for tick in scale.ticks() {
        let at = y(tick);
        push(svg, format_args!("<path d=\"M{left} {at:.1}h{}\" stroke=\"{FAINT}\"/>", PANEL.0));
        text(svg, (left - 8.0, at + 4.0), "end", &label(tick));
    }
    for tick in across.ticks() {
        text(svg, (left + PANEL.0 * across.place(tick), bottom + 18.0), "middle", &label(tick));
    }
    text(svg, (left + PANEL.0 / 2.0, bottom + 34.0), "middle", "regions");
    for (index, name) in series(rows).into_iter().enumerate() {
        let line: Vec<&Row> = rows.iter().filter(|row| row.max_parallel == name).collect();
        let points: Vec<String> =
            line.iter().map(|row| format!("{:.1},{:.1}", x(row.regions), y((panel.value)(row)))).collect();
        let colour = colour(index);
        let points = points.join(" ");
        push(
            svg,
            format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"),
        );
        for row in line {
            let (x, y) = (x(row.regions), y((panel.value)(row)));
            push(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
        }
    }
}

/// Where values lie between the ends of an axis, from 0 to 1.
struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// A linear axis begins at zero; a logarithmic one spans whole decades.
    fn over(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let (least, greatest) =
            values.fold((f64::MAX, f64::MIN_POSITIVE), |(a, b), value| (a.min(value), b.max(value)));
        if logarithmic {
            let (from, to) = (least.log10().floor(), greatest.log10().ceil());
            return Self { from, to: to.max(from + 1.0), logarithmic };
        }
        Self { from: 0.0, to: greatest * 1.15, logarithmic }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        (value - self.from) / (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.to - self.from).round() as i32;
            return (0..=decades).map(|decade| 10_f64.powi(self.from.round() as i32 + decade)).collect();
        }
        // The roundest step that gives at most five.
        let rough = self.to / 5.0;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=(self.to / step) as u32).map(|count| f64::from(count) * step).collect()
    }
}

/// A number with no more digits than it needs.
fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    push(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"));
}

fn push(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks() {
        let linear = Scale::over([3.0, 4.2].into_iter(), false);
        assert_eq!(linear.ticks(), [0.0, 1.0, 2.0, 3.0, 4.0]);
        let decades = Scale::over([0.04, 7.0].into_iter(), true);
        assert_eq!(decades.ticks().into_iter().map(label).collect::<Vec<_>>(), ["0.01", "0.1", "1", "10"]);
        assert!((decades.place(1.0) - 2.0 / 3.0).abs() < 1e-9);
    }
}
