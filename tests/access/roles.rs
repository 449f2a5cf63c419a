//! Each role tried against each operation of the table, and those whom nobody knows.

use std::os::unix::fs::PermissionsExt as _;

use futures_util::future::join_all;
use reqwest::header;
use spinor::api::OPERATIONS;
use spinor_consumers::access::Role;

use super::Stage;

const ROLES: [&[&str]; 5] = [&["viewer"], &["publisher"], &["operator"], &["admin"], &["admin:mail.*"]];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_what_the_table_of_operations_says_and_nothing_more() {
    let stage = Stage::new(&ROLES).await;
    let (stage, mut asked) = (&stage, Vec::new());
    for operation in OPERATIONS {
        for roles in ROLES.map(|roles| roles[0]) {
            let bounded = roles.contains(':');
            let role = Role::ALL.into_iter().find(|role| role.word() == roles.split(':').next().unwrap()).unwrap();
            let may = operation.role.is_none_or(|needs| role >= needs) && !(operation.everywhere && bounded);
            asked.push(async move {
                let request = stage.operation(operation).bearer_auth(&stage.tokens[roles]);
                let response = request.send().await.unwrap();
                let status = response.status().as_u16();
                // What is not there, or says nothing, is refused for that; streams begin.
                let right = if may { status != 403 && status != 500 } else { status == 403 };
                // Somebody with a pattern may be refused for what is named, too.
                let right = right || (bounded && status == 403);
                // The login answers everybody who shows nothing that it takes.
                let right = right && (status != 401 || operation.name == "logIn");
                (!right).then(|| format!("{} as {roles}: {status}", operation.name))
            });
        }
        asked_without(stage, operation).await;
    }
    let wrong: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Without a token, with a wrong one, for another host, from another page.
async fn asked_without(stage: &Stage, operation: &spinor::api::Operation) {
    let name = operation.name;
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let ask = || stage.operation(operation);
    let known = stage.tokens["admin"].as_str();
    for request in [ask(), ask().bearer_auth("hush-hash"), ask().header(header::COOKIE, "spinor-80=1.2.3.4")] {
        let status = status(request).await;
        // An asset that is not there, and a login with nothing, are refused for that.
        let open = operation.role.is_none() && (status < 300 || matches!(name, "pageAsset" | "logIn"));
        assert!(open || status == 401, "{name} without a token: {status}");
    }
    let foreign_host = ask().header(header::HOST, "spinor.example").bearer_auth(known);
    assert_eq!(status(foreign_host).await, 403, "{name} for another host");
    let foreign_origin = ask().header(header::ORIGIN, "http://evil.example").bearer_auth(known);
    assert_eq!(status(foreign_origin).await, 403, "{name} from another page");
}

#[tokio::test]
async fn a_path_that_is_not_there_is_told_to_nobody_who_is_not_known_and_the_socket_opens_for_its_owner_alone() {
    let stage = Stage::new(&[&["viewer"]]).await;
    let unknown = stage.ask(reqwest::Method::GET, "/api/v1/secrets").send().await.unwrap();
    assert_eq!(unknown.status(), 401);
    assert_eq!(stage.by("viewer", reqwest::Method::GET, "/secrets", None).await.0, 404);
    assert_eq!(stage.by("viewer", reqwest::Method::PUT, "/jobs", None).await.0, 405);
    let data = stage.front.scratch.join("data");
    let socket = data.join("spinor.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&socket)), (0o700, 0o600));
    let connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])";
    let mut command = tokio::process::Command::new("python3");
    command.args(["-c", connect]).arg(&socket);
    let own = command.status().await.unwrap();
    assert!(own.success(), "its owner gets in");
    // Only root can be somebody else.
    if rustix::process::getuid().is_root() {
        let output = command.uid(65_534).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("PermissionError"), "another user of this machine: {said}");
    }
}
