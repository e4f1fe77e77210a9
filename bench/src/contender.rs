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
}

/// In each round another one begins.
pub(crate) fn turns<T: Copy>(contenders: &[T], round: usize) -> Vec<T> {
    let mut turns = contenders.to_vec();
    turns.rotate_left(round % contenders.len().max(1));
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_contender_begins_in_its_turn() {
        use Contender::{Haproxy, Nginx, Tradewind};
        assert_eq!(turns(&Contender::PROXIES, 0), [Tradewind, Nginx, Haproxy]);
        assert_eq!(turns(&Contender::PROXIES, 4), [Nginx, Haproxy, Tradewind]);
        assert!(turns::<Contender>(&[], 2).is_empty());
    }
}
