//! A shelf whose table grows.

use sandpool_abi::shelf::WORDS;

use super::{Model, SHORT, item, log, read};
use crate::ipc::shelf::{self, Change, Found};
use crate::ipc::tests::common::of;

models! {
    shelf_grows: a_shelf_that_grows(&[]);
    shelf_grows_with_a_death: a_shelf_that_grows(&[0, 1]);
}

/// Two places that need tables of different lengths.
const PLACES: [u64; 2] = [3, 600];

/// Two processes put a message each; then another process finds both.
fn a_shelf_that_grows(victims: &[u32]) {
    let mut model = Model::new();
    let shelf = model.share(shelf::create(&model.maker()).unwrap());
    let put = log();
    for (number, place) in (0..).zip(PLACES) {
        let put = put.clone();
        model.process(move |participant| {
            let bytes = item(number, 1, SHORT);
            let change = Change { place, content: Some((&bytes, &[])) };
            shelf::change(participant, of(participant, shelf), &[0; WORDS], &[change]).unwrap();
            put.lock().unwrap().push(number);
        });
    }
    model.process_after(&[0, 1], move |participant| {
        for (number, place) in (0..).zip(PLACES) {
            let mut bytes = [0; SHORT];
            let (found, _) = shelf::read(participant, of(participant, shelf), place, &mut bytes).unwrap();
            match found {
                Found::Copied(len) => assert_eq!(read(&bytes[..len]), (number, 1)),
                Found::Nothing => assert!(!put.lock().unwrap().contains(&number), "{number} is lost"),
                Found::Bytes(_) | Found::Message(_) => panic!("a message that nobody has put"),
            }
        }
    });
    model.run(victims);
}
