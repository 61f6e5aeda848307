//! What one caller may do, and one call of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::Span;

use super::needs::{About, Need};
use super::table::Known;
use super::{Access, Credential, Role};
use crate::error::Error;
use crate::name::DEFAULT;

/// The longest that is slept at once until something expires: the clock may be set meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// How much is shown of the name of a mycelium, which may be none, and of what a call is about.
const NAME_CHARS_SHOWN: usize = 128;
const ABOUT_CHARS_SHOWN: usize = 256;

/// Somebody who was let in.
#[derive(Debug)]
pub(crate) struct Caller {
    access: Access,
    credential: Credential,
    /// For the log, the audit and messages.
    name: Arc<str>,
}

/// A name of a mycelium that a caller may get at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permitted<'a>(&'a str);

impl<'a> Permitted<'a> {
    pub(crate) fn name(self) -> &'a str {
        self.0
    }
}

impl Caller {
    pub(super) fn new(access: Access, credential: Credential, name: Arc<str>) -> Self {
        Self { access, credential, name }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn known(&self) -> Known {
        self.access.known(&self.credential)
    }
}

/// What one call may do.
#[derive(Debug)]
pub(crate) struct Pass {
    caller: Caller,
    call: &'static str,
    need: Need,
    /// What it turned out to be about.
    mycelium: OnceLock<String>,
    /// The same of what is in it, for people.
    about: OnceLock<String>,
    /// How many jobs, flows or whatever it is about.
    count: AtomicU64,
    /// Whether it asks what would be done, and no more.
    only_asks: AtomicBool,
    /// In which it is answered, until it is.
    span: Mutex<Span>,
}

/// What the caller of a stream had, and has no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is nobody any more: its credentials have expired, or are not taken any more.
    Identity,
    /// It is still somebody, and may not do this any more.
    Permission,
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Identity => Self::CredentialsRefused,
            Lost::Permission => Self::NotPermitted,
        }
    }
}

impl Pass {
    /// Of a call that is open to everybody.
    pub(crate) fn open(access: &Access, call: &'static str, need: Need) -> Self {
        Self::new(Caller::new(access.clone(), Credential::Nothing, Arc::from("anybody")), call, need)
    }

    /// Of a call that needs this, by somebody who was let in.
    pub(crate) fn new(caller: Caller, call: &'static str, need: Need) -> Self {
        let (count, only_asks) = (AtomicU64::new(0), AtomicBool::new(false));
        let (mycelium, about, span) = (OnceLock::new(), OnceLock::new(), Mutex::new(Span::none()));
        Self { caller, call, need, mycelium, about, count, only_asks, span }
    }

    /// # Errors
    /// If the caller has none of the roles for it, in no mycelium at all.
    pub(crate) fn may_begin(&self) -> Result<(), Error> {
        let may = !self.caller.access.asks() || self.caller.known().grants.has(self.need.roles());
        if may { Ok(()) } else { Err(Error::NotPermitted) }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn call(&self) -> &'static str {
        self.call
    }

    pub(crate) fn need(&self) -> Need {
        self.need
    }

    /// The mycelium that it is about, once that has been read.
    pub(crate) fn mycelium(&self) -> Option<&str> {
        self.mycelium.get().map(String::as_str)
    }

    /// Notes what it is about, within the mycelium.
    pub(crate) fn is_about(&self, about: &str) {
        let _the_first = self.about.set(shown(about, ABOUT_CHARS_SHOWN));
    }

    /// What was noted of that.
    pub(crate) fn about(&self) -> &str {
        self.about.get().map_or("", String::as_str)
    }

    /// Notes how many jobs, flows or whatever it is about.
    pub(crate) fn counts(&self, count: u64) {
        self.count.store(count, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes whether it asks what would be done, and changes nothing.
    pub(crate) fn asks_only(&self, only_asks: bool) {
        self.only_asks.store(only_asks, Ordering::Relaxed);
    }

    pub(crate) fn only_asks(&self) -> bool {
        self.only_asks.load(Ordering::Relaxed)
    }

    /// Notes in which span it is answered, if it is traced.
    pub(crate) fn is_in(&self, span: &Span) {
        if !span.is_disabled() {
            *self.span.lock().unwrap_or_else(PoisonError::into_inner) = span.clone();
        }
    }

    /// That span. It is over when what this gives is dropped, even if what was begun goes on.
    pub(crate) fn span(&self) -> Span {
        std::mem::replace(&mut self.span.lock().unwrap_or_else(PoisonError::into_inner), Span::none())
    }

    /// Whether it is a call of those who look after jobs and mycelia, made by one of them.
    pub(crate) fn is_steering(&self) -> bool {
        let is_of_them =
            || !self.caller.access.asks() || self.caller.known().grants.has(&[Role::Operate, Role::Admin]);
        self.need.is_steering() && is_of_them()
    }

    fn may_enter(&self, name: &str) -> bool {
        !self.caller.access.asks() || self.caller.known().grants.has_in(self.need.roles(), or_default(name))
    }

    /// The mycelium of this name; an empty name means `default`.
    ///
    /// # Errors
    /// If the caller may not make this call there, whether there is such a mycelium or not.
    pub(crate) fn to<'a>(&self, name: &'a str) -> Result<Permitted<'a>, Error> {
        debug_assert_eq!(self.need.about, About::Mycelium, "{} is said to be about the broker", self.call);
        let _the_first = self.mycelium.set(shown(or_default(name), NAME_CHARS_SHOWN));
        if self.may_enter(name) { Ok(Permitted(name)) } else { Err(Error::NotPermitted) }
    }

    /// Whether the caller may see that there is a mycelium of this name.
    pub(crate) fn may_see(&self, name: &str) -> bool {
        self.may_enter(name)
    }

    /// # Errors
    /// If the caller may not make this call about one of these elves there: speak as it, or submit jobs to it.
    pub(crate) fn covers<'e>(
        &self,
        mycelium: &str,
        elves: impl IntoIterator<Item = &'e str>,
    ) -> Result<(), Error> {
        if !self.caller.access.asks() {
            return Ok(());
        }
        let Known { grants, .. } = self.caller.known();
        let roles = self.need.roles();
        let may = |elf| grants.has_for(roles, or_default(mycelium), elf);
        if elves.into_iter().all(may) { Ok(()) } else { Err(Error::NotPermitted) }
    }

    /// Whether what the caller may do can change.
    pub(crate) fn can_be_lost(&self) -> bool {
        self.caller.access.asks()
    }

    /// Waits until the caller may no longer have what the call gives it, as `may` says, and has not got it back within the
    /// grace.
    pub(crate) async fn lost(&self, grace: Duration, may: impl Fn(&Self) -> bool) -> Lost {
        if !self.caller.access.asks() {
            return std::future::pending().await;
        }
        let mut changes = self.caller.access.inner.current.subscribe();
        let mut over_at = None;
        loop {
            changes.borrow_and_update();
            let known = self.caller.known();
            let lost = if known.name.is_none() {
                Some(Lost::Identity)
            } else {
                (!may(self)).then_some(Lost::Permission)
            };
            let Some(lost) = lost else {
                over_at = None;
                let left = known.expires.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
                tokio::select! {
                    // While there is an access there is its sender.
                    _changed = changes.changed() => {}
                    () = tokio::time::sleep(left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) => {}
                }
                continue;
            };
            let over_at = *over_at.get_or_insert_with(|| Instant::now() + grace);
            if tokio::time::timeout_at(over_at, changes.changed()).await.is_err() {
                return lost;
            }
        }
    }

    /// As [`lost`](Self::lost), of a call that gives what its mycelium has.
    pub(crate) async fn lost_as_before(&self, grace: Duration) -> Lost {
        self.lost(grace, |pass| match pass.mycelium() {
            Some(mycelium) => pass.may_enter(mycelium),
            None => pass.caller.known().grants.has(pass.need.roles()),
        })
        .await
    }
}

/// The beginning of a text that a caller has sent.
fn shown(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn or_default(name: &str) -> &str {
    if name.is_empty() { DEFAULT } else { name }
}
