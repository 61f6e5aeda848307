//! `mycelium drain`.

use std::time::Duration;

use bytes::Bytes;
use elf_runtime::Mycelium;
use mycelium_proto::v1::DrainInstanceRequest;
use uuid::Uuid;

use super::pause::who;
use crate::output::Output;
use crate::output::format::count;
use crate::views::view;

/// Tells a process that serves elves to leave.
///
/// It is given no more jobs, what it has not begun comes back at once, and what it runs may end within the deadline; then it
/// is cancelled and comes back too. The process ends when it has left.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "JSON: {jobs_held, told (whether the process knows what to do; if not, it is only given no more jobs)}.\n\n\
    Example: mycelium drain 0b8f4c3e-7d0e-4d51-9d0c-5b7b1a1f2c3d --deadline 5m"
)]
pub(crate) struct Args {
    /// The instance, as `mycelium elf` shows it.
    #[arg(value_name = "INSTANCE")]
    instance: Uuid,
    /// How long it may take to finish what it runs.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

pub(crate) async fn run(args: Args, mycelium: &Mycelium, output: Output) -> anyhow::Result<()> {
    let Args { instance, deadline } = args;
    let request = DrainInstanceRequest {
        instance_id: Bytes::copy_from_slice(instance.as_bytes()),
        deadline: Some(deadline.try_into()?),
        by: who(),
        ..DrainInstanceRequest::default()
    };
    let answer = mycelium.drain_instance(request).await?;
    if output.is_json() {
        return Ok(output.json(&view(&answer))?);
    }
    let held = count(answer.jobs_held, "job");
    let deadline = humantime::format_duration(deadline);
    Ok(output.line(&match answer.told {
        true => format!("it is told to leave within {deadline}, and holds {held}"),
        false => format!("it does not know how to leave: it is given no more jobs, and holds {held}"),
    })?)
}
