//! The workload `payload`: large values, there and back.

use std::time::Instant;

use anyhow::{Context as _, bail};
use elf_runtime::{JobId, Mycelium};
use mycelium_proto::v1::JobStatus;

use super::elf::{Bench, ELF};
use super::report::Report;
use super::verify::{Expected, value_of};

/// How many rounds come before the clock starts.
const WARM_UP_ROUNDS: u32 = 3;

/// What one round sends and gets back. Both follow from its number, so that nothing large need be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    number: u32,
    elements: u32,
}

impl Round {
    /// A list that no other round sends.
    fn sent(self) -> Vec<i64> {
        let from = i64::from(self.number) * i64::from(self.elements);
        (from..from + i64::from(self.elements)).collect()
    }

    /// Which element is changed, and to what.
    fn change(self) -> (u32, i64) {
        (self.number.wrapping_mul(7_919) % self.elements, -1 - i64::from(self.number))
    }

    /// Compares every element of what came back.
    fn check(self, returned: &[i64]) -> anyhow::Result<()> {
        let sent = self.sent();
        if returned.len() != sent.len() {
            bail!("{} elements came back, and {} were sent", returned.len(), sent.len());
        }
        let (index, value) = self.change();
        for ((at, sent), returned) in (0_u32..).zip(sent).zip(returned) {
            let expected = if at == index { value } else { sent };
            if *returned != expected {
                bail!("element {at} came back as {returned}, and should be {expected}");
            }
        }
        Ok(())
    }
}

/// One list at a time: from the moment the caller has it to the moment it has the list that was returned.
pub(super) async fn run(
    mycelium: &Mycelium,
    elements: u32,
    rounds: u32,
) -> anyhow::Result<(Report, Expected)> {
    let flow = mycelium.flow("bench payload");
    let tasks = Bench::tasks(&flow, ELF);
    let run = mycelium.run(flow.id());
    let mut lists = Vec::new();
    let mut times_ms = Vec::new();
    for number in 0..WARM_UP_ROUNDS + rounds {
        let round = Round { number, elements };
        let sent = round.sent();
        let (index, value) = round.change();
        let from = Instant::now();
        let job = tasks.task_replace(sent, index as usize, value);
        flow.submit().await?;
        let returned = run.result(&job).await?;
        let elapsed = from.elapsed();
        round.check(&returned).with_context(|| format!("job {}", job.id()))?;
        if number >= WARM_UP_ROUNDS {
            times_ms.push(elapsed.as_secs_f64() * 1_000.0);
        }
        lists.push((job.id(), round));
    }
    let seconds = times_ms.iter().sum::<f64>() / 1_000.0;
    let mut report = Report::new("payload", rounds.into(), seconds);
    report.max_ms = times_ms.iter().copied().reduce(f64::max);
    report.notes.push(format!("a list of {elements} integers, there and back"));
    Ok((report.with_times(times_ms), Expected { jobs: Vec::new(), lists }))
}

/// Checks that what the rounds returned is still there.
pub(super) async fn verify(mycelium: &Mycelium, lists: &[(JobId, Round)]) -> anyhow::Result<()> {
    for (id, round) in lists {
        let job = mycelium.outputs(*id).await.with_context(|| format!("job {id}"))?;
        if job.status() != JobStatus::Done {
            bail!("job {id} is {}, and should be DONE", job.status().as_str_name());
        }
        let returned: Vec<i64> = value_of(&job.outputs).with_context(|| format!("job {id}"))?;
        round.check(&returned).with_context(|| format!("job {id}"))?;
    }
    Ok(())
}
