//! Values as texts, and texts as other texts.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::convert::compact;
use super::operand::{any, text};
use super::plain;
use crate::error::{ErrorKind, Failure};
use crate::json;
use crate::table::{Operation, Parameter};
use crate::types::{Type, Types};
use crate::value::Value;

const STRING: Types = Types::of(&[Type::String]);
const TEXT: &[Parameter] = &[Parameter::new("string", STRING)];

pub(crate) const OPERATIONS: &[Operation] = &[
    plain(
        "json.encode",
        &[Parameter::any("value")],
        STRING,
        &[],
        "The JSON text of the value, without blanks between its parts.",
        |operands, budget| {
            let value = any(operands, 0)?;
            budget.value(1, value.encoded_len())?;
            utf8(&compact(value, budget)?)
        },
    ),
    plain(
        "json.decode",
        TEXT,
        Types::ANY,
        &[ErrorKind::InvalidValue],
        "The value of which the string is the JSON text.",
        |operands, budget| {
            let text = text(operands, 0)?;
            budget.value(1, text.len())?;
            match json::check(text.as_bytes()) {
                Ok(_depth) => Ok(Value::raw(&Bytes::copy_from_slice(text.as_bytes()))),
                Err(error) => Err(Failure::invalid(format!("the string is not JSON: {error}"))),
            }
        },
    ),
    plain(
        "base64.encode",
        TEXT,
        STRING,
        &[],
        "The UTF-8 bytes of the string in base64, with the standard alphabet and padding.",
        |operands, budget| {
            let text = text(operands, 0)?;
            budget.value(1, (text.len() / 3 + 1).saturating_mul(4))?;
            Ok(Value::text(BASE64_STANDARD.encode(text.as_bytes())))
        },
    ),
    plain(
        "base64.decode",
        TEXT,
        STRING,
        &[ErrorKind::InvalidValue],
        "The string of which this is the base64, with the standard alphabet and padding.",
        |operands, budget| {
            let text = text(operands, 0)?;
            budget.value(1, text.len())?;
            let bytes = BASE64_STANDARD
                .decode(text.as_bytes())
                // Its error quotes a byte of the string.
                .map_err(|_| Failure::invalid("the string is not base64"))?;
            utf8(&bytes)
        },
    ),
    plain(
        "sha256",
        TEXT,
        STRING,
        &[],
        "The SHA-256 of the UTF-8 bytes of the string, as 64 hexadecimal digits.",
        |operands, budget| {
            let text = text(operands, 0)?;
            budget.steps(text.len() / 8)?;
            let digest = Sha256::digest(text.as_bytes());
            Ok(Value::text(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        },
    ),
];

fn utf8(bytes: &[u8]) -> Result<Value, Failure> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::text(text)),
        Err(error) => Err(Failure::invalid(format!("the bytes are not UTF-8: {error}"))),
    }
}
