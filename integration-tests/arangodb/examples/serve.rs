//! Runs the double as a program, for clients in other languages: `cargo run -p arangodb-double --example serve`.
//! It prints its URL, the password of `root` is `secret`, and it ends with its input.

use std::io::{Read as _, Write as _};

use arangodb_double::Double;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let double = Double::start("secret").await?;
    writeln!(std::io::stdout(), "{}", double.url())?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    ended.map_err(std::io::Error::other)??;
    for unknown in double.unknown() {
        writeln!(std::io::stderr(), "unknown: {unknown}")?;
    }
    Ok(())
}
