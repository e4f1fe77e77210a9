//! Reading `tradewind.toml`.

use tradewind_core::bundle::{MANIFEST_BYTES_LIMIT, Manifest};

use super::Error;

/// The manifest of a bundle that has none.
pub fn default_manifest() -> Manifest {
    toml::from_str("").expect("every key of the manifest is optional")
}

/// Parses a manifest. An error names the line, and the key where there is one.
pub fn parse_manifest(text: &str) -> Result<Manifest, Error> {
    if text.len() as u64 > MANIFEST_BYTES_LIMIT {
        return Err(Error::ManifestTooLarge);
    }
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        // Some messages go on with a picture of the line.
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        // Where TOML itself is broken, the key before the place need not be the one to blame.
        let is_toml = text.parse::<toml::Table>().is_ok();
        match key_near(text, line).filter(|_| is_toml) {
            Some(key) if !message.contains(&format!("`{key}`")) => Error::ManifestKey { line, key, message },
            _ => Error::Manifest { line, message },
        }
    })
}

/// The key whose value stands on this line: on the line itself, or above it where a list spans lines.
fn key_near(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let key = |line: &str| {
        let key = line.split_once('=')?.0.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        (!key.is_empty() && key.chars().all(plain)).then(|| key.to_owned())
    };
    lines.iter().rev().take_while(|line| !line.trim().is_empty() && !line.starts_with('[')).find_map(|line| key(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(parse_manifest(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn an_error_names_line_and_key() {
        check("model = 3", "tradewind.toml line 1: `model`: invalid type: integer `3`, expected a string");
        check(
            "model = \"m.onnx\"\n\nfiles = [\n  \"a\",\n  7,\n]\n",
            "tradewind.toml line 5: `files`: invalid type: integer `7`, expected a string",
        );
        let unknown = parse_manifest("\nmodle = \"m.onnx\"").unwrap_err().to_string();
        assert!(unknown.starts_with("tradewind.toml line 2: unknown field `modle`, expected one of"), "{unknown}");
        let broken = parse_manifest("model = \"m\nx").unwrap_err().to_string();
        assert!(broken.starts_with("tradewind.toml line ") && !broken.contains("`model`"), "{broken}");
    }

    #[test]
    fn batching_is_an_onnx_models() {
        let max_rows = |text: &str| parse_manifest(text).map(|manifest| manifest.batching.unwrap_or_default().max_rows);
        assert_eq!((max_rows("").unwrap(), max_rows("[batching]\nmax_rows = 8").unwrap()), (64, 8));
        check(
            "[batching]\nmode = \"some\"",
            "tradewind.toml line 2: `mode`: unknown variant `some`, expected one of `auto`, `on`, `off`",
        );
        let problem = |text: &str| parse_manifest(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(problem("[batching]\nmax_rows = 0"), "`batching.max_rows`: it is a number from 1 to 4096");
        let server = "runtime = \"command\"\n[command]\nrun = [\"server\"]\n[batching]\nmode = \"off\"";
        assert_eq!(problem(server), "`batching`: a server of your own does this itself");
    }

    #[test]
    fn every_key_has_a_default() {
        assert_eq!(default_manifest().model, "model.onnx");
        assert_eq!(default_manifest().cases, ["cases/*.json"]);
        assert_eq!(parse_manifest("model = \"m.onnx\"").unwrap().model, "m.onnx");
    }
}
