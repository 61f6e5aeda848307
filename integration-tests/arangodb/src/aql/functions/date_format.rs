//! `DATE_FORMAT`.

use super::date::{DAY_MS, civil, date, days, iso, iso_week, leap, month_days};
use super::{Calls, Function, function};
use crate::error::Outcome;
use crate::value::Value;

pub(super) const TABLE: &[Function] = &[function("DATE_FORMAT", 2, 3, date_format)];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What a format can ask for; of two that begin alike the longer comes first.
const PLACEHOLDERS: &[&str] = &[
    "yyyy", "mmmm", "wwww", "mmm", "www", "fff", "xxx", "yy", "mm", "dd", "hh", "ii", "ss", "kk", "t", "z",
    "w", "y", "m", "d", "h", "i", "s", "f", "x", "k", "l", "q", "a",
];

fn date_format(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    if a.len() > 2 {
        return Err(calls.not_known("a time zone"));
    }
    let (Some(ms), Some(format)) = (date(&a[0]), a[1].as_str()) else { return calls.mismatch() };
    let year = civil(ms).0;
    if !(0..=9_999).contains(&year) || format.to_ascii_lowercase().contains("%yyyyyy") {
        return Err(calls.not_known("a year of more than four digits"));
    }
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text.push('%');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            rest = after;
        } else {
            let lower = rest.to_ascii_lowercase();
            if let Some(placeholder) =
                PLACEHOLDERS.iter().find(|placeholder| lower.starts_with(**placeholder))
            {
                text.push_str(&part(placeholder, ms));
                rest = &rest[placeholder.len()..];
            }
        }
    }
    text.push_str(rest);
    Ok(Value::from(text))
}

fn part(placeholder: &str, ms: i64) -> String {
    let (year, month, day) = civil(ms);
    let of_day = ms.rem_euclid(DAY_MS);
    let weekday = (ms.div_euclid(DAY_MS) + 4).rem_euclid(7);
    let name = |names: &[&'static str], at: i64| {
        usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or("")
    };
    let number = match placeholder {
        "z" => return iso(ms),
        "mmmm" => return name(&MONTHS, month - 1).to_owned(),
        "mmm" => return name(&MONTHS, month - 1).chars().take(3).collect(),
        "wwww" => return name(&WEEKDAYS, weekday).to_owned(),
        "www" => return name(&WEEKDAYS, weekday).chars().take(3).collect(),
        "t" => ms,
        "w" => weekday,
        "yyyy" | "y" => year,
        "yy" => year % 100,
        "mm" | "m" => month,
        "dd" | "d" => day,
        "hh" | "h" => of_day / 3_600_000,
        "ii" | "i" => of_day / 60_000 % 60,
        "ss" | "s" => of_day / 1_000 % 60,
        "fff" | "f" => of_day % 1_000,
        "xxx" | "x" => ms.div_euclid(DAY_MS) - days(year, 1, 1) + 1,
        "kk" | "k" => iso_week(ms).1,
        "l" => i64::from(leap(year)),
        "q" => (month + 2) / 3,
        _ => month_days(year, month),
    };
    // Those that are written more than once are padded to as many digits.
    format!("{number:0width$}", width = placeholder.len())
}
