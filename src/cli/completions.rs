//! `spinor completions` and `spinor man`: what a shell and `man` want to know of the verbs.
//!
//! Made from the verbs themselves. Refuses to install anything: it prints, or writes into a directory that is named.

use std::{io, path::PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use serde::Serialize;

use super::{Cli, Failure, output::Output};

/// Flags of `completions`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor completions bash > /etc/bash_completion.d/spinor\n  spinor completions zsh > ~/.zfunc/_spinor\n  spinor completions fish > ~/.config/fish/completions/spinor.fish"
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `man`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor man /usr/local/share/man/man1\n  spinor man . && man ./spinor-jobs-ls.1")]
pub struct Man {
    /// The directory the pages are written to; one is made when there is none
    dir: PathBuf,
}

#[derive(Serialize)]
struct Written {
    dir: PathBuf,
    pages: usize,
}

impl Completions {
    pub(super) fn run(self, output: Output) -> Result<u8, Failure> {
        let (mut verbs, mut text) = (Cli::command(), Vec::new());
        generate(self.shell, &mut verbs, "spinor", &mut text);
        output.text(String::from_utf8_lossy(&text).trim_end())
    }
}

impl Man {
    pub(super) fn run(self, output: Output) -> Result<u8, Failure> {
        let mut verbs = Cli::command();
        verbs.build();
        let pages = std::fs::create_dir_all(&self.dir).and_then(|()| self.pages(&verbs, "spinor"));
        let pages = pages.map_err(|error| Failure::failed(format!("{}: {error}", self.dir.display())))?;
        output.value(&Written { dir: self.dir, pages }, |written| {
            format!("{} pages in {}", written.pages, written.dir.display())
        })
    }

    /// A page for this verb and each below it.
    fn pages(&self, verb: &Command, name: &str) -> io::Result<usize> {
        let mut text = Vec::new();
        clap_mangen::Man::new(verb.clone()).render(&mut text)?;
        std::fs::write(self.dir.join(format!("{name}.1")), text)?;
        let below = verb.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        below
            .map(|verb| self.pages(verb, &format!("{name}-{}", verb.get_name())))
            .sum::<io::Result<usize>>()
            .map(|n| n + 1)
    }
}
