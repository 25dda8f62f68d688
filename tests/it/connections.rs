//! Listeners and clients, against Python's `multiprocessing.connection`, other runs, and peers that do what they shouldn't.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::procfs::{self, Pid};
use crate::support::{Run, deadline, finish, guest, repository, sandpool};

/// `sandpool run` of the guest, with these grants and limits.
fn guest_with(grants: &[&str], arguments: &[&str]) -> Command {
    let mut command = sandpool();
    command.arg("run").args(grants).arg(guest("connections")).arg("--").args(arguments);
    command
}

/// A guest that listens at a port that the kernel chooses.
#[track_caller]
fn listening(mode: &str, rest: &[&str]) -> (Run, u16) {
    listening_with(&[], mode, rest)
}

#[track_caller]
fn listening_with(limits: &[&str], mode: &str, rest: &[&str]) -> (Run, u16) {
    let grants = [&["--listen", "tcp:127.0.0.1:*", "--connect", "tcp:127.0.0.1:*"], limits].concat();
    let run = Run::start(&mut guest_with(&grants, &[&[mode, "tcp:127.0.0.1:0"], rest].concat()));
    let port = port_of(&run);
    (run, port)
}

#[track_caller]
fn port_of(run: &Run) -> u16 {
    let found = || {
        let printed = run.printed();
        let (_, rest) = printed.split_once("listening tcp:127.0.0.1:")?;
        rest.split_once('\n')?.0.parse().ok()
    };
    assert!(procfs::eventually(|| found().is_some()), "it doesn't listen\n{}", run.printed());
    found().unwrap()
}

/// A peer that speaks the protocol byte by byte, and waits for no answer longer than any test may take.
fn peer(port: u16) -> TcpStream {
    let peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.set_read_timeout(Some(deadline())).unwrap();
    peer
}

fn write_frame(peer: &mut TcpStream, message: &[u8]) {
    peer.write_all(&(message.len() as u32).to_be_bytes()).unwrap();
    peer.write_all(message).unwrap();
}

fn read_frame(peer: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 4];
    peer.read_exact(&mut len).unwrap();
    let mut message = vec![0; u32::from_be_bytes(len) as usize];
    peer.read_exact(&mut message).unwrap();
    message
}

/// The gateway of a run.
fn gateway(run: &Run) -> Option<Pid> {
    procfs::children(run.embedder()).into_iter().find(|pid| procfs::name(*pid) == "sandpool-gatewa")
}

/// The versions of Python that this machine has: `python3`, others in the search path, and those that pyenv has installed.
fn pythons() -> Vec<PathBuf> {
    let in_path = (8..20).map(|minor| PathBuf::from(format!("python3.{minor}")));
    let pyenv = std::env::home_dir().map(|home| home.join(".pyenv/versions"));
    let installed = pyenv.and_then(|versions| fs::read_dir(versions).ok()).into_iter().flatten();
    let installed = installed.map(|version| version.unwrap().path().join("bin/python3"));
    let is_there = |python: &PathBuf| {
        let mut command = Command::new(python);
        command.args(["-c", ""]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    in_path.chain(installed).filter(is_there).chain([PathBuf::from("python3")]).collect()
}

/// Runs a program in Python, and returns what it prints.
#[track_caller]
fn python(program: &str, arguments: &[&str]) -> String {
    python_of(Path::new("python3"), program, arguments)
}

#[track_caller]
fn python_of(python: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(python).arg("-c").arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}: {}", python.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_is_reachable_without_a_grant() {
    let ended = finish(&mut guest_with(&[], &["refusals"])).expect_code(0);
    assert_eq!(ended.stdout.lines().count(), 6, "{ended}");
    for grant in ["--connect tcp:127.0.0.1:1", "--listen unix:/tmp/a", "--connect sandpool:a"] {
        assert!(ended.stdout.contains(&format!("hint: start the run with {grant},")), "{ended}");
    }
}

#[test]
fn a_refusal_names_the_grant_that_it_takes() {
    let grants = ["--connect", "tcp:127.0.0.1:1", "--listen", "unix:/nowhere/a"];
    for (flag, address, wanted) in [
        ("connect", "tcp:127.0.0.1:2", "--connect tcp:127.0.0.1:2,"),
        ("connect", "unix:/nowhere/a", "--connect unix:/nowhere/a,"),
        ("listen", "tcp:127.0.0.1:1", "--listen tcp:127.0.0.1:1,"),
        // This one is granted, and nobody is there.
        ("connect", "tcp:127.0.0.1:1", "Connection refused"),
        ("listen", "unix:/nowhere/a", "No such file or directory"),
        ("connect", "tcp:1", "is not an address: an address of TCP is tcp:HOST:PORT"),
    ] {
        let ended = finish(&mut guest_with(&grants, &["try", flag, address])).expect_code(0);
        assert!(ended.stdout.contains(wanted), "{address}: {ended}");
    }
}

#[test]
fn grants_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let writable = format!("{}:/data", folder.path().display());
    let ended = finish(&mut guest_with(&["--listen", &socket, "--dir", &writable], &["refusals"]));
    assert!(!ended.status.success() && ended.stderr.contains("guests may write to"), "{ended}");
    // A link elsewhere leads there, and the folder of names lies there.
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("socket"), &link).unwrap();
    fs::write(folder.path().join("socket"), "").unwrap();
    let runtime = format!("/run/user/{}", nix::unistd::geteuid());
    let of_names = if Path::new(&runtime).is_dir() { runtime } else { "/tmp".to_owned() };
    for (address, dir) in
        [(format!("unix:{}", link.display()), writable), (name("unsafe"), format!("{of_names}:/data"))]
    {
        for flag in ["--listen", "--connect"] {
            let ended = finish(&mut guest_with(&[flag, &address, "--dir", &dir], &["refusals"]));
            assert!(!ended.status.success() && ended.stderr.contains("guests may write to"), "{ended}");
        }
    }
    let ended = finish(&mut guest_with(&["--connect", "tcp:no.such.host.invalid:1"], &["refusals"]));
    assert!(!ended.status.success() && ended.stderr.contains("cannot grant the address"), "{ended}");
    let ended = finish(&mut guest_with(&["--connect", "udp:1.1.1.1:1"], &["refusals"])).expect_code(2);
    assert!(ended.stderr.contains("is not an address that can be granted"), "{ended}");
}

#[test]
fn no_guest_has_a_socket_and_no_run_without_grants_a_gateway() {
    let (run, port) = listening("forks", &["-", "1"]);
    let mut peer = peer(port);
    write_frame(&mut peer, b"there");
    assert_eq!(read_frame(&mut peer), b"there");
    let guests = run.guests();
    assert_eq!(guests.len(), 2, "{}", run.printed());
    for pid in guests {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!link.to_string_lossy().starts_with("socket:"), "{link:?}");
        }
    }
    assert!(gateway(&run).is_some());
    drop(peer);
    run.finish().expect_code(0);
    let (run, _stdin) = Run::start_with_stdin(&mut crate::support::run_with("stdin_lines", &[]));
    let has_guests = || {
        let mut of_children = procfs::children(run.embedder()).into_iter().flat_map(procfs::children);
        of_children.any(|pid| procfs::name(pid) == "sandpool-guest")
    };
    assert!(procfs::eventually(has_guests));
    assert!(gateway(&run).is_none());
}

const PYTHON: &str = "
import sys
from multiprocessing.connection import Client
from multiprocessing import AuthenticationError
address = ('127.0.0.1', int(sys.argv[1]))
with Client(address, authkey=b'secret') as connection:
    connection.send_bytes(b'hello')
    assert connection.recv_bytes() == b'hello'
    connection.send({'a': [1, None, 2.5]})
    assert connection.poll(60) and connection.recv() == {'a': [1, None, 2.5]}
    for size in (0, 1, 65535, 65536, 65537, 10_000_000):
        connection.send_bytes(bytes(size))
        assert connection.recv_bytes() == bytes(size)
try:
    Client(address, authkey=b'another')
except AuthenticationError as error:
    print('refused:', error)
";

#[test]
fn python_talks_to_a_guest() {
    for version in pythons() {
        let (run, port) = listening("echo", &["md5:secret", "2"]);
        let printed = python_of(&version, PYTHON, &[&port.to_string()]);
        assert_eq!(printed, "refused: digest sent was rejected\n", "{version:?}");
        let ended = run.finish().expect_code(0);
        assert!(
            ended.stdout.contains("ended Eof\nrefused the peer has another key\n"),
            "{version:?}: {ended}"
        );
        assert!(ended.stdout.contains("accepted tcp:127.0.0.1:"), "{version:?}: {ended}");
    }
}

/// The program in Python on the page of connections.
#[test]
fn the_client_of_the_page_talks_to_a_guest() {
    let page = fs::read_to_string(repository().join("host/docs/connections.md")).unwrap();
    let (_, program) = page.split_once("```python\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let (run, port) = listening("echo", &["md5:secret", "1"]);
    assert!(program.contains("6000"));
    assert_eq!(python(&program.replace("6000", &port.to_string()), &[]), "b'hello'\n");
    run.finish().expect_code(0);
}

/// The functions of `multiprocessing.connection` as Python has them from 3.12 on, for the versions before.
const NEWER: &str = "
import hmac, os, sys
from multiprocessing import connection as c, AuthenticationError
def payload(message):
    if len(message) == 20: return '', message
    end = message.find(b'}', 1, 20)
    return message[1:end].decode(), message[end + 1:]
def deliver_challenge(connection, authkey):
    message = b'{sha256}' + os.urandom(40)
    connection.send_bytes(b'#CHALLENGE#' + message)
    response = connection.recv_bytes(256)
    digest, mac = payload(response)
    if digest != 'sha256' or not hmac.compare_digest(hmac.new(authkey, message, digest).digest(), mac):
        connection.send_bytes(b'#FAILURE#')
        raise AuthenticationError('digest received was wrong')
    connection.send_bytes(b'#WELCOME#')
def answer_challenge(connection, authkey):
    message = connection.recv_bytes(256)
    assert message.startswith(b'#CHALLENGE#')
    message = message[len(b'#CHALLENGE#'):]
    digest = payload(message)[0]
    connection.send_bytes(b'{sha256}' + hmac.new(authkey, message, digest).digest())
    if connection.recv_bytes(256) != b'#WELCOME#':
        raise AuthenticationError('digest sent was rejected')
if sys.version_info < (3, 12):
    c.deliver_challenge, c.answer_challenge = deliver_challenge, answer_challenge
";

#[test]
fn newer_python_proves_its_key_by_sha256() {
    let (run, port) = listening("echo", &["secret", "2"]);
    let program = format!("{NEWER}{PYTHON}");
    assert_eq!(python(&program, &[&port.to_string()]), "refused: digest sent was rejected\n");
    run.finish().expect_code(0);
}

const PICKLES: &str = "
import os, pickle, sys
from multiprocessing.connection import Client
order = {'id': 2**64 - 1, 'price': 0.1, 'tags': ['a', '\\u00e9' * 300], 'note': None, 'pairs': [(-2**90, True)]}
class Other:
    def __reduce__(self): return os.system, ('touch /tmp/x',)
with Client(('127.0.0.1', int(sys.argv[1])), authkey=b'secret') as connection:
    connection.send(order)
    assert connection.recv() == order
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        connection.send_bytes(pickle.dumps(order, protocol))
        assert connection.recv() == order, protocol
    for wrong in (Other(), 7, {**order, 'price': 'x'}, [1, 2.5]):
        connection.send(wrong)
        print(connection.recv().split(': ', 1)[1])
    connection.send_bytes(b'no pickle')
    print(connection.recv().split(': ', 1)[1])
    connection.send(order)
    assert connection.recv() == order
";

#[test]
fn python_and_a_guest_exchange_values_and_no_pickle_runs_anything() {
    for version in pythons() {
        let (run, port) = listening("pickles", &["md5:secret"]);
        let printed = python_of(&version, PICKLES, &[&port.to_string()]);
        assert_eq!(
            printed,
            "it has `posix.system` in it, and only plain data is read\n\
             invalid type: integer `7`, expected struct Order\n\
             invalid type: string \"x\", expected f64\n\
             invalid length 2, expected struct Order with 5 elements\n\
             it is no pickle: it has no instruction 0x6e\n",
            "{version:?}"
        );
        run.finish().expect_code(0);
    }
}

const SQUARES: &str = "
from multiprocessing.connection import Listener
listener = Listener(('127.0.0.1', 0), authkey=b'secret')
print(listener.address[1], flush=True)
connection = listener.accept()
for _ in range(3):
    what, number = connection.recv()
    assert what == 'square'
    connection.send(number ** 2)
";

#[test]
fn a_guest_calls_a_server_in_python_with_values() {
    let mut server = Command::new("python3").arg("-c").arg(SQUARES).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
    let address = format!("tcp:127.0.0.1:{}", lines.next().unwrap().unwrap());
    let ended =
        finish(&mut guest_with(&["--connect", &address], &["pickle", &address, "md5:secret"])).expect_code(0);
    let printed = "0\n1\n1208925819614629174706176\nthe value can't be encoded: ";
    assert!(ended.stdout.starts_with(printed), "{ended}");
    assert!(server.wait().unwrap().success());
}

#[test]
fn md5_is_refused_unless_it_is_allowed() {
    let (run, port) = listening("echo", &["secret", "1"]);
    let mut peer = peer(port);
    let challenge = read_frame(&mut peer);
    assert!(challenge.starts_with(b"#CHALLENGE#{sha256}"));
    // The right proof, by MD5.
    let program =
        "import hmac, sys; print(hmac.new(b'secret', bytes.fromhex(sys.argv[1]), 'md5').hexdigest())";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let proof = python(program, &[&hex(&challenge[11..])]);
    let proof: Vec<u8> =
        (0..16).map(|at| u8::from_str_radix(&proof[2 * at..2 * at + 2], 16).unwrap()).collect();
    write_frame(&mut peer, &proof);
    assert_eq!(read_frame(&mut peer), b"#FAILURE#");
    let ended = run.finish().expect_code(0);
    assert!(ended.stdout.contains("refused the peer has another key"), "{ended}");
}

const SERVER: &str = "
from multiprocessing.connection import Listener
from multiprocessing import AuthenticationError
listener = Listener(('127.0.0.1', 0), authkey=b'secret')
print(listener.address[1], flush=True)
connection = listener.accept()
for _ in range(2):
    connection.send_bytes(connection.recv_bytes()[::-1])
try:
    connection.recv_bytes()
except EOFError:
    print('end', flush=True)
try:
    listener.accept()
except AuthenticationError as error:
    print(error, flush=True)
";

/// A guest connects to a server in Python, with the right key and with another.
#[track_caller]
fn guest_and_server(program: &str, before: &str) {
    let mut server = Command::new("python3").arg("-c").arg(program).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
    let address = format!("tcp:127.0.0.1:{}", lines.next().unwrap().unwrap());
    let client = |key: &str, messages: &[&str]| {
        let key = format!("{before}{key}");
        let arguments = [&["client", &address, &key], messages].concat();
        finish(&mut guest_with(&["--connect", &address], &arguments)).expect_code(0)
    };
    client("secret", &["one", "two"]).expect_stdout(&["received eno", "received owt"]);
    assert_eq!(lines.next().unwrap().unwrap(), "end");
    client("another", &[]).expect_stdout(&["error: the peer has refused the key"]);
    assert_eq!(lines.next().unwrap().unwrap(), "digest received was wrong");
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_guest_talks_to_python() {
    guest_and_server(SERVER, "md5:");
    guest_and_server(&format!("{NEWER}{SERVER}"), "");
}

#[test]
fn tcp_takes_a_key() {
    let grants = ["--listen", "tcp:*:*", "--connect", "tcp:*:*"];
    for (flag, address) in
        [("listen", "tcp:0.0.0.0:0"), ("connect", "tcp:10.0.0.1:1"), ("listen", "tcp:[::]:0")]
    {
        // The guest asks for the lack of one.
        let ended = finish(&mut guest_with(&grants, &["try", flag, address])).expect_code(0);
        assert!(ended.stdout.contains("TCP takes a key"), "{address}: {ended}");
    }
    finish(&mut guest_with(&grants, &["try", "listen", "tcp:127.0.0.1:0"]))
        .expect_code(0)
        .expect_stdout(&["done"]);
}

/// A name that no other test, and no other run of the tests, has.
fn name(of: &str) -> String {
    format!("sandpool:test-{}-{of}", std::process::id())
}

#[test]
fn runs_of_a_user_find_each_other_by_name() {
    let address = name("values");
    let mut server = guest_with(&["--listen", &address], &["echo", &address, "-", "1"]);
    let server = Run::start(&mut server);
    server.wait_for_line(&format!("listening {address}"));
    // The name is taken.
    let ended = finish(&mut guest_with(&["--listen", &address], &["try", "listen", &address])).expect_code(0);
    assert!(ended.stdout.contains("Address already in use") || ended.stdout.contains("in use"), "{ended}");
    finish(&mut guest_with(&["--connect", &address], &["values", &address])).expect_code(0).expect_stdout(&[
        "received \"a text\" [1, 2, 3] Some(-1.5)",
        "queues, locks and the like can't be sent to the outside: they mean nothing there",
        "received \"last\"",
    ]);
    server.finish().expect_code(0);
    let ended =
        finish(&mut guest_with(&["--connect", &address], &["try", "connect", &address])).expect_code(0);
    assert!(ended.stdout.starts_with("error: "), "{ended}");
}

#[test]
fn a_name_that_a_killed_run_has_left_is_free() {
    let address = name("left");
    for _ in 0..2 {
        let mut server = guest_with(&["--listen", &address], &["echo", &address, "-", "1"]);
        let server = Run::start(&mut server);
        server.wait_for_line(&format!("listening {address}"));
        procfs::kill(gateway(&server).unwrap(), Signal::SIGKILL, |pid| Some(pid) == gateway(&server));
        // Its guest may have ended by itself meanwhile.
        drop(server.finish_by(Signal::SIGKILL));
    }
}

#[test]
fn sockets_in_the_file_system_are_the_users_and_go_with_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let address = format!("unix:{}", path.display());
    let mut server = guest_with(&["--listen", &address], &["echo", &address, "-", "1"]);
    let server = Run::start(&mut server);
    server.wait_for_line(&format!("listening {address}"));
    let found = fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let ended = finish(&mut guest_with(&["--connect", &address], &["client", &address, "-", "a", "b"]));
    ended.expect_code(0).expect_stdout(&["received a", "received b"]);
    server.finish().expect_code(0);
    assert!(!path.exists());
}

#[test]
fn listeners_and_connections_are_waited_for_with_other_things() {
    let (run, port) = listening("waits", &[]);
    let mut peer = peer(port);
    run.wait_for_line("first [1]");
    write_frame(&mut peer, b"a message");
    assert_eq!(read_frame(&mut peer), b"from another process");
    let ended = run.finish().expect_code(0);
    assert!(ended.stdout.ends_with("first [1]\nthen [2]\nreceived a message\nlast [0]\n"), "{ended}");
}

#[test]
fn peers_that_say_nothing_hold_up_nobody() {
    let (run, port) = listening("forks", &["md5:secret", "1"]);
    let silent: Vec<_> = (0..30).map(|_| peer(port)).collect();
    let program = "
import sys
from multiprocessing.connection import Client
with Client(('127.0.0.1', int(sys.argv[1])), authkey=b'secret') as connection:
    connection.send_bytes(b'x')
    print(connection.recv_bytes())
";
    assert_eq!(python(program, &[&port.to_string()]), "b'x'\n");
    run.finish().expect_code(0);
    drop(silent);
}

#[test]
fn a_frame_that_lies_ends_its_connection_alone() {
    let lies: [&[u8]; 6] = [
        &[0x7f, 255, 255, 255],
        &[255, 255, 255, 254],
        &[255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        // More than comes, and nothing of the next message.
        &[0, 0, 0, 5, b'a'],
        &[0, 0],
        &[255, 255, 255, 255, 0],
    ];
    let count = (lies.len() + 1).to_string();
    let (run, port) = listening("forks", &["-", &count]);
    let mut honest = peer(port);
    write_frame(&mut honest, b"before");
    assert_eq!(read_frame(&mut honest), b"before");
    for lie in lies {
        let mut liar = peer(port);
        write_frame(&mut liar, b"honest so far");
        assert_eq!(read_frame(&mut liar), b"honest so far");
        liar.write_all(lie).unwrap();
        let _ = liar.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = liar.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    write_frame(&mut honest, b"after");
    assert_eq!(read_frame(&mut honest), b"after");
    drop(honest);
    let ended = run.finish().expect_code(0);
    let mut how: Vec<_> = ended.all("ended ");
    how.sort_unstable();
    assert_eq!(how, [&["Eof"][..], &["Reset"; 6]].concat(), "{ended}");
}

#[test]
fn messages_have_a_limit_in_both_directions() {
    let (run, port) = listening_with(&["--connection-message-max", "1MiB"], "limits", &[]);
    let mut peer = peer(port);
    assert_eq!(read_frame(&mut peer).len(), 1 << 20);
    write_frame(&mut peer, &vec![2; 1 << 20]);
    peer.write_all(&((1 << 20) + 1_u32).to_be_bytes()).unwrap();
    let ended = run.finish().expect_code(0);
    assert!(ended.stdout.contains("the process's limit is 1 MiB (`connection-message-max`)"), "{ended}");
    assert!(ended.stdout.ends_with("received 1048576\nthen reset\n"), "{ended}");
}

#[test]
fn a_peer_that_does_not_read_fills_a_bounded_pipe() {
    let (run, port) = listening("last", &[]);
    let mut peer = peer(port);
    run.wait_for_line("full");
    // The gateway holds no more than a pipe and a write: the rest waits at the guest.
    let status = fs::read_to_string(format!("/proc/{}/status", gateway(&run).unwrap())).unwrap();
    let rss: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    assert!(rss < 8 << 10, "{rss} KiB");
    let mut count = 0_u32;
    let last = loop {
        let message = read_frame(&mut peer);
        if message.len() == 4 {
            break message;
        }
        assert!(message.len() == 60_000 && message.iter().all(|byte| *byte == 7));
        count += 1;
    };
    assert_eq!(last, count.to_be_bytes());
    run.finish().expect_code(0);
}

#[test]
fn listeners_and_connections_have_a_limit() {
    let (run, _) = listening_with(&["--connections-max", "8"], "many", &[]);
    let ended = run.finish().expect_code(0);
    assert!(
        ended.stdout.contains("too many connections: the run's limit is 8 (`connections-max`)"),
        "{ended}"
    );
    assert!(ended.stdout.ends_with("one more\n"), "{ended}");
}

#[test]
fn thousands_of_listeners_are_refused_in_order() {
    let grants = ["--listen", "tcp:127.0.0.1:*", "--connections-max", "32"];
    let ended = finish(&mut guest_with(&grants, &["storm", "tcp:127.0.0.1:0"])).expect_code(0);
    ended.expect_stdout(&["32 and 2968 refused"]);
}

#[test]
fn a_flood_of_peers_waits_and_the_run_goes_on() {
    let (run, port) = listening_with(&["--connections-max", "8"], "forks", &["-", "3"]);
    let flood: Vec<_> = (0..100).map(|_| peer(port)).collect();
    // Each that goes makes room for another.
    drop(flood);
    let ended = run.finish().expect_code(0);
    assert_eq!(ended.all("ended "), ["Eof"; 3], "{ended}");
}

#[test]
fn a_guest_that_is_killed_closes_its_connections() {
    let (run, port) = listening("hold", &[]);
    let mut peer_of_killed = peer(port);
    assert_eq!(read_frame(&mut peer_of_killed), b"held");
    let holder = *run.guests().last().unwrap();
    assert!(procfs::kill(holder, Signal::SIGKILL, |pid| run.guests().contains(&pid)));
    assert_eq!(peer_of_killed.read(&mut [0; 1]).unwrap(), 0);
    let mut next = peer(port);
    write_frame(&mut next, b"still there");
    assert_eq!(read_frame(&mut next), b"still there");
    drop(next);
    let ended = run.finish().expect_code(0);
    assert!(ended.stdout.ends_with("ended Eof\n"), "{ended}");
}

#[test]
fn a_gateway_that_is_killed_ends_connections_and_nothing_else() {
    let (run, port) = listening("keep", &[]);
    let mut peer = peer(port);
    run.wait_for_line("accepted");
    let pid = gateway(&run).unwrap();
    assert!(procfs::kill(pid, Signal::SIGKILL, |pid| gateway(&run) == Some(pid)));
    assert!(matches!(peer.read(&mut [0; 1]), Ok(0) | Err(_)));
    let ended = run.finish().expect_code(0);
    assert!(
        ended.stdout.ends_with(
            "connection: Reset\nsend: BrokenPipe\nlistener: the host's part of connections has failed\n\
             again: the host's part of connections has failed\n"
        ),
        "{ended}"
    );
}

#[test]
fn what_was_sent_before_the_end_of_a_run_arrives() {
    let (run, port) = listening("stream", &["2000", "1000"]);
    let mut peer = peer(port);
    run.wait_for_line("sent");
    for _ in 0..2000 {
        assert!(read_frame(&mut peer).iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    run.finish().expect_code(0);
}

#[test]
fn nothing_is_left_of_a_run_that_is_killed() {
    let (run, port) = listening("echo", &["-", "1"]);
    let mut peer = peer(port);
    write_frame(&mut peer, b"a");
    assert_eq!(read_frame(&mut peer), b"a");
    run.finish_by(Signal::SIGKILL).expect_signal(Signal::SIGKILL);
    assert!(matches!(peer.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_wait_for_the_outside_is_no_deadlock() {
    let (run, port) = listening("echo", &["-", "1"]);
    // Meanwhile another run is found to be deadlocked.
    finish(&mut crate::support::run_with("deadlock_cases", &["locks"])).expect_code(124);
    let mut peer = peer(port);
    write_frame(&mut peer, b"late");
    assert_eq!(read_frame(&mut peer), b"late");
    drop(peer);
    let ended = run.finish().expect_code(0);
    assert!(!ended.stderr.contains("deadlock"), "{ended}");
}

#[test]
fn programs_of_a_map_connect_as_well() {
    let (server, port) = listening("echo", &["-", "2"]);
    let address = format!("tcp:127.0.0.1:{port}");
    let mut map = sandpool();
    map.arg("map").args(["--connect", &address, "--workers", "1"]).arg(guest("connections"));
    let (map, mut stdin) = Run::start_with_stdin(map.args(["--", "client", &address, "-", "{}"]));
    stdin.write_all(b"one\ntwo\n").unwrap();
    drop(stdin);
    let ended = map.finish().expect_code(0);
    assert!(ended.stdout.contains("received one") && ended.stdout.contains("received two"), "{ended}");
    server.finish().expect_code(0);
}
