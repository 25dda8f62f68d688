//! The promises of a `ShareableList`.

use sandpool_guest::shared::ListItem;
use sandpool_guest::{Error, Process, Queue, ShareableList, SharedMemory};
use sandpool_test_guests::{Outcome, check, ended_well, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    let items: [ListItem; 8] = [
        "howdy".into(),
        b"HoWdY"[..].into(),
        (-273.154).into(),
        100.into(),
        ListItem::None,
        true.into(),
        false.into(),
        i64::MIN.into(),
    ];
    let list = ShareableList::new(items.clone())?;
    same("its length", (list.len(), list.is_empty()), (8, false))?;
    same("items come back", list.iter().collect::<Result<Vec<_>, _>>()?, items.to_vec())?;
    same("by index", (list.get(0)?, list.get(7)?), ("howdy".into(), i64::MIN.into()))?;
    check("beyond the end", matches!(list.get(8), Err(Error::OutOfBounds)))?;
    check("set beyond it", matches!(list.set(usize::MAX, 1), Err(Error::OutOfBounds)))?;
    same("its format", list.format()?, "8s8sdqxxxxxx?xxxxxxxx?xxxxxxx?q".to_owned())?;
    same("count", (list.count(&true.into())?, list.count(&"none".into())?), (1, 0))?;
    same("index", (list.index(&100.into())?, list.index(&101.into())?), (Some(3), None))?;
    same(
        "shown",
        ShareableList::new([ListItem::None, 1.into(), "x".into()])?.to_string(),
        "[None, 1, \"x\"]".to_owned(),
    )?;

    list.set(3, 42)?;
    list.set(0, "12345678")?;
    list.set(2, ListItem::None)?;
    list.set(4, "eight ch")?;
    same("other types", (list.get(2)?, list.get(4)?), (ListItem::None, "eight ch".into()))?;
    same("as long as there is room", (list.get(0)?, list.get(3)?), ("12345678".into(), 42.into()))?;
    check("too long", matches!(list.set(0, "123456789"), Err(Error::NoRoom)))?;
    check("too long for a number's room", matches!(list.set(3, vec![0; 9]), Err(Error::NoRoom)))?;
    same("nothing was changed", (list.get(0)?, list.get(3)?), ("12345678".into(), 42.into()))?;
    list.set(0, "")?;
    list.set(0, "12345678")?;
    println!("ok: the room stays");

    let texts = ["", "\0", "a\0\0", "wörker", "日本語テキスト", "\u{10ffff}", "ends in two bytes: é"];
    let list = ShareableList::new(texts)?;
    let found = list.iter().collect::<Result<Vec<_>, _>>()?;
    same("zeroes and long characters stay", found, texts.map(ListItem::from).to_vec())?;
    let bytes = [vec![], vec![0], vec![1, 0, 0], vec![0; 16], vec![255; 7]];
    let list = ShareableList::new(bytes.clone())?;
    let found = list.iter().collect::<Result<Vec<_>, _>>()?;
    same("also of bytes", found, bytes.map(ListItem::from).to_vec())?;

    let empty = ShareableList::new([ListItem::None; 0])?;
    same("an empty list", (empty.len(), empty.is_empty(), empty.format()?), (0, true, String::new()))?;
    check("has no items", matches!(empty.get(0), Err(Error::OutOfBounds)))?;
    same("attached to", ShareableList::attach(empty.name())?.len(), 0)?;
    names()?;
    processes()
}

fn names() -> Outcome {
    let list = ShareableList::new_named("list", [1, 2, 3])?;
    same("a given name", list.name(), "list")?;
    check("is taken", matches!(ShareableList::new_named("list", [1]), Err(Error::NameTaken)))?;
    let same_list = ShareableList::attach("list")?;
    same_list.set(1, -2)?;
    same("the same list", list.get(1)?, (-2).into())?;
    check("equal", list == same_list)?;
    same("its memory", list.shm().name(), "list")?;
    list.unlink()?;
    check("unlinked", matches!(ShareableList::attach("list"), Err(Error::NotFound)))?;
    same("who has it keeps it", same_list.get(1)?, (-2).into())?;
    let memory = SharedMemory::create_named("no list", 8)?;
    check("what isn't a list", matches!(ShareableList::attach("no list"), Err(Error::Decode(_))))?;
    memory.unlink()?;
    let memory = SharedMemory::create_named("long list", 100)?;
    memory.write_from(0, b"sp-list1")?;
    memory.write_from(8, &u64::MAX.to_le_bytes())?;
    check("what isn't all there", matches!(ShareableList::attach("long list"), Err(Error::Decode(_))))?;
    memory.write_from(8, &1_u64.to_le_bytes())?;
    memory.write_from(16, &[255; 32])?;
    let list = ShareableList::attach("long list")?;
    check("an item that isn't", matches!(list.get(0), Err(Error::Decode(_))))?;
    Ok(memory.unlink()?)
}

fn double(list: ShareableList) -> Outcome {
    for index in 0..list.len() {
        if let ListItem::Int(number) = list.get(index)? {
            list.set(index, number * 2)?;
        }
    }
    Ok(())
}

fn processes() -> Outcome {
    let list = ShareableList::new([ListItem::from(1), "x".into(), 3.into()])?;
    ended_well(&Process::fork(|| double(list.clone()))?)?;
    ended_well(&Process::spawn(double, list.clone())?)?;
    let found = list.iter().collect::<Result<Vec<_>, _>>()?;
    same("other processes change it", found, vec![4.into(), "x".into(), 12.into()])?;
    let letters = Queue::<ShareableList>::new()?;
    letters.put(&list)?;
    list.unlink()?;
    drop(list);
    same("in a message", letters.get()?.get(2)?, 12.into())
}
