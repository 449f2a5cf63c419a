//! Samples, their medians and spreads, and how they are shown.
//!
//! A ratio is taken within one round, so that what the machine does meanwhile is in both halves.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fsync::{Counter, Fsyncs};

/// One round of the product or of a floor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Jobs.
    pub jobs: u64,
    /// Wall clock.
    pub seconds: f64,
    /// CPU of the consuming side, or of the whole floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// CPU of whoever published, where it is another process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publisher_cpu_seconds: Option<f64>,
    /// CPU of the broker, where it is a process of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cpu_seconds: Option<f64>,
    /// Resident before the first job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_bytes: Option<u64>,
    /// Resident at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Fsyncs while it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsyncs: Option<Fsyncs>,
    /// Transactions of the recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits: Option<u64>,
    /// Messages, each confirmed once, that carried the reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packs: Option<u64>,
    /// Reports that came more than once, of one execution each.
    pub repeated: u64,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_ms: Option<f64>,
    /// Latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// How product and floor are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Jobs a second: more is better.
    Rate,
    /// Seconds: less is better.
    Seconds,
    /// Milliseconds of the median job: less is better.
    Latency,
}

impl Measure {
    fn of(self, sample: &Sample) -> f64 {
        match self {
            Self::Rate => sample.jobs as f64 / sample.seconds,
            Self::Seconds => sample.seconds,
            Self::Latency => sample.median_ms.unwrap_or(f64::NAN),
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Rate => "jobs/s",
            Self::Seconds => "s",
            Self::Latency => "ms",
        }
    }
}

/// All rounds of one side.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// `product`, or the floor's name.
    pub name: String,
    /// A round each.
    pub samples: Vec<Sample>,
}

/// Median and spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most })
    }
}

/// What a workload came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// In words: what was done.
    pub what: String,
    /// How it is compared.
    pub measure: Measure,
    /// The product first, then the floors.
    pub sides: Vec<Side>,
    /// Product by floor, by the floor's name.
    pub ratios: Vec<(String, Spread)>,
    /// What was checked, and what could not be known.
    pub notes: Vec<String>,
}

impl Summary {
    /// Of the sides' rounds.
    pub fn new(what: String, measure: Measure, sides: Vec<Side>, notes: Vec<String>) -> Self {
        let mut ratios = Vec::new();
        if let Some((product, floors)) = sides.split_first() {
            for floor in floors {
                let pairs = product.samples.iter().zip(&floor.samples);
                let ratio = Spread::of(pairs.map(|(product, floor)| measure.of(product) / measure.of(floor)));
                ratios.extend(ratio.map(|ratio| (floor.name.clone(), ratio)));
            }
        }
        Self { what, measure, sides, ratios, notes }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}", self.what)?;
        let unit = self.measure.unit();
        writeln!(
            to,
            "  {:<22} {:>11} {:>11} {:>11}  {:>9} {:>9} {:>9} {:>9}  {:>8} {:>8}",
            "",
            format!("median {unit}"),
            "least",
            "most",
            "cpu/10k",
            "publ/10k",
            "brok/10k",
            "fsyncs",
            "rest",
            "peak"
        )?;
        for side in &self.sides {
            self.line(side, to)?;
        }
        for (floor, ratio) in &self.ratios {
            let Spread { median, least, most } = ratio;
            writeln!(to, "  product / {floor}: {median:.2} ({least:.2} to {most:.2})")?;
        }
        for note in &self.notes {
            writeln!(to, "  {note}")?;
        }
        Ok(())
    }
}

impl Summary {
    fn line(&self, side: &Side, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |value: &dyn Fn(&Sample) -> Option<f64>| Spread::of(side.samples.iter().filter_map(value));
        let per_10k = |value: fn(&Sample) -> Option<f64>| {
            of(&|sample| Some(value(sample)? * 10_000.0 / sample.jobs as f64))
                .map_or("-".to_owned(), |spread| format!("{:.2} s", spread.median))
        };
        let mib = |value: fn(&Sample) -> Option<u64>| {
            of(&|sample| value(sample).map(|bytes| bytes as f64 / f64::from(1 << 20)))
                .map_or("-".to_owned(), |spread| format!("{:.1}M", spread.median))
        };
        let fsyncs = of(&|sample| sample.fsyncs.map(|fsyncs| fsyncs.count as f64));
        let Some(Spread { median, least, most }) = of(&|sample| Some(self.measure.of(sample))) else {
            return Ok(());
        };
        let digits = if median < 100.0 { 2 } else { 0 };
        writeln!(
            to,
            "  {:<22} {median:>11.digits$} {least:>11.digits$} {most:>11.digits$}  {:>9} {:>9} {:>9} {:>9}  {:>8} {:>8}",
            side.name,
            per_10k(|sample| sample.cpu_seconds),
            per_10k(|sample| sample.publisher_cpu_seconds),
            per_10k(|sample| sample.broker_cpu_seconds),
            fsyncs.map_or("-".to_owned(), |spread| format!("{:.0}", spread.median)),
            mib(|sample| sample.rest_bytes),
            mib(|sample| sample.peak_bytes),
        )
    }
}

/// What the samples of the product say besides their rate.
pub fn remarks(samples: &[Sample]) -> Vec<String> {
    let mut notes = Vec::new();
    let per = |count: fn(&Sample) -> Option<u64>| {
        Spread::of(samples.iter().filter_map(|sample| Some(sample.jobs as f64 / count(sample)? as f64)))
    };
    if let Some(jobs) = per(|sample| sample.commits) {
        notes.push(format!("jobs per commit of the record: {:.0}", jobs.median));
    }
    if let Some(reports) = per(|sample| sample.packs) {
        notes.push(format!("reports per message (one confirm each, then one ack up to there): {:.0}", reports.median));
    }
    let repeated: u64 = samples.iter().map(|sample| sample.repeated).sum();
    if repeated > 0 {
        notes.push(format!("reports that came twice, of one execution each: {repeated} in all rounds"));
    }
    match samples.iter().find_map(|sample| sample.fsyncs) {
        Some(Fsyncs { by: Counter::SystemCalls, .. }) => {
            notes.push("fsyncs: the kernel's count of the system calls of product, broker and database".to_owned());
        }
        Some(Fsyncs { by: Counter::DiskFlushes, .. }) => {
            notes.push("fsyncs: the kernel's count of disk flushes, of the whole machine".to_owned());
        }
        None => notes.push("fsyncs: not known".to_owned()),
    }
    if samples.iter().all(|sample| sample.broker_cpu_seconds.is_none()) {
        notes.push("the broker's CPU: not known, it is no process of this machine, or this one".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(name: &str, seconds: [f64; 3]) -> Side {
        let samples = seconds.map(|seconds| Sample { jobs: 100, seconds, ..Sample::default() });
        Side { name: name.into(), samples: samples.into() }
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        // The machine was slow in the second round: both were.
        let sides = vec![side("product", [2.0, 20.0, 2.0]), side("floor", [1.0, 10.0, 1.0])];
        let summary = Summary::new("x".into(), Measure::Rate, sides, vec![]);
        assert_eq!(summary.ratios, [("floor".to_owned(), Spread { median: 0.5, least: 0.5, most: 0.5 })]);
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_between() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }
}
