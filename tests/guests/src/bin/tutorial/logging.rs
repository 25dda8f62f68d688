use sandpool_guest::logging::Level;
use sandpool_guest::{Error, Process, get_logger, log_to_stderr};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let process = Process::fork(|| {
        log_to_stderr(Level::WARNING);
        get_logger().warning("low on fuel");
        get_logger().info("not shown");
    })?;
    process.join()?;
    Ok(())
}
