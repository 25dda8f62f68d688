use sandpool_guest::{Error, Manager, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let manager = Manager::start()?;
    let totals = manager.dict::<String, i64>()?;
    let names = manager.list::<String>()?;
    let processes = ["ada", "bob", "ada"].map(|name| {
        let (totals, names) = (&totals, &names);
        Process::fork(move || {
            totals.update(name, 0, |total| *total += 1)?;
            names.append(&name.to_owned())
        })
    });
    for process in processes {
        process?.join()?;
    }
    println!("{} {} {}", totals.get("ada")?.unwrap_or(0), totals.get("bob")?.unwrap_or(0), names.len()?);
    Ok(())
}
