//! What `/metrics` says, over time, through the rules: which alerts fire, by `promtool test rules`.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use tokio::net::UnixStream;

use super::file;
use crate::support::{front::exchange, process::Spinor};

/// What `/metrics` said: each sample by its name with its labels.
#[derive(Clone, Debug, Default)]
pub struct Scrape(pub BTreeMap<String, String>);

impl Scrape {
    /// Of the process whose socket lies in this directory.
    pub async fn of(data: &Path) -> Self {
        let stream = UnixStream::connect(data.join("spinor.sock")).await.expect("it listens");
        let ask = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (status, body) = exchange(stream, ask).await;
        assert_eq!(status, 200, "{body}");
        let lines = body.as_str().expect("text").lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(|line| line.rsplit_once(' ')).map(|(of, value)| (of.into(), value.into())).collect())
    }

    /// The value of a sample.
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).map(|value| value.parse().expect("a number"))
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|sample| sample.split('{').next().unwrap_or(sample))
    }
}

/// Asserts that these alerts fire (with none given: that none does) when for hours `/metrics` said `before`, and ten
/// minutes ago began to say `after`; what is no counter was always as it is now.
pub async fn assert_firing(spinor: &Spinor, before: &Scrape, after: &Scrape, alerts: &[&str]) {
    let mut asks = String::new();
    for alert in alerts {
        let firing = format!("group by (alertname) (ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})");
        let _ = write!(
            asks,
            "      - expr: '{firing}'\n        eval_time: 180m\n        exp_samples: [{{labels: '{{alertname=\"{alert}\"}}', value: 1}}]\n"
        );
    }
    if alerts.is_empty() {
        asks = "      - expr: 'group by (alertname) (ALERTS{alertstate=\"firing\"})'\n        eval_time: 180m\n"
            .to_owned();
    }
    let mut series = String::new();
    for (sample, now) in &after.0 {
        let counts = ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .any(|end| sample.split('{').next().is_some_and(|name| name.ends_with(end)));
        let values = match before.0.get(sample) {
            _ if !counts => format!("{now}+0x180"),
            Some(then) => format!("{then}+0x170 {now}+0x10"),
            None => format!("_x171 {now}+0x10"),
        };
        let _ = write!(series, "      - series: '{sample}'\n        values: '{values}'\n");
    }
    let series =
        if series.is_empty() { "    input_series: []\n".to_owned() } else { format!("    input_series:\n{series}") };
    let rules = file("deploy/prometheus/alerts.yml");
    let test = format!(
        "rule_files: [{rules:?}]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n{series}    promql_expr_test:\n{asks}"
    );
    std::fs::write(spinor.join("alerts_test.yml"), &test).expect("written");
    let done = spinor.start_program("promtool", &["test", "rules", "alerts_test.yml"]);
    let done = done.finish(std::time::Duration::from_secs(60)).await;
    let short: Vec<String> = after.0.iter().map(|(sample, value)| format!("{sample} {value}")).collect();
    assert!(done.status.success(), "expected {alerts:?} to fire\n{}{}\n{}", done.stdout, done.stderr, short.join("\n"));
}
