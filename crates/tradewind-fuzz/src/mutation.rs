//! Spoils seeds.

/// No input is longer than this.
const LENGTH_LIMIT: usize = 16 << 10;
/// The most changes to one seed.
const CHANGES: usize = 5;
/// A piece is repeated up to so many times.
const REPEATS: usize = 40;

/// Stand for something in one format or another.
const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"=",
    b"-",
    b"+",
    b".",
    b"/",
    b"\\",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\xc3\xa9",
];
/// Take the place of numbers that are written out.
const NUMBERS: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"1",
    b"255",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e999",
    b"0.5",
    b"007",
    b"0x10",
];
const WORDS: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

pub(crate) struct Mutator<'a> {
    seeds: &'a [&'a [u8]],
    random: u64,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seeds: &'a [&'a [u8]]) -> Self {
        Self { seeds, random: 0x9e37_79b9_7f4a_7c15 }
    }

    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.seed().to_vec();
        for _ in 0..=self.below(CHANGES) {
            self.change(&mut input);
            input.truncate(LENGTH_LIMIT);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.range(input.len());
        let at = self.below(input.len() + 1);
        match self.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => insert(input, at, PIECES[self.below(PIECES.len())]),
            2 => drop(input.drain(start..end)),
            3 => {
                let times = self.below(REPEATS);
                let piece = input[start..end].repeat(times);
                insert(input, end, &piece);
            }
            4 => {
                let other = self.seed();
                let (start, end) = self.range(other.len());
                insert(input, at, &other[start..end]);
            }
            5 => {
                let other = self.seed();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => self.exchange_number(input),
            7 => {
                let word = WORDS[self.below(WORDS.len())];
                let bytes = if self.below(2) == 0 { word.to_le_bytes() } else { word.to_be_bytes() };
                input.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = new);
            }
            8 => input[start..end].reverse(),
            _ => {
                let byte = self.below(256) as u8;
                input[start..end].iter_mut().take(3).for_each(|old| *old = byte);
            }
        }
    }

    /// One that is written in digits.
    fn exchange_number(&mut self, input: &mut Vec<u8>) {
        let starts = |at: usize| input[at].is_ascii_digit() && (at == 0 || !input[at - 1].is_ascii_digit());
        let found: Vec<usize> = (0..input.len()).filter(|&at| starts(at)).collect();
        if !found.is_empty() {
            let start = found[self.below(found.len())];
            let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            drop(input.splice(start..start + length, NUMBERS[self.below(NUMBERS.len())].iter().copied()));
        }
    }

    fn seed(&mut self) -> &'a [u8] {
        self.seeds[self.below(self.seeds.len())]
    }

    /// Mostly a short one.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let start = self.below(length + 1);
        let most = if self.below(4) == 0 { length } else { 16 };
        (start, start + self.below((length - start).min(most) + 1))
    }

    /// xorshift64* (Vigna, 2016).
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    drop(input.splice(at..at, piece.iter().copied()));
}
