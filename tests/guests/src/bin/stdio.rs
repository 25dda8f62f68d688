//! Standard output of many processes, and standard input of children: `stdio [PROCESSES] [LINES]`.

use std::io::{Read, Write};

use sandpool_guest::{Error, ExitStatus, Process};
use sandpool_test_guests::{Outcome, argument, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    // Without an end of line it stays in the buffer, which a fork would copy.
    print!("once, ");
    Process::fork(|| println!("and then the child"))?.join()?;
    print!("before a spawn, ");
    Process::spawn(|()| println!("the spawned child"), ())?.join()?;

    let input = Process::fork(|| -> Result<i32, std::io::Error> {
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input)?;
        Ok(input.len() as i32)
    })?;
    same("a child's standard input is empty", input.join()?, ExitStatus::Exited(0))?;
    let mut input = String::new();
    std::io::stdin().read_line(&mut input)?;
    println!("the main process reads {input:?}");

    let processes: usize = argument(0, 8);
    let lines: usize = argument(1, 200);
    let printing = (0..processes)
        .map(|process| {
            Process::fork(move || -> Outcome {
                let letter = char::from(b'a' + (process % 26) as u8);
                for line in 0..lines {
                    // In two writes, and longer than what a pipe takes at once.
                    let length = 10 + (line * 37) % 6_000;
                    print!("line {process} {line} ");
                    println!("{}", String::from(letter).repeat(length));
                }
                std::io::stdout().flush()?;
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    for process in &printing {
        process.join()?;
    }
    // No end of line here, which is no reason to lose it.
    print!("the end");
    Ok(())
}
