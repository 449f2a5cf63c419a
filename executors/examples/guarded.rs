//! A consumer in miniature with its guardian: `guarded SCRIPT` runs a shell script and passes its
//! output on. Kill it, and what the script started goes too. `guarded --dismiss SCRIPT` dismisses
//! the guardian at the end, as a consumer does that stops in good order.

use std::{
    error::Error,
    io::{Write, stdin, stdout},
};

use spinor_executors::{
    Context, Emission,
    guardian::{Guardian, guard},
    process::{Spawn, run},
};
use tokio::sync::mpsc;
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guardian"] => Ok(guard(stdin().lock())?),
        [script] => consume(script),
        ["--dismiss", script] => {
            consume(script)?;
            Guardian::dismiss();
            Ok(())
        }
        _ => Err("say what to run".into()),
    }
}

fn consume(script: &str) -> Result<(), Box<dyn Error>> {
    Guardian::start(&std::env::current_exe()?, &["guardian"])?;
    println!("{}", Guardian::pid().ok_or("no guardian")?);
    let (to, mut from) = mpsc::channel(16);
    let context = Context::new(Uuid::now_v7(), Some(to));
    tokio::runtime::Runtime::new()?.block_on(async {
        let script = run(Spawn::shell(script), &context);
        tokio::pin!(script);
        let ended = loop {
            tokio::select! {
                ended = &mut script => break ended,
                Some(emission) = from.recv() => print(emission)?,
            }
        };
        while let Ok(emission) = from.try_recv() {
            print(emission)?;
        }
        ended.map(drop).map_err(Box::from)
    })
}

fn print(emission: Emission) -> std::io::Result<()> {
    if let Emission::Output(_, bytes) = emission {
        stdout().write_all(&bytes)?;
        stdout().flush()?;
    }
    Ok(())
}
