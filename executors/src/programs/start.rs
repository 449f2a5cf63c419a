//! A program's start, until it has said hello.

use std::time::Duration;

use super::{
    Program,
    child::{Child, GRACE, Next},
    ears::LogEar,
    words::{Hello, PROTOCOL, Said},
};
use crate::Exit;

/// How long one that cannot start is left alone, by how often it failed in a row.
pub const BACK_OFF: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// Starts it and waits for its hello; the error is for people.
pub async fn start(program: &Program) -> Result<(Child, Hello, LogEar), String> {
    let mut child = Child::start(program).await.map_err(|error| error.to_string())?;
    let mut log = LogEar::new(program.named(), child.pid());
    let next = tokio::time::timeout(program.start_timeout, child.next(&mut log)).await;
    let why = match next {
        Ok(Next::Said(Said::Hello(hello))) if hello.protocol == PROTOCOL => return Ok((child, hello, log)),
        Ok(Next::Said(Said::Hello(hello))) => {
            format!("it speaks version {} of the protocol, and this is version {PROTOCOL}", hello.protocol)
        }
        Ok(Next::Said(_)) => "its first frame is no `hello`".to_owned(),
        Ok(Next::Rude(why)) => format!("it broke the protocol before it said hello: {why}"),
        Ok(Next::Gone) => {
            let (exit, _) = child.see_off(GRACE, &mut log).await;
            return Err(with_tail(format!("it ended before it said hello ({})", ended(exit)), &log));
        }
        Err(_) => format!("it did not say hello within {:?}", program.start_timeout),
    };
    child.end(GRACE, &mut log).await;
    Err(with_tail(why, &log))
}

/// How it ended, for people.
pub fn ended(exit: Exit) -> String {
    match exit {
        Exit { code: Some(code), .. } => format!("exit code {code}"),
        Exit { signal: Some(signal), .. } => format!("signal {signal}"),
        _ => "its end was not seen".to_owned(),
    }
}

fn with_tail(why: String, log: &LogEar) -> String {
    let tail = log.tail();
    if tail.is_empty() { why } else { format!("{why}; the last it wrote: {tail}") }
}
