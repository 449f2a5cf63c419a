//! Secrets: where they come from, where they go, and that they are never shown.

use spinor::config::{BlobsChoice, BrokerChoice, OtherDatabase, ResultsChoice, SearchChoice, StateChoice};

use spinor_consumers::notices::Receiver;

use super::Case;

#[test]
fn secrets_go_into_the_addresses_and_are_never_shown() {
    let toml = "broker = 'amqp://u@mq/v'\nresults = 'mysql://u@db/s'\nstate = 'redis://r'\nsearch = 'http://u@es'\n[api]\nlisten = '127.0.0.1:1'\n";
    let secrets = "broker_password = 'hush-b@'\nresults_password = 'hush-r'\nstate_password = 'hush-st'\nsearch_password = 'hush-s'\napi_token = 'hush-t'\n";
    let loaded = Case::new(toml).secrets(secrets, 0o600).load().unwrap();
    let config = &loaded.config;
    match (&config.broker, &config.results, &config.search) {
        (BrokerChoice::RabbitMq(broker), ResultsChoice::MySql(results), SearchChoice::Http { endpoint, .. }) => {
            assert_eq!(broker.reveal(), "amqp://u:hush-b%40@mq/v");
            assert_eq!(results.reveal(), "mysql://u:hush-r@db/s");
            assert_eq!(endpoint.reveal(), "http://u:hush-s@es");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(&config.state, StateChoice::Redis(state) if state.reveal() == "redis://:hush-st@r"));
    assert_eq!(config.api.token.as_deref(), Some("hush-t"));
    let shown = format!("{:?} {config:?}", loaded.shown);
    assert!(!shown.contains("hush"), "{shown}");
    assert!(loaded.shown.iter().any(|line| line.key == "secrets:api_token" && line.value == "\"***\""));
}

#[test]
fn the_databases_of_outboxes_get_their_password_and_are_shown_without_it_right_or_wrong() {
    let toml = "[outbox]\ndatabases = ['mysql://u@db/s', 'mysql://v:hush-v@db/s', 'sqlite:///srv/shop.db']\n";
    let loaded = Case::new(toml).secrets("outbox_password = 'hush-o'\n", 0o600).load().unwrap();
    let [OtherDatabase::MySql(first), OtherDatabase::MySql(second), OtherDatabase::Sqlite(file)] =
        &loaded.config.outbox.databases[..]
    else {
        panic!("{:?}", loaded.config.outbox);
    };
    assert_eq!((first.reveal(), second.reveal()), ("mysql://u:hush-o@db/s", "mysql://v:hush-v@db/s"));
    assert_eq!(file.to_str(), Some("/srv/shop.db"));
    let shown = format!("{:?} {:?}", loaded.shown, loaded.config);
    assert!(!shown.contains("hush") && shown.contains("mysql://v:***@db/s"), "{shown}");
    for wrong in
        ["['mysql://u:hush@db']", "['sqlite://shop.db']", "['http://u:hush@h/d']", "'redis://u:hush@h/d'", "[]"]
    {
        let problems = Case::new(&format!("[outbox]\ndatabases = {wrong}\n")).problems();
        assert!(
            problems.len() == 1 && problems[0].starts_with("spinor.toml:2: `outbox.databases` is "),
            "{problems:?}"
        );
        assert!(!problems[0].contains("hush"), "{problems:?}");
    }
    let twice = Case::new("[outbox]\ndatabases = ['sqlite:///a', 'sqlite:///a']\n").problems();
    assert_eq!(twice, ["spinor.toml:2: `outbox.databases`: names sqlite:///a twice"]);
}

#[test]
fn the_password_of_mail_comes_from_the_secrets_file_and_half_a_receiver_is_refused() {
    let of = |keys: &str| format!("[notify.ops]\n{keys}\n");
    let mail = "mail = 'a@b.example'\nfrom = 'c@b.example'\n";
    let case = Case::new(&of(&format!("{mail}smtp = 'smtps://u@mail'"))).secrets("notify_password = 'hush-m'\n", 0o600);
    let loaded = case.load().unwrap();
    let Receiver::Mail(to) = &loaded.config.notify["ops"].to else { panic!("no mail") };
    assert_eq!(to.server, "smtps://u:hush-m@mail");
    assert!(!format!("{:?} {:?}", loaded.shown, loaded.config).contains("hush"));
    for (keys, key) in [
        (format!("{mail}smtp = 'smtps://u@mail'"), "notify.ops.smtp"),
        (format!("{mail}smtp = 'http://mail'"), "notify.ops.smtp"),
        (mail.to_owned(), "notify.ops.smtp"),
        ("mail = 'nobody'\nfrom = 'c@b.example'\nsmtp = 'smtp://m'".to_owned(), "notify.ops.mail"),
        ("mail = 'a@b.example'\nsmtp = 'smtp://m'".to_owned(), "notify.ops.from"),
        (format!("{mail}smtp = 'smtp://m'\nurl = 'http://h'"), "notify.ops.mail"),
        ("url = 'http://h'\nfrom = 'c@b.example'".to_owned(), "notify.ops.from"),
    ] {
        let problems = Case::new(&of(&keys)).problems();
        assert!(problems.len() == 1 && problems[0].contains(&format!("`{key}`")), "{keys}: {problems:?}");
    }
}

#[test]
fn the_keys_of_a_bucket_come_from_the_secrets_file_or_from_the_environment_and_are_never_shown() {
    let toml = "blobs = 's3://jobs/p?region=eu-central-1'\n";
    let keys = |case: &Case| match case.load().map(|loaded| (loaded.config.blobs.clone(), loaded)) {
        Ok((BlobsChoice::S3 { keys, .. }, loaded)) => {
            let shown = format!("{:?} {:?}", loaded.shown, loaded.config);
            assert!(!shown.contains("hush"), "{shown}");
            keys.map(|keys| (keys.access, keys.secret, keys.token))
        }
        other => panic!("{other:?}"),
    };
    let found = |access: &str, secret: &str, token: Option<&str>| {
        Some((access.to_owned(), secret.to_owned(), token.map(str::to_owned)))
    };
    assert_eq!(keys(&Case::new(toml)), None, "who needs none may go on");
    let environment = || {
        let case = Case::new(toml).set("AWS_ACCESS_KEY_ID", "hush-a").set("AWS_SECRET_ACCESS_KEY", "hush-b");
        case.set("AWS_SESSION_TOKEN", "hush-c")
    };
    assert_eq!(keys(&environment()), found("hush-a", "hush-b", Some("hush-c")));
    let file = "blobs_access_key = 'hush-d'\nblobs_secret_key = 'hush-e'\n";
    assert_eq!(keys(&environment().secrets(file, 0o600)), found("hush-d", "hush-e", None));
    let half = environment().secrets("blobs_access_key = 'hush-d'\n", 0o600).problems();
    assert!(half[0].contains("one of `blobs_access_key` and `blobs_secret_key`"), "{half:?}");
    for (address, part) in [
        ("s3://jobs", "spinor.toml:1: `blobs`: names no region"),
        ("s3://k:hush@jobs?region=r", "secrets file"),
        ("s4://k:hush@jobs?secret=hush", "spinor.toml:1: `blobs` is \"s4://k:***@jobs\", expected"),
    ] {
        let problems = Case::new(&format!("blobs = '{address}'\n")).problems();
        assert!(problems[0].contains(part) && !problems[0].contains("hush"), "{problems:?}");
    }
    let plain = "blobs = 's3://jobs?endpoint=http://127.0.0.1:9'\nblobs_ca = 'ca.pem'\n";
    assert!(Case::new(plain).problems()[0].contains("`blobs_ca`: is never used"));
}

#[test]
fn a_secrets_file_others_may_read_or_with_odd_keys_is_refused() {
    assert!(
        Case::new("").secrets("api_token = 'hush'", 0o640).problems()[0]
            .contains("others may read it (mode 0640), expected 0600")
    );
    let problems = Case::new("").secrets("api_tokne = 'hush'\nbroker_password = 7\n", 0o600).problems();
    assert!(problems[0].starts_with("secrets.toml:1: `api_tokne` is no secret known here"), "{problems:?}");
    assert!(problems[1].starts_with("secrets.toml:2: `broker_password`: expected one line of text"), "{problems:?}");
    assert!(!problems.join("").contains("hush"));
    assert!(Case::new("secrets = '/no/such'").problems()[0].starts_with("spinor.toml:1: `secrets`: /no/such: "));
}
