//! Which page of a list, and how to get the next one: the same for every list.

use clap::Args;
use spinor_consumers::results::Page;

/// Flags of a list that comes in pages.
#[derive(Args, Debug)]
pub struct Which {
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Go on where a list before this one ended
    #[arg(long)]
    pub cursor: Option<String>,
}

/// The line below a page that is not the last.
pub fn more<T>(page: &Page<T>) -> String {
    if let (Some(next), Some(looked)) = (&page.next, page.looked) {
        return format!("looked so far at what was created since {looked}; look on: --cursor {next}\n");
    }
    page.next.as_ref().map(|next| format!("more: --cursor {next}\n")).unwrap_or_default()
}
