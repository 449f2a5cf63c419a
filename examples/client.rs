//! A client: publishes to the Spinor of a data directory, waits, cancels. Start `consumer` first.
//!
//! ```sh
//! cargo run --example client -- /tmp/greetings
//! ```

use std::{path::Path, time::Duration};

use spinor::{Asked, Client, Json, NewJob};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::args().nth(1).ok_or("name the data directory of a running consumer")?;
    let client = Client::unix(Path::new(&data).join("spinor.sock"))?;

    // One job, and its value.
    let mut job = NewJob::new("greet");
    job.args = Some(Json::of(&serde_json::json!({"name": "Ada"}))?);
    let accepted = client.publish(&job).await?;
    let waited = client.wait(accepted.id, PATIENCE, true).await?;
    let report = waited.report.ok_or("it has not ended")?;
    println!("{}: {}", report.state.word(), report.value.as_ref().map_or("nothing", Json::text));

    // Many in one request; each is answered for itself.
    let names = ["Grace", "Edsger", ""].map(|name| Json::of(&serde_json::json!({"name": name})));
    let mut jobs = Vec::new();
    for args in names {
        jobs.push(NewJob { args: Some(args?), ..NewJob::new("greet") });
    }
    for item in client.publish_batch(&jobs).await?.jobs {
        if let Some(problem) = item.problem {
            println!("refused: {problem}");
            continue;
        }
        let waited = client.wait(item.id, PATIENCE, true).await?;
        println!("{}", waited.report.map_or("not ended", |report| report.state.word()));
    }

    // One that would take an hour, if nobody cancelled it.
    let mut job = NewJob::new("wait");
    job.args = Some(Json::of(&serde_json::json!({"seconds": 3600}))?);
    let accepted = client.publish(&job).await?;
    client.cancel_job(accepted.id, &Asked { why: Some("an example".to_owned()), ..Asked::default() }).await?;
    let waited = client.wait(accepted.id, PATIENCE, true).await?;
    println!("{}", waited.report.map_or("not ended", |report| report.state.word()));
    Ok(())
}
