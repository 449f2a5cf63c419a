//! The options of a job: what may stand before the shell's text, and under `vars`.
//!
//! Owns the table of options, the line between options and text, and which option means nothing
//! here. Options are read up to the first other word or `--`; what follows goes to the shell byte
//! for byte, so that `curl --retry 7 'a   b'` and a heredoc stay what they are.

use std::time::Duration;

use super::problem::suggestion;

/// A job's limit when it names none, as in Directord.
pub const TIMEOUT: Duration = Duration::from_secs(600);
/// A step may not be longer: a year.
const LONGEST_SECONDS: f64 = 365.0 * 24.0 * 3600.0;

/// What the options of a job say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The step is ended after this long.
    pub timeout: Duration,
    /// Tries in all.
    pub tries: u32,
    /// Detach: success at once.
    pub no_block: bool,
    /// On the first of the targets only.
    pub run_once: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: TIMEOUT, tries: 1, no_block: false, run_once: false }
    }
}

/// What an option takes, or why it is refused.
enum Takes {
    Value,
    Flag,
    Refused(&'static str),
}

/// Every option of Directord's RUN, by its name under `vars`.
const TABLE: [(&str, Takes); 9] = [
    ("timeout", Takes::Value),
    ("retry", Takes::Value),
    ("no_block", Takes::Flag),
    ("run_once", Takes::Flag),
    ("skip_cache", Takes::Flag),
    ("stdout_arg", Takes::Refused(NO_ARGS)),
    ("stderr_arg", Takes::Refused(NO_ARGS)),
    ("force_lock", Takes::Refused("no locks here: put the jobs in one orchestration, which runs them one at a time")),
    ("exec_help", Takes::Refused("the options are in docs/orchestrations.md")),
];
const NO_ARGS: &str = "jobs cannot pass values on yet: write to a file on the node";

impl Options {
    /// Sets one option, by its name under `vars`; a flag without a value is on.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        match name {
            "timeout" => self.timeout = seconds(value.unwrap_or_default())?,
            "retry" => self.tries = tries(value.unwrap_or_default())?,
            "no_block" => self.no_block = flag(value)?,
            "run_once" => self.run_once = flag(value)?,
            // Nothing is cached here, so there is nothing to skip.
            "skip_cache" => drop(flag(value)?),
            _ => return Err(refusal(name)),
        }
        Ok(())
    }

    /// Reads the options at the head of a RUN's text and gives the rest, which is the shell's.
    /// The problems come beside it.
    pub fn split<'a>(&mut self, text: &'a str, problems: &mut Vec<String>) -> &'a str {
        let mut rest = text;
        loop {
            let head = rest.trim_start();
            let (word, after) = head.split_at(head.find(char::is_whitespace).unwrap_or(head.len()));
            if word == "--" {
                return past_gap(after);
            }
            let Some(option) = word.strip_prefix("--") else { return rest };
            let (option, mut value) = match option.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (option, None),
            };
            rest = past_gap(after);
            let name = option.replace('-', "_");
            if takes_value(&name) && value.is_none() {
                let head = rest.trim_start();
                let (word, after) = head.split_at(head.find(char::is_whitespace).unwrap_or(head.len()));
                value = Some(word);
                rest = past_gap(after);
            }
            if let Err(why) = self.set(&name, value) {
                problems.push(format!("option `--{option}`: {why}"));
            }
        }
    }
}

/// Blanks up to the end of the line, and the line's end, are the gap between option and text.
fn past_gap(text: &str) -> &str {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    text.strip_prefix('\n').unwrap_or(text)
}

fn takes_value(name: &str) -> bool {
    matches!(TABLE.iter().find(|(option, _)| *option == name), Some((_, Takes::Value)))
        || matches!(name, "stdout_arg" | "stderr_arg")
}

fn refusal(name: &str) -> String {
    if let Some((_, Takes::Refused(why))) = TABLE.iter().find(|(option, _)| *option == name) {
        return (*why).to_owned();
    }
    let names: Vec<&str> =
        TABLE.iter().filter(|(_, takes)| !matches!(takes, Takes::Refused(_))).map(|(name, _)| *name).collect();
    format!("unknown, expected one of {}{}", names.join(", "), suggestion(name, &names))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.001..=LONGEST_SECONDS).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("found {}, expected seconds, a number above 0", shown(text)))
}

fn tries(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|tries| *tries >= 1)
        .ok_or_else(|| format!("found {}, expected how many tries in all, 1 or more", shown(text)))
}

fn shown(text: &str) -> String {
    if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") }
}

fn flag(value: Option<&str>) -> Result<bool, String> {
    let Some(text) = value else { return Ok(true) };
    truth(text).ok_or_else(|| format!("found {}, expected true or false", shown(text)))
}

/// Yes or no in the words of YAML 1.1, which Directord's files use.
pub fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Options;

    fn split(text: &str) -> (Options, &str, Vec<String>) {
        let (mut options, mut problems) = (Options::default(), Vec::new());
        let rest = options.split(text, &mut problems);
        (options, rest, problems)
    }

    #[test]
    fn only_leading_options_are_ours_and_the_rest_is_left_byte_for_byte() {
        for (text, rest) in [
            ("curl --retry 7 --timeout 5 http://x 'a   b'", "curl --retry 7 --timeout 5 http://x 'a   b'"),
            ("--retry 3 curl --retry 7 'a   b'", "curl --retry 7 'a   b'"),
            ("--retry=3   echo  hi\n", "echo  hi\n"),
            ("--skip-cache -- --odd  command", "--odd  command"),
            ("--timeout 5\n  cat <<EOF\n  a  b\nEOF\n", "  cat <<EOF\n  a  b\nEOF\n"),
            ("  echo indented\n", "  echo indented\n"),
            ("-x", "-x"),
            ("--skip-cache", ""),
            ("", ""),
        ] {
            let (_, found, problems) = split(text);
            assert_eq!((found, problems), (rest, vec![]), "{text:?}");
        }
    }

    #[test]
    fn options_say_what_they_say() {
        let (options, rest, problems) = split("--timeout 2.5 --retry 3 --no-block --run-once --skip-cache true");
        assert_eq!((rest, problems), ("true", vec![]));
        let wanted = Options { timeout: Duration::from_millis(2500), tries: 3, no_block: true, run_once: true };
        assert_eq!(options, wanted);
    }

    #[test]
    fn a_wrong_option_is_told_by_name_with_what_was_expected() {
        for (text, told) in [
            ("--timeout soon true", "option `--timeout`: found `soon`, expected seconds, a number above 0"),
            ("--timeout", "option `--timeout`: found nothing, expected seconds, a number above 0"),
            ("--retry=", "option `--retry`: found nothing, expected how many tries in all, 1 or more"),
            ("--retry 0 true", "option `--retry`: found `0`, expected how many tries in all, 1 or more"),
            ("--stdout-arg NAME true", "option `--stdout-arg`: jobs cannot pass values on yet"),
            ("--tiemout 5 true", "option `--tiemout`: unknown, expected one of timeout, retry"),
            ("--force-lock true", "option `--force-lock`: no locks here"),
        ] {
            let (_, _, problems) = split(text);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(told), "{problems:?}");
        }
    }
}
