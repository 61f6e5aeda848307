//! Versions of the elves, and which jobs they take: all of it follows from the id of the job.

use std::sync::Arc;

use mycelium_core::command::TaskOffer;
use mycelium_core::ids::{JobId, Revision, SignatureId};
use mycelium_core::signature::{Judged, Parameter, Shape, Signature};

use super::rng::Rng;

/// How many there are. The tasks of the first take `a`; of the second and the fourth, `a` and perhaps `b`; of the third,
/// `a` and `b`. The fourth does not take every value.
const VERSIONS: u8 = 4;

/// The one that takes every job.
pub(crate) const TAKES_ALL: u8 = 1;

/// One of them.
pub(crate) fn any(rng: &mut Rng) -> u8 {
    u8::try_from(rng.below(u64::from(VERSIONS))).unwrap()
}

fn signature(version: u8) -> Signature {
    let parameter = |name, is_required| Parameter { name: Arc::from(name), is_required };
    let mut parameters = vec![parameter("a", true)];
    match version {
        0 => {}
        2 => parameters.push(parameter("b", true)),
        _ => parameters.push(parameter("b", false)),
    }
    Signature::new(SignatureId::new([version; 16]), parameters)
}

/// How that version offers a task.
pub(crate) fn offer(version: u8, task: &str) -> TaskOffer {
    let revision = Revision::new([version; 32]);
    TaskOffer { task: Arc::from(task), revision, signature: Arc::new(signature(version)), policy: None }
}

fn names(job: JobId) -> Shape {
    let names = if job.as_bytes()[11].is_multiple_of(3) { &["a", "b"][..] } else { &["a"] };
    Shape::of(names.iter().map(|name| Arc::from(*name)))
}

/// The shape of a job. That of some is not known: they were stored before shapes were.
pub(crate) fn shape(job: JobId) -> Shape {
    if job.as_bytes()[10] < 25 { Shape::UNKNOWN } else { names(job) }
}

/// Whether that version takes what is known of the names of a job's arguments.
pub(crate) fn takes_shape(version: u8, job: JobId) -> bool {
    signature(version).takes(&shape(job))
}

/// Whether that version takes a job.
pub(crate) fn takes(version: u8, job: JobId) -> bool {
    let takes_value = version != 3 || !job.as_bytes()[10].is_multiple_of(2);
    takes_value && signature(version).takes(&names(job))
}

/// How a job is judged by the versions that happen to be there when it is submitted.
pub(crate) fn judged(rng: &mut Rng, job: JobId) -> Judged {
    if shape(job) == Shape::UNKNOWN {
        return Judged::NOT;
    }
    let there = (0..VERSIONS).filter(|_| rng.percent(40));
    Judged::by(there.map(|version| (SignatureId::new([version; 16]), takes(version, job))))
}
