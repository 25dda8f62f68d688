use sandpool_guest::shared::ListItem;
use sandpool_guest::{Error, Process, SharedMemoryManager};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let manager = SharedMemoryManager::new()?;
    let items = manager.shareable_list(["howdy".into(), ListItem::Int(42), ListItem::None])?;
    let process = Process::fork(|| items.set(1, 43))?;
    process.join()?;
    if let (ListItem::Str(text), ListItem::Int(number)) = (items.get(0)?, items.get(1)?) {
        println!("{text} {number}");
    }
    manager.shutdown()
}
