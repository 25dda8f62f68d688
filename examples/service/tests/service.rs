//! The service, as its clients see it, and the processes that it has.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../testing.rs"]
mod testing;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testing::{DEADLINE, eventually, finish, guest};
use ureq::Agent;

/// The service under test, which is killed when it is dropped.
struct Service {
    child: Option<Child>,
    address: String,
    agent: Agent,
}

impl Service {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_service"));
        // A process group of its own, as a shell gives it.
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening at ").unwrap().to_owned();
        // All processes that it has started have this stream as well.
        child.stdout = Some(stdout.into_inner());
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE));
        Self { child: Some(child), address, agent: config.build().into() }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Posts a request, and returns the status and the body of the answer.
    fn post(&self, path: &str, body: impl AsRef<[u8]>) -> (u16, String) {
        let mut response = self.agent.post(format!("{}{path}", self.address)).send(body.as_ref()).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn post_json(&self, path: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
        let (status, body) = self.post(path, body);
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status}: {body}")))
    }

    /// Uploads a module, and returns its id.
    fn upload(&self, module: impl AsRef<[u8]>) -> String {
        let (status, described) = self.post_json("/modules", module);
        assert_eq!(status, 201, "{described}");
        described["id"].as_str().unwrap().to_owned()
    }

    fn upload_guest(&self, name: &str) -> String {
        self.upload(fs::read(guest(name)).unwrap())
    }

    fn run(&self, id: &str, task: &str, input: &Value) -> (u16, Value) {
        self.post_json(&format!("/modules/{id}/tasks/{task}"), input.to_string())
    }

    /// The service's child processes that are alive: the supervisors.
    fn supervisors(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Waits for the end of the service, and that of all processes that it has started.
    fn finish(mut self) -> Output {
        finish(self.child.take().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// A process's children that are alive.
fn children(of: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, in parentheses, come the state and the parent.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields.len() > 1 && fields[0] != "Z" && fields[1] == of.to_string()
    };
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(is_child).collect()
}

fn kill(pid: u32, signal: Signal) {
    signal::kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A module in text form with one task, `give`, which outputs the given JSON.
fn giver(json: &str) -> String {
    format!(
        r#"(module
            (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 8) "{}")
            (func (export "sandpool_task_give") (param i32 i32) (result i32)
                (call $output (i32.const 8) (i32.const {}))))"#,
        json.replace('"', "\\22").replace('\n', "\\0a"),
        json.len()
    )
}

#[test]
fn a_module_is_uploaded_and_runs() {
    let service = Service::start();
    let module = fs::read(guest("service")).unwrap();
    let (status, described) = service.post_json("/modules", &module);
    assert_eq!(status, 201);
    let id = described["id"].as_str().unwrap();
    assert_eq!(
        described["tasks"][0],
        json!({
            "name": "invoice",
            "signature": "invoice(Order) -> Result<Invoice, String>",
            "docs": "The price of an order, in cents. An order of nothing is an error.",
        })
    );
    assert_eq!(service.post_json("/modules", &module), (201, described.clone()), "again, it is the same");

    let order =
        json!({"customer": "Ada", "lines": [{"quantity": 3, "price": 250}, {"quantity": 1, "price": 99}]});
    let invoice = json!({"customer": "Ada", "net": 849, "tax": 169, "total": 1018});
    assert_eq!(service.run(id, "invoice", &order), (200, invoice));
    assert_eq!(service.run(id, "slug", &json!("Tea, green (100 g)")), (200, json!("tea-green-100-g")));

    let url = format!("{}/modules/{id}", service.address);
    let mut response = service.agent.get(&url).call().unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), described);
    assert_eq!(service.agent.delete(&url).call().unwrap().status(), 204);
    assert_eq!(service.agent.get(&url).call().unwrap().status(), 404);
    assert_eq!(service.run(id, "invoice", &order).0, 404);
    assert!(eventually(|| service.supervisors().is_empty()), "its pool is closed");
}

#[test]
fn a_task_that_fails_says_why_and_no_other_does() {
    let service = Service::start();
    let shop = service.upload_guest("service");
    let (status, failure) = service.run(&shop, "invoice", &json!({"customer": "Ada", "lines": []}));
    assert_eq!((status, failure), (422, json!({"kind": "error", "error": "Ada has ordered nothing"})));
    let (status, failure) = service.run(&shop, "invoice", &json!(7));
    assert_eq!((status, &failure["kind"]), (422, &json!("refused")));
    let (status, failure) = service.post_json(&format!("/modules/{shop}/tasks/invoice"), "no JSON");
    assert_eq!((status, &failure["kind"]), (422, &json!("refused")));

    let tasks = service.upload_guest("tasks");
    for (task, input, status, kind, message) in [
        ("trap", json!(1), 422, "trap", "unreachable"),
        ("panic", json!("oh no"), 422, "exit", "exited: 1"),
        ("exit", json!(3), 422, "exit", "exited: 3"),
        ("spin", json!(1), 504, "timeout", "it took longer than 1s"),
        ("produce", json!(2 << 20), 422, "output-too-large", "too large"),
        ("fail", json!("no luck"), 422, "error", "no luck"),
        ("read_file", json!("/etc/passwd"), 422, "error", ""),
    ] {
        let (found, failure) = service.run(&tasks, task, &input);
        assert_eq!((found, &failure["kind"]), (status, &json!(kind)), "{task}: {failure}");
        assert!(failure["error"].as_str().unwrap().contains(message), "{task}: {failure}");
        assert_eq!(service.run(&tasks, "identity", &json!(7)), (200, json!(7)), "after {task}");
    }
    let (_, failure) = service.run(&tasks, "panic", &json!("oh no"));
    assert!(failure["stderr"].as_str().unwrap().contains("oh no"), "{failure}");
    let (status, failure) = service.run(&tasks, "exhaust", &json!(null));
    assert_eq!(status, 422, "{failure}");
    let liar = service.upload(giver("{oh"));
    let (status, failure) = service.run(&liar, "give", &json!(null));
    assert_eq!((status, &failure["kind"]), (422, &json!("no-json")));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let service = Service::start();
    let memory = r#"(memory (export "memory") 1)"#;
    let task = r#"(func (export "sandpool_task_x") (param i32 i32) (result i32) (i32.const 0))"#;
    for (module, error, hint) in [
        ("neither text nor binary".to_owned(), "is not a usable WebAssembly module", ""),
        (format!("(module (import \"sandpool_task\" \"outpu\" (func)) {memory} {task})"), "outpu", "output"),
        (format!("(module {memory} (func (export \"_start\")))"), "no tasks", "#[sandpool_guest::task]"),
    ] {
        let (status, refusal) = service.post_json("/modules", &module);
        assert_eq!((status, &refusal["kind"]), (400, &json!("module")), "{refusal}");
        assert!(refusal["error"].as_str().unwrap().contains(error), "{refusal}");
        assert!(refusal["hint"].as_str().unwrap_or_default().contains(hint), "{refusal}");
    }
    let (status, refusal) = service.post_json("/modules", vec![0; (16 << 20) + 1]);
    assert_eq!((status, &refusal["kind"]), (413, &json!("too-large")));

    let id = service.upload_guest("service");
    let (status, refusal) = service.run(&id, "invoic", &json!(1));
    assert_eq!((status, &refusal["kind"]), (404, &json!("no-task")));
    assert_eq!(refusal["hint"], "the nearest name is invoice");
    let (status, refusal) = service.run(&id, "slug", &json!("x".repeat((1 << 20) - 1)));
    assert_eq!((status, &refusal["kind"]), (413, &json!("too-large")));
    let (status, refusal) = service.run("0123456789abcdef", "slug", &json!("x"));
    assert_eq!((status, &refusal["kind"]), (404, &json!("no-module")));
    assert_eq!(service.post_json("/", "").0, 404);

    // A module that never comes to its task.
    let stuck = service.upload(format!("(module {memory} {task} (start $f) (func $f (loop $l (br $l))))"));
    let (status, refusal) = service.run(&stuck, "x", &json!(1));
    assert_eq!((status, &refusal["kind"]), (422, &json!("module")), "{refusal}");
    assert_eq!(service.run(&id, "slug", &json!("X y")), (200, json!("x-y")));
}

#[test]
fn a_batch_gives_a_line_for_each() {
    let service = Service::start();
    let id = service.upload_guest("tasks");
    let inputs: String = (0..2000).map(|n| format!("{n}\n")).collect();
    let (status, results) = service.post(&format!("/modules/{id}/tasks/even/batch"), inputs);
    assert_eq!((status, results.lines().count()), (200, 2000));
    for (n, line) in results.lines().enumerate() {
        let expected = match n % 2 {
            0 => json!({"output": n}),
            _ => json!({"failed": {"kind": "error", "error": format!("{n} is odd")}}),
        };
        assert_eq!(serde_json::from_str::<Value>(line).unwrap(), expected);
    }
    let spread = service.upload(giver("[1,\n 2]"));
    let (status, results) = service.post(&format!("/modules/{spread}/tasks/give/batch"), "1\n\n2");
    assert_eq!((status, &*results), (200, "{\"output\":[1,  2]}\n{\"output\":[1,  2]}\n"));
    assert_eq!(service.post("/modules/none/tasks/even/batch", "1\n").0, 404);
}

#[test]
fn many_clients_at_once_and_what_one_of_them_does_harms_no_other() {
    let service = Service::start();
    let (shop, tasks) = (service.upload_guest("service"), service.upload_guest("tasks"));
    thread::scope(|scope| {
        for client in 0..12 {
            let (service, shop, tasks) = (&service, &shop, &tasks);
            scope.spawn(move || {
                for n in 0..40 {
                    if client % 4 == 0 {
                        let (status, failure) = service.run(tasks, "trap", &json!(1));
                        assert_eq!((status, &failure["kind"]), (422, &json!("trap")), "{failure}");
                    } else {
                        let title = json!(format!("Article {client} {n}"));
                        let slug = json!(format!("article-{client}-{n}"));
                        assert_eq!(service.run(shop, "slug", &title), (200, slug));
                    }
                }
            });
        }
    });
    assert_eq!(service.supervisors().len(), 2);

    // If all of a module's processes are killed, its next task, or the one after, finds others.
    for supervisor in service.supervisors() {
        kill(supervisor, Signal::SIGKILL);
    }
    assert!(eventually(|| service.run(&shop, "slug", &json!("X y")) == (200, json!("x-y"))));
}

#[test]
fn pools_that_nobody_uses_make_room_for_others() {
    let service = Service::start();
    let ids: Vec<_> = (0..7).map(|n| service.upload(giver(&n.to_string()))).collect();
    for _ in 0..2 {
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(service.run(id, "give", &json!(null)), (200, json!(n)));
            assert!(service.supervisors().len() <= 4, "{:?}", service.supervisors());
        }
    }
    assert_eq!(service.supervisors().len(), 4);
}

/// Starts a service that works on a task that sleeps, and passes it on with the answer that is to come.
fn at_work<R>(then: impl FnOnce(Service, thread::JoinHandle<(u16, String)>) -> R) -> R {
    let service = Service::start();
    let id = service.upload_guest("tasks");
    let (agent, url) = (service.agent.clone(), format!("{}/modules/{id}/tasks/sleep", service.address));
    let answer = thread::spawn(move || match agent.post(url).send("600") {
        Ok(mut response) => (response.status().as_u16(), response.body_mut().read_to_string().unwrap()),
        Err(error) => (0, error.to_string()),
    });
    // Two workers, and the process of the task.
    assert!(eventually(|| service
        .supervisors()
        .first()
        .is_some_and(|supervisor| children(*supervisor).len() == 3)));
    then(service, answer)
}

#[test]
fn it_ends_when_it_is_told_to_with_what_is_under_way_done() {
    for (signal, group) in [(Signal::SIGTERM, false), (Signal::SIGINT, true)] {
        at_work(|service, answer| {
            let pid = Pid::from_raw(service.pid().cast_signed());
            // A terminal sends an interrupt to all processes of the group.
            if group { signal::killpg(pid, signal) } else { signal::kill(pid, signal) }.unwrap();
            assert_eq!(answer.join().unwrap(), (200, "600".to_owned()));
            let ended = service.finish();
            assert_eq!(ended.status.code(), Some(0), "{signal}");
        });
    }
}

#[test]
fn killed_it_leaves_nobody() {
    at_work(|service, answer| {
        kill(service.pid(), Signal::SIGKILL);
        let ended = service.finish();
        assert_eq!(ended.status.signal(), Some(Signal::SIGKILL as i32));
        assert_eq!(answer.join().unwrap().0, 0);
    });
}
