//! What was found: as a table and as a plot, ratios first.

use std::{collections::BTreeMap, fmt::Write};

use crate::{contender::Contender, spread::Spread};

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Less,
    More,
    /// It explains other rows.
    Neither,
}

/// One thing that was measured, in rounds.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub what: String,
    better: Better,
    digits: usize,
    /// By round.
    samples: BTreeMap<Contender, Vec<f64>>,
}

impl Row {
    pub(super) fn new(what: &str, better: Better, digits: usize) -> Self {
        Self { what: what.to_owned(), better, digits, samples: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, contender: Contender, sample: f64) {
        self.samples.entry(contender).or_default().push(sample);
    }

    pub(super) fn median(&self, contender: Contender) -> Option<f64> {
        Some(Spread::of(self.samples.get(&contender)?.clone()).median)
    }

    /// By how much each proxy's samples are above those without a proxy, round by round.
    pub(super) fn beyond_direct(&self, what: &str) -> Self {
        let mut row = Self::new(&format!("{}, {what}", self.what), Better::Neither, self.digits);
        let direct = self.samples.get(&Contender::Direct).cloned().unwrap_or_default();
        for (contender, samples) in self.samples.iter().filter(|(contender, _)| **contender != Contender::Direct) {
            samples.iter().zip(&direct).for_each(|(sample, direct)| row.add(*contender, sample - direct));
        }
        row
    }

    /// How many times as good as a peer Tradewind was, round by round. Above 1 is better than the peer.
    fn ratio(&self, peer: Contender) -> Option<Spread> {
        let (ours, theirs) = (self.samples.get(&Contender::Tradewind)?, self.samples.get(&peer)?);
        let ratio = |(ours, theirs): (&f64, &f64)| match self.better {
            Better::Less => Some(theirs / ours),
            Better::More => Some(ours / theirs),
            Better::Neither => None,
        };
        let ratios: Vec<f64> = ours.iter().zip(theirs).filter_map(ratio).collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios))
    }

    fn line(&self) -> String {
        let mut cells = vec![self.what.clone()];
        for peer in [Contender::Nginx, Contender::Haproxy] {
            cells.push(self.ratio(peer).map(|ratio| ratio.show(1.0, 2)).unwrap_or_default());
        }
        for contender in Contender::ALL {
            let samples = self.samples.get(&contender);
            cells.push(samples.map(|all| Spread::of(all.clone()).show(1.0, self.digits)).unwrap_or_default());
        }
        format!("| {} |", cells.join(" | "))
    }
}

pub(super) fn table(rows: &[Row]) -> String {
    let names = Contender::ALL.map(Contender::name);
    let head = format!("| what | × nginx | × HAProxy | {} |\n|---|{}", names.join(" | "), "--:|".repeat(6));
    let lines: Vec<String> = rows.iter().map(Row::line).collect();
    format!("{head}\n{}", lines.join("\n"))
}

const COLOURS: [(Contender, &str); 2] = [(Contender::Nginx, "#15803d"), (Contender::Haproxy, "#1f6feb")];
const INK: &str = "#24292f";
const FAINT: &str = "#d0d7de";
/// Where bars begin, how long one is that stands for 1, and where they are cut off.
const LEFT: f64 = 380.0;
const UNIT: f64 = 160.0;
const LONGEST: f64 = 2.5;
const LINE: f64 = 44.0;
const TOP: f64 = 64.0;

/// The ratios as bars, against the line of those that are as good.
pub(super) fn plot(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.better != Better::Neither).collect();
    let (width, height) = (LEFT + UNIT * LONGEST + 60.0, TOP + LINE * rows.len() as f64 + 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n\
         <title>Tradewind's gateway against nginx and HAProxy</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-weight=\"bold\">How many times as good as each; more is better</text>\n"
    );
    for (index, (peer, colour)) in COLOURS.iter().enumerate() {
        let x = LEFT + 90.0 * index as f64;
        push(&mut svg, format_args!("<rect x=\"{x}\" y=\"14\" width=\"14\" height=\"12\" fill=\"{colour}\"/>"));
        push(&mut svg, format_args!("<text x=\"{}\" y=\"24\">{}</text>", x + 20.0, peer.name()));
    }
    for (index, row) in rows.iter().enumerate() {
        let top = TOP + LINE * index as f64;
        push(&mut svg, format_args!("<text x=\"16\" y=\"{}\">{}</text>", top + 18.0, row.what));
        for (bar, (peer, colour)) in COLOURS.iter().enumerate() {
            let Some(ratio) = row.ratio(*peer) else { continue };
            let (y, length) = (top + 15.0 * bar as f64, UNIT * ratio.median.clamp(0.0, LONGEST));
            push(
                &mut svg,
                format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"13\" fill=\"{colour}\"/>\n\
                     <text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
                    LEFT + length + 6.0,
                    y + 11.0,
                    ratio.median
                ),
            );
        }
    }
    let (one, bottom) = (LEFT + UNIT, height - 8.0);
    push(
        &mut svg,
        format_args!("<path d=\"M{one} {}V{bottom}\" stroke=\"{INK}\" stroke-dasharray=\"4 3\"/>", TOP - 12.0),
    );
    push(&mut svg, format_args!("<path d=\"M{LEFT} {}V{bottom}\" stroke=\"{FAINT}\"/>", TOP - 12.0));
    push(&mut svg, format_args!("<text x=\"{one}\" y=\"{}\" text-anchor=\"middle\">1</text>", TOP - 16.0));
    svg.push_str("</svg>\n");
    svg
}

fn push(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better) -> Row {
        let mut row = Row::new("it", better, 0);
        for (contender, samples) in
            [(Contender::Tradewind, [10.0, 20.0]), (Contender::Nginx, [20.0, 20.0]), (Contender::Direct, [1.0, 2.0])]
        {
            samples.into_iter().for_each(|sample| row.add(contender, sample));
        }
        row
    }

    #[test]
    fn a_ratio_above_one_is_always_in_our_favour_and_is_taken_round_by_round() {
        let spread = |median, least, greatest| Some(Spread { median, least, greatest });
        assert_eq!(row(Better::Less).ratio(Contender::Nginx), spread(1.5, 1.0, 2.0));
        assert_eq!(row(Better::More).ratio(Contender::Nginx), spread(0.75, 0.5, 1.0));
        assert_eq!(row(Better::Neither).ratio(Contender::Nginx), None);
        assert_eq!(row(Better::Less).ratio(Contender::Haproxy), None);
    }

    #[test]
    fn a_line_has_ratios_first() {
        assert_eq!(row(Better::Less).line(), "| it | 1.50 (1.00–2.00) |  | 15 (10–20) | 20 |  | 2 (1–2) |");
        let beyond = row(Better::Less).beyond_direct("added");
        assert_eq!(beyond.line(), "| it, added |  |  | 14 (9–18) | 18 (18–19) |  |  |");
    }
}
