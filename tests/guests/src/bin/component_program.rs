//! A program of the standard library alone, which imports nothing of Sandpool: so the program can be made a component. Its
//! first argument names the action.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant, SystemTime};

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let rest: Vec<_> = args.iter().skip(1).map(String::as_str).collect();
    match args.first().map(String::as_str) {
        Some("facts") => facts(&rest),
        Some("upper") => upper(),
        Some("clocks") => clocks(),
        Some("random") => random(),
        Some("files") => files(rest[0], rest[1]).unwrap(),
        Some("exit") => std::process::exit(rest[0].parse().unwrap()),
        Some("panic") => panic!("as it was told"),
        Some("spin") => spin(),
        Some("grow") => grow(),
        Some("flood") => flood(),
        Some("fill") => fill(rest[0]),
        Some("open") => open(rest[0]),
        Some("wait") => std::thread::sleep(Duration::from_secs(1 << 30)),
        Some("tell") => println!("{}", rest[0]),
        other => panic!("nothing known to do: {other:?}"),
    }
}

fn facts(args: &[&str]) {
    println!("arguments {args:?}");
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    println!("variables {variables:?}");
}

fn upper() {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).unwrap();
    print!("{}", text.to_uppercase());
    eprintln!("{} bytes", text.len());
}

fn clocks() {
    let begin = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    println!("slept long enough: {}", begin.elapsed() >= Duration::from_millis(20));
    let year_2020 = Duration::from_secs(1_577_836_800);
    println!("it is after 2020: {}", SystemTime::UNIX_EPOCH.elapsed().unwrap() > year_2020);
}

fn random() {
    let [mut one, mut other] = [[0_u8; 4096]; 2];
    getrandom::fill(&mut one).unwrap();
    getrandom::fill(&mut other).unwrap();
    println!("random bytes differ: {}", one != other);
}

fn files(read_only: &str, dir: &str) -> io::Result<()> {
    println!("read: {}", fs::read_to_string(format!("{read_only}/input.txt"))?.trim());
    println!("write where one may only read: {}", fs::write(format!("{read_only}/new"), "x").is_err());
    let path = format!("{dir}/file");
    let text = "0123456789".repeat(20_000);
    fs::write(&path, &text)?;
    OpenOptions::new().append(true).open(&path)?.write_all(b"the end")?;
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.seek(SeekFrom::Start(5))?;
    file.write_all(b"five")?;
    file.seek(SeekFrom::Start(0))?;
    let mut begin = [0; 12];
    file.read_exact(&mut begin)?;
    println!("begin: {}", String::from_utf8_lossy(&begin));
    file.seek(SeekFrom::End(-7))?;
    let mut end = String::new();
    file.read_to_string(&mut end)?;
    println!("end: {end}, {} bytes", file.metadata()?.len());
    println!("read beyond the end: {}", {
        file.seek(SeekFrom::Start(1 << 40))?;
        file.read(&mut begin)?
    });
    file.set_len(3)?;
    println!("cut: {}", fs::read_to_string(&path)?);
    fs::create_dir(format!("{dir}/below"))?;
    fs::rename(&path, format!("{dir}/below/moved"))?;
    for found in [dir.to_owned(), format!("{dir}/below")] {
        let mut names: Vec<_> =
            fs::read_dir(found)?.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        println!("listed: {}", names.join(" "));
    }
    fs::remove_file(format!("{dir}/below/moved"))?;
    fs::remove_dir(format!("{dir}/below"))?;
    for outside in [format!("{dir}/../escape"), format!("{dir}/out/escape"), "/etc/passwd".to_owned()] {
        println!("outside: {}", File::open(&outside).is_err() && fs::write(&outside, "x").is_err());
    }
    Ok(())
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

fn grow() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

fn flood() {
    let line = [b'x'; 4095];
    loop {
        io::stdout().write_all(&line).unwrap();
        io::stdout().write_all(b"\n").unwrap();
    }
}

fn fill(path: &str) {
    let mut file = File::create(path).unwrap();
    let mut written = 0_u64;
    loop {
        match file.write(&[7; 1 << 16]) {
            Ok(len) => written += len as u64,
            Err(error) => {
                println!("{written}: {error}");
                return;
            }
        }
    }
}

fn open(path: &str) {
    let mut files = Vec::new();
    loop {
        match File::open(path) {
            Ok(file) => files.push(file),
            Err(error) => {
                println!("{}: {error}", files.len());
                return;
            }
        }
    }
}
