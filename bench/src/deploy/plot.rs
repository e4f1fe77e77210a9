//! The plot in the documentation, drawn by hand: four panels over the number of regions, a line for each way to deploy.

use super::Row;
use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

const PANEL: (f64, f64) = (300.0, 190.0);
/// Around a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (56.0, 44.0, 24.0, 40.0);

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
