//! Who is compared.

/// What runs the steps of all batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Contender {
    /// Tradewind, with functions of Python
    Functions,
    /// Tradewind, with a program that is started once for each worker
    Program,
    /// Tradewind, with a program that is started for each step of each batch
    Commands,
    Ray,
    Dask,
    Metaflow,
    /// A pool of processes of Python's own
    Pool,
    /// One process of Python
    Loop,
}

impl Contender {
    pub(super) const ALL: [Self; 8] =
        [Self::Functions, Self::Program, Self::Commands, Self::Ray, Self::Dask, Self::Metaflow, Self::Pool, Self::Loop];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Functions => "Tradewind, functions of Python",
            Self::Program => "Tradewind, a program as a worker",
            Self::Commands => "Tradewind, a command for each step",
            Self::Ray => "Ray",
            Self::Dask => "Dask",
            Self::Metaflow => "Metaflow",
            Self::Pool => "pool of processes",
            Self::Loop => "plain loop",
        }
    }

    /// What `--only` and `--peer` call it; peers have their script in a directory of this name.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Functions => "functions",
            Self::Program => "program",
            Self::Commands => "commands",
            Self::Ray => "ray",
            Self::Dask => "dask",
            Self::Metaflow => "metaflow",
            Self::Pool => "pool",
            Self::Loop => "loop",
        }
    }

    /// Of PyPI, where it is from there.
    pub(super) fn package(self) -> Option<&'static str> {
        match self {
            Self::Ray => Some("ray"),
            Self::Dask => Some("distributed"),
            Self::Metaflow => Some("metaflow"),
            _ => None,
        }
    }

    /// The pipeline's file, of Tradewind.
    pub(super) fn pipeline(self) -> Option<&'static str> {
        match self {
            Self::Functions => Some("functions.toml"),
            Self::Program => Some("program.toml"),
            Self::Commands => Some("commands.toml"),
            _ => None,
        }
    }

    /// The most batches: what starts a process for each step would take too long with more.
    fn most(self) -> usize {
        match self {
            Self::Metaflow => 30,
            Self::Commands => 100,
            _ => usize::MAX,
        }
    }

    /// Numbers of batches, as many as there is time for.
    pub(super) fn sizes(self, wanted: &[usize]) -> Vec<usize> {
        let mut sizes: Vec<usize> = wanted.iter().map(|size| *size.min(&self.most())).collect();
        sizes.dedup();
        sizes
    }

    /// Its turns in so many rounds.
    pub(super) fn rounds(self, wanted: usize) -> usize {
        if self == Self::Metaflow { 1 } else { wanted }
    }

    pub(super) fn widths(self, wanted: &[usize]) -> Vec<usize> {
        if self == Self::Loop { vec![1] } else { wanted.to_vec() }
    }

    /// Whether it is asked how much faster it is with more workers.
    pub(super) fn speeds_up(self) -> bool {
        !matches!(self, Self::Commands | Self::Metaflow | Self::Loop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_has_fewer_batches() {
        assert_eq!(Contender::Ray.sizes(&[10, 100, 1000]), [10, 100, 1000]);
        assert_eq!(Contender::Commands.sizes(&[10, 100, 1000]), [10, 100]);
        assert_eq!(Contender::Metaflow.sizes(&[10, 100, 1000]), [10, 30]);
        assert_eq!(Contender::Loop.widths(&[1, 2]), [1]);
    }
}
