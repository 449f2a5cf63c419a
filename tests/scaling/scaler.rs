//! A configured scaler: the shipped scripts, over recorders in place of `systemctl` and `kubectl`,
//! which cannot be had for real in a test; and that the shipped units fit the program.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use super::stage::{PATIENCE, Stage, installation};
use crate::support::{eventually, process::Spinor, site::Site};

/// Keeps the units that run as files in a directory; the first `start` fails.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> "$HOME/calls"
mkdir -p "$HOME/units"
verb=$1
for last; do :; done
case $verb in
  list-units) cd "$HOME/units" && for unit in *; do test -e "$unit" && echo "$unit loaded active running Spinor"; done; exit 0 ;;
  start) if ! test -e "$HOME/failed"; then touch "$HOME/failed"; echo "no bus" >&2; exit 1; fi; touch "$HOME/units/$last" ;;
  stop) rm -f "$HOME/units/$last" ;;
esac
"#;

const KUBECTL: &str = "#!/bin/sh\necho \"$*\" >> \"$HOME/calls\"\n";

fn shipped(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name).display().to_string()
}

/// `up` whose scaler is this script, with a recorder in the path.
async fn stage(script: &str, recorder: (&str, &str)) -> Stage {
    let site = Site::new().await;
    let command = format!("[scaler]\ncommand = [{:?}, '{{group}}', '{{replicas}}']\n", shipped(script));
    let mut spinor = installation(Some(&site), &command);
    let bin = spinor.join("home/bin");
    fs::create_dir(&bin).expect("a directory");
    let program = bin.join(recorder.0);
    fs::write(&program, recorder.1).expect("a script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it may be run");
    spinor.set("PATH", &format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default()));
    Stage::start_in(spinor, Some(site), &["--only", "api,recorder", "--supervise"]).await
}

fn calls(spinor: &Spinor) -> Vec<String> {
    let text = fs::read_to_string(spinor.join("home/calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The units that run, as the recorder has them.
fn units(spinor: &Spinor) -> Vec<String> {
    let entries = fs::read_dir(spinor.join("home/units")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systemd_script_is_run_with_the_number_again_when_it_failed_and_starts_and_stops_units() {
    let mut stage = stage("scale-systemd.sh", ("systemctl", SYSTEMCTL)).await;
    stage.want(3).await;
    stage.up.says("The scaler failed and is run again", PATIENCE).await;
    assert!(stage.up.stderr().contains("no bus"), "{}", stage.up.stderr());
    let done = |number| {
        move |group: &spinor::scaling::GroupState| {
            group.scaler.as_ref().is_some_and(|scaler| scaler.done == Some(number) && scaler.problem.is_none())
        }
    };
    let group = stage.group_with("the scaler to have done it", done(3)).await;
    assert_eq!((group.wanted, group.replicas.len()), (Some(3), 0), "nothing is started here");
    let unit = |number: usize| format!("spinor-consumer@default-{number}.service");
    assert_eq!(units(&stage.spinor), [1, 2, 3].map(unit));
    // Another group's unit is nobody's business here.
    fs::write(stage.spinor.join("home/units/spinor-consumer@default-old-9.service"), "").expect("a unit");
    stage.want(1).await;
    stage.group_with("the scaler to have done it", done(1)).await;
    assert_eq!(units(&stage.spinor), [unit(1), unit(9).replace("default-9", "default-old-9")]);
    stage.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kubernetes_script_is_run_once_for_each_wish_and_once_after_a_new_start() {
    let mut stage = stage("scale-kubernetes.sh", ("kubectl", KUBECTL)).await;
    let call = |number: usize| format!("scale deployment/spinor-consumer-default --replicas={number}");
    for wanted in [4, 2] {
        stage.want(wanted).await;
        eventually("the scaler to be run", PATIENCE, async || {
            calls(&stage.spinor).last() == Some(&call(wanted as usize))
        })
        .await;
    }
    stage.drained().await;
    stage.start_again().await;
    eventually("it to be run after a start", PATIENCE, async || calls(&stage.spinor).len() == 3).await;
    assert_eq!(calls(&stage.spinor), [call(4), call(2), call(2)]);
    stage.drained().await;
}

#[tokio::test]
async fn the_shipped_deployments_are_ones_that_kubernetes_and_this_program_take() {
    // As the script calls it, and as the page does.
    for (file, name) in [("consumer", "spinor-consumer-default"), ("trigger", "spinor-trigger")] {
        deployment(file, name).await;
    }
}

async fn deployment(file: &str, name: &str) {
    let text = fs::read_to_string(shipped(&format!("kubernetes/{file}.yaml"))).expect("the file");
    let deployment: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!((&deployment["apiVersion"], &deployment["kind"]), (&"apps/v1".into(), &"Deployment".into()));
    assert_eq!(deployment["metadata"]["name"], name);
    let pod = &deployment["spec"]["template"];
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"]);
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a grace");
    assert!(grace > 60, "longer than consumer.grace and its hard end");
    let container = &pod["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let command = container[probe]["exec"]["command"].as_array().expect("a command");
        assert_eq!(command[0], "spinor");
    }
    // The program takes its variables and its arguments.
    let mut spinor = Spinor::new("");
    if file == "trigger" {
        // `config check` judges for all parts, and this one runs no kinds.
        spinor.set("SPINOR_CONSUMER__KINDS", "noop");
    }
    for variable in container["env"].as_array().expect("variables") {
        let value = variable["value"].as_str().unwrap_or("hush");
        spinor.set(variable["name"].as_str().expect("a name"), value);
    }
    spinor.run(&["config", "check"]).await.expect_success();
    let mut arguments = words(&container["args"]);
    arguments.push("--help".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    spinor.run(&arguments).await.expect_success();
}

#[tokio::test]
async fn the_shipped_units_start_what_this_program_takes_and_wait_longer_than_it_takes_to_stop() {
    // A consumer has its grace, and the stop goes to it alone: it ends its jobs. A trigger has 6 s.
    for (file, directory, stop, mode) in [("consumer@", "%i", 75, Some("mixed")), ("trigger", "trigger", 10, None)] {
        let text = fs::read_to_string(shipped(&format!("systemd/spinor-{file}.service"))).expect("the file");
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned));
        let start = value("ExecStart").expect("what it starts");
        let mut words: Vec<&str> = start.split_whitespace().collect();
        assert!(words.remove(0).ends_with("/spinor"));
        assert!(words.contains(&format!("/var/lib/spinor/{directory}").as_str()), "a directory for each: {words:?}");
        words.push("--help");
        Spinor::new("").run(&words).await.expect_success();
        let seconds = value("TimeoutStopSec").and_then(|seconds| seconds.parse::<u64>().ok());
        assert!(seconds > Some(stop), "{file}: {seconds:?}");
        assert_eq!(value("KillMode").as_deref(), mode);
    }
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}
