//! Keeps web pages from a broker that everybody on its machine may use.
//!
//! A browser can be made to call any address by a page from anywhere. A page whose own name was pointed at this machine
//! (DNS rebinding) calls by that name; any other page sends its own origin along. So only calls by a name of this machine
//! itself are taken, and none that come from another page.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

/// What is wrong with how a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForeignCall {
    /// For the caller and the log alike.
    #[error(
        "the broker was called by a name that is not one of this machine's loopback names; name it in --allowed-hosts if it should be"
    )]
    Host,
    #[error("the call comes from a web page of another origin")]
    Origin,
}

/// By which names the broker may be called.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// Beside the names of this machine itself. None: by any name.
    allowed: Option<Vec<String>>,
}

impl Hosts {
    /// Of a broker that asks nobody who they are. `is_loopback`: only this machine reaches it.
    pub(crate) fn new(is_loopback: bool, allowed: &[String]) -> Self {
        let allowed = (is_loopback || !allowed.is_empty()).then(|| allowed.to_vec());
        Self { allowed }
    }

    /// By any name.
    pub(crate) fn any() -> Self {
        Self { allowed: None }
    }

    /// # Errors
    /// If the call comes by a name, or from a page, by which it should not.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ForeignCall> {
        let host = match uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()),
        };
        if let Some(allowed) = &self.allowed {
            let name = host.as_ref().map(|host| bare(host.host())).ok_or(ForeignCall::Host)?;
            if !is_loopback(&name) && !allowed.iter().any(|allowed| bare(allowed) == name) {
                return Err(ForeignCall::Host);
            }
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        match (origin.as_ref().and_then(Uri::authority), host) {
            (Some(origin), Some(host)) if origin.as_str().eq_ignore_ascii_case(host.as_str()) => Ok(()),
            _ => Err(ForeignCall::Origin),
        }
    }
}

/// A name without brackets, the dot at its end, and differences of case.
fn bare(name: &str) -> String {
    name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hosts: &Hosts, uri: &str, headers: &[(&str, &str)]) -> Result<(), ForeignCall> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        hosts.check(&uri.parse().unwrap(), &map)
    }

    #[test]
    fn a_broker_of_this_machine_is_called_by_names_of_this_machine() {
        let hosts = Hosts::new(true, &["Broker.lan".to_owned()]);
        for name in [
            "127.0.0.1:7420",
            "127.8.9.1:1",
            "[::1]:7420",
            "localhost",
            "LOCALHOST.:80",
            "a.localhost:7420",
            "[::ffff:127.0.0.1]:7420",
            "broker.lan:7420",
        ] {
            assert_eq!(check(&hosts, &format!("http://{name}/a/b"), &[]), Ok(()), "{name}");
            assert_eq!(check(&hosts, "/a/b", &[("host", name)]), Ok(()), "{name}");
        }
        for name in [
            "rebound.example",
            "localhost.example",
            "127.0.0.1.example:7420",
            "notlocalhost",
            "10.0.0.1:7420",
            "0.0.0.0:7420",
            "other.lan",
        ] {
            assert_eq!(check(&hosts, &format!("http://{name}/a/b"), &[]), Err(ForeignCall::Host), "{name}");
            assert_eq!(check(&hosts, "/a/b", &[("host", name)]), Err(ForeignCall::Host), "{name}");
        }
        assert_eq!(check(&hosts, "/a/b", &[]), Err(ForeignCall::Host), "by no name at all");
        assert_eq!(
            check(&hosts, "http://evil.example/a", &[("host", "localhost")]),
            Err(ForeignCall::Host),
            "what HTTP/2 calls it by counts"
        );
    }

    #[test]
    fn pages_of_other_origins_are_refused_wherever_the_broker_is() {
        for hosts in [Hosts::new(true, &[]), Hosts::new(false, &[])] {
            let from = |origin: &str| check(&hosts, "http://localhost:7420/a/b", &[("origin", origin)]);
            assert_eq!(from("http://localhost:7420"), Ok(()));
            for origin in
                ["https://evil.example", "http://localhost:3000", "http://localhost", "null", "", "é"]
            {
                assert_eq!(from(origin), Err(ForeignCall::Origin), "{origin}");
            }
        }
    }

    #[test]
    fn elsewhere_any_name_will_do_unless_some_are_named() {
        let anywhere = Hosts::new(false, &[]);
        assert_eq!(check(&anywhere, "http://broker.example/a", &[]), Ok(()));
        let named = Hosts::new(false, &["broker.example".to_owned()]);
        assert_eq!(check(&named, "http://broker.example:7420/a", &[]), Ok(()));
        assert_eq!(check(&named, "http://other.example/a", &[]), Err(ForeignCall::Host));
    }
}
