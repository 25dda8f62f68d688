//! Pools begin, end and are used by many threads.

use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::pool::{Failure, PoolEnd};
use sandpool::{Error, Limits, Sandbox};

use crate::procfs;

use super::{kill, limits, module, pool, tasks};

#[test]
fn a_pool_says_how_it_has_ended() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    assert_eq!(pool.ended(), None);
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.ended(), Some(PoolEnd::Closed));
    let pool = self::pool(&module).build().unwrap();
    procfs::kill(pool.supervisor_pid(), Signal::SIGKILL, |_| true);
    let lost = PoolEnd::SupervisorLost("killed by signal 9".to_owned());
    assert!(procfs::eventually(|| pool.ended() == Some(lost.clone())));
}

#[test]
fn a_pool_can_be_used_by_many_threads_at_once() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pool = &pool;
            scope.spawn(move || {
                let inputs = (0..2000).map(|n| n * 8 + thread);
                assert!(pool.map::<u64, u64>("identity", inputs.clone()).unwrap().into_iter().eq(inputs));
                for n in 0..50 {
                    assert_eq!(pool.apply::<u64, u64>("identity", &n).unwrap(), n);
                }
            });
        }
    });
    assert_eq!(pool.stats().succeeded, 8 * 2050);
}

#[test]
fn settings_of_pools_that_make_no_sense_are_errors() {
    let module = tasks();
    assert!(matches!(pool(&module).processes(0).build(), Err(Error::Invalid { .. })));
    let few = limits(Limits::default().processes_max(2));
    assert!(matches!(pool(&module).sandbox(few).build(), Err(Error::Invalid { .. })));
    assert!(matches!(pool(&module).task_timeout(Duration::ZERO).build(), Err(Error::Invalid { .. })));
    let unnamed = Sandbox::new().env("A=B", "");
    assert!(matches!(pool(&module).sandbox(unnamed).build(), Err(Error::Invalid { .. })));
    let running = pool(&module).build().unwrap();
    assert!(
        matches!(running.join(), Err(Error::Invalid { what, .. }) if what == "the pool is still running")
    );
    // A worker that can't even be made ready.
    let error = pool(&module).sandbox(limits(Limits::default().memory_max(1))).build().unwrap_err();
    assert!(matches!(&error, Error::Pool(PoolEnd::Worker(_))), "{error:?}");
}

#[test]
fn a_pool_that_is_dropped_or_loses_its_supervisor_is_gone() {
    let module = tasks();
    let dropped = pool(&module).build().unwrap();
    let spinning = dropped.submit::<u64, ()>("spin", &0).unwrap();
    let supervisor = dropped.supervisor_pid();
    let workers = procfs::children(supervisor);
    drop(dropped);
    assert_eq!(spinning.result().unwrap_err().cause, Failure::PoolEnded(PoolEnd::Terminated));
    assert!(workers.into_iter().chain([supervisor]).all(|pid| procfs::parent(pid).is_none()));

    let lost = pool(&module).build().unwrap();
    let spinning = lost.submit::<u64, ()>("spin", &0).unwrap();
    let workers = procfs::children(lost.supervisor_pid());
    assert!(kill(lost.supervisor_pid()));
    let end = PoolEnd::SupervisorLost("killed by signal 9".to_owned());
    assert_eq!(spinning.result().unwrap_err().cause, Failure::PoolEnded(end.clone()));
    assert!(matches!(lost.join(), Err(Error::Pool(PoolEnd::SupervisorLost(_)))));
    let error = lost.apply::<u64, u64>("identity", &1).unwrap_err();
    assert_eq!(error.cause, Failure::PoolEnded(end));
    assert!(procfs::eventually(|| workers.iter().all(|pid| procfs::parent(*pid).is_none())));
}
