//! `spinor figures`: how jobs ended, how long they waited and ran, by kind.

use clap::Args;
use spinor_executors::State;

use super::{
    Failure,
    ask::Global,
    output::Output,
    table::{Table, clean},
};
use crate::api::{Figures, FiguresQuery, Quantiles};

/// Flags of `figures`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor figures\n  spinor figures --since 24h\n  spinor figures --kind image.resize --since 72h --step 1h --json"
)]
pub struct Ask {
    /// How far back, up to 72h
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    since: String,
    /// Of this kind alone
    #[arg(long)]
    kind: Option<String>,
    /// How far points in time lie apart, for `--json`; about 120 points unless said
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
}

impl Ask {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let query = FiguresQuery { since: Some(self.since), step: self.step, kind: self.kind };
        output.value(&global.client()?.figures(&query).await?, text)
    }
}

fn text(figures: &Figures) -> String {
    let mut table =
        Table::new(&["KIND", "SUCCEEDED", "RETRIED", "FAILED", "OTHERS", "RAN 50%", "95%", "WAITED 50%", "95%"]);
    for row in &figures.kinds {
        let ended = &row.counts.ended;
        let of = |states: &[State]| states.iter().filter_map(|state| ended.get(state)).sum::<u64>();
        let named = [of(&[State::Succeeded]), of(&[State::Retrying]), of(&[State::Failed, State::Dead, State::Lost])];
        let others = ended.values().sum::<u64>() - named.iter().sum::<u64>();
        let mut cells = vec![clean(&row.kind)];
        cells.extend(named.iter().chain([&others]).map(u64::to_string));
        cells.extend([&row.counts.ran, &row.counts.waited].into_iter().flat_map(times));
        table.row(cells);
    }
    table.text("nothing ended in that time")
}

fn times(of: &Option<Quantiles>) -> [String; 2] {
    of.map_or_else(|| ["-".to_owned(), "-".to_owned()], |of| [of.p50, of.p95].map(time))
}

/// A time to two digits, in the unit in which it is short.
fn time(seconds: f64) -> String {
    match seconds {
        ..0.001 => format!("{:.0}us", seconds * 1e6),
        ..1.0 => format!("{:.0}ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.1}s"),
        ..7200.0 => format!("{:.0}m", seconds / 60.0),
        _ => format!("{:.0}h", seconds / 3600.0),
    }
}
