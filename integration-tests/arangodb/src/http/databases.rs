//! `/_api/database`

use std::sync::Arc;

use super::auth::{Access, User, demand_database};
use super::request::{Answer, Request, bad_type, only, text};
use super::{demand_changeable, no_endpoint};
use crate::error::{Failure, Outcome};
use crate::state::{SYSTEM, Shared, lock};
use crate::store::Database;
use crate::value::{Object, Value};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

pub(super) fn route(shared: &Shared, request: &Request, path: &[&str]) -> Outcome<Answer> {
    request.only_query(&[])?;
    match (request.method.as_str(), path) {
        ("GET", ["current"]) => current(shared, request),
        ("GET", ["user"]) => {
            let server = lock(&shared.server);
            let user = server.users.get(&request.user);
            let may = |name: &Arc<str>| user.is_some_and(|user| user.database(name) > Access::None);
            let names = server.databases.keys().filter(|name| may(name)).cloned().map(Value::Str);
            Ok(Answer::result(200, Value::array(names.collect())))
        }
        (_, []) | ("DELETE", [_]) if &*request.database != SYSTEM => {
            Err(Failure::new(1230, "operation only allowed in system database"))
        }
        ("GET", []) => {
            let server = lock(&shared.server);
            let names = server.databases.keys().cloned().map(Value::Str);
            Ok(Answer::result(200, Value::array(names.collect())))
        }
        ("POST", []) => {
            demand_changeable(shared)?;
            create(shared, request)
        }
        ("DELETE", [name]) => {
            demand_changeable(shared)?;
            let mut server = lock(&shared.server);
            demand_database(&server, &request.user, SYSTEM, Access::Write)?;
            if *name == SYSTEM {
                return Err(Failure::new(11, "forbidden").status(403));
            }
            server.database(name)?;
            server.databases.remove(*name);
            server.cursors.retain(|_, cursor| *cursor.database != **name);
            server.transactions.retain(|_, transaction| *transaction.database != **name);
            Ok(Answer::result(200, Value::Bool(true)))
        }
        _ => Err(no_endpoint(request)),
    }
}

fn current(shared: &Shared, request: &Request) -> Outcome<Answer> {
    let faults = lock(&shared.faults).clone();
    let server = lock(&shared.server);
    let database = server.database(&request.database)?;
    let mut told = vec![
        ("id", Value::from(database.id.to_string())),
        ("name", Value::Str(request.database.clone())),
        ("isSystem", Value::Bool(&*request.database == SYSTEM)),
    ];
    if faults.major() < 4 {
        told.push(("path", Value::str("none")));
    }
    if let Some(sharding) = faults.sharding_of(&database.sharding) {
        told.extend([
            ("sharding", Value::from(sharding)),
            ("replicationFactor", Value::Int(database.replication_factor)),
            ("writeConcern", Value::Int(database.write_concern)),
        ]);
    }
    Ok(Answer::result(200, Value::object(told)))
}

fn create(shared: &Shared, request: &Request) -> Outcome<Answer> {
    let body = request.object(&["name", "options", "users"])?;
    let name = text(&body, "name")?.unwrap_or_default();
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic());
    let rest = characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !first || !rest || name.len() > NAME_BYTES_MAX {
        return Err(Failure::new(1229, "database name invalid"));
    }
    let none = Object::default();
    let options = match body.get("options") {
        None => &none,
        Some(options) => options.as_object().ok_or_else(|| bad_type("options"))?,
    };
    only(options, &["sharding", "replicationFactor", "writeConcern"], "options")?;
    let mut server = lock(&shared.server);
    demand_database(&server, &request.user, SYSTEM, Access::Write)?;
    if server.databases.contains_key(&name) {
        return Err(Failure::new(1207, "duplicate name"));
    }
    let sharding = text(options, "sharding")?.unwrap_or_default();
    if !matches!(&*sharding, "" | "flexible" | "single") {
        return Err(Failure::unknown(10, format!("the sharding '{sharding}'")));
    }
    let mut database = Database::new(server.new_id());
    let whole = |name| match options.get(name) {
        None => Ok(1),
        Some(Value::Int(number)) if *number >= 1 => Ok(*number),
        Some(_) => Err(bad_type(name)),
    };
    database.sharding = sharding;
    database.replication_factor = whole("replicationFactor")?;
    database.write_concern = whole("writeConcern")?;
    if database.write_concern > database.replication_factor {
        return Err(Failure::new(10, "writeConcern must not be greater than replicationFactor"));
    }
    for user in body.get("users").and_then(Value::as_array).into_iter().flatten() {
        let user = user.as_object().ok_or_else(|| bad_type("users"))?;
        only(user, &["username", "passwd", "active", "extra"], "users")?;
        let username = text(user, "username")?.unwrap_or_default().to_string();
        let password = text(user, "passwd")?.unwrap_or_default().to_string();
        let known = server.users.entry(username).or_insert_with(|| User { password, ..User::default() });
        known.databases.insert(name.to_string(), Access::Write);
    }
    // Whoever makes a database may use it.
    if let Some(user) = server.users.get_mut(&request.user) {
        user.databases.insert(name.to_string(), Access::Write);
    }
    server.databases.insert(name, database);
    Ok(Answer::result(201, Value::Bool(true)))
}
