//! What a call has reserved, and what works for it on threads that nobody can stop: the reservation lasts as long as the
//! work does, whether or not somebody still waits for the answer.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

/// Something that is given back when the last who holds it lets go.
pub(crate) type Reservation = Arc<dyn Any + Send + Sync>;

tokio::task_local! {
    static CURRENT: Reservation;
}

/// Works for a call that has reserved something.
pub(crate) async fn within<T>(reservation: Reservation, work: impl Future<Output = T>) -> T {
    CURRENT.scope(reservation, work).await
}

/// What the call that this task works for has reserved, if any.
pub(crate) fn current() -> Option<Reservation> {
    CURRENT.try_with(Arc::clone).ok()
}
