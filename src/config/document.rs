//! The written file and the page on the configuration, both from the table of keys.

use std::fmt::Write as _;

use super::{
    keys::{KEYS, Key},
    secrets::SECRETS,
};

const HEAD: &str = "\
# The configuration of Spinor. Everything here is optional; what is commented out shows the default
# or an example. Environment variables win over this file, flags win over both:
# SPINOR_CONSUMER__SLOTS=8 is slots in [consumer]. `spinor config show --origin` tells what counts.
";

/// The whole file, every key with its meaning; keys are commented out, so that it changes nothing.
pub fn file() -> String {
    let mut text = HEAD.to_owned();
    let mut table = String::new();
    for key in KEYS {
        let (below, name) = split(key);
        if below != table {
            // A table of the user's own is commented out whole.
            let mark = if below.contains('*') { "# " } else { "" };
            let _ = write!(text, "\n{mark}[{}]\n", named(&below));
            table = below;
        } else {
            text.push('\n');
        }
        let value = if key.default.is_empty() { key.example } else { key.default };
        let name = name.replace("env.*", "env.MODE");
        let _ = writeln!(text, "{}# {name} = {value}", wrapped(key.meaning));
    }
    text.push_str("\n## The secrets file, of mode 0600, may hold these:\n");
    for (name, goes) in SECRETS {
        let _ = writeln!(text, "##   {name:<17} {goes}");
    }
    text
}

/// `docs/config.md`.
pub fn page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Spinor reads the first of these files that exists: the one named by `--config`, `$SPINOR_CONFIG`, `./spinor.toml`,\n\
         `$XDG_CONFIG_HOME/spinor/config.toml`, `/etc/spinor/config.toml`. Environment variables win over the file, flags win over\n\
         both. A variable is `SPINOR_`, the key in capitals, two underscores where the key has a dot; a list is separated by\n\
         commas: `SPINOR_CONSUMER__QUEUES=default,images`. Unknown keys are refused, and all problems are reported at once.\n\n\
         `spinor config init` writes a file with every key, `spinor config check` checks one, `spinor config show --origin` tells\n\
         where each value comes from. This page is written from the same table as the checks.\n\n\
         | key | default | must be | meaning |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let expected = key.form.expected().replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {default} | {expected} | {} |", shown(key.path), key.meaning);
    }
    text.push_str(
        "\n## Secrets\n\nThe file named by `secrets` is TOML, too, and must be readable by its owner only (mode 0600).\n\n\
         | key | goes |\n|---|---|\n",
    );
    for (name, goes) in SECRETS {
        let _ = writeln!(text, "| `{name}` | {goes} |");
    }
    text
}

fn split(key: &Key) -> (String, &'static str) {
    // A dotted name inside a table reads better than a table of two lines.
    let depth = match key.path.split('.').collect::<Vec<_>>().as_slice() {
        [_] => 0,
        [_, "*", ..] => 2,
        _ => 1,
    };
    let (mut rest, mut table) = (key.path, String::new());
    for _ in 0..depth {
        let (part, below) = rest.split_once('.').unwrap_or((rest, ""));
        table = if table.is_empty() { part.to_owned() } else { format!("{table}.{part}") };
        rest = below;
    }
    (table, rest)
}

fn named(table: &str) -> String {
    table
        .replace("queues.*", "queues.images")
        .replace("limits.*", "limits.mail")
        .replace("triggers.*", "triggers.nightly")
        .replace("notify.*", "notify.ops")
        .replace("kinds.*", "kinds.\"image.*\"")
}

fn shown(path: &str) -> String {
    path.replace("queues.*", "queues.NAME")
        .replace("limits.*", "limits.NAME")
        .replace("triggers.*", "triggers.NAME")
        .replace("notify.*", "notify.NAME")
        .replace("kinds.*", "kinds.\"PATTERN\"")
        .replace("env.*", "env.NAME")
}

/// A meaning as comment lines of at most 100 letters.
fn wrapped(meaning: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("##");
    for word in meaning.split(' ') {
        if line.len() + word.len() >= 99 {
            let _ = writeln!(lines, "{line}");
            line = String::from("##");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(lines, "{line}");
    lines
}
