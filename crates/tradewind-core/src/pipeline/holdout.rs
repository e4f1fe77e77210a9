//! Which batches no step sees, so that the result can be judged on them.

use xxhash_rust::xxh3::xxh3_64;

/// Whether each batch is held out, by its name alone: so large a part of them, one at least where a part is asked for
/// and there are two, and never all. The lowest hashes are taken, so a batch that is added pushes out one at most.
pub fn held_out(names: &[&str], part: f64) -> Vec<bool> {
    let mut held = vec![false; names.len()];
    if part.is_nan() || part <= 0.0 || names.len() < 2 {
        return held;
    }
    let count = (names.len() as f64 * part).round() as usize;
    let count = count.clamp(1, names.len() - 1);
    let mut places: Vec<usize> = (0..names.len()).collect();
    places.sort_by_cached_key(|&place| (xxh3_64(names[place].as_bytes()), names[place]));
    for &place in &places[..count] {
        held[place] = true;
    }
    held
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("data/{number}.csv")).collect()
    }

    /// The names that are held out.
    fn chosen(names: &[String], part: f64) -> BTreeSet<&str> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let held = held_out(&names, part);
        names.into_iter().zip(held).filter_map(|(name, held)| held.then_some(name)).collect()
    }

    #[test]
    fn as_many_as_were_asked_for_but_never_all_nor_none() {
        for (count, part, expected) in [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.001, 1),
            (2, 0.99, 1),
            (10, 0.0, 0),
            (10, 0.1, 1),
            (10, 0.25, 3),
            (10, 0.99, 9),
            (1000, 0.2, 200),
            (10, f64::NAN, 0),
        ] {
            assert_eq!(chosen(&names(count), part).len(), expected, "{part} of {count}");
        }
    }

    #[test]
    fn the_choice_is_the_same_in_every_build() {
        let names = names(8);
        assert_eq!(chosen(&names, 0.25).into_iter().collect::<Vec<_>>(), ["data/0.csv", "data/4.csv"]);
    }

    proptest! {
        /// The order of the names does not matter, and a name that is added changes the choice of two at most.
        #[test]
        fn few_change_when_one_is_added(count in 2_usize..60, part in 0.01_f64..0.99, at in 0_usize..60) {
            let all = names(count + 1);
            let mut fewer = all.clone();
            fewer.remove(at % all.len());
            let mut turned = all.clone();
            turned.reverse();
            let (before, after) = (chosen(&fewer, part), chosen(&all, part));
            prop_assert_eq!(&chosen(&turned, part), &after);
            prop_assert!(before.difference(&after).count() <= 1);
            prop_assert!(after.difference(&before).count() <= 2);
        }
    }
}
