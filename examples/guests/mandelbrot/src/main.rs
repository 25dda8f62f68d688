//! Computes an image of the Mandelbrot set: `mandelbrot FILE [PROCESSES] [WIDTH]`.
//!
//! The image is a `RawArray` that all processes see. Each process takes the next row that nobody has, by an atomic
//! counter, computes the row, and copies it to its place; so no two processes ever write to the same place, and no
//! lock is needed. The main process writes the finished image to FILE, as PNG.

use std::fs::File;
use std::io::BufWriter;

use sandpool_guest::{Error, Process, RawArray, RawValue, cpu_count};

const ITERATIONS: u32 = 500;
/// Red, green, blue.
const CHANNELS: usize = 3;

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let path =
        std::env::args().nth(1).ok_or_else(|| Error::other("usage: mandelbrot FILE [PROCESSES] [WIDTH]"))?;
    let processes = argument(2, "PROCESSES", cpu_count().max(2))?;
    let width = argument(3, "WIDTH", 1200)?;
    let height = (width * 2 / 3).max(1);
    // Before the work, so that a directory that wasn't granted is found out early.
    let file = File::create(&path).map_err(|error| Error::other(format!("cannot write {path}: {error}")))?;

    let image = RawArray::new(width * height * CHANNELS)?;
    let next_row = RawValue::new(0_u64)?;
    let workers = (1..=processes)
        .map(|number| {
            let worker = Process::builder().name(format!("painter-{number}")).daemon();
            worker.fork(|| -> Result<(), Error> {
                let mut row = vec![0; width * CHANNELS];
                loop {
                    let y = usize::try_from(next_row.atomic().fetch_add(1))?;
                    if y >= height {
                        return Ok(());
                    }
                    for (x, pixel) in row.chunks_exact_mut(CHANNELS).enumerate() {
                        let step = 3.0 / width as f64;
                        let point = (x as f64 * step - 2.15, (y as f64 - height as f64 / 2.0) * step);
                        pixel.copy_from_slice(&colour(escape(point)));
                    }
                    image.copy_from(y * row.len(), &row)?;
                }
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for worker in &workers {
        let status = worker.join()?;
        if !status.success() {
            return Err(Error::other(format!("{} failed: {status}", worker.name())));
        }
    }

    let size = (u32::try_from(width)?, u32::try_from(height)?);
    // Shared memory can't be passed to the host directly: this is a copy.
    write(file, size, &image.to_vec()?).map_err(Error::other)?;
    println!("{width} x {height} pixels by {processes} processes: {path}");
    Ok(())
}

/// Writes an image of this width and height as PNG.
fn write(file: File, (width, height): (u32, u32), pixels: &[u8]) -> Result<(), png::EncodingError> {
    let mut png = png::Encoder::new(BufWriter::new(file), width, height);
    png.set_color(png::ColorType::Rgb);
    png.set_depth(png::BitDepth::Eight);
    let mut writer = png.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

/// Returns the number of iterations after which the point is far away, with a fraction so that colours have no steps;
/// `None` if it stays.
fn escape((cx, cy): (f64, f64)) -> Option<f64> {
    let (mut x, mut y) = (0.0_f64, 0.0_f64);
    for iteration in 0..ITERATIONS {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 256.0 {
            return Some(f64::from(iteration) + 1.0 - ((xx + yy).ln() / 2.0).log2());
        }
        y = 2.0 * x * y + cy;
        x = xx - yy + cx;
    }
    None
}

fn colour(escape: Option<f64>) -> [u8; CHANNELS] {
    let Some(iterations) = escape else { return [0; CHANNELS] };
    let phase = iterations.max(0.0).sqrt();
    [0.0, 0.6, 1.2].map(|shift| (127.5 - 127.5 * (phase + shift).cos()) as u8)
}

/// A positive number from the command line.
fn argument(index: usize, name: &str, default: usize) -> Result<usize, Error> {
    match std::env::args().nth(index) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::other(format!("{name} is a number from 1 on, not {text}"))),
        },
    }
}
