//! Users, what they may do, and their tokens.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::request::{Answer, Request, text};
use crate::error::{Failure, Outcome};
use crate::state::{Server, Shared, lock};
use crate::value::{Value, read_json};

/// What somebody may do with a database or a collection, from less to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Read documents, or use a database.
    Read,
    /// Write documents, or administrate a database.
    Write,
}

impl Access {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "ro",
            Self::Write => "rw",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Read, Self::Write].into_iter().find(|access| access.name() == name)
    }
}

/// A user.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) password: String,
    /// By database, or `*`.
    pub(crate) databases: BTreeMap<String, Access>,
    /// By database and collection, each of which may be `*`.
    pub(crate) collections: BTreeMap<(String, String), Access>,
}

impl User {
    pub(crate) fn database(&self, database: &str) -> Access {
        let found = self.databases.get(database).or_else(|| self.databases.get("*"));
        found.copied().unwrap_or(Access::None)
    }

    /// What is said of the collection, else of all of the database, else what the database allows.
    pub(crate) fn collection(&self, database: &str, collection: &str) -> Access {
        let of = |database: &str, collection: &str| {
            self.collections.get(&(database.to_owned(), collection.to_owned())).copied()
        };
        of(database, collection)
            .or_else(|| of(database, "*"))
            .or_else(|| of("*", "*"))
            .unwrap_or_else(|| self.database(database))
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Keyed digest (RFC 2104) over SHA-256, by which tokens are signed.
fn signature(secret: u64, text: &str) -> String {
    const BLOCK: usize = 64;
    let mut key = [0; BLOCK];
    key[..8].copy_from_slice(&secret.to_be_bytes());
    let inner = Sha256::new().chain_update(key.map(|b| b ^ 0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(key.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
    URL_SAFE_NO_PAD.encode(outer)
}

fn token(secret: u64, user: &str, life_seconds: u64) -> String {
    let now = seconds();
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let number = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let body = Value::object([
        ("preferred_username", Value::str(user)),
        ("iss", Value::str("arangodb")),
        // With a fraction, as documented.
        ("iat", Value::double(now as f64 + 0.557_279)),
        ("exp", number(now + life_seconds)),
    ]);
    let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(body.to_json()));
    let signature = signature(secret, &text);
    format!("{text}.{signature}")
}

/// Whose token it is, if it is signed and has not expired.
fn user_of_token(secret: u64, token: &str) -> Option<String> {
    let (text, signed) = token.rsplit_once('.')?;
    let (_, body) = text.split_once('.')?;
    let body = read_json(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
    let valid = signed == signature(secret, text) && body.get("exp").to_f64() > seconds() as f64;
    valid.then(|| body.get("preferred_username").to_text().to_string())
}

/// `POST /_open/auth`
pub(crate) fn log_in(shared: &Shared, request: &Request) -> Outcome<Answer> {
    request.only_query(&[])?;
    let body = request.object(&["username", "password"])?;
    let (Some(name), Some(password)) = (text(&body, "username")?, text(&body, "password")?) else {
        return Err(Failure::new(400, "username and password are wanted"));
    };
    let (life, authentication) = {
        let faults = lock(&shared.faults);
        (faults.token_life.as_secs(), faults.authentication)
    };
    if !authentication {
        return Err(Failure::new(404, "unknown path '/_open/auth'"));
    }
    let server = lock(&shared.server);
    match server.users.get(&*name).filter(|user| user.password == *password) {
        // Nothing but the token, not even that all went well.
        Some(_) => {
            let token = Value::from(token(server.secret, &name, life));
            Ok(Answer::json(200, &Value::object([("jwt", token)])))
        }
        None => Err(Failure::new(401, "Wrong credentials").status(401)),
    }
}

/// Whose request it is.
pub(crate) fn authenticate(server: &Server, header: Option<&str>) -> Outcome<String> {
    let unauthorized = || Failure::new(11, "not authorized to execute this request");
    let (scheme, credentials) = header.and_then(|header| header.split_once(' ')).ok_or_else(unauthorized)?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => user_of_token(server.secret, credentials)
            .filter(|user| server.users.contains_key(user))
            .ok_or_else(unauthorized),
        "basic" => {
            let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials));
            let text =
                decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unauthorized)?;
            let (name, password) = text.split_once(':').ok_or_else(unauthorized)?;
            let known = server.users.get(name).is_some_and(|user| user.password == password);
            if known { Ok(name.to_owned()) } else { Err(unauthorized()) }
        }
        _ => Err(unauthorized()),
    }
}

/// Somebody may not do what he asks for, whoever he is.
pub(crate) fn forbidden() -> Failure {
    Failure::new(11, "forbidden").status(403)
}

/// Demands that the user of a request may do so much with its database.
pub(crate) fn demand_database(server: &Server, user: &str, database: &str, wanted: Access) -> Outcome<()> {
    let has = server.users.get(user).map_or(Access::None, |user| user.database(database));
    if has >= wanted { Ok(()) } else { Err(forbidden()) }
}

pub(crate) fn demand_collection(
    server: &Server,
    user: &str,
    database: &str,
    collection: &str,
    wanted: Access,
) -> Outcome<()> {
    let has = server.users.get(user).map_or(Access::None, |user| user.collection(database, collection));
    if has >= wanted { Ok(()) } else { Err(forbidden()) }
}

/// `/_api/user`
pub(crate) fn users(shared: &Shared, request: &Request) -> Outcome<Answer> {
    request.only_query(&[])?;
    let mut server = lock(&shared.server);
    let path: Vec<&str> = request.path.iter().skip(2).map(String::as_str).collect();
    let own = path.first() == Some(&request.user.as_str()) && request.method == "GET";
    if !own {
        demand_database(&server, &request.user, crate::state::SYSTEM, Access::Write)?;
    }
    if let ("POST", []) = (request.method.as_str(), path.as_slice()) {
        let body = request.object(&["user", "passwd", "active", "extra"])?;
        let name = text(&body, "user")?.ok_or_else(|| Failure::new(1700, "invalid user name"))?;
        if server.users.contains_key(&*name) {
            return Err(Failure::new(1702, "duplicate user"));
        }
        let password = text(&body, "passwd")?.unwrap_or_default().to_string();
        server.users.insert(name.to_string(), User { password, ..User::default() });
        return Ok(Answer::told(
            201,
            &Value::object([
                ("user", Value::Str(name)),
                ("active", Value::Bool(true)),
                ("extra", Value::object::<&str>([])),
            ]),
        ));
    }
    if let ("GET", []) = (request.method.as_str(), path.as_slice()) {
        let told = server.users.keys().map(|name| {
            Value::object([
                ("user", Value::str(name)),
                ("active", Value::Bool(true)),
                ("extra", Value::object::<&str>([])),
            ])
        });
        return Ok(Answer::result(200, Value::array(told.collect())));
    }
    let user = path.first().and_then(|name| server.users.get_mut(*name));
    let user = user.ok_or_else(|| Failure::new(1703, "user not found"))?;
    let grant = || -> Outcome<Access> {
        let grant = text(&*request.object(&["grant"])?, "grant")?.unwrap_or_default();
        Access::parse(&grant).ok_or_else(|| Failure::new(10, "bad grant"))
    };
    match (request.method.as_str(), &path[1..]) {
        ("GET", ["database"]) => {
            let told = user.databases.iter().map(|(name, access)| (name.clone(), Value::str(access.name())));
            Ok(Answer::result(200, Value::object(told)))
        }
        ("GET", ["database", database]) => {
            Ok(Answer::result(200, Value::str(user.database(database).name())))
        }
        ("GET", ["database", database, collection]) => {
            Ok(Answer::result(200, Value::str(user.collection(database, collection).name())))
        }
        ("PUT", ["database", database]) => {
            let access = grant()?;
            user.databases.insert((*database).to_owned(), access);
            Ok(Answer::ok(200, [(*database, Value::str(access.name()))]))
        }
        ("PUT", ["database", database, collection]) => {
            let access = grant()?;
            user.collections.insert(((*database).to_owned(), (*collection).to_owned()), access);
            let name = format!("{database}/{collection}");
            Ok(Answer::ok(200, [(name.as_str(), Value::str(access.name()))]))
        }
        _ => Err(super::no_endpoint(request)),
    }
}
