//! An ordinary program, as any language has them: reads stdin, arguments and variables, writes, and exits.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use sandpool_guest::Process;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let words: Vec<_> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["upper"] => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).expect("text on stdin");
            print!("{}", text.to_uppercase());
        }
        ["echo", rest @ ..] => println!("{}: {}", args[0], rest.join(" ")),
        ["env", name] => println!("{}", std::env::var(name).unwrap_or_else(|_| "unset".to_owned())),
        ["exit", code] => return ExitCode::from(code.parse::<u8>().expect("an exit code")),
        ["fail", text] => {
            print!("before the failure");
            eprint!("{text}");
            return ExitCode::from(3);
        }
        ["write", bytes] => write(bytes.parse().expect("a number")),
        ["write-without-end"] => write(usize::MAX),
        // Writes to stderr as well, so that the output of one stream says whether the other holds it up.
        ["write-both", bytes] => {
            eprintln!("before");
            write(bytes.parse().expect("a number"));
            eprintln!("after");
        }
        ["flood-in-a-child"] => {
            let _child = Process::fork(|| write(usize::MAX)).expect("a child");
            loop {
                eprintln!("still here");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        ["fork"] => {
            print!("parent ");
            let child = Process::fork(|| {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).expect("an empty stdin");
                eprint!("the child has {} bytes of stdin", text.len());
            });
            child.expect("a child").join().expect("its end");
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).expect("text on stdin");
            print!("{text}");
        }
        ["leave-a-child"] => {
            let _child = Process::fork(|| std::thread::sleep(Duration::from_secs(3600))).expect("a child");
        }
        ["sleep"] => std::thread::sleep(Duration::from_secs(3600)),
        ["count"] => {
            // A memory that another run has used would have another number.
            static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            print!("{}", RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["grow", mib] => {
            let mib: usize = mib.parse().expect("a number");
            print!("{}", vec![1_u8; mib << 20].iter().map(|byte| usize::from(*byte)).sum::<usize>());
        }
        ["trap"] => std::process::abort(),
        words => {
            eprintln!("unknown: {words:?}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn write(mut bytes: usize) {
    let block = [b'x'; 8192];
    let mut stdout = io::stdout().lock();
    while bytes > 0 {
        let len = bytes.min(block.len());
        if stdout.write_all(&block[..len]).is_err() {
            std::process::exit(9);
        }
        bytes -= len;
    }
}
