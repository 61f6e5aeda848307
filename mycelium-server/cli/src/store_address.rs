//! Where the ArangoDB server is that keeps mycelia, and who we are there: a URL, and what stands beside it in the
//! environment. A password is refused where other users of the machine can read it.

use std::path::PathBuf;

use mycelium_server::store::arango::Address;

use crate::errors::Misuse;

/// Whose certificates are trusted.
#[derive(Debug, clap::Args)]
pub(crate) struct Trust {
    /// A file of certificates (PEM) to trust, beside those that everybody trusts, when ArangoDB is reached with https.
    #[arg(long, env = "MYCELIUM_STORE_CA", value_name = "FILE")]
    pub(crate) store_ca: Option<PathBuf>,
}

/// Where a URL was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// As an argument, which other users of the machine can read.
    InArgument,
    /// In the environment or in a file.
    Elsewhere,
}

/// The address of the server that an argument names, or if there is none, `MYCELIUM_STORE`.
///
/// # Errors
/// If there is none, it is wrong, or a password stands in the argument.
pub(crate) fn address(argument: Option<&str>, trust: &Trust) -> Result<Address, Misuse> {
    let address = match argument {
        Some(url) => read(url, Given::InArgument)?,
        None => match Address::of_environment().map_err(|error| Misuse(error.to_string()))? {
            Some(address) => address,
            None => {
                let what = "name an ArangoDB server by its URL, http://HOST:8529, as an argument or in MYCELIUM_STORE";
                return Err(Misuse(what.to_owned()));
            }
        },
    };
    Ok(match &trust.store_ca {
        Some(file) => address.with_ca(file),
        None => address,
    })
}

/// The address of the server at a URL, with the user and the password that the environment gives.
///
/// # Errors
/// If the URL or something in the environment is wrong, or a password stands in an argument.
pub(crate) fn read(url: &str, given: Given) -> Result<Address, Misuse> {
    let address = Address::parse(url).map_err(|error| Misuse(error.to_string()))?;
    if given == Given::InArgument && address.has_password() {
        let what = "a password does not belong in an argument, which others can read: set MYCELIUM_STORE_USER and \
                    MYCELIUM_STORE_PASSWORD or MYCELIUM_STORE_PASSWORD_FILE, or the whole URL as MYCELIUM_STORE";
        return Err(Misuse(what.to_owned()));
    }
    address.with_credentials_of_environment().map_err(|error| Misuse(error.to_string()))
}
