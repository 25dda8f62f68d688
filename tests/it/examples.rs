//! The examples do what their pages say. `wordcount` and `simulation`, whose results are computed once more in another
//! way, have files of their own; those that embed the library are programs, with their tests beside them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::{Ended, finish, guest_example, run};

/// Runs an example to a good end.
#[track_caller]
fn example(name: &str, arguments: &[&str]) -> Ended {
    finish(run(guest_example(name)).arg("--").args(arguments)).expect_code(0)
}

/// The number that stands between these.
#[track_caller]
fn number<T: std::str::FromStr>(line: &str, before: &str, after: &str) -> T {
    let found = line.strip_prefix(before).and_then(|rest| rest.split_once(after)?.0.parse().ok());
    found.unwrap_or_else(|| panic!("no number between {before:?} and {after:?} in {line:?}"))
}

/// Every example is there for a test.
#[test]
fn every_example_is_run_by_a_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["examples", "simulation", "wordcount"]
        .map(|name| std::fs::read_to_string(here.join("it").join(name).with_extension("rs")).unwrap())
        .concat();
    let folders = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(here.join("../examples").join(folder)).unwrap();
        let folders = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let examples = folders("guests");
    for name in &examples {
        let own = here.join("../examples").join(name).join("tests");
        assert!(own.is_dir() || sources.contains(&format!("\"{name}\"")), "no test runs the example {name}");
    }
    let pages: BTreeSet<_> = folders("").into_iter().filter(|name| name != "guests").collect();
    assert_eq!(examples, pages, "each example has a page, and each page an example");
}

#[test]
fn the_bank_neither_loses_nor_makes_money() {
    for (tellers, transfers, accounts) in [(1_u64, 5000_u64, 10_i64), (4, 3000, 3), (6, 500, 100)] {
        let arguments = [tellers.to_string(), transfers.to_string(), accounts.to_string()];
        let ended = example("bank", &arguments.each_ref().map(String::as_str));
        let lines: Vec<_> = ended.stdout.lines().collect();
        let [audits, done, extremes, sum] = lines[..] else { panic!("{ended}") };
        // If few transfers are made, they may be over before it looks.
        let _: u64 = number(audits, "the auditor looked ", " times, and nothing was ever missing");
        let refused: u64 =
            number(done, &format!("{} transfers by {tellers} tellers, ", transfers * tellers), " refused");
        assert!(refused < transfers * tellers, "{ended}");
        let total = accounts * 1000;
        let poorest: i64 = number(extremes, "the poorest account has ", ", the richest ");
        let richest: i64 = extremes.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!((0..=1000).contains(&poorest) && (1000..=total).contains(&richest), "{ended}");
        assert_eq!(sum, format!("all together have {total}, as before: yes"));
    }
}

/// A sieve: nothing of this is shared with the guest.
fn primes_below(limit: usize) -> usize {
    let mut is_prime = vec![true; limit.max(2)];
    is_prime[..2].fill(false);
    for number in 2..is_prime.len() {
        if is_prime[number] {
            is_prime.iter_mut().skip(number * number).step_by(number).for_each(|multiple| *multiple = false);
        }
    }
    is_prime.into_iter().take(limit).filter(|is_prime| *is_prime).count()
}

#[test]
fn jobs_finds_as_many_primes_as_a_sieve() {
    for (limit, producers, consumers) in [(300_000, 2, 4), (1, 1, 1), (10_000, 3, 2), (123_457, 1, 7)] {
        let arguments = [limit, producers, consumers].map(|number: usize| number.to_string());
        let ended = example("jobs", &arguments.each_ref().map(String::as_str));
        let lines: Vec<_> = ended.stdout.lines().collect();
        let [primes, jobs] = lines[..] else { panic!("{ended}") };
        assert_eq!(primes, format!("{} primes below {limit}", primes_below(limit)));
        let jobs = jobs.strip_prefix("jobs done by each consumer: [").unwrap().strip_suffix(']').unwrap();
        let jobs: Vec<usize> = jobs.split(", ").map(|jobs| jobs.parse().unwrap()).collect();
        assert_eq!((jobs.len(), jobs.iter().sum()), (consumers, limit.div_ceil(10_000)), "{ended}");
    }
}

/// Chapters of the King James Bible that are known to tell the same, in many of the same words.
#[test]
fn parallels_finds_chapters_that_tell_the_same() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wordcount/data");
    for processes in ["1", "3"] {
        let mut command = run(guest_example("parallels"));
        command.arg("--dir").arg(format!("{}:/data:ro", data.display()));
        let ended = finish(command.args(["--", "/data/kjv.txt", processes])).expect_code(0);
        let lines: Vec<_> = ended.stdout.lines().collect();
        let pairs: BTreeSet<_> = lines.iter().filter_map(|line| Some(line.split_once(" %  ")?.1)).collect();
        for pair in [
            "2 Kings 19 and Isaiah 37",
            "Ezra 2 and Nehemiah 7",
            "1 Samuel 31 and 1 Chronicles 10",
            "2 Kings 18 and Isaiah 36",
            "1 Kings 22 and 2 Chronicles 18",
        ] {
            assert!(pairs.contains(pair), "no {pair}\n{ended}");
        }
        assert_eq!(lines.last(), Some(&"1189 chapters compared"), "{ended}");
    }
}

#[test]
fn pingpong_says_how_fast_it_is() {
    // The last ball is larger than what a pipe holds.
    for bytes in [1, 8, 100_000] {
        let ended = example("pingpong", &["500", &bytes.to_string()]);
        let lines: Vec<_> = ended.stdout.lines().collect();
        let [per_second, each] = lines[..] else { panic!("{ended}") };
        assert!(number::<u64>(per_second, "", " round trips per second") > 0, "{ended}");
        let rounds = format!("500 rounds with {bytes} bytes each way, ");
        assert!(number::<f64>(each, &rounds, " µs each") > 0.0, "{ended}");
    }
}

/// The file that the example writes with this number of processes, and its pixels: rows of red, green and blue.
fn mandelbrot(processes: usize, width: usize, height: usize) -> (Vec<u8>, Vec<Vec<[u8; 3]>>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = run(guest_example("mandelbrot"));
    command.arg("--dir").arg(format!("{}:/out", folder.path().display()));
    command.args(["--", "/out/image.png", &processes.to_string(), &width.to_string()]);
    finish(&mut command)
        .expect_code(0)
        .expect_stdout(&[&format!("{width} x {height} pixels by {processes} processes: /out/image.png")]);

    let file = std::fs::read(folder.path().join("image.png")).unwrap();
    let rows = decode_png(&file, width, height);
    (file, rows)
}

/// The pixels of a PNG file of that size: red, green and blue, a byte each.
fn decode_png(file: &[u8], width: usize, height: usize) -> Vec<Vec<[u8; 3]>> {
    let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").expect("a PNG file");
    let mut chunks = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        let (chunk, after) = after.split_at(4 + u32::from_be_bytes(*len) as usize);
        chunks.push(chunk.split_at(4));
        // A checksum stands behind each.
        rest = &after[4..];
    }
    let size = [width, height].map(|size| u32::try_from(size).unwrap().to_be_bytes()).concat();
    // Eight bits for each of three colours, and not interlaced.
    assert_eq!(chunks[0], (&b"IHDR"[..], &*[&*size, &[8, 2, 0, 0, 0]].concat()));
    assert_eq!(chunks.last(), Some(&(&b"IEND"[..], &b""[..])));
    let data: Vec<u8> =
        chunks.iter().filter(|(kind, _)| *kind == b"IDAT").flat_map(|(_, data)| *data).copied().collect();
    let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(&data).unwrap();
    assert_eq!(bytes.len(), height * (1 + width * 3));

    let mut rows = vec![vec![[0_u8; 3]; width]];
    for filtered in bytes.chunks_exact(1 + width * 3) {
        let above = rows.last().unwrap();
        let mut row: Vec<[u8; 3]> = Vec::new();
        for (x, pixel) in filtered[1..].as_chunks::<3>().0.iter().enumerate() {
            let left = row.last().copied().unwrap_or_default();
            let above_left = if x == 0 { [0; 3] } else { above[x - 1] };
            row.push(std::array::from_fn(|colour| {
                let [a, b, c] = [left, above[x], above_left].map(|pixel| pixel[colour]);
                let predicted = match filtered[0] {
                    0 => 0,
                    1 => a,
                    2 => b,
                    3 => u8::midpoint(a, b),
                    4 => paeth(a, b, c),
                    other => panic!("there is no filter {other}"),
                };
                pixel[colour].wrapping_add(predicted)
            }));
        }
        rows.push(row);
    }
    rows.split_off(1)
}

/// Of left, above, and above left, the one that is nearest to left + above - above left.
fn paeth(left: u8, above: u8, above_left: u8) -> u8 {
    let goal = i16::from(left) + i16::from(above) - i16::from(above_left);
    // The first of those that are as near.
    [left, above, above_left].into_iter().min_by_key(|value| (goal - i16::from(*value)).abs()).unwrap()
}

#[test]
fn mandelbrot_writes_an_image_of_the_set() {
    let (file, image) = mandelbrot(3, 90, 60);
    // A pixel is a thirtieth wide; column 64 is almost 0 of the real axis, and row 30 is 0 of the imaginary one.
    let black = [0; 3];
    for (x, y, what) in [(64, 30, "0"), (34, 30, "-1"), (60, 33, "near 0"), (64, 5, "i / 1.2")] {
        assert_eq!(image[y][x] == black, what != "i / 1.2", "{what}: {:?}", image[y][x]);
    }
    // Far from the set on all sides.
    for (x, y) in [(0, 0), (89, 0), (0, 59), (89, 59), (89, 30)] {
        assert_ne!(image[y][x], black, "column {x} of row {y}");
    }
    let inside = image.iter().flatten().filter(|pixel| **pixel == black).count();
    // The set has an area of 1.5066, and a pixel one of 1 / 900.
    assert!((1300..1450).contains(&inside), "{inside} pixels are inside");
    for y in 1..60 {
        assert!(image[y] == image[60 - y], "row {y} is no mirror image of row {}", 60 - y);
    }
    assert_eq!(mandelbrot(1, 90, 60).0, file, "the image depends on the number of processes");
}

#[test]
fn mandelbrot_writes_nowhere_but_where_it_may() {
    let ended = finish(run(guest_example("mandelbrot")).args(["--", "/out/image.png"])).expect_code(1);
    assert!(ended.stderr.starts_with("error: cannot write /out/image.png: "), "{ended}");
}

#[test]
fn the_leaderboard_has_all_points() {
    for (players, games) in [(1_u64, 300_u64), (4, 200), (9, 50)] {
        let ended = example("leaderboard", &[&players.to_string(), &games.to_string()]);
        let (board, last) = ended.stdout.trim_end().rsplit_once('\n').unwrap();
        assert_eq!(board.lines().count() as u64, players, "{ended}");
        assert!(board.lines().all(|line| line.contains(&format!(" points in {games} games, "))), "{ended}");
        let points: u64 = number(last, &format!("{players} players are done, and "), " points of ");
        assert!(last.ends_with(&format!(" points of {points} are on the board")), "{ended}");
    }
}
