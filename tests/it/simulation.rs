//! The simulation is right: its lines are those of a computation in one process.

use std::fmt::Write as _;

use crate::support::{finish, guest_example, run};

/// One array, one loop: nothing of this is shared with the guest.
fn expected(cells: usize, steps: u64) -> String {
    // One more cell at each end, which stays cold.
    let mut rod = vec![0_i64; cells + 2];
    for range in [cells / 8..cells / 4, cells / 2..cells / 8 * 7] {
        rod[range.start + 1..=range.end].fill(1_000_000_000);
    }
    let mut lines = String::new();
    for step in 0..=steps {
        if step > 0 {
            let mut next = rod.clone();
            for at in 1..=cells {
                next[at] = (rod[at - 1] + rod[at] + rod[at] + rod[at + 1]) / 4;
            }
            rod = next;
        }
        if step == 0 || step * 12 / steps != (step - 1) * 12 / steps {
            let rod = &rod[1..=cells];
            let mut checksum = 0_i64;
            for cell in rod {
                checksum = checksum.wrapping_mul(31).wrapping_add(*cell);
            }
            let heat = rod.iter().sum::<i64>() / cells as i64 / 1000;
            let mut picture = String::new();
            for at in 0..60 {
                let (from, to) = (at * cells / 60, (at + 1) * cells / 60);
                let part = &rod[from..to.max(from + 1)];
                let mean = part.iter().sum::<i64>() / part.len() as i64;
                picture.push(char::from(b" .:-=+*#%@"[(mean * 10 / 1_000_000_001) as usize]));
            }
            writeln!(lines, "step {step:>7}  heat {heat:>7}  checksum {checksum:016x}  |{picture}|").unwrap();
        }
    }
    lines
}

fn compare(processes: usize, cells: usize, steps: u64) {
    let mut command = run(guest_example("simulation"));
    command.args(["--", &processes.to_string(), &cells.to_string(), &steps.to_string()]);
    let ended = finish(&mut command).expect_code(0);
    assert_eq!(ended.stdout, expected(cells, steps), "{processes} processes, {cells} cells\n{ended}");
}

#[test]
fn any_number_of_processes_computes_what_one_does() {
    for processes in [1, 2, 3, 8] {
        compare(processes, 1000, 2000);
    }
}

#[test]
fn strips_of_one_cell_and_steps_without_a_line() {
    compare(16, 16, 100);
    compare(5, 16, 7);
    compare(20, 16, 1);
}
