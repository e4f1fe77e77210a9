//! The transcript as an SVG file, for the README.

use std::fmt::Write;

use super::screen::Tone;

const WIDTH_LIMIT: usize = 118;
const CHARACTER: f64 = 7.25;
const LINE: usize = 17;
const MARGIN: usize = 18;

pub(super) fn draw(lines: &[(Tone, String)]) -> String {
    let lines: Vec<(Tone, String)> = lines.iter().skip_while(|(_, text)| text.is_empty()).flat_map(wrapped).collect();
    let columns = lines.iter().map(|(_, text)| text.chars().count()).max().unwrap_or_default();
    let width = (columns as f64).mul_add(CHARACTER, 2.0 * MARGIN as f64);
    let height = lines.len() * LINE + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" \
         viewBox=\"0 0 {width:.0} {height}\" role=\"img\" aria-label=\"Transcript of cargo xtask demo\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#10151c\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, monospace\" font-size=\"12\" \
         xml:space=\"preserve\">\n"
    );
    for (at, (tone, text)) in lines.iter().enumerate().filter(|(_, (_, text))| !text.is_empty()) {
        let y = MARGIN + LINE * at + 12;
        let (colour, weight) = look(*tone, text);
        let length = text.chars().count() as f64 * CHARACTER;
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" textLength=\"{length:.0}\" fill=\"{colour}\" font-weight=\"{weight}\">{}</text>",
            escaped(text)
        );
    }
    svg + "</g>\n</svg>\n"
}

fn look(tone: Tone, text: &str) -> (&'static str, &'static str) {
    match tone {
        Tone::Heading => ("#7dcfff", "bold"),
        Tone::Command => ("#ffffff", "bold"),
        Tone::Good => ("#8fd694", "normal"),
        Tone::Bad => ("#ff7a85", "bold"),
        Tone::Faint => ("#7d8794", "normal"),
        Tone::Plain if text.starts_with("hint:") => ("#e0c58a", "normal"),
        Tone::Plain => ("#c9d1d9", "normal"),
    }
}

/// Long lines go on in the next one.
fn wrapped((tone, text): &(Tone, String)) -> Vec<(Tone, String)> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let last = lines.last_mut().expect("there is a first line");
        if last.chars().count() + word.trim_end().chars().count() > WIDTH_LIMIT && !last.trim().is_empty() {
            lines.push(format!("      {word}"));
        } else {
            last.push_str(word);
        }
    }
    lines.into_iter().map(|line| (*tone, line.trim_end().to_owned())).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_becomes_well_formed_text() {
        let long = format!("  {}", "word ".repeat(40));
        let svg = draw(&[(Tone::Heading, "a < b & c".to_owned()), (Tone::Plain, long)]);
        assert!(svg.contains("a\u{a0}&lt;\u{a0}b\u{a0}&amp;\u{a0}c</text>"), "{svg}");
        assert_eq!(svg.matches("<text ").count(), 3);
        assert!(svg.ends_with("</svg>\n"));
    }
}
