//! TLS: the certificate, the names it answers to, a new certificate while it runs.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Method, header};
use serde_json::json;
use spinor_consumers::state::StateTarget;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::{Stage, TOKEN, cookie};
use crate::support::{authority::Authority, eventually, front::Front, scratch::Scratch};

fn trusting(authority: &Authority) -> reqwest::Client {
    spinor_consumers::install_tls_provider();
    let trusted = [Certificate::from_pem(&std::fs::read(authority.file()).unwrap()).unwrap()];
    reqwest::Client::builder().no_proxy().tls_certs_only(trusted).build().unwrap()
}

#[tokio::test]
async fn a_login_over_tls_is_for_the_names_that_are_configured_and_a_new_certificate_is_taken_up() {
    let (authority, next) = (Authority::new(), Authority::new());
    let (directory, other) = (authority.certificate("IP:127.0.0.1"), next.certificate("IP:127.0.0.1"));
    let directory = Path::new(&directory);
    let scratch = Scratch::new("access-tls");
    let target = StateTarget::Sqlite(scratch.join("state.db"));
    let api = format!(
        "[api]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\nhosts = ['spinor.example']\ntls.cert = '{0}/server.pem'\ntls.key = '{0}/server.key'\n",
        directory.display()
    );
    let front = Front::start(scratch, &api, target).await;
    let stage = Stage { front, http: trusting(&authority), tokens: Default::default() };
    assert!(stage.base().starts_with("https://127.0.0.1:"), "{}", stage.base());
    let status = || stage.ask(Method::GET, "/api/v1/status").bearer_auth(TOKEN);
    assert_eq!(status().send().await.unwrap().status(), 200);
    for (host, answer) in [("Spinor.example:443", 200), ("other.example", 403)] {
        assert_eq!(status().header(header::HOST, host).send().await.unwrap().status(), answer, "{host}");
    }
    let login = stage.ask(Method::POST, "/api/v1/session").json(&json!({"token": TOKEN})).send().await.unwrap();
    let set = login.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(set.contains("; Secure"), "{set}");
    let read = stage.ask(Method::GET, "/api/v1/status").header(header::COOKIE, cookie(&login));
    assert_eq!(read.send().await.unwrap().status(), 200);
    // One handshake fails while another one waits: that one is not forgotten. Nor does who says nothing keep others out.
    let address = stage.base().trim_start_matches("https://").to_owned();
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = between.local_addr().unwrap().port();
    let slow = async {
        let (mut client, _) = between.accept().await.unwrap();
        let mut server = TcpStream::connect(&address).await.unwrap();
        let mut rubbish = TcpStream::connect(&address).await.unwrap();
        rubbish.write_all(b"no handshake at all\r\n\r\n").await.unwrap();
        let _ = rubbish.read_to_end(&mut Vec::new()).await;
        let _ = copy_bidirectional(&mut client, &mut server).await;
    };
    let asked = trusting(&authority).get(format!("https://127.0.0.1:{port}/healthz")).send();
    let answer = tokio::select! {
        answer = tokio::time::timeout(Duration::from_secs(20), asked) => answer.expect("its handshake is looked at"),
        () = slow => panic!("the connection ended"),
    };
    assert_eq!(answer.unwrap().status(), 200);
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(&address).await.unwrap());
    }
    let asked = trusting(&authority).get(format!("{}/healthz", stage.base())).timeout(Duration::from_secs(8)).send();
    assert_eq!(asked.await.expect("those who say nothing keep nobody out").status(), 200);
    drop(idle);

    let plain = stage.base().replace("https://", "http://");
    assert!(stage.http.get(format!("{plain}/healthz")).send().await.is_err(), "nothing is said without TLS");

    std::fs::copy(Path::new(&other).join("server.key"), directory.join("server.key")).unwrap();
    std::fs::copy(Path::new(&other).join("server.pem"), directory.join("server.pem")).unwrap();
    eventually("the new certificate to be shown", Duration::from_secs(30), async || {
        // A connection that is kept would show nothing.
        trusting(&next).get(format!("{}/healthz", stage.base())).send().await.is_ok()
    })
    .await;
}
