//! Records in, results out.

use std::fs;
use std::io::Write as _;

use crate::support::{Run, finish, guest, repository};

use super::{Bench, Gate, RECORDS_FAILED, STOPPED, map, map_of, numbers, output, raw, with_input};

#[test]
fn lines_of_text_of_json_and_raw_records() {
    assert_eq!(output(&mut map("upper"), b""), "");
    assert_eq!(output(&mut map("upper"), "a\n\nb\r\nstraße".as_bytes()), "A\n\nB\nSTRASSE\n");
    assert_eq!(output(&mut map("identity"), b"1\n 2 \n3\n"), "1\n2\n3\n");
    assert_eq!(output(&mut map("repeat"), b"[\"ab\",3,null]\n"), "ababab\n");
    let scores = output(
        map("score").args(["--format", "jsonl"]),
        b"{\"text\": \"so good!\", \"stars\": 4}\n{\"stars\":1,\"text\":\"\"}",
    );
    assert_eq!(scores, "{\"mood\":5,\"words\":{\"good!\":1,\"so\":1}}\n{\"mood\":1,\"words\":{}}\n");
    for task in ["bytes.reverse", "reverse_bytes"] {
        let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let reversed: Vec<u8> = large.iter().rev().copied().collect();
        let input = Bench::new("");
        fs::write(input.path("in"), raw(&[b"ab\n", b"", &large])).unwrap();
        finish(&mut input.map(task, &["--format", "raw"])).expect_code(0);
        assert_eq!(fs::read(input.path("out")).unwrap(), raw(&[b"\nba", b"", &reversed]));
    }
    let ended = with_input(map("reverse_bytes").args(["--format", "raw"]), &raw(&[b"abc"])[..6]);
    let ended = ended.expect_code(125);
    assert!(ended.stderr.contains("cannot read record 0: the input ends within the record"), "{ended}");
}

/// It takes part in the contract, and not in the SDK.
#[test]
fn a_task_without_an_sdk() {
    let module = repository().join("guest-sdk/abi/examples/upper.wat");
    assert_eq!(output(&mut map_of(&module, "upper"), b"Hello, {you}\n"), "HELLO, {YOU}\n");
    let long = "long ".repeat(100_000);
    assert_eq!(output(&mut map_of(&module, "upper"), long.as_bytes()), long.to_uppercase() + "\n");
    let ended = with_input(map_of(&module, "upper").args(["--format", "jsonl"]), b"1\n");
    assert!(ended.stderr.contains("does not know the format jsonl"), "{ended}");
    assert!(!ended.status.success());
}

#[test]
fn results_are_in_order_unless_they_need_not_be() {
    let delays = "30\n0\n20\n1\n10\n2\n0\n0\n5\n0\n";
    assert_eq!(output(&mut map("sleep"), delays.as_bytes()), delays);
    assert_eq!(output(map("sleep").arg("--ordered"), delays.as_bytes()), delays);
    let many = numbers(0..20_000);
    assert_eq!(output(&mut map("identity"), many.as_bytes()), many);

    // One waits until another has been done.
    let gate = Gate::new();
    let mut command = map("gate");
    let arguments = ["--unordered", "--workers", "2", "--dir", &gate.grant()];
    let (run, mut stdin) = Run::start_with_stdin(command.args(arguments));
    stdin.write_all(b"gate\nquick\nquick\n").unwrap();
    run.wait_for_line("quick");
    gate.has_begun();
    gate.opens();
    drop(stdin);
    run.finish().expect_code(0).expect_stdout(&["quick", "quick", "gate"]);
}

#[test]
fn results_do_not_wait_for_the_end_of_the_input() {
    let (run, mut stdin) = Run::start_with_stdin(&mut map("upper"));
    for line in ["one", "two", "three"] {
        writeln!(stdin, "{line}").unwrap();
        run.wait_for_line(&line.to_uppercase());
    }
    drop(stdin);
    run.finish().expect_code(0);
}

#[test]
fn tasks_have_what_they_were_granted_and_a_fresh_sandbox_if_they_are_to() {
    let calls = "\n".repeat(3);
    let worker = ["--workers", "1"];
    assert_eq!(output(map("read_set").args(worker), calls.as_bytes()), "[0,1]\n[0,2]\n[0,3]\n");
    let fresh = ["--isolation", "task"];
    assert_eq!(output(map("read_set").args(worker).args(fresh), calls.as_bytes()), "[0,1]\n[0,1]\n[0,1]\n");
    assert_eq!(output(map("variable").args(["--env", "A=1"]), b"A\nB\n"), "\"1\"\nnull\n");
    assert_eq!(output(&mut map("forked_sum"), b"[1,2,3]\n[]\n"), "6\n0\n");
    assert_eq!(output(&mut map("print"), b"text\n"), "text\n", "what tasks print is no result");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_record() {
    assert_eq!(output(&mut map("identity"), b"\xef\xbb\xbf5\n6\n"), "5\n6\n");
    assert_eq!(output(&mut map("length"), "\u{feff}abc\n\u{feff}\n".as_bytes()), "3\n3\n");
    assert_eq!(output(map("upper").args(["--format", "jsonl"]), b"\xef\xbb\xbf\"a\"\n"), "\"A\"\n");
    assert_eq!(output(&mut map("upper"), "\u{feff}".as_bytes()), "");
}

#[test]
fn empty_lines_of_json_are_passed_over_and_keep_their_number() {
    let jsonl = ["--format", "jsonl"];
    assert_eq!(output(map("identity").args(jsonl), b"\n1\n\n \t\r\n2\n\n"), "1\n2\n");
    assert_eq!(output(map("identity").args(jsonl), b"\n\n"), "");
    let bench = Bench::new("1\n\n2\nx\n\n3\n\n");
    let ended = finish(&mut bench.map("identity", &jsonl)).expect_code(STOPPED);
    assert!(ended.stderr.contains("error: record 3 failed: "), "{ended}");
    assert!(ended.stderr.contains("stopped before record 3; "), "{ended}");
    for order in ["--ordered", "--unordered"] {
        let arguments = ["--resume", "--on-error", "record", "--errors", "failed", order];
        let ended = finish(bench.map("identity", &jsonl).args(arguments)).expect_code(RECORDS_FAILED);
        assert!(order == "--unordered" || ended.stderr.starts_with("2 records in "), "{ended}");
        assert_eq!((bench.read("out"), bench.done()), ("1\n2\n3\n".to_owned(), Some(7)));
        assert!(bench.read("failed").starts_with("{\"index\":3,"), "{}", bench.read("failed"));
    }
    // As lines they are records, as ever.
    assert_eq!(output(&mut map("upper"), b"\na\n\n"), "\nA\n\n");
}

#[test]
fn records_may_end_with_nul() {
    let nul = ["--format", "nul"];
    assert_eq!(output(map("upper").args(nul), b"a\nb\0c\0"), "A\nB\0C\0");
    assert_eq!(output(map("identity").args(nul), b"1\x00 2 \x003"), "1\x002\x003\x00");
    let ended = with_input(map("reverse_bytes").arg("--on-error").arg("record"), b"a\0b\n").expect_code(0);
    assert_eq!(ended.stdout, "b\0a\n", "a NUL is no end of a line");
    let arguments = ["--on-error", "record"];
    let ended = with_input(map("json_text").args(nul).args(arguments), b"\"a\\u0000\"\0\"b\"\0");
    let ended = ended.expect_code(RECORDS_FAILED);
    assert!(ended.stderr.contains("the output has a NUL byte"), "{ended}");
    assert_eq!(ended.stdout, "b\0");
    let ended = with_input(map("json_text").args(arguments), b"\"a\\nb\"\n\"b\"\n");
    let ended = ended.expect_code(RECORDS_FAILED);
    assert!(ended.stderr.contains("the output has a line break, which ends a record"), "{ended}");
    assert_eq!(ended.stdout, "b\n");
}

/// Numbers are what they were, or the record fails.
#[test]
fn numbers_go_through_json_unchanged_or_not_at_all() {
    let ends = |task: &str, format: &str, input: &str| {
        let arguments = ["--format", format, "--on-error", "record"];
        let ended = with_input(map_of(guest("identity"), task).args(arguments), input.as_bytes());
        (ended.status.code(), ended.stdout, ended.stderr)
    };
    for (task, same) in [
        ("integer", "0\n18446744073709551615\n"),
        (
            "float",
            "0.1\n0.30000000000000004\n2.2250738585072014e-308\n5e-324\n-0.0\n1.7976931348623157e+308\n",
        ),
        ("json", "18446744073709551615\n-9223372036854775808\n{\"a\":[9007199254740993,0.1,null]}\n"),
        ("text", "\"18446744073709551616\"\n"),
    ] {
        let (code, stdout, stderr) = ends(task, "jsonl", same);
        assert_eq!((code, stdout.as_str()), (Some(0), same), "{task}: {stderr}");
    }
    for (task, lost) in [
        ("json", "18446744073709551616"),
        ("json", "{\"a\":[1,-9223372036854775809]}"),
        ("integer", "18446744073709551616"),
        ("float", "18446744073709551617"),
        ("float", "9007199254740993"),
        ("float", "1e400"),
    ] {
        let (code, stdout, stderr) = ends(task, "jsonl", &format!("{lost}\n"));
        assert_eq!((code, stdout.as_str()), (Some(RECORDS_FAILED), ""), "{task} of {lost}: {stderr}");
        assert!(stderr.contains("\"cause\":\"refused\""), "{stderr}");
    }
    assert_eq!(ends("text", "lines", "18446744073709551616\n").1, "18446744073709551616\n");
    for format in ["jsonl", "lines"] {
        for name in ["NaN", "inf", "-inf"] {
            let input = if format == "jsonl" { format!("\"{name}\"\n") } else { format!("{name}\n") };
            let (code, stdout, stderr) = ends("named", format, &input);
            assert_eq!((code, stdout.as_str()), (Some(RECORDS_FAILED), ""), "{name}: {stderr}");
            assert!(stderr.contains(&format!("JSON has no number {name}")), "{stderr}");
        }
    }
    assert_eq!(ends("named", "lines", "1.5\nnone\n").1, "[1,1.5]\n[1,null]\n");
}
