//! Finds the slips with `--regions` that clap would explain badly or not at all, and says what was meant.
//!
//! `--regions a b model`, `--regions [a b] model` and `--region a b` all mean `--regions a,b`.

use std::ffi::OsString;

use crate::failure::Failure;

/// Refuses regions that are not separated by commas, before anything happens. Only `deploy` takes several.
pub(crate) fn check_regions(args: &[OsString], command: &clap::Command) -> Result<(), Failure> {
    let words: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let Some(deploy) = command.find_subcommand("deploy") else { return Ok(()) };
    let Some(start) = verb_position(&words, command).filter(|&at| words[at] == "deploy") else { return Ok(()) };
    let line = DeployLine::read(&words, start + 1, &[command, deploy]);
    let Some(slip) = line.slip() else { return Ok(()) };
    let regions = slip.regions.join(",");
    Err(Failure::usage(format!("regions are separated by commas: --regions {regions}"))
        .hint(corrected(&words, &line, &slip)))
}

fn verb_position(words: &[String], command: &clap::Command) -> Option<usize> {
    let mut at = 0;
    while at < words.len() && words[at].starts_with('-') {
        at += 1 + usize::from(takes_next_word(&words[at], &[command]));
    }
    (at < words.len()).then_some(at)
}

/// Whether a flag's value is the word after it.
fn takes_next_word(flag: &str, commands: &[&clap::Command]) -> bool {
    if flag.contains('=') {
        return false;
    }
    let mut arguments = commands.iter().flat_map(|command| command.get_arguments());
    arguments.any(|argument| {
        let long = flag.strip_prefix("--").is_some_and(|name| argument.get_long() == Some(name));
        let short = flag.strip_prefix('-').is_some_and(|name| {
            argument.get_short().is_some_and(|letter| name.len() == letter.len_utf8() && name.starts_with(letter))
        });
        (long || short) && argument.get_action().takes_values()
    })
}

/// What stands after `deploy`, as far as regions are concerned.
struct DeployLine {
    /// The words from the flag to the last bare word after it.
    span: std::ops::Range<usize>,
    flag_is_singular: bool,
    /// The flag's value, and the bare words right after it.
    words: Vec<String>,
    /// Bare words elsewhere.
    others: Vec<String>,
}

/// A slip: what was meant by it.
struct Slip {
    regions: Vec<String>,
    /// The model, when it stood among the words after the flag.
    model: Option<String>,
}

impl DeployLine {
    fn read(words: &[String], start: usize, commands: &[&clap::Command]) -> Self {
        let mut line = Self { span: 0..0, flag_is_singular: false, words: Vec::new(), others: Vec::new() };
        let mut at = start;
        while at < words.len() {
            let word = &words[at];
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.as_str(), None),
            };
            if matches!(flag, "--regions" | "--region") && line.words.is_empty() {
                let bare = words[at + 1..].iter().take_while(|word| !word.starts_with('-')).count();
                line.span = at..at + 1 + bare;
                line.flag_is_singular = flag == "--region";
                line.words = value.map(str::to_owned).into_iter().chain(words[at + 1..][..bare].to_vec()).collect();
                at += bare;
            } else if word.starts_with('-') {
                at += usize::from(takes_next_word(word, commands));
            } else {
                line.others.push(word.clone());
            }
            at += 1;
        }
        line
    }

    fn slip(&self) -> Option<Slip> {
        let value = self.words.first()?;
        let loose = self.words.len() - 1;
        let odd = value.contains(|c: char| c.is_whitespace() || "[](){}".contains(c)) || value.ends_with(',');
        if !(self.flag_is_singular || odd || loose > 0 && loose + self.others.len() > 1) {
            return None;
        }
        let (regions, model) = self.words.split_at(self.words.len() - usize::from(self.ends_with_model()));
        let regions = regions.iter().flat_map(|word| names(word)).map(str::to_owned).collect();
        Some(Slip { regions, model: model.first().cloned() })
    }

    /// Whether the last word after the flag is the model and not a region.
    fn ends_with_model(&self) -> bool {
        let [first, .., last] = self.words.as_slice() else { return false };
        if !self.others.is_empty() || last.ends_with(']') {
            return false;
        }
        if self.words.len() > 2 {
            return true;
        }
        // Two words: the second is the model when the first is a list already, or looks more like a region than it.
        let goes_on = first.ends_with(',') || first.starts_with('[') && !first.ends_with(']');
        let is_list = names(first).count() > 1 || first.ends_with(']');
        !goes_on && (is_list || is_regional(first) && !is_regional(last))
    }
}

/// The names in a word, whatever stands between them.
fn names(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| c.is_whitespace() || ",;[](){}".contains(c)).filter(|name| !name.is_empty())
}

/// `us-east1`, `eu-west-1`: the way clouds name regions.
fn is_regional(word: &str) -> bool {
    let word = word.trim_matches(['[', ']']);
    word.contains('-') && word.ends_with(|c: char| c.is_ascii_digit()) && !word.contains(['/', '.', ':'])
}

fn corrected(words: &[String], line: &DeployLine, slip: &Slip) -> String {
    let mut corrected = vec!["tradewind".to_owned()];
    corrected.extend(shown(&words[..line.span.start]));
    corrected.push(format!("--regions {}", slip.regions.join(",")));
    corrected.extend(slip.model.as_deref().map(quoted));
    corrected.extend(shown(&words[line.span.end..]));
    if slip.model.is_none() && line.others.is_empty() {
        corrected.push("MODEL".to_owned());
    }
    corrected.join(" ")
}

/// Words as a shell would take them, without the value of `--token`.
fn shown(words: &[String]) -> Vec<String> {
    let secret = |at: usize| at > 0 && words[at - 1] == "--token";
    (0..words.len())
        .map(|at| match words[at].as_str() {
            _ if secret(at) => "...".to_owned(),
            word if word.starts_with("--token=") => "--token=...".to_owned(),
            word => quoted(word),
        })
        .collect()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    /// What is printed, or nothing when there is no slip.
    fn check(line: &str) -> Option<String> {
        let args: Vec<OsString> = shell_words(line).into_iter().map(OsString::from).collect();
        Some(check_regions(&args, &crate::cli::command()).err()?.text(Paint::plain()))
    }

    /// Splits at spaces, except within single quotes.
    fn shell_words(line: &str) -> Vec<String> {
        let unquoted = |(at, part): (usize, &str)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        };
        line.split('\'').enumerate().flat_map(unquoted).collect()
    }

    #[track_caller]
    fn slips(line: &str, regions: &str, hint: &str) {
        let printed = format!("error: regions are separated by commas: --regions {regions}\nhint: {hint}\n");
        assert_eq!(check(line), Some(printed), "{line}");
    }

    #[test]
    fn what_is_right_passes() {
        for line in [
            "tradewind deploy --regions us-west1,europe-west1 m",
            "tradewind deploy --regions=us-west1,europe-west1 m",
            "tradewind deploy m --regions us-west1",
            "tradewind deploy m",
            "tradewind deploy --soak 5s m --regions a",
            "tradewind status deploy --region a b",
            "tradewind logs m --region us-east1",
            "tradewind --url http://x:1 events --region a",
            "tradewind",
        ] {
            assert_eq!(check(line), None, "{line}");
        }
    }

    #[test]
    fn spaces_between_regions() {
        let hint = "tradewind deploy --regions us-west1,europe-west1 m";
        slips("tradewind deploy --regions us-west1 europe-west1 m", "us-west1,europe-west1", hint);
        slips("tradewind deploy --regions 'us-west1 europe-west1' m", "us-west1,europe-west1", hint);
        slips("tradewind deploy --regions us-west1, europe-west1 m", "us-west1,europe-west1", hint);
        slips("tradewind deploy --regions=us-west1 europe-west1 m", "us-west1,europe-west1", hint);
        slips(
            "tradewind deploy m --regions us-west1 europe-west1 --soak 5s",
            "us-west1,europe-west1",
            "tradewind deploy m --regions us-west1,europe-west1 --soak 5s",
        );
    }

    #[test]
    fn brackets_around_regions() {
        let hint = "tradewind deploy --regions a,b m";
        slips("tradewind deploy --regions [a b] m", "a,b", hint);
        slips("tradewind deploy --regions '[a b]' m", "a,b", hint);
        slips("tradewind deploy --regions [a,b] m", "a,b", hint);
        slips("tradewind deploy --regions [a b]", "a,b", "tradewind deploy --regions a,b MODEL");
        slips("tradewind deploy m --regions [a b]", "a,b", "tradewind deploy m --regions a,b");
    }

    #[test]
    fn the_flag_in_the_singular() {
        slips("tradewind deploy --region a b", "a,b", "tradewind deploy --regions a,b MODEL");
        slips("tradewind deploy --region a b m", "a,b", "tradewind deploy --regions a,b m");
        slips("tradewind deploy --region us-east1 digits", "us-east1", "tradewind deploy --regions us-east1 digits");
        slips("tradewind deploy m --region=a", "a", "tradewind deploy m --regions a");
    }

    #[test]
    fn the_corrected_command_keeps_the_rest_but_no_secret() {
        slips(
            "tradewind --token s3cret deploy --regions a b 'my models/m' --dry-run",
            "a,b",
            "tradewind --token ... deploy --regions a,b 'my models/m' --dry-run",
        );
    }
}
