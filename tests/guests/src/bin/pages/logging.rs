#[sandpool_guest::main]
fn main() -> Result<(), sandpool_guest::Error> {
    use sandpool_guest::logging::Level;
    use sandpool_guest::{Process, log, log_to_stderr};

    log_to_stderr(Level::INFO);
    Process::builder().name("counter").fork(|| {
        log!(Level::WARNING, "counted to {}", 7);
    })?;
    Ok(())
}
