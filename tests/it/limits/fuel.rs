//! Fuel: the limit that is met at the same instruction each time.

use sandpool::limits::Limit;
use sandpool::pool::{Failure, Format, Isolation};
use sandpool::{ExitStatus, Limits, Module, Pool, Run, Sandbox};

use crate::support::{guest, sandpool_bin};

use super::{TASKS, ends_the_offender, limited, tasks};

#[test]
fn fuel_ends_a_process_at_the_same_place_wherever_it_runs() {
    let of = |fuel| {
        let ended = limited(&["--fuel", fuel], &["count"]).expect_code(134);
        assert!(ended.stderr.ends_with(&format!("error: the guest was limited: fuel {fuel}\n")), "{ended}");
        ended.stdout
    };
    let (first, second, more) = (of("3000000"), of("3000000"), of("6000000"));
    assert!(!first.is_empty());
    assert_eq!(first, second);
    assert!(more.len() > first.len() && more.starts_with(&first));
    ends_the_offender(&["--fuel", "100000000"], "spin", "fuel 100000000");
    // A guest that counts without a limit goes on.
    sandpool::set_executable(sandpool_bin());
    let counting = Sandbox::new().limits(Limits::default().fuel(1));
    let module = Module::builder().sandbox(counting).load_file(guest("hello")).unwrap();
    assert!(Run::builder(&module).start().unwrap().wait().unwrap().status.success());
}

#[test]
fn each_task_has_fuel_of_its_own() {
    sandpool::set_executable(sandpool_bin());
    let sandbox = Sandbox::new().limits(Limits::default().fuel(10_000));
    let module = Module::builder().sandbox(sandbox.clone()).load("tasks", TASKS.as_bytes()).unwrap();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let builder = Pool::builder(&module).processes(1).isolation(isolation);
        let pool = builder.sandbox(sandbox.clone()).build().unwrap();
        let submit = |task| pool.submit_record(task, Format::Bytes, b"").unwrap().result();
        for _ in 0..20 {
            submit("thousand").unwrap();
        }
        let error = submit("spin").unwrap_err();
        assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(Limit::Fuel(10_000))));
        submit("thousand").unwrap();
    }
    let error = Pool::builder(&tasks()).sandbox(sandbox).build().unwrap_err();
    assert!(error.hint().unwrap().contains("limits fuel"), "{error}");
}
