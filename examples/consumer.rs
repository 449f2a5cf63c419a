//! A consumer with an executor of its own. With no configuration it is all of Spinor on this machine:
//!
//! ```sh
//! cargo run --example consumer -- /tmp/greetings     # and in another terminal:
//! cargo run --example client -- /tmp/greetings
//! ```
//!
//! Ctrl-C stops it: what runs is given the time to end.

use serde::{Deserialize, Serialize};
use spinor::{Consumer, Context, Outcome, TypedExecutor};

struct Greet;

#[derive(Deserialize)]
struct Greeting {
    name: String,
}

#[derive(Serialize)]
struct Greeted {
    text: String,
    last_attempt: bool,
}

impl TypedExecutor for Greet {
    type Args = Greeting;
    type Value = Greeted;

    async fn run(&self, Greeting { name }: Greeting, context: &Context) -> Result<Greeted, Outcome> {
        if name.is_empty() {
            return Err(Outcome::Discard { reason: "nobody to greet".to_owned() });
        }
        // One that takes its time ends early when `context.cancelled()` resolves.
        Ok(Greeted { text: format!("hello {name}"), last_attempt: context.last_attempt })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Consumer::builder().serve("greet", Greet).also("wait");
    if let Some(data) = std::env::args().nth(1) {
        builder = builder.set("data", data);
    }
    let consumer = builder.build().await?;
    println!("ready; Ctrl-C stops it");
    consumer.run().await?;
    println!("ended in good order");
    Ok(())
}
