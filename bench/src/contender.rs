//! Who is compared, and in which order they have their turns.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    Tradewind,
    Nginx,
    Haproxy,
    /// The upstream itself.
    Direct,
}

impl Contender {
    pub(crate) const PROXIES: [Self; 3] = [Self::Tradewind, Self::Nginx, Self::Haproxy];
    pub(crate) const ALL: [Self; 4] = [Self::Tradewind, Self::Nginx, Self::Haproxy, Self::Direct];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tradewind => "Tradewind",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Direct => "no proxy",
        }
    }

    /// In each round another one begins.
    pub(crate) fn turns<const N: usize>(mut contenders: [Self; N], round: usize) -> [Self; N] {
        contenders.rotate_left(round % N);
        contenders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contender_begins_in_its_turn() {
        use Contender::{Haproxy, Nginx, Tradewind};
        assert_eq!(Contender::turns(Contender::PROXIES, 0), [Tradewind, Nginx, Haproxy]);
        assert_eq!(Contender::turns(Contender::PROXIES, 4), [Nginx, Haproxy, Tradewind]);
    }
}
