//! The plot in the documentation: what each server answers in a second, a panel for each model.

use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

use super::{
    USUAL_CLIENTS,
    contender::{Contender, Model, Route},
    findings::{Findings, Setting},
};
use crate::spread::Spread;

const ROUTES: [Route; 3] = [Route::Json, Route::Binary, Route::Grpc];
const WIDTH: f64 = 760.0;
/// Where bars begin and end.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 690.0;
const BAR: f64 = 12.0;
const GAP: f64 = 10.0;
/// Above a panel's first bar, and below its last one.
const HEAD: f64 = 36.0;
const FOOT: f64 = 34.0;
const LEGEND: f64 = 40.0;

/// A server's bars.
struct Group {
    name: String,
    /// The place among the colours, and requests a second.
    bars: Vec<(usize, f64)>,
}

impl Group {
    fn height(&self) -> f64 {
        BAR * self.bars.len() as f64 + GAP
    }
}

pub(super) fn svg(found: &Findings) -> String {
    let panels: Vec<(Model, Vec<Group>)> = Model::ALL
        .into_iter()
        .map(|model| (model, groups(found, model)))
        .filter(|(_, groups)| !groups.is_empty())
        .collect();
    let heights = panels.iter().map(|(_, groups)| HEAD + FOOT + groups.iter().map(Group::height).sum::<f64>());
    let height = LEGEND + heights.sum::<f64>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>What each server answers in a second</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, words) in ROUTES.map(Route::name).into_iter().chain(["no server"]).enumerate() {
        let x = LEFT + 120.0 * index as f64;
        push(
            &mut svg,
            format_args!("<rect x=\"{x}\" y=\"14\" width=\"14\" height=\"12\" fill=\"{}\"/>", colour(index)),
        );
        text(&mut svg, (x + 20.0, 24.0), "start", words);
    }
    let mut top = LEGEND;
    for (model, groups) in &panels {
        top = panel(&mut svg, *model, groups, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn groups(found: &Findings, model: Model) -> Vec<Group> {
    let mut groups: Vec<Group> = Contender::ALL
        .into_iter()
        .filter_map(|contender| {
            let rate = |route| {
                let setting = Setting { model, contender, route, clients: USUAL_CLIENTS };
                found.spread(setting, |sample| sample.per_second).map(|spread| spread.median)
            };
            let bars = ROUTES.into_iter().enumerate().filter_map(|(index, route)| Some((index, rate(route)?)));
            let bars: Vec<_> = bars.collect();
            (!bars.is_empty()).then(|| Group { name: contender.name().to_owned(), bars })
        })
        .collect();
    if let Some((batch, rates)) = found.best_loop(model) {
        let name = format!("bare loop, batches of {batch}");
        groups.push(Group { name, bars: vec![(ROUTES.len(), Spread::of(rates).median)] });
    }
    groups
}

/// Gives where the next one begins.
fn panel(svg: &mut String, model: Model, groups: &[Group], top: f64) -> f64 {
    let scale = Scale::over(groups.iter().flat_map(|group| group.bars.iter().map(|(_, rate)| *rate)), true);
    let place = |rate: f64| LEFT + (RIGHT - LEFT) * scale.place(rate);
    let (begin, height) = (top + HEAD, groups.iter().map(Group::height).sum::<f64>());
    push(
        svg,
        format_args!(
            "<text x=\"16\" y=\"{}\" font-weight=\"bold\">requests/s, {} model, {USUAL_CLIENTS} clients</text>",
            top + 18.0,
            model.name()
        ),
    );
    for tick in scale.ticks() {
        let x = place(tick);
        push(svg, format_args!("<path d=\"M{x:.1} {begin}v{height}\" stroke=\"{FAINT}\"/>"));
        text(svg, (x, begin + height + 16.0), "middle", &label(tick));
    }
    let mut y = begin;
    for group in groups {
        let middle = y + BAR * group.bars.len() as f64 / 2.0 + 4.0;
        text(svg, (LEFT - 8.0, middle), "end", &group.name);
        for (index, rate) in &group.bars {
            let (width, colour) = (place(*rate) - LEFT, colour(*index));
            push(
                svg,
                format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                    BAR - 1.0
                ),
            );
            text(svg, (LEFT + width + 5.0, y + BAR - 2.0), "start", &format!("{rate:.0}"));
            y += BAR;
        }
        y += GAP;
    }
    begin + height + FOOT
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serving::load::Sample;

    #[test]
    fn each_way_to_ask_has_its_bar() {
        let setting = Setting {
            model: Model::Small,
            contender: Contender::Tradewind,
            route: Route::Json,
            clients: USUAL_CLIENTS,
        };
        let zero = Duration::ZERO;
        let sample = Sample { per_second: 1234.0, p50: zero, p99: zero, core_micros: 1.0, good: 1, bad: 0 };
        let mut found = Findings::default();
        found.samples.insert(setting, vec![sample]);
        found.samples.insert(Setting { route: Route::Grpc, ..setting }, vec![sample]);
        let svg = svg(&found);
        assert_eq!((svg.matches(">1234</text>").count(), svg.matches("bold").count()), (2, 1), "{svg}");
    }
}
