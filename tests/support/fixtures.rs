//! The fixtures themselves are tested: a fault that a fixture does not make proves nothing.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{
    eventually,
    process::Spinor,
    proxy::{CutProxy, Direction},
    scratch::Scratch,
    servers::PrivateServer,
};

const SOON: Duration = Duration::from_secs(10);

/// A server that sends back what it gets.
async fn echo(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn ask(stream: &mut TcpStream, word: &[u8; 4]) -> [u8; 4] {
    stream.write_all(word).await.unwrap();
    let mut answer = [0; 4];
    timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
    answer
}

#[tokio::test]
async fn a_cut_proxy_ends_connections_and_refuses_new_ones_until_it_heals() {
    let mut tasks = JoinSet::new();
    let proxy = CutProxy::start(&echo(&mut tasks).await).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&ask(&mut stream, b"one.").await, b"one.");
    proxy.cut();
    let ended = timeout(SOON, stream.read(&mut [0; 1])).await.expect("the connection ends");
    assert!(matches!(ended, Ok(0) | Err(_)));
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(matches!(timeout(SOON, refused.read(&mut [0; 1])).await.expect("it ends at once"), Ok(0) | Err(_)));
    proxy.heal();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&ask(&mut stream, b"two.").await, b"two.");
}

#[tokio::test]
async fn a_stalled_direction_holds_its_bytes_back_and_loses_none() {
    let mut tasks = JoinSet::new();
    let proxy = CutProxy::start(&echo(&mut tasks).await).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&ask(&mut stream, b"one.").await, b"one.");
    proxy.stall(Direction::ToClient);
    stream.write_all(b"two.").await.unwrap();
    let mut answer = [0; 4];
    assert!(timeout(Duration::from_millis(200), stream.read_exact(&mut answer)).await.is_err(), "nothing gets through");
    proxy.heal();
    timeout(SOON, stream.read_exact(&mut answer)).await.expect("what was held back comes").unwrap();
    assert_eq!(&answer, b"two.");
}

#[tokio::test]
async fn a_torn_connection_ends_in_the_middle_of_its_bytes() {
    let mut tasks = JoinSet::new();
    let proxy = CutProxy::start(&echo(&mut tasks).await).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&ask(&mut stream, b"one.").await, b"one.");
    proxy.tear();
    stream.write_all(b"two.").await.unwrap();
    let mut rest = Vec::new();
    // Two of the four bytes reach the server; what it sends back for them is torn as well, or cut.
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the connection ends");
    assert!(rest.len() < 4 && b"two.".starts_with(&rest), "{rest:?}");
    proxy.heal();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(&ask(&mut stream, b"two.").await, b"two.");
}

#[tokio::test]
async fn a_url_leads_by_way_of_the_proxy() {
    let proxy = CutProxy::start("127.0.0.1:1").await;
    let address = proxy.address();
    assert_eq!(proxy.url("amqp://u:p@127.0.0.1:5672/%2f"), format!("amqp://u:p@{address}/%2f"));
    assert_eq!(proxy.url("http://127.0.0.1:9200"), format!("http://{address}"));
}

#[tokio::test]
async fn a_process_is_heard_signalled_and_awaited() {
    let spinor = Spinor::new("");
    let mut process = spinor
        .start_program("sh", &["-c", "trap 'echo bye >&2; exit 3' TERM; echo hello; while :; do sleep 0.05; done"]);
    process.says("hello", SOON).await;
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(3));
    let done = process.finish(SOON).await;
    assert_eq!((done.code(), done.stdout.as_str(), done.stderr.as_str()), (3, "hello\n", "bye\n"));
}

#[tokio::test]
async fn a_process_inherits_no_variable_of_the_machine_but_the_path() {
    let mut spinor = Spinor::new("");
    spinor.set("GIVEN", "yes");
    let done = spinor.start_program("env", &[]).finish(SOON).await.expect_success();
    let names: Vec<&str> = done.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(["GIVEN", "HOME", "PATH", "SPINOR_CONFIG"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[tokio::test]
async fn a_killed_process_ends_by_its_signal() {
    use std::os::unix::process::ExitStatusExt;
    let spinor = Spinor::new("");
    let mut process = spinor.start_program("sleep", &["60"]);
    process.kill9();
    assert_eq!(process.wait(SOON).await.signal(), Some(9));
}

#[test]
fn a_scratch_directory_goes_with_its_owner() {
    let scratch = Scratch::new("gone");
    let file = scratch.write("file", "content");
    assert!(file.exists());
    drop(scratch);
    assert!(!file.exists());
}

/// Whether a RabbitMQ answers here: the first byte of its answer to a client's greeting.
async fn answers(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let greeted = stream.write_all(b"AMQP\x00\x00\x09\x01").await.is_ok();
    greeted
        && timeout(Duration::from_millis(500), stream.read_u8())
            .await
            .is_ok_and(|byte| byte.is_ok_and(|byte| byte == 1))
}

#[tokio::test]
async fn a_private_server_is_killed_restarted_on_its_port_frozen_and_thawed() {
    let server = PrivateServer::start("rabbitmq").await;
    let address = server.address();
    assert!(answers(&address).await);
    server.kill9().await;
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens");
    server.restart().await;
    assert!(answers(&address).await);
    server.freeze().await;
    assert!(!answers(&address).await, "a frozen server answers nobody");
    server.thaw().await;
    eventually("the thawed server to answer", SOON, async || answers(&address).await).await;
    assert!(server.ctl(&["list_users"]).await.contains("spinor"));
    drop(server);
    assert!(TcpStream::connect(&address).await.is_err(), "a dropped server is gone");
}
