//! `sandpool bench`: what it prints and how it ends; how fast anything is, is no matter here.

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Run, finish, guest, sandpool};

/// Those that others read: the command and its users agree on them.
const KEYS: [&str; 22] = [
    "run_start_ms",
    "process_start_join_us",
    "process_start_join_64MiB_us",
    "process_spawn_join_us",
    "pool_map_chunk1_us_per_task",
    "pool_map_auto_us_per_task",
    "pool_imap_unordered_us_per_task",
    "pool_apply_rtt_us",
    "executor_submit_us_per_task",
    "host_pool_map_us_per_task",
    "host_pool_fresh_us_per_task",
    "command_per_record_us",
    "queue_small_us_per_msg",
    "queue_1MiB_GBps",
    "pipe_rtt_us",
    "lock_uncontended_ns",
    "lock_contended2_ns",
    "value_inc_contended2_ns",
    "manager_dict_set_us",
    "shared_array_GBps",
    "compute_vs_native",
    "idle_process_private_kib",
];

fn bench(arguments: &[&str]) -> std::process::Command {
    let mut command = sandpool();
    command.args(["bench", "--quick", "--guests"]).arg(guest("bench")).args(arguments);
    command
}

/// Names and numbers of a flat object.
fn flat(json: &str) -> Vec<(&str, f64)> {
    let inner = json.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap();
    inner
        .split(',')
        .map(|pair| {
            let (name, number) = pair.split_once(':').unwrap();
            let name = name.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            (name, number.trim().parse().unwrap())
        })
        .collect()
}

#[test]
fn every_figure_is_there_and_is_a_number() {
    let ended = finish(&mut bench(&["--rounds", "1", "--json"])).expect_code(0);
    let figures = flat(&ended.stdout);
    assert_eq!(figures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), KEYS);
    assert!(figures.iter().all(|(_, figure)| *figure > 0.0), "{ended}");
}

#[test]
fn filters_choose() {
    let ended = finish(&mut bench(&["--rounds", "1", "--json", "--filter", "lock"])).expect_code(0);
    let names: Vec<_> = flat(&ended.stdout).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["lock_uncontended_ns", "lock_contended2_ns"]);

    let ended = finish(&mut bench(&["--filter", "pipe_rtt_us"])).expect_code(0);
    let rows: Vec<_> = ended.stdout.lines().filter(|line| line.contains("_us")).collect();
    assert!(
        matches!(rows.as_slice(), [row] if row.starts_with("pipe_rtt_us ") && row.contains("≤ 5")),
        "{ended}"
    );

    let ended = finish(&mut bench(&["--markdown", "--filter", "pipe"])).expect_code(0);
    assert!(ended.stdout.contains("\n| `pipe_rtt_us` | "), "{ended}");
}

#[test]
fn the_list_has_all_figures() {
    let ended = finish(sandpool().args(["bench", "--list"])).expect_code(0);
    let names: Vec<_> = ended.stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, KEYS);
}

#[test]
fn growth_is_a_table_and_a_chart() {
    let folder = tempfile::tempdir().unwrap();
    let chart = folder.path().join("growth.svg");
    let mut command = bench(&["--rounds", "1", "--scaling", "--json", "--filter", "producers"]);
    let ended = finish(command.arg("--svg").arg(&chart)).expect_code(0);
    let figures = flat(&ended.stdout);
    let names = [1, 2, 4, 8, 16].map(|producers| format!("producers_queue_us_per_msg_{producers}"));
    assert_eq!(figures.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    assert!(figures.iter().all(|(_, figure)| *figure > 0.0), "{ended}");
    let drawn = std::fs::read_to_string(chart).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.ends_with("</svg>\n"), "{drawn}");
    assert_eq!(drawn.matches("<circle ").count(), names.len());

    let ended = finish(&mut bench(&["--rounds", "1", "--scaling", "--filter", "idle"])).expect_code(0);
    assert!(ended.stdout.contains("\nidle_private_kib_per_process: memory"), "{ended}");

    let list = finish(sandpool().args(["bench", "--scaling", "--list"])).expect_code(0);
    assert!(list.stdout.starts_with("processes_start_join_us "), "{list}");
}

#[test]
fn mistakes_are_explained() {
    let ended = finish(&mut bench(&["--filter", "qeue_small"])).expect_code(2);
    assert!(
        ended.stderr.starts_with("error: nothing that is measured has qeue_small in its name\n"),
        "{ended}"
    );
    assert!(ended.stderr.contains("the nearest is queue_small_us_per_msg"), "{ended}");

    let elsewhere = tempfile::tempdir().unwrap();
    let ended = finish(sandpool().arg("bench").current_dir(&elsewhere)).expect_code(2);
    assert!(ended.stderr.contains("is in no checkout of Sandpool"), "{ended}");
    assert!(ended.stderr.contains("hint: change to a checkout"), "{ended}");
}

#[test]
fn an_interrupt_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = bench(&["--rounds", "1000", "--filter", "process_start_join_us"]);
    let run = Run::start(command.env("TMPDIR", temporary.path()));
    assert!(procfs::eventually(|| {
        let children = procfs::children(run.embedder());
        children.first().is_some_and(|supervisor| !procfs::children(*supervisor).is_empty())
    }));
    procfs::kill(run.embedder(), Signal::SIGINT, |_| true);
    let ended = run.finish().expect_signal(Signal::SIGINT);
    assert_eq!(ended.stderr, "interrupted\n");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}
