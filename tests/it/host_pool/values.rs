//! Inputs and outputs of tasks.

use std::collections::BTreeSet;

use sandpool::limits::Limit;
use sandpool::pool::{Failure, Format, Isolation, Output, TaskError};

use super::{bytes, module, pool, records, tasks};

#[test]
fn tasks_give_what_they_are_asked_for_in_order() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    assert_eq!(bytes(&pool, "echo", b"hello").unwrap(), b"hello");
    assert_eq!(bytes(&pool, "echo", b"").unwrap(), b"");
    let large = vec![7; 200_000];
    assert_eq!(bytes(&pool, "echo", &large).unwrap(), large);
    let inputs = (0..10_000_u32).map(u32::to_le_bytes);
    for ordered in [true, false] {
        let results: Vec<_> = records(&pool, "echo", inputs.clone(), ordered)
            .map(|(number, result)| (number, result.unwrap().value))
            .collect();
        if ordered {
            assert!(results.iter().map(|(number, _)| *number).eq(0..10_000));
        }
        assert_eq!(results.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>().len(), 10_000);
        assert!(results.iter().all(|(number, value)| *value == (*number as u32).to_le_bytes()));
    }
}

#[test]
fn an_output_is_as_large_as_it_may_be() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).processes(1).output_max(100_000).build().unwrap();
        for task in ["long", "long_and_says_so"] {
            let too_large = Failure::OutputTooLarge(Limit::Output(100_000));
            assert_eq!(bytes(&pool, task, b"").unwrap_err(), too_large, "{task}");
            let refused = Failure::Refused("no such luck".into());
            assert_eq!(bytes(&pool, "refuse", b"").unwrap_err(), refused, "after {task}");
        }
        assert_eq!(bytes(&pool, "long_then_short", b"").unwrap(), b"no such luck");
        assert_eq!(bytes(&pool, "echo", b"").unwrap(), b"", "what one has tried is nothing to the next");
    }
}

#[test]
fn what_a_task_prints_comes_with_its_result_if_it_is_to() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).output(Output::Capture).build().unwrap();
        let completed = pool.submit_record("print", Format::Bytes, b"").unwrap().completed().unwrap();
        assert_eq!((&*completed.stdout, &*completed.stderr), (&b"no such luck"[..], &b"no such luck"[..]));
        let discard = self::pool(&module).isolation(isolation).build().unwrap();
        let completed = discard.submit_record("print", Format::Bytes, b"").unwrap().completed().unwrap();
        assert_eq!((&*completed.stdout, &*completed.stderr), (&b""[..], &b""[..]));
        let error = discard.submit_record("print", Format::Bytes, b"x").unwrap().result().unwrap_err();
        assert_eq!(error.stderr, "no such luck", "of a failure, the end is kept");
    }
}

#[test]
fn values_of_all_types_go_in_and_come_out() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    assert_eq!(pool.apply::<u64, u64>("identity", &(1 << 60)).unwrap(), 1 << 60);
    assert_eq!(pool.apply::<_, String>("upper", "straße").unwrap(), "STRASSE");
    let repeated = pool.apply::<_, String>("repeat", &("ab", 3_usize, None::<(char, u8)>)).unwrap();
    assert_eq!(repeated, "ababab", "several arguments are a tuple");
    pool.apply::<(), ()>("nothing", &()).unwrap();
    assert_eq!(pool.map::<i64, i64>("even", (0..1000).map(|n| n * 2)).unwrap().len(), 1000);
    let error = pool.map::<i64, i64>("even", [2, 3, 4, 5]).unwrap_err();
    assert_eq!(error.cause, Failure::Failed("3 is odd".into()), "the first of them");
    assert_eq!(error.to_string(), "task even failed: 3 is odd");
    let results: Vec<_> = pool.imap::<i64, i64>("even", [2, 3, 4]).map(|result| result.ok()).collect();
    assert_eq!(results, [Some(2), None, Some(4)], "each in its place");
    let mut numbers: Vec<_> =
        pool.imap_unordered::<u64, u64>("identity", 0..5000).map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..5000));
    let as_text =
        |format, input: &[u8]| pool.submit_record("score", format, input).unwrap().result().unwrap();
    assert_eq!(
        as_text(Format::Json, br#"{"text": "good!", "stars": 4}"#),
        br#"{"mood":5,"words":{"good!":1}}"#
    );
}

#[test]
fn what_does_not_fit_the_type_is_an_error() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let cause = |result: Result<u64, TaskError>| result.unwrap_err().cause;
    assert!(matches!(cause(pool.apply("identity", "no number at all")), Failure::Refused(_)));
    assert!(matches!(cause(pool.apply("upper", "text")), Failure::Decode(_)));
    assert_eq!(cause(pool.apply("idenity", &1_u64)), Failure::NoTask(Some("identity".to_owned())));
    let error = pool.apply::<u64, u64>("idenity", &1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "task idenity failed: the module has no such task; the nearest name is identity"
    );
    let results: Vec<_> = pool.imap::<u64, u64>("idenity", [1, 2]).collect();
    assert_eq!(results.len(), 2);
    assert!(results.into_iter().all(|result| matches!(result.unwrap_err().cause, Failure::NoTask(_))));
    assert!(matches!(cause(pool.apply("queue", &())), Failure::Refused(_)), "a handle can't be an output");
    assert_eq!(pool.apply::<u64, u64>("identity", &5).unwrap(), 5);
}

/// Bytes that a task hands over as they are.
struct Raw(Vec<u8>);

impl serde::Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple as _;
        let mut bytes = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        bytes.end()
    }
}

/// A type that contains itself.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Tree(Vec<Tree>);

#[test]
fn an_output_that_is_made_to_harm_is_an_error_of_its_task() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    // It gives what it is told to.
    let deep = Raw(vec![1; 200_000]);
    let endless = Raw(u64::MAX.to_le_bytes().to_vec());
    let refusals = [
        pool.apply::<_, Tree>("echo", &deep).unwrap_err(),
        pool.imap::<_, Tree>("echo", [&deep]).next().unwrap().unwrap_err(),
        pool.submit::<_, Vec<()>>("echo", &endless).unwrap().result().unwrap_err(),
        pool.map::<_, Vec<()>>("echo", [&endless]).unwrap_err(),
    ];
    let too_deep = "its values lie within each other more than 256 deep";
    let too_many = "more than 1048576 of its elements take no bytes";
    for (refusal, why) in refusals.into_iter().zip([too_deep, too_deep, too_many, too_many]) {
        assert_eq!(refusal.cause, Failure::Decode(why.into()));
    }
    let tree = Tree(vec![Tree(Vec::new()), Tree(vec![Tree(Vec::new())])]);
    assert_eq!(pool.apply::<_, Tree>("echo", &tree).unwrap(), tree);
}
