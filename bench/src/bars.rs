//! Plots of bars: panels below each other, in each a group of bars for everyone who is compared.

use tradewind_drawing::{FAINT, INK, Scale, colour, label, push, text};

const WIDTH: f64 = 760.0;
/// Where bars begin and end.
const LEFT: f64 = 220.0;
const RIGHT: f64 = 700.0;
const BAR: f64 = 12.0;
const GAP: f64 = 10.0;
/// Above a panel's first bar, and below its last one.
const HEAD: f64 = 36.0;
const FOOT: f64 = 34.0;
const LEGEND: f64 = 40.0;

pub(crate) struct Panel {
    pub title: String,
    pub groups: Vec<Group>,
    pub logarithmic: bool,
    /// Of the numbers beside the bars, after the point.
    pub digits: usize,
}

/// The bars of one of those who are compared.
pub(crate) struct Group {
    pub name: String,
    /// The place in the legend, and the value.
    pub bars: Vec<(usize, f64)>,
}

impl Group {
    fn height(&self) -> f64 {
        BAR * self.bars.len() as f64 + GAP
    }
}

/// Panels without bars are left out.
pub(crate) fn svg(title: &str, legend: &[&str], panels: &[Panel]) -> String {
    let panels: Vec<&Panel> = panels.iter().filter(|panel| !panel.groups.is_empty()).collect();
    let heights = panels.iter().map(|panel| HEAD + FOOT + panel.groups.iter().map(Group::height).sum::<f64>());
    let height = LEGEND + heights.sum::<f64>();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, words) in legend.iter().enumerate() {
        let x = LEFT + 120.0 * index as f64;
        push(
            &mut svg,
            format_args!("<rect x=\"{x}\" y=\"14\" width=\"14\" height=\"12\" fill=\"{}\"/>", colour(index)),
        );
        text(&mut svg, (x + 20.0, 24.0), "start", words);
    }
    let mut top = LEGEND;
    for panel in panels {
        top = draw(&mut svg, panel, top);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Gives where the next one begins.
fn draw(svg: &mut String, panel: &Panel, top: f64) -> f64 {
    let Panel { title, groups, logarithmic, digits } = panel;
    let values = groups.iter().flat_map(|group| group.bars.iter().map(|(_, value)| *value));
    let scale = Scale::over(values, *logarithmic);
    let place = |value: f64| LEFT + (RIGHT - LEFT) * scale.place(value);
    let (begin, height) = (top + HEAD, groups.iter().map(Group::height).sum::<f64>());
    push(svg, format_args!("<text x=\"16\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 18.0));
    for tick in scale.ticks() {
        let x = place(tick);
        push(svg, format_args!("<path d=\"M{x:.1} {begin}v{height}\" stroke=\"{FAINT}\"/>"));
        text(svg, (x, begin + height + 16.0), "middle", &label(tick));
    }
    let mut y = begin;
    for group in groups {
        let middle = y + BAR * group.bars.len() as f64 / 2.0 + 4.0;
        text(svg, (LEFT - 8.0, middle), "end", &group.name);
        for (index, value) in &group.bars {
            let (width, colour) = (place(*value) - LEFT, colour(*index));
            push(
                svg,
                format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                    BAR - 1.0
                ),
            );
            text(svg, (LEFT + width + 5.0, y + BAR - 2.0), "start", &format!("{value:.digits$}"));
            y += BAR;
        }
        y += GAP;
    }
    begin + height + FOOT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_bar_and_each_panel_with_any_its_title() {
        let groups = vec![Group { name: "one".to_owned(), bars: vec![(0, 1234.0), (2, 20.0)] }];
        let panel = |groups| Panel { title: "speed".to_owned(), groups, logarithmic: true, digits: 0 };
        let svg = svg("speeds", &["a", "b", "c"], &[panel(groups), panel(Vec::new())]);
        assert_eq!((svg.matches(">1234</text>").count(), svg.matches("bold").count()), (1, 1), "{svg}");
        assert!(svg.contains(&format!("fill=\"{}\"/>\n<text x=\"", colour(2))), "{svg}");
    }
}
