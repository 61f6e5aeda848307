//! The file of identities: who there is, and what each may do.
//!
//! ```toml
//! [[token]]
//! name = "nightly"                # for the log, the audit, and messages
//! sha256 = "9f86d081884c7d65..."  # of the secret, as 64 hexadecimal digits
//! roles = ["submit"]              # of submit, serve, read, operate, admin
//! mycelia = ["default", "team-*"] # all of them, unless it is given
//! elves = ["*"]                   # as which elves it may serve, and to which it may submit; all, unless it is given
//! expires = 2027-01-01T00:00:00Z  # never, unless it is given
//!
//! [[certificate]]                 # of clients with a certificate
//! name = "worker"
//! san = "worker.example.org"      # a subject alternative name: DNS name, URI, e-mail or IP address, with `*` for any text
//! roles = ["serve"]
//!
//! [[claim]]                       # of clients with a JWT
//! name = "operators"
//! claim = "realm_access.roles"    # a path into the claims
//! value = "mycelium-operators"    # the text, one of the list, or one of the words of `scope`
//! roles = ["operate"]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;

use super::grants::{Grant, Grants, Pattern, Role};
use crate::watched::FileProblem;

/// The longest name of an identity, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The SHA-256 of the secret of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Digest(pub(super) [u8; 32]);

/// It is no secret, and of no use to who reads a log.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An entry of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: Arc<str>,
    pub(super) grant: Arc<Grant>,
    pub(super) expires: Option<SystemTime>,
}

impl Identity {
    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Table {
    tokens: BTreeMap<Digest, Identity>,
    certificates: Vec<(Pattern, Identity)>,
    claims: Vec<(Claim, Identity)>,
}

/// A claim, and the value that it has to have.
#[derive(Debug)]
struct Claim {
    path: String,
    value: String,
}

/// Who somebody is, by the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: Option<Arc<str>>,
    pub(super) grants: Grants,
    /// When the first of what it stands on expires.
    pub(super) expires: Option<SystemTime>,
}

impl Known {
    fn of<'a>(identities: impl Iterator<Item = &'a Identity>, now: SystemTime) -> Self {
        let mut known = Self::default();
        for identity in identities.filter(|identity| identity.is_valid_at(now)) {
            known.name.get_or_insert_with(|| Arc::clone(&identity.name));
            known.grants.0.push(Arc::clone(&identity.grant));
            known.expires = [known.expires, identity.expires].into_iter().flatten().min();
        }
        known
    }
}

impl Table {
    pub(super) fn of_token(&self, digest: &Digest, now: SystemTime) -> Known {
        Known::of(self.tokens.get(digest).into_iter(), now)
    }

    /// Whether there is a token with this digest, valid or not: for the log.
    pub(super) fn expired_token(&self, digest: &Digest) -> Option<&str> {
        self.tokens.get(digest).map(|identity| &*identity.name)
    }

    pub(super) fn of_certificate(&self, names: &[String], now: SystemTime) -> Known {
        let about = |pattern: &Pattern| names.iter().any(|name| pattern.matches(name));
        Known::of(self.certificates.iter().filter(|(san, _)| about(san)).map(|(_, identity)| identity), now)
    }

    pub(super) fn of_claims(&self, claims: &Value, now: SystemTime) -> Known {
        let holds = |claim: &Claim| holds(claims, claim);
        Known::of(self.claims.iter().filter(|(claim, _)| holds(claim)).map(|(_, identity)| identity), now)
    }

    /// Reads it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn read(text: &str, file: &str) -> Result<Self, FileProblem> {
        let parsed: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            FileProblem::one(format!("`{file}`: line {line}: {}", error.message().replace('\n', " ")))
        })?;
        let mut reading = Reading { file, names: BTreeSet::new(), problems: Vec::new() };
        let mut table = Self::default();
        for mut entry in parsed.token {
            let digest = reading.digest(&entry.name, &entry.sha256);
            let identity = {
                let rights = entry.rights();
                reading.identity(&entry.name, rights)
            };
            if let Some(digest) = digest
                && let Some(other) = table.tokens.insert(digest, identity)
            {
                reading.problem(&entry.name, &format!("has the sha256 of `{}`", other.name));
            }
        }
        for mut entry in parsed.certificate {
            if entry.san.is_empty() {
                reading.problem(&entry.name, "has an empty san");
            }
            let identity = {
                let rights = entry.rights();
                reading.identity(&entry.name, rights)
            };
            table.certificates.push((Pattern::new(&entry.san), identity));
        }
        for mut entry in parsed.claim {
            if entry.claim.is_empty() || entry.value.is_empty() {
                reading.problem(&entry.name, "has an empty claim or value");
            }
            let identity = {
                let rights = entry.rights();
                reading.identity(&entry.name, rights)
            };
            table.claims.push((Claim { path: entry.claim, value: entry.value }, identity));
        }
        if reading.problems.is_empty() { Ok(table) } else { Err(FileProblem { problems: reading.problems }) }
    }
}

/// Whether a claim has its value.
fn holds(claims: &Value, Claim { path, value }: &Claim) -> bool {
    // Names of claims may have dots themselves, as URLs do.
    let found = claims.get(path).or_else(|| path.split('.').try_fold(claims, |claims, key| claims.get(key)));
    match found {
        Some(Value::String(text)) if path == "scope" => text.split(' ').any(|word| word == value),
        Some(Value::String(text)) => text == value,
        Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(value)),
        _ => false,
    }
}

/// Collects what is wrong with the file.
struct Reading<'a> {
    file: &'a str,
    names: BTreeSet<String>,
    problems: Vec<String>,
}

impl Reading<'_> {
    fn problem(&mut self, name: &str, problem: &str) {
        self.problems.push(format!("`{}`: `{name}` {problem}", self.file));
    }

    fn digest(&mut self, name: &str, text: &str) -> Option<Digest> {
        let digest = hex(text);
        if digest.is_none() {
            self.problem(name, "has a sha256 that is not 64 hexadecimal digits");
        }
        digest.map(Digest)
    }

    fn identity(&mut self, name: &str, rights: Rights) -> Identity {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let problem =
                format!("is no name: those have 1 to {NAME_BYTES_MAX} bytes, and no control characters");
            self.problem(name, &problem);
        } else if !self.names.insert(name.to_owned()) {
            self.problem(name, "is there twice");
        }
        if rights.roles.is_empty() {
            self.problem(name, "has no roles");
        }
        let mut roles = Vec::new();
        for role in &rights.roles {
            match role.parse::<Role>() {
                Ok(role) => roles.push(role),
                Err(unknown) => self.problem(name, &format!("has an unknown role: {unknown}")),
            }
        }
        let expires = rights.expires.and_then(|expires| {
            let moment = moment(&expires);
            if moment.is_none() {
                self.problem(
                    name,
                    &format!("expires at no moment: `{expires}` is not like 2027-01-01T00:00:00Z"),
                );
            }
            moment
        });
        let patterns = |given: Option<Vec<String>>| match given {
            Some(given) => given.iter().map(|text| Pattern::new(text)).collect(),
            None => vec![Pattern::new("*")],
        };
        let grant = Grant { roles, mycelia: patterns(rights.mycelia), elves: patterns(rights.elves) };
        Identity { name: Arc::from(name), grant: Arc::new(grant), expires }
    }
}

/// 64 hexadecimal digits.
fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = &text[2 * index..2 * index + 2];
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

/// A moment with its distance from Greenwich.
fn moment(text: &toml::value::Datetime) -> Option<SystemTime> {
    let toml::value::Datetime { date: Some(date), time: Some(time), offset: Some(offset) } = *text else {
        return None;
    };
    let utc =
        toml::value::Datetime { date: Some(date), time: Some(time), offset: Some(toml::value::Offset::Z) };
    let utc = humantime::parse_rfc3339(&utc.to_string()).ok()?;
    let minutes = match offset {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => minutes,
    };
    let by = Duration::from_secs(60 * u64::from(minutes.unsigned_abs()));
    if minutes >= 0 { utc.checked_sub(by) } else { utc.checked_add(by) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    certificate: Vec<CertificateEntry>,
    #[serde(default)]
    claim: Vec<ClaimEntry>,
}

/// What all entries have.
#[derive(Debug)]
struct Rights {
    roles: Vec<String>,
    mycelia: Option<Vec<String>>,
    elves: Option<Vec<String>>,
    expires: Option<toml::value::Datetime>,
}

/// Declares an entry with fields of its own, beside those that all have. (A flattened struct would let unknown fields
/// pass.)
macro_rules! entries {
    ($($entry:ident { $($field:ident),* })+) => {$(
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $entry {
            name: String,
            $($field: String,)*
            roles: Vec<String>,
            mycelia: Option<Vec<String>>,
            elves: Option<Vec<String>>,
            expires: Option<toml::value::Datetime>,
        }

        impl $entry {
            fn rights(&mut self) -> Rights {
                Rights {
                    roles: std::mem::take(&mut self.roles),
                    mycelia: self.mycelia.take(),
                    elves: self.elves.take(),
                    expires: self.expires.take(),
                }
            }
        }
    )+};
}

entries! {
    TokenEntry { sha256 }
    CertificateEntry { san }
    ClaimEntry { claim, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn problems(text: &str) -> String {
        Table::read(text, "tokens.toml").unwrap_err().to_string()
    }

    fn moment_of(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn identities_are_found_by_what_they_show() {
        let text = format!(
            "[[token]]\nname = \"ci\"\nsha256 = \"{DIGEST}\"\nroles = [\"submit\", \"read\"]\nmycelia = [\"a\"]\n\
             expires = 2027-01-01T01:00:00+01:00\n\
             [[certificate]]\nname = \"w\"\nsan = \"*.example.org\"\nroles = [\"serve\"]\nelves = [\"x*\"]\n\
             [[claim]]\nname = \"ops\"\nclaim = \"realm.groups\"\nvalue = \"o\"\nroles = [\"operate\"]\n\
             [[claim]]\nname = \"sc\"\nclaim = \"scope\"\nvalue = \"m\"\nroles = [\"read\"]\nexpires = 2026-12-01T00:00:00Z\n"
        );
        let table = Table::read(&text, "tokens.toml").unwrap();
        let (before, after) = (moment_of("2026-11-30T00:00:00Z"), moment_of("2027-01-01T00:00:00Z"));
        let digest = Digest(hex(DIGEST).unwrap());
        let ci = table.of_token(&digest, before);
        assert_eq!((ci.name.as_deref(), ci.expires), (Some("ci"), Some(after)), "an hour east of Greenwich");
        assert!(ci.grants.has_in(&[Role::Submit], "a") && !ci.grants.has_in(&[Role::Submit], "default"));
        assert_eq!(table.of_token(&digest, after), Known::default(), "from that moment on");
        assert_eq!(table.of_token(&Digest([0; 32]), before), Known::default());

        let names = |name: &str| vec!["other".to_owned(), name.to_owned()];
        let worker = table.of_certificate(&names("w1.example.org"), before);
        assert!(worker.grants.has_for(&[Role::Serve], "any", "xy"));
        assert_eq!(table.of_certificate(&names("example.org"), before), Known::default());

        let claims = serde_json::json!({ "realm": { "groups": ["n", "o"] }, "scope": "k m" });
        let both = table.of_claims(&claims, before);
        assert!(both.grants.has(&[Role::Operate]) && both.grants.has(&[Role::Read]));
        assert_eq!(both.expires, Some(moment_of("2026-12-01T00:00:00Z")), "the first that expires");
        assert_eq!(
            table.of_claims(&serde_json::json!({ "scope": "kmk", "realm": "o" }), before),
            Known::default()
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = format!(
            "[[token]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nroles = [\"rule\", \"read\"]\n\
             [[token]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nroles = []\n\
             [[token]]\nname = \"b\"\nsha256 = \"+f\"\nroles = [\"read\"]\nexpires = 2027-01-01\n"
        );
        let told = problems(&text);
        for problem in [
            "`a` has an unknown role: there is no role `rule`",
            "`a` is there twice",
            "`a` has no roles",
            "`a` has the sha256 of `a`",
            "`b` has a sha256 that is not 64 hexadecimal digits",
            "`b` expires at no moment: `2027-01-01`",
        ] {
            assert!(told.contains(problem), "{problem}: {told}");
        }
    }

    #[test]
    fn what_is_unknown_or_missing_is_refused_with_its_line() {
        let told = problems("[[token]]\nname = \"a\"\nrole = [\"read\"]\n");
        assert!(told.contains("`tokens.toml`: line 3: unknown field `role`"), "{told}");
        let told = problems("[[tokens]]\nname = \"a\"\n");
        assert!(told.contains("unknown field `tokens`"), "{told}");
        let told = problems("[[token]]\nname = \"a\"\nroles = [\"read\"]\n");
        assert!(told.contains("missing field `sha256`"), "{told}");
        assert!(Table::read("", "tokens.toml").is_ok(), "nobody may do anything");
    }

    #[test]
    fn digests_are_hexadecimal_digits() {
        assert_eq!(hex(&"0f".repeat(32)), Some([15; 32]));
        assert_eq!(hex(&"0F".repeat(32)), Some([15; 32]));
        for text in ["", "0f", &"0f".repeat(33), &"+f".repeat(32), &"0é".repeat(21), &"zz".repeat(32)] {
            assert_eq!(hex(text), None, "{text}");
        }
    }
}
