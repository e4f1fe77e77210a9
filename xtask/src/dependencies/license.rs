//! SPDX licence expressions (SPDX specification 2.3, annex D), as far as crates use them: names, `WITH`, `AND`, `OR`
//! and brackets, and the `/` that old manifests have for `OR`.

/// Whether the allowed licences are enough to use what is under this expression. What cannot be read is not allowed.
pub(super) fn allows(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), position: 0, allowed };
    parser.either() == Some(true) && parser.position == parser.words.len()
}

struct Parser<'a> {
    words: Vec<&'a str>,
    position: usize,
    allowed: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Option<bool> {
        let mut enough = self.both()?;
        while self.take("OR") {
            enough |= self.both()?;
        }
        Some(enough)
    }

    /// `AND` binds tighter than `OR`.
    fn both(&mut self) -> Option<bool> {
        let mut enough = self.one()?;
        while self.take("AND") {
            enough &= self.one()?;
        }
        Some(enough)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let enough = self.either()?;
            return self.take(")").then_some(enough);
        }
        let license = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Some(self.allowed.contains(&format!("{license} WITH {exception}").as_str()));
        }
        Some(self.allowed.contains(&license))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.position) == Some(&word);
        self.position += usize::from(found);
        found
    }

    /// A name, not an operator.
    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.position).filter(|word| !["OR", "AND", "WITH", "(", ")"].contains(*word))?;
        self.position += 1;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, expected: bool) {
        let allowed = ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
        assert_eq!(allows(expression, &allowed), expected, "{expression}");
    }

    #[test]
    fn one_of_several_is_enough_and_all_of_several_are_needed() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("MIT OR GPL-3.0", true);
        check("GPL-3.0/MIT", true);
        check("MIT AND GPL-3.0", false);
        check("MIT AND ISC", true);
    }

    #[test]
    fn and_binds_tighter_than_or_and_brackets_bind_tightest() {
        check("MIT OR GPL-3.0 AND GPL-2.0", true);
        check("(MIT OR GPL-3.0) AND GPL-2.0", false);
        check("(GPL-3.0 OR MIT) AND ISC", true);
    }

    #[test]
    fn an_exception_is_part_of_the_name() {
        check("Apache-2.0 WITH LLVM-exception", true);
        check("MIT WITH LLVM-exception", false);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for broken in ["", "OR", "MIT OR", "(MIT", "MIT)", "MIT ISC", "MIT WITH"] {
            check(broken, false);
        }
    }
}
