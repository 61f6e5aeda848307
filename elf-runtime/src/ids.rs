//! The ids that programs meet, as types of their own.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text or bytes that are no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected a UUID")]
pub struct InvalidId(String);

macro_rules! id {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id. Later ids of one process sort after earlier ones.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            pub(crate) fn to_wire(self) -> Bytes {
                Bytes::copy_from_slice(self.as_bytes())
            }
        }

        impl From<$name> for Bytes {
            /// The id as messages of the contract carry it.
            fn from(id: $name) -> Self {
                id.to_wire()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId(text.chars().take(64).collect()))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| InvalidId(format!("{} bytes", bytes.len())))
            }
        }
    };
}

id! {
    /// Names a job. Chosen by the program that records it, so that submitting twice is harmless.
    JobId
}
id! {
    /// Names a flow: the set of jobs of one orchestration.
    FlowId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_and_its_bytes() {
        let id = JobId::generate();
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert_eq!(JobId::try_from(&id.as_bytes()[..]).unwrap(), id);
        assert_eq!(JobId::try_from(&Bytes::from(id)[..]).unwrap(), id);
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let ids: Vec<JobId> = (0..1_000).map(|_| JobId::generate()).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn what_is_no_id_is_refused_by_name() {
        assert_eq!("bee".parse::<JobId>().unwrap_err().to_string(), "`bee` is not an id: expected a UUID");
        assert!(FlowId::try_from(&[0_u8; 15][..]).is_err());
    }
}
