//! What callgrind counted (<https://valgrind.org/docs/manual/cl-format.html>): instructions of user code, as they were
//! carried out, with all that a function called.

use std::collections::HashMap;

use anyhow::{Context, Result};

#[derive(Debug, Default, PartialEq)]
pub(super) struct Profile {
    /// Of the whole process.
    pub(super) total: u64,
    functions: HashMap<String, Calls>,
}

/// How often something was called, and what that took together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) count: u64,
    pub(super) instructions: u64,
}

impl Calls {
    pub(super) fn each(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.instructions as f64 / self.count as f64 }
    }
}

impl Profile {
    pub(super) fn read(text: &str) -> Result<Self> {
        let (mut profile, mut names) = (Self::default(), HashMap::new());
        let (mut callee, mut count) = (String::new(), None);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
                let name = named(&mut names, name)?;
                if line.starts_with('c') {
                    callee = name;
                }
            } else if let Some(calls) = line.strip_prefix("calls=") {
                let number = calls.split_ascii_whitespace().next().unwrap_or_default();
                count = Some(number.parse::<u64>().with_context(|| line.to_owned())?);
            } else if let Some(total) = line.strip_prefix("totals:") {
                profile.total += total.trim().parse::<u64>().with_context(|| line.to_owned())?;
            } else if let Some(count) = count.take() {
                // The line after `calls=` is the cost of the calls.
                let cost = line.split_ascii_whitespace().nth(1).unwrap_or_default();
                let calls = profile.functions.entry(callee.clone()).or_default();
                calls.count += count;
                calls.instructions += cost.parse::<u64>().with_context(|| line.to_owned())?;
            }
        }
        Ok(profile)
    }

    /// Of all functions of these names together.
    pub(super) fn of(&self, names: &[&str]) -> Result<Calls> {
        let mut all = Calls::default();
        for name in names {
            let calls = self.functions.get(*name).with_context(|| format!("`{name}` was never called"))?;
            all.count = all.count.max(calls.count);
            all.instructions += calls.instructions;
        }
        Ok(all)
    }
}

/// `(7) name` says what 7 stands for from then on, `(7)` stands for it.
fn named(names: &mut HashMap<String, String>, text: &str) -> Result<String> {
    match text.split_once(' ') {
        Some((id, name)) => {
            names.insert(id.to_owned(), name.to_owned());
            Ok(name.to_owned())
        }
        None => names.get(text).cloned().with_context(|| format!("callgrind has not said what {text} is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_added_up_from_wherever_they_come() {
        let text = "events: Ir\nfl=(1) a.rs\nfn=(1) main\n10 5\ncfn=(2) a::record\ncalls=3 20\n11 60\n+1 7\n\n\
                    fn=(3) other\n30 1\ncfi=(1)\ncfn=(2)\ncalls=1 20\n31 40\n\nfn=(2)\n20 100\n\ntotals: 213\n";
        let profile = Profile::read(text).unwrap();
        assert_eq!(profile.total, 213);
        let recorded = profile.of(&["a::record"]).unwrap();
        assert_eq!((recorded, recorded.each()), (Calls { count: 4, instructions: 100 }, 25.0));
        assert_eq!(profile.of(&["main"]).unwrap_err().to_string(), "`main` was never called");
        assert!(Profile::read("fn=(9)\n").is_err());
    }
}
