//! The plot in the documentation: how long a switch takes, and what users take up, over the number of users.

use super::report::Row;
use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

const PANEL: (f64, f64) = (340.0, 220.0);
/// Around a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (64.0, 44.0, 24.0, 44.0);
const HEAD: f64 = 30.0;
const WAYS: [&str; 3] = ["Tradewind", "a route each, by the thousand", "a route each, one by one"];

struct Panel {
    title: &'static str,
    value: fn(&Row) -> f64,
}

const PANELS: [Panel; 2] = [
    Panel { title: "until users have it, s (hollow: reckoned)", value: |row| row.switched().0 },
    Panel { title: "memory of a gateway, MiB", value: Row::resident_mib },
];

pub(super) fn svg(rows: &[Row]) -> String {
    let (wide, high) = (MARGIN.0 + PANEL.0 + MARGIN.2, MARGIN.1 + PANEL.1 + MARGIN.3);
    let (width, height) = (2.0 * wide, high + HEAD);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>A switch of all users</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, way) in WAYS.into_iter().enumerate() {
        let x = MARGIN.0 + 210.0 * index as f64;
        push(&mut svg, format_args!("<path d=\"M{x} 24h20\" stroke=\"{}\" stroke-width=\"2.5\"/>", colour(index)));
        text(&mut svg, (x + 26.0, 28.0), "start", way);
    }
    for (index, panel) in PANELS.iter().enumerate() {
        draw(&mut svg, panel, rows, (index as f64 * wide + MARGIN.0, MARGIN.1 + HEAD));
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, rows: &[Row], (left, top): (f64, f64)) {
    let bottom = top + PANEL.1;
    let scale = Scale::over(rows.iter().map(panel.value), true);
    let across = Scale::over(rows.iter().map(|row| row.users() as f64), true);
    let place = |row: &Row| {
        (left + PANEL.0 * across.place(row.users() as f64), bottom - PANEL.1 * scale.place((panel.value)(row)))
    };
    push(svg, format_args!("<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>", top - 12.0, panel.title));
    for tick in scale.ticks() {
        let at = bottom - PANEL.1 * scale.place(tick);
        push(svg, format_args!("<path d=\"M{left} {at:.1}h{}\" stroke=\"{FAINT}\"/>", PANEL.0));
        text(svg, (left - 8.0, at + 4.0), "end", &label(tick));
    }
    for tick in across.ticks() {
        text(svg, (left + PANEL.0 * across.place(tick), bottom + 18.0), "middle", &label(tick));
    }
    text(svg, (left + PANEL.0 / 2.0, bottom + 36.0), "middle", "users");
    for (index, way) in WAYS.into_iter().enumerate() {
        let line: Vec<&Row> = rows.iter().filter(|row| row.way() == way).collect();
        let points: Vec<String> = line
            .iter()
            .map(|row| {
                let (x, y) = place(row);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let (colour, points) = (colour(index), points.join(" "));
        push(
            svg,
            format_args!("<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"),
        );
        for row in line {
            let ((x, y), fill) = (place(row), if row.switched().1 { colour } else { "#ffffff" });
            push(
                svg,
                format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{fill}\" stroke=\"{colour}\"/>"),
            );
        }
    }
}
