//! Where findings go: between the markers of the documentation, and beside it as a plot.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in `docs`, and writes a plot as `NAME.svg`
/// into the folder of the same name as the document.
pub(crate) fn write(docs: &Path, name: &str, text: &str, plot: Option<&str>) -> Result<()> {
    let old = fs::read_to_string(docs).with_context(|| format!("reading {}", docs.display()))?;
    let new = replace(&old, name, text).with_context(|| format!("in {}", docs.display()))?;
    fs::write(docs, new).with_context(|| format!("writing {}", docs.display()))?;
    let Some(plot) = plot else { return Ok(()) };
    let file = docs.with_extension("").join(format!("{name}.svg"));
    fs::write(&file, plot).with_context(|| format!("writing {}", file.display()))
}

fn replace(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = document.split_once(&begin).with_context(|| format!("there is no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("there is no {end}"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n";
        let new = replace(document, "x", "new\n").unwrap();
        assert_eq!(new, document.replace("old", "new"));
        assert_eq!(replace(document, "z", "").unwrap_err().to_string(), "there is no <!-- z: begin -->");
    }
}
