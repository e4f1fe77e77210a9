//! Small files, one for each batch, and what the steps make of them.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const ROWS: usize = 20;

/// So many batches.
#[derive(Debug)]
pub(super) struct Data {
    pub batches: usize,
    pub directory: PathBuf,
    /// The mean of all batches' losses.
    pub loss: f64,
}

impl Data {
    /// In a directory below `parent`, where the same may be already.
    pub(super) fn make(parent: &Path, batches: usize) -> Result<Self> {
        let directory = parent.join(format!("data-{batches}"));
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let mut sum = 0.0;
        for batch in 0..batches {
            let rows = rows(batch);
            let mut text = String::from("x,y\n");
            for (x, y) in &rows {
                writeln!(text, "{x},{y}").expect("a String takes everything");
            }
            let file = directory.join(format!("{batch:06}.csv"));
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            sum += loss(&rows);
        }
        Ok(Self { batches, directory, loss: sum / batches as f64 })
    }
}

fn rows(batch: usize) -> Vec<(f64, f64)> {
    (1..=ROWS).map(|x| (x as f64, ((batch * 7 + x * 13) % 101) as f64)).collect()
}

/// As `bench/batches/steps.py` reckons it: of a line through the origin, the mean of the squares that are left.
fn loss(rows: &[(f64, f64)]) -> f64 {
    let greatest = rows.iter().fold(f64::MIN, |greatest, (x, _)| greatest.max(*x));
    let rows: Vec<(f64, f64)> = rows.iter().map(|(x, y)| (x / greatest, *y)).collect();
    let slope = rows.iter().map(|(x, y)| x * y).sum::<f64>() / rows.iter().map(|(x, _)| x * x).sum::<f64>();
    rows.iter().map(|(x, y)| (y - slope * x).powi(2)).sum::<f64>() / rows.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_is_a_file() {
        let parent = tempfile::tempdir().unwrap();
        let data = Data::make(parent.path(), 3).unwrap();
        let text = fs::read_to_string(data.directory.join("000002.csv")).unwrap();
        assert_eq!((text.lines().count(), text.lines().nth(1)), (ROWS + 1, Some("1,27")));
        assert_eq!(fs::read_dir(&data.directory).unwrap().count(), 3);
    }

    #[test]
    fn the_loss_is_that_of_the_line_through_the_origin() {
        // The line is y = 6 x over x = 0.5 and 1, and both rows are on it.
        assert!(loss(&[(2.0, 3.0), (4.0, 6.0)]).abs() < 1e-12);
        // Here its slope is (1 * 1 + 1 * 3) / 2.
        assert!((loss(&[(1.0, 1.0), (1.0, 3.0)]) - 1.0).abs() < 1e-12);
    }
}
