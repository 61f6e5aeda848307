//! Rebuilds a core from its store: at the start, and after a commit that failed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use mycelium_core::ids::EvaluationNumber;
use mycelium_core::image::Counters;
use mycelium_core::{Core, RestoreError};

use crate::clock::Clock;
use crate::config::Config;
use crate::moving::marker;
use crate::store::{self, Log};

/// Why a core cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It is being made by an import, which was cut off.
    #[error(
        "its import was not finished; run `mycelium import` again, which goes on where it was, or remove the mycelium"
    )]
    Importing,
    /// What it holds does not fit together.
    #[error("the store holds jobs that do not fit together")]
    Restore(#[from] RestoreError),
    /// The thread that was to own the scheduler cannot be started.
    #[error("cannot start the broker's thread")]
    Thread(#[source] std::io::Error),
    /// The scheduler was to run as a task of the current runtime, and there is none.
    #[error("the scheduler is to run in the current runtime, and there is none")]
    NoRuntime,
}

/// Rebuilds the core, and tells the numbers to go on from. Its evaluations are numbered on from those of the core before
/// it.
pub(crate) async fn load_core(
    log: &dyn Log,
    config: &Config,
    clock: &Clock,
    evaluations_after: EvaluationNumber,
) -> Result<(Core, Counters), StartError> {
    let core_config = mycelium_core::Config { evaluations_after, ..core_config(config) };
    let mut restore = Core::restore(core_config, clock.now().steady);
    let mut refused = None;
    let mut each = |job| {
        if refused.is_none() {
            refused = restore.job(job).err();
        }
    };
    let image = log.load(&mut each).await?;
    if marker::is_in(&image) {
        return Err(StartError::Importing);
    }
    if let Some(error) = refused {
        return Err(error.into());
    }
    let counters = image.counters;
    Ok((restore.finish(image)?, counters))
}

fn core_config(config: &Config) -> mycelium_core::Config {
    mycelium_core::Config {
        lease: config.lease,
        lease_after_reset: config.lease_after_reset,
        // The first version that knows of secrets.
        secrets_required: config.protocol_min >= 2,
        elves_lost_max: config.elves_lost_max,
        run_margin: config.run_margin,
        unfinished_max: config.unfinished_max,
        submission_idle_max: config.submission_idle_max,
        // Ids are chosen by callers: an unpredictable seed keeps them from choosing ids that collide.
        hash_seed: RandomState::new().build_hasher().finish(),
        ..mycelium_core::Config::default()
    }
}
