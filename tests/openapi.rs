//! The OpenAPI document says what the API does: each operation is asked, well and rudely.

use std::{fs, path::Path, time::Duration};

use spinor::api;

use crate::support::process::Spinor;

const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "hush-hush";

#[test]
fn the_document_that_is_kept_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, api::openapi()).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == api::openapi(), "docs/openapi.json is not what the code says; WRITE_DOCS=1 cargo test writes it");
}

#[tokio::test]
async fn each_operation_does_what_it_says_and_no_rude_request_meets_an_answer_that_it_does_not_name() {
    let mut spinor = Spinor::new("");
    let config = format!(
        "data = 'data'\nblobs = 'file://{}'\n[api]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\n",
        spinor.join("blobs").display()
    );
    fs::write(spinor.join("spinor.toml"), config).unwrap();
    spinor.set("PYTHONDONTWRITEBYTECODE", "1");
    let up = spinor.start(&["up"]);
    up.says("page: http", PATIENCE).await;
    let said = up.stdout() + &up.stderr();
    let address = said.split_whitespace().find(|word| word.starts_with("http://")).expect("it says where it listens");
    let address = address.trim_end_matches([',', '.', ')', '/']);
    let walk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/walk.py");
    let arguments = [walk.to_str().unwrap(), address, TOKEN, spinor.path().to_str().unwrap(), "8", "1"];
    let walked = spinor.start_program("/usr/bin/python3", &arguments).finish(PATIENCE).await.expect_success();
    assert!(walked.stdout.contains("operations answered well"), "{}", walked.stdout);
}
