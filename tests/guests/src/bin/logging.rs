//! Lines of a logger, as the first argument says.

use sandpool_guest::logging::Level;
use sandpool_guest::pool::StartMethod;
use sandpool_guest::pool::futures::Executor;
use sandpool_guest::{Event, Pool, Process, current_process, get_logger, log, log_to_stderr, scoped_map};
use sandpool_test_guests::{Outcome, argument, check, ended, ended_well, hang, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    match argument(0, String::new()).as_str() {
        "off" => off(),
        "levels" => levels(),
        "processes" => processes(),
        "pools" => pools(),
        "inherited" => inherited(),
        "storm" => storm(),
        _ => handlers(),
    }
}

/// Nothing is logged unless it is asked for.
fn off() -> Outcome {
    same("no level", get_logger().level(), Level::NOTSET)?;
    get_logger().set_level(Level::SUBDEBUG);
    get_logger().critical("nobody is told");
    let evaluated = std::cell::Cell::new(false);
    log!(Level::CRITICAL, "{}", evaluated.replace(true));
    check("its arguments aren't looked at", !evaluated.get())?;
    let pool = Pool::builder().processes(1).build()?;
    pool.apply(|n: u64| log!(Level::CRITICAL, "{n}"), 1)?;
    Process::fork(|| get_logger().error("nobody is told"))?.join()?;
    check("nothing is enabled", !get_logger().is_enabled(Level(u8::MAX)))
}

fn levels() -> Outcome {
    let logger = log_to_stderr(None);
    let all = || {
        logger.sub_debug("sub_debug");
        logger.debug("debug");
        logger.info("info");
        logger.sub_warning("sub_warning");
        logger.warning("warning");
        logger.error("error");
        logger.critical(format_args!("critical {}", 1));
        logger.log(Level(15), "15");
        log!(Level::WARNING, "{}-{:>3}", "of a macro", 7);
    };
    all();
    for level in [Level::INFO, Level::SUBDEBUG, Level(51), Level::SUBWARNING] {
        logger.set_level(level);
        logger.log(Level(u8::MAX), format_args!("from {level} on"));
        all();
    }
    Ok(())
}

/// The beginning and end of processes, whose names may be anything.
fn processes() -> Outcome {
    log_to_stderr(Level::INFO);
    let child = |name: &str| Process::builder().name(name);
    ended_well(&child("well").fork(|| get_logger().info("hello"))?)?;
    child("code").fork(|| 300)?.join()?;
    child("error").fork(|| Err::<(), _>("no"))?.join()?;
    child("panics").fork(|| panic!("as it should"))?.join()?;
    child("exits").fork(|| std::process::exit(3))?.join()?;
    child("spawned").spawn(|n: u64| log!(Level::INFO, "{n}"), 7)?.join()?;
    child("\x1b[2J\n[INFO/MainProcess] forged\u{202e}").fork(|| ())?.join()?;
    ended_well(&child("parent").fork(|| -> Outcome {
        let never = Event::new()?;
        drop(child("daemon").daemon().fork(move || never.wait())?);
        Ok(())
    })?)?;
    let killed = child("killed").fork(hang)?;
    killed.kill()?;
    ended(&killed, sandpool_guest::ExitStatus::Signaled(sandpool_guest::Signal::KILL))
}

fn pools() -> Outcome {
    log_to_stderr(Level::DEBUG);
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).build()?;
        pool.apply(|n: u64| log!(Level::INFO, "task {n}"), 1)?;
        let _ = pool.apply(|_: u64| -> u64 { std::process::abort() }, 2);
        pool.apply(|n: u64| log!(Level::INFO, "task {n}"), 3)?;
        pool.close();
        pool.join()?;
    }
    let executor = Executor::build(Pool::builder().processes(1).retries(1))?;
    let _ = executor.submit(|_: u64| -> Result<u64, u64> { Err(7) }, 1)?.result();
    drop(executor);
    let late = Pool::builder().processes(1).task_timeout(std::time::Duration::from_millis(20)).build()?;
    let _ = late.apply(|_: u64| std::thread::sleep(std::time::Duration::from_secs(600)), 1);
    Ok(())
}

/// The level and the place go to all that is started, and what is changed later stays with who changed it.
fn inherited() -> Outcome {
    log_to_stderr(Level(17));
    let tell = |how: &str| {
        let name = current_process().map_or_else(|error| error.to_string(), |this| this.name().to_owned());
        get_logger().log(Level(17), format_args!("{how} in {name}"));
        get_logger().log(Level(16), "too little");
    };
    Process::fork(|| {
        tell("forked");
        log_to_stderr(Level(16));
        Process::builder()
            .name("of the child")
            .fork(|| get_logger().log(Level(16), "more of a child"))
            .map(drop)
    })?
    .join()?;
    fn spawned(_: u64) {
        get_logger().log(Level(17), "spawned");
        get_logger().log(Level(16), "too little");
        let _ = Process::spawn(|_: u64| get_logger().log(Level(17), "spawned by it"), 1)
            .map(|child| child.join());
    }
    Process::spawn(spawned, 1)?.join()?;
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).build()?;
        pool.apply(spawned_task, format!("{method:?}"))?;
    }
    scoped_map([()], |()| tell("scoped"))?;
    get_logger().set_level(Level(18));
    tell("no longer");
    Ok(())
}

fn spawned_task(how: String) {
    get_logger().log(Level(17), format_args!("a task of {how}"));
    get_logger().log(Level(16), "too little");
}

/// Long lines of many processes at once.
fn storm() -> Outcome {
    log_to_stderr(Level::WARNING);
    let go = Event::new()?;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            Process::builder().name(format!("writer-{writer}")).fork(|| -> Outcome {
                go.wait()?;
                for line in 0..500 {
                    get_logger().warning(format_args!("{line} {}", "x".repeat(100 + line % 7 * 300)));
                }
                Ok(())
            })
        })
        .collect::<Result<_, _>>()?;
    go.set()?;
    writers.iter().try_for_each(ended_well)
}

/// A function of the program's gets the lines instead, or as well.
fn handlers() -> Outcome {
    let logger = get_logger();
    logger.set_handler(Some(|record| {
        println!("ok: {} of {}: {}", record.level(), record.process_name(), record.message());
    }));
    logger.info("too little");
    logger.warning("a warning");
    logger.set_level(Level::INFO);
    Process::builder().name("forked").fork(|| get_logger().info("hello"))?.join()?;
    Process::builder().name("spawned").spawn(|_: u64| get_logger().error("nobody is told"), 1)?.join()?;
    log_to_stderr(None);
    logger.info("both");
    logger.set_handler(None);
    logger.info("stderr only");
    Ok(())
}
