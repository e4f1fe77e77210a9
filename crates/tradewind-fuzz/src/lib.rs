//! Input as somebody might send it, for tests of whatever reads input: good examples (seeds), all beginnings of them, and
//! what becomes of them when pieces are lost, repeated, exchanged or spoiled.
//!
//! Every run tries the same inputs, so what has failed fails again, and the input is printed. Nothing measures which
//! code was reached: that takes a nightly compiler and hours, and the seeds say where to look.
//!
//! A reader must neither panic nor take much more memory than its input has bytes. The binary of the tests counts for
//! that, by having [`Counting`] as its allocator.

mod memory;
mod mutation;

use std::time::{Duration, Instant};

pub use memory::Counting;
use mutation::Mutator;

/// Set by `cargo xtask test --long`.
const LONG_VARIABLE: &str = "TRADEWIND_TEST_LONG";
/// Mutants tried in a usual run, and for how long in a long one.
const MUTANTS: usize = 4000;
const LONG_TIME: Duration = Duration::from_secs(40);
/// Of longer seeds the beginnings of this length and less are tried.
const BEGINNINGS_LIMIT: usize = 512;
/// What a reader may have in memory at once: so much (a regular expression is the largest that is small on paper), and so
/// many times its input.
const BYTES_LIMIT: usize = 8 << 20;
const FACTOR_LIMIT: usize = 200;
/// Of an input that fails, so much is shown; another run tries the same one.
const SHOWN_BYTES: usize = 2048;

/// Gives `check` one input after the other. It panics where something is wrong.
///
/// # Panics
/// If a check takes too much memory, or memory is not counted.
pub fn fuzz<S: AsRef<[u8]>>(seeds: &[S], mut check: impl FnMut(&[u8])) {
    let seeds: Vec<&[u8]> = seeds.iter().map(AsRef::as_ref).collect();
    for seed in &seeds {
        (0..=seed.len().min(BEGINNINGS_LIMIT)).for_each(|length| try_one(&seed[..length], &mut check));
        try_one(seed, &mut check);
    }
    let long = std::env::var_os(LONG_VARIABLE).is_some();
    let mut mutator = Mutator::new(&seeds);
    let began = Instant::now();
    let mut tried = 0;
    while if long { began.elapsed() < LONG_TIME } else { tried < MUTANTS } {
        try_one(&mutator.next(), &mut check);
        tried += 1;
    }
}

fn try_one(input: &[u8], check: &mut impl FnMut(&[u8])) {
    let _shown = ShownOnPanic(input);
    let peak = memory::peak_of(|| check(input));
    let limit = BYTES_LIMIT + FACTOR_LIMIT * input.len();
    assert!(peak <= limit, "{peak} bytes in memory for an input of {} bytes", input.len());
}

struct ShownOnPanic<'a>(&'a [u8]);

impl Drop for ShownOnPanic<'_> {
    #[expect(clippy::print_stderr, reason = "a test that fails shows why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
            eprintln!("the input was b\"{}\", {} bytes in all", shown.escape_ascii(), self.0.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet, panic};

    use super::*;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    #[test]
    fn inputs_differ_and_are_the_same_in_every_run() {
        let run = || {
            let seen = RefCell::new(Vec::new());
            fuzz(&[b"GET / HTTP/1.1\r\nContent-Length: 12\r\n\r\n"], |input| seen.borrow_mut().push(input.to_vec()));
            seen.into_inner()
        };
        let (one, other) = (run(), run());
        let common = one.len().min(other.len());
        assert_eq!(one[..common], other[..common]);
        let different: BTreeSet<_> = one.iter().collect();
        assert!(different.len() > one.len() * 9 / 10, "{} of {}", different.len(), one.len());
        assert!(one.iter().any(|input| input.len() > 200) && one.iter().any(Vec::is_empty));
    }

    #[test]
    fn who_believes_a_length_is_found_out() {
        let greedy = |input: &[u8]| {
            let length = input.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
            drop(std::hint::black_box(Vec::<u8>::with_capacity(length as usize)));
        };
        assert!(panic::catch_unwind(|| fuzz(&[[4, 0, 0, 0, 1, 2, 3, 4]], greedy)).is_err());
    }
}
