use sandpool_guest::{Error, Process, active_children, current_process, parent_process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let process = Process::fork(|| -> Result<(), Error> {
        let parent = parent_process()?.expect("only the main process has no parent");
        println!("{} is a child of {}", current_process()?.name(), parent.name());
        Ok(())
    })?;
    process.join()?;
    println!("{} has {} children now", current_process()?.name(), active_children()?.len());
    Ok(())
}
