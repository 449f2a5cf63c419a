//! A program as a source of items: each line of its standard output is one.
//!
//! Owns how much of it is read. What it writes to standard error is its log, as with every program.

use crate::{
    Context, Failure, Output,
    process::{Capture, Spawn, run},
};

/// What a program wrote, as lines that say something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// The first of them, each without its end.
    pub lines: Vec<String>,
    /// There were more than was asked for, or more bytes.
    pub cut: bool,
}

/// Runs a program to its end and takes at most `most` lines, and `bytes` bytes, of what it wrote.
pub async fn lines_of(argv: &[String], most: usize, bytes: usize, context: &Context) -> Result<Lines, Failure> {
    let (program, args) = argv.split_first().ok_or_else(|| Failure::args("no program is named"))?;
    let spawn = Spawn { program: program.clone(), args: args.to_vec(), ..Spawn::default() };
    let mut whole = context.share();
    // The first half of what is kept is the beginning.
    whole.keep_output = bytes.saturating_mul(2);
    let ended = run(spawn, &whole).await.map_err(|error| error.failure())?;
    let failure = ended.failure();
    context.keep(|kept| {
        kept.exit = ended.exit;
        kept.stderr = shorter(&ended.stderr, context.keep_output);
        kept.stdout = shorter(&ended.stdout, context.keep_output);
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(first(&ended.stdout, most)),
    }
}

fn first(output: &Output, most: usize) -> Lines {
    let beyond = output.dropped > 0 || !output.tail.is_empty();
    // The last line of what was cut in the middle may be half of one.
    let text = if beyond { output.head.rsplit_once('\n').map_or("", |(whole, _)| whole) } else { &output.head };
    let mut said = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = said.by_ref().take(most).map(str::to_owned).collect();
    Lines { lines, cut: beyond || said.next().is_some() }
}

/// The same, kept as every output is.
fn shorter(output: &Output, keep: usize) -> Output {
    let mut capture = Capture::new(keep);
    capture.push(output.head.as_bytes());
    capture.push(output.tail.as_bytes());
    let kept = capture.finish();
    Output { bytes: output.bytes, dropped: kept.dropped + output.dropped, ..kept }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Lines, lines_of};
    use crate::{Cause, Context, Failure};

    async fn lines(script: &str, most: usize, bytes: usize) -> Result<Lines, Failure> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        lines_of(&argv, most, bytes, &Context::new(Uuid::now_v7(), None)).await
    }

    #[tokio::test]
    async fn lines_are_taken_up_to_a_number_and_to_a_size_and_it_is_said_that_there_were_more() {
        let of = |lines: &[&str], cut| Ok(Lines { lines: lines.iter().map(|line| (*line).to_owned()).collect(), cut });
        assert_eq!(lines("echo a; echo; echo b", 2, 1000).await, of(&["a", "b"], false));
        assert_eq!(lines("echo a; echo b; echo c", 2, 1000).await, of(&["a", "b"], true));
        assert_eq!(lines("echo aaaa; echo bbbb; echo cccc", 9, 8).await, of(&["aaaa"], true));
        let failed = lines("echo a; echo no such site >&2; exit 3", 9, 1000).await.expect_err("it failed");
        assert_eq!((failed.cause, failed.message.as_str()), (Cause::Exit, "exit code 3: no such site"));
    }
}
