//! A service manager: sockets that it hands over are taken, and it is told what it waits for.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use elf_runtime::Mycelium;
use mycelium_testing::DEADLINE;
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::support::{Broker, mycelium, run};

/// A command that is handed its standard input as the socket that systemd hands over. `process` is whom it is meant for, as
/// the shell that becomes the broker says it.
fn handed(process: &str, count: u32, arguments: &[&str]) -> Command {
    let broker = mycelium().as_std().get_program().to_owned();
    let script = format!("LISTEN_FDS={count} LISTEN_PID={process} exec \"$@\" 3<&0 4<&0 </dev/null");
    let mut shell = mycelium_testing::command("sh");
    shell.args(["-c", &script, "sh"]).arg(broker).args(["serve", "--log", "error", "--store", "memory"]);
    shell.args(arguments);
    shell
}

fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_listened_on_and_outlives_the_broker() {
    let (socket, address) = listener("127.0.0.1:0");
    for _ in 0..2 {
        let mut command = handed("$$", 1, &["--listen", "127.0.0.1:1"]);
        command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
        let broker = Broker::start_command(command).await;
        assert_eq!(broker.address(), address.to_string(), "{}", broker.ready_line);
        let status = Mycelium::connect(broker.url()).await.unwrap().get_status(Default::default()).await;
        assert_eq!(status.unwrap().process_id, broker.process_id());
        broker.signal(Signal::SIGTERM);
        assert_eq!(broker.ended().await.0, Some(0));
        // Whoever comes between two brokers is answered by the next one.
        TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    }
}

#[tokio::test]
async fn a_socket_that_is_meant_for_another_process_is_left_alone() {
    for process in ["1", "''"] {
        let (socket, address) = listener("127.0.0.1:0");
        let mut command = handed(process, 1, &["--listen", "127.0.0.1:0"]);
        command.stdin(OwnedFd::from(socket));
        let broker = Broker::start_command(command).await;
        assert_ne!(broker.address(), address.to_string(), "{process}");
    }
}

#[tokio::test]
async fn a_handed_socket_is_held_to_the_rules_of_an_address_and_has_to_take_connections() {
    let (open, address) = listener("0.0.0.0:0");
    let refused = |count, socket: OwnedFd| async move {
        let mut command = handed("$$", count, &[]);
        command.stdin(socket);
        run(&mut command).await
    };
    let line = refused(1, open.into()).await.bad(2);
    assert!(line.contains(&format!("LISTEN_FDS: other machines can reach {address}")), "{line}");

    let (two, _) = listener("127.0.0.1:0");
    let line = refused(2, two.into()).await.bad(1);
    assert_eq!(line, "error: LISTEN_FDS hands over 2 sockets; the broker listens on one");

    let unusable = "error: the socket that LISTEN_FDS hands over cannot be listened on: ";
    let (taken, address) = listener("127.0.0.1:0");
    let connection = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    drop(taken);
    let no_listeners: [(OwnedFd, &str); 3] = [
        (connection.into(), "it does not listen"),
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "fd 3 is not a valid tcp socket"),
        (fs::File::open("/dev/null").unwrap().into(), "fd 3 is not a socket"),
    ];
    for (socket, why) in no_listeners {
        let line = refused(1, socket).await.bad(1);
        assert_eq!(line, format!("{unusable}{why}"));
    }
}

#[tokio::test]
async fn the_manager_is_told_when_the_broker_answers_and_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut command = mycelium();
    command.args(["serve", "--log", "error", "--store", "memory", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let broker = Broker::start_command(command).await;
    let ready = broker.ready_line.strip_prefix("mycelium ready: ").unwrap();
    assert_eq!(told(), format!("READY=1\nSTATUS={ready}\n"));
    broker.signal(Signal::SIGTERM);
    let stopping = told();
    assert!(stopping.starts_with("STOPPING=1\nSTATUS=stopping after SIGTERM: "), "{stopping}");
    assert_eq!(broker.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_broker_whose_manager_is_gone_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = mycelium();
    command.args(["serve", "--log", "error", "--store", "memory", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", folder.path().join("nobody"));
    let broker = Broker::start_command(command).await;
    assert_eq!(broker.run(&["jobs"]).await.good(), "no jobs\n");
    broker.signal(Signal::SIGTERM);
    assert_eq!(broker.ended().await.0, Some(0));
}

/// Runs a broker on the folder as somebody whom permissions hold: where the tests run as root, as another user.
async fn refused_to(uid: Option<u32>, scratch: &Path, data: &Path) -> String {
    let mut command = mycelium();
    if let Some(uid) = uid {
        // The folder of the build may be closed to others.
        let binary = scratch.join("mycelium");
        fs::copy(command.as_std().get_program(), &binary).unwrap();
        command = mycelium_testing::command(binary);
        command.uid(uid).gid(uid);
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    run(command.current_dir(scratch)).await.bad(1)
}

#[tokio::test]
async fn who_may_not_use_the_folder_is_told_as_whom_it_runs_and_what_to_type() {
    let scratch = tempfile::tempdir().unwrap();
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = match root {
        true => (65_532, 65_532),
        false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let closed = scratch.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let shown = closed.display();
    for (mode, data, make) in [
        (0o555, closed.clone(), String::new()),
        (0o000, closed.clone(), String::new()),
        (0o555, closed.join("new"), format!("mkdir -p {shown}/new && ")),
    ] {
        fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
        let line = refused_to(root.then_some(uid), scratch.path(), &data).await;
        let data = data.display();
        let expected = format!(
            "error: the broker cannot start (it runs as uid {uid}, which may not use {data}; give it the folder, or what is \
             mounted there, with: {make}chown -R {uid}:{gid} {data}): "
        );
        assert!(line.starts_with(&expected), "{mode:o}: {line}");
        assert!(line.contains("Permission denied"), "{line}");
    }
    // For whoever removes the folder.
    fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
}
