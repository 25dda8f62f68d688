//! A rod as a row of cells: its beginning, its next step, and its picture.

use std::iter::once;

/// The heat beyond both ends, always.
pub(crate) const COLD: i64 = 0;
const HOT: i64 = 1_000_000_000;

/// The number of characters of a picture, and the characters.
const WIDTH: usize = 60;
const SHADES: &[u8; 10] = b" .:-=+*#%@";

/// A rod that is hot in two places.
pub(crate) fn new(cells: usize) -> Vec<i64> {
    let is_hot = |cell| (cells / 8..cells / 4).contains(&cell) || (cells / 2..cells / 8 * 7).contains(&cell);
    (0..cells).map(|cell| if is_hot(cell) { HOT } else { COLD }).collect()
}

/// A strip one step later: each cell becomes the mean of its neighbours and twice itself.
pub(crate) fn next(before: i64, strip: &[i64], after: i64) -> Vec<i64> {
    let left = once(&before).chain(strip);
    let right = strip.iter().skip(1).chain(once(&after));
    left.zip(strip).zip(right).map(|((left, cell), right)| (left + 2 * cell + right) / 4).collect()
}

/// The step, the mean heat in millionths, a checksum of all cells, and a picture.
pub(crate) fn line(step: u64, rod: &[i64]) -> String {
    let checksum = rod.iter().fold(0_i64, |sum, cell| sum.wrapping_mul(31).wrapping_add(*cell));
    let picture: String = (0..WIDTH).map(|at| shade(columns(rod, at))).collect();
    format!(
        "step {step:>7}  heat {:>7}  checksum {checksum:016x}  |{picture}|",
        mean(rod) / (HOT / 1_000_000)
    )
}

/// The cells that a character stands for: at least one.
fn columns(rod: &[i64], at: usize) -> &[i64] {
    let from = at * rod.len() / WIDTH;
    let to = ((at + 1) * rod.len() / WIDTH).max(from + 1);
    rod.get(from..to).unwrap_or_default()
}

fn shade(cells: &[i64]) -> char {
    let shade = usize::try_from(mean(cells) * SHADES.len() as i64 / (HOT + 1));
    shade.ok().and_then(|shade| SHADES.get(shade)).map_or('?', |shade| char::from(*shade))
}

fn mean(cells: &[i64]) -> i64 {
    cells.iter().sum::<i64>().checked_div(cells.len() as i64).unwrap_or(0)
}
