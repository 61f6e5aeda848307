//! What each call needs: the one table, of which a test sees to it that it names every call of the contract.

use super::grants::Role::{self, Admin, Operate, Read, Serve, Submit};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody: load balancers and probes.
    Anybody,
    /// Whoever has one of these roles.
    Having(&'static [Role]),
}

/// What a call is about, as its request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The broker as a whole.
    Broker,
    /// A mycelium, or all that the caller may see: it is looked at where the name is read, without which no service gets
    /// at a mycelium.
    Mycelium,
}

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) who: Who,
    pub(crate) about: About,
    /// Whether it changes something, and so is written into the audit.
    pub(crate) changes: bool,
    /// Whether it is answered by a stream, which ends when its caller may no longer have it.
    pub(crate) streams: bool,
    /// Whether that stream sees to its end itself, and says goodbye before.
    pub(crate) ends_itself: bool,
    /// Whether its request is a stream that may take long, and it is refused when its caller may no longer make it.
    pub(crate) uploads: bool,
}

const fn in_mycelium(roles: &'static [Role]) -> Need {
    Need {
        who: Who::Having(roles),
        about: About::Mycelium,
        changes: false,
        streams: false,
        ends_itself: false,
        uploads: false,
    }
}

const fn of_broker(roles: &'static [Role]) -> Need {
    Need { about: About::Broker, ..in_mycelium(roles) }
}

impl Need {
    const fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    const fn ending_itself(self) -> Self {
        Self { ends_itself: true, ..self }
    }

    const fn uploading(self) -> Self {
        Self { uploads: true, ..self }
    }

    const fn streaming(self) -> Self {
        Self { streams: true, ..self }
    }

    /// Whether nobody is asked who they are.
    pub(crate) fn is_open(self) -> bool {
        self.who == Who::Anybody
    }

    /// Whether it is for those who look after jobs and mycelia.
    pub(super) fn is_steering(self) -> bool {
        !self.roles().iter().any(|role| matches!(role, Role::Submit | Role::Serve))
            || self.roles().contains(&Role::Operate)
    }

    /// The roles of which one is needed. None where nobody is asked for any.
    pub(crate) fn roles(self) -> &'static [Role] {
        match self.who {
            Who::Anybody => &[],
            Who::Having(roles) => roles,
        }
    }
}

const ANYBODY: Need = Need { who: Who::Anybody, ..of_broker(&[]) };
/// Whoever is known at all.
const KNOWN: &[Role] = Role::ALL;
/// Whoever may see everything.
const READERS: &[Role] = &[Read, Operate, Admin];
/// Those, and who follows jobs to their results.
const FOLLOWERS: &[Role] = &[Submit, Read, Operate, Admin];
const OPERATORS: &[Role] = &[Operate, Admin];
const ADMINS: &[Role] = &[Admin];

const MYCELIUM: &str = "mycelium.v1.MyceliumService";
const BLOB: &str = "mycelium.v1.BlobService";

/// Each call, by service and name.
const NEEDS: &[(&str, &str, Need)] = &[
    (
        "mycelium.v1.ElfService",
        "Connect",
        in_mycelium(&[Serve, Admin]).changing().streaming().ending_itself(),
    ),
    (MYCELIUM, "SubmitJobs", in_mycelium(&[Submit, Admin]).changing()),
    (MYCELIUM, "CancelJobs", in_mycelium(&[Submit, Operate, Admin]).changing()),
    (MYCELIUM, "RetryJobs", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "StartJobs", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "DeleteFlows", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "DeleteJobs", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "PinFlows", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "Pause", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "Resume", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "DrainInstance", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "StartAction", in_mycelium(OPERATORS).changing()),
    (MYCELIUM, "CreateMycelium", in_mycelium(ADMINS).changing()),
    (MYCELIUM, "DeleteMycelium", in_mycelium(ADMINS).changing()),
    (MYCELIUM, "ListAudit", of_broker(ADMINS)),
    (MYCELIUM, "ListMycelia", of_broker(KNOWN)),
    (MYCELIUM, "GetStatus", in_mycelium(KNOWN)),
    (MYCELIUM, "ListOperations", in_mycelium(KNOWN)),
    (MYCELIUM, "GetJob", in_mycelium(FOLLOWERS)),
    (MYCELIUM, "GetOutputs", in_mycelium(FOLLOWERS)),
    (MYCELIUM, "GetFlow", in_mycelium(FOLLOWERS)),
    (MYCELIUM, "WatchJobs", in_mycelium(FOLLOWERS).streaming()),
    (MYCELIUM, "ExplainJob", in_mycelium(FOLLOWERS)),
    (MYCELIUM, "ListAttempts", in_mycelium(FOLLOWERS)),
    (MYCELIUM, "ReadLogs", in_mycelium(FOLLOWERS).streaming()),
    (MYCELIUM, "ListJobs", in_mycelium(READERS)),
    (MYCELIUM, "ListFlows", in_mycelium(READERS)),
    (MYCELIUM, "GetGraph", in_mycelium(READERS)),
    (MYCELIUM, "ListPauses", in_mycelium(READERS)),
    (MYCELIUM, "ListActions", in_mycelium(READERS)),
    (MYCELIUM, "GetLineage", in_mycelium(READERS)),
    (MYCELIUM, "ListElves", in_mycelium(READERS)),
    (MYCELIUM, "GetElf", in_mycelium(READERS)),
    (MYCELIUM, "ListRevisions", in_mycelium(READERS)),
    (MYCELIUM, "GetRevision", in_mycelium(READERS)),
    (MYCELIUM, "ListFailures", in_mycelium(READERS)),
    (MYCELIUM, "GetFailure", in_mycelium(READERS)),
    (BLOB, "WriteBlob", in_mycelium(&[Submit, Serve, Admin]).changing().uploading()),
    (BLOB, "FindMissingBlobs", in_mycelium(&[Submit, Serve, Admin])),
    // Whoever knows the digest has seen it named, or has the value.
    (BLOB, "ReadBlob", in_mycelium(KNOWN).streaming()),
    ("mycelium.v1.StoreService", "Backup", in_mycelium(ADMINS).streaming()),
    ("grpc.health.v1.Health", "Check", ANYBODY),
    ("grpc.health.v1.Health", "Watch", ANYBODY),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo", of_broker(KNOWN).streaming()),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo", of_broker(KNOWN).streaming()),
];

/// What the call of this path needs, `/service/call`. None if there is no such call: nobody may make it.
pub(crate) fn need(path: &str) -> Option<(&'static str, Need)> {
    let (service, call) = path.strip_prefix('/')?.split_once('/')?;
    let found = NEEDS.iter().find(|(of, name, _)| *name == call && *of == service);
    found.map(|(_, name, need)| (*name, *need))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor};

    use super::*;

    fn calls() -> Vec<MethodDescriptor> {
        let mut pool = DescriptorPool::new();
        for set in [
            mycelium_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(set).unwrap();
        }
        pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    /// The paths of the fields in which a message names a mycelium or an elf.
    fn names(message: &MessageDescriptor, prefix: &str, found: &mut BTreeSet<String>) {
        for field in message.fields() {
            let path = format!("{prefix}{}", field.name());
            match field.kind() {
                Kind::String if ["mycelium", "elf"].contains(&field.name()) => {
                    found.insert(path);
                }
                // What stands in a reference to a job is judged by the mycelium that it is in.
                Kind::Message(inner) if field.containing_oneof().is_some() => {
                    names(&inner, &format!("{path}."), found);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn every_call_of_the_contract_is_in_the_table_and_nothing_else() {
        let mut named = BTreeSet::new();
        for call in calls() {
            let service = call.parent_service().full_name().to_owned();
            let path = format!("/{service}/{}", call.name());
            let (name, need) = need(&path).unwrap_or_else(|| panic!("{path} is not in the table"));
            assert_eq!(name, call.name());
            assert!(!need.streams || call.is_server_streaming(), "{path}");
            let is_open = need.who == Who::Anybody;
            assert!(need.streams || is_open || !call.is_server_streaming(), "{path} streams");
            let is_upload = call.is_client_streaming() && !call.is_server_streaming();
            assert_eq!(need.uploads, is_upload, "{path}");
            named.insert((service, call.name().to_owned()));
        }
        let table: BTreeSet<_> =
            NEEDS.iter().map(|(of, name, _)| ((*of).to_owned(), (*name).to_owned())).collect();
        assert_eq!(named, table, "the table has what is no call");
        for path in ["", "/", "/mycelium.v1.MyceliumService/Nothing", "mycelium.v1.MyceliumService/GetJob"] {
            assert_eq!(need(path), None, "{path}");
        }
    }

    /// Of calls with one request: it names a mycelium, or the call is about the broker. Of streams: these messages name
    /// something, and each is held against what the caller may do where it is read.
    #[test]
    fn every_message_that_names_a_mycelium_or_an_elf_is_known() {
        let mut streamed = BTreeSet::new();
        for call in calls() {
            let path = format!("/{}/{}", call.parent_service().full_name(), call.name());
            let (_, need) = need(&path).unwrap();
            let mut found = BTreeSet::new();
            names(&call.input(), "", &mut found);
            if call.is_client_streaming() {
                streamed.extend(found.into_iter().map(|field| format!("{}: {field}", call.name())));
            } else {
                let names_one = found.contains("mycelium");
                assert_eq!(names_one, need.about == About::Mycelium, "{path}: {found:?}");
            }
        }
        let known = ["Connect: hello.mycelium", "Connect: set_window.elf", "WriteBlob: header.mycelium"];
        assert_eq!(streamed, BTreeSet::from(known.map(str::to_owned)));
    }

    #[test]
    fn whoever_may_only_read_changes_nothing() {
        for (_, name, need) in NEEDS {
            assert!(!(need.changes && need.roles().contains(&Role::Read)), "{name}");
            assert!(need.who == Who::Anybody || need.roles().contains(&Role::Admin), "{name}");
        }
    }
}
