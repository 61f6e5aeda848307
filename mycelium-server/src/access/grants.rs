//! What a caller may do: roles, each for some mycelia and elves.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What one may do who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Submit jobs, follow them to their results, and cancel them.
    Submit,
    /// Serve elves, and read and write the large values of their jobs.
    Serve,
    /// See everything that is stored.
    Read,
    /// Read, and steer: cancel, retry, pause, drain, pin and delete.
    Operate,
    /// Everything, with the making and deleting of mycelia, backups, and the audit.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Submit, Self::Serve, Self::Read, Self::Operate, Self::Admin];

    /// As files write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Serve => "serve",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role `{0}`; there are submit, serve, read, operate and admin")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.iter().find(|role| role.name() == text);
        found.copied().ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// Names of mycelia or elves: a name, in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Box<str>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The first and the last piece stand where they stand, and those between are found one after the other.
    pub(super) fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *name };
        let Some(mut name) = name.strip_prefix(first) else { return false };
        let mut pieces: Vec<&str> = rest.split('*').collect();
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            let Some(at) = name.find(piece) else { return false };
            name = &name[at + piece.len()..];
        }
        name.ends_with(last)
    }
}

/// What an entry of the file of identities gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) roles: Vec<Role>,
    pub(super) mycelia: Vec<Pattern>,
    pub(super) elves: Vec<Pattern>,
}

impl Grant {
    fn has(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    fn covers_mycelium(&self, mycelium: &str) -> bool {
        self.mycelia.iter().any(|pattern| pattern.matches(mycelium))
    }
}

/// What a caller may do: the sum of all entries that are about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Grants(pub(super) Vec<Arc<Grant>>);

impl Grants {
    /// Whether one of these roles is there, for some mycelium.
    pub(super) fn has(&self, roles: &[Role]) -> bool {
        self.0.iter().any(|grant| grant.has(roles))
    }

    /// Whether one of these roles is there for this mycelium.
    pub(super) fn has_in(&self, roles: &[Role], mycelium: &str) -> bool {
        self.0.iter().any(|grant| grant.has(roles) && grant.covers_mycelium(mycelium))
    }

    /// Whether one of these roles is there for this elf of this mycelium.
    pub(super) fn has_for(&self, roles: &[Role], mycelium: &str, elf: &str) -> bool {
        self.0.iter().any(|grant| {
            grant.has(roles)
                && grant.covers_mycelium(mycelium)
                && grant.elves.iter().any(|pattern| pattern.matches(elf))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, matches) in [
            ("resize", "resize", true),
            ("resize", "resizer", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("team-*", "team-a", true),
            ("team-*", "team-", true),
            ("team-*", "a-team-b", false),
            ("*-eu", "team-eu", true),
            ("*-eu", "team-eu-2", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "ab", false),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern} and {name}");
        }
    }

    #[test]
    fn roles_mycelia_and_elves_have_to_stand_in_one_entry() {
        let grant = |role, mycelium: &str, elf: &str| {
            let one = |text: &str| vec![Pattern::new(text)];
            Arc::new(Grant { roles: vec![role], mycelia: one(mycelium), elves: one(elf) })
        };
        let grants = Grants(vec![grant(Role::Serve, "a", "x*"), grant(Role::Read, "b", "*")]);
        assert!(grants.has(&[Role::Read, Role::Admin]) && !grants.has(&[Role::Admin]));
        assert!(grants.has_in(&[Role::Read], "b") && !grants.has_in(&[Role::Read], "a"));
        assert!(grants.has_for(&[Role::Serve], "a", "xy"));
        assert!(!grants.has_for(&[Role::Serve], "a", "y"), "another elf");
        assert!(!grants.has_for(&[Role::Serve], "b", "xy"), "another mycelium");
        assert!(!Grants::default().has(Role::ALL));
    }
}
