//! Functions of dates, in UTC; arguments that name other time zones are refused.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Calls, Function, argument, function};
use crate::error::Outcome;
use crate::value::Value;

pub(super) const DAY_MS: i64 = 86_400_000;

pub(super) const TABLE: &[Function] = &[
    function("DATE_NOW", 0, 0, |calls, _| Ok(Value::Int(now_ms() + calls.clock_ahead_ms))),
    function("DATE_ISO8601", 1, 1, |calls, a| of(calls, a, 1, |ms| Value::from(iso(ms)))),
    function("DATE_TIMESTAMP", 1, 1, |calls, a| of(calls, a, 1, Value::Int)),
    function("IS_DATESTRING", 1, 1, |_, a| Ok((a[0].as_str().and_then(parse).is_some()).into())),
    function("DATE_YEAR", 1, 2, |calls, a| of(calls, a, 1, |ms| Value::Int(civil(ms).0))),
    function("DATE_MONTH", 1, 2, |calls, a| of(calls, a, 1, |ms| Value::Int(civil(ms).1))),
    function("DATE_DAY", 1, 2, |calls, a| of(calls, a, 1, |ms| Value::Int(civil(ms).2))),
    function("DATE_HOUR", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| Value::Int(ms.rem_euclid(DAY_MS) / 3_600_000))
    }),
    function("DATE_MINUTE", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| Value::Int(ms.rem_euclid(3_600_000) / 60_000))
    }),
    function("DATE_SECOND", 1, 1, |calls, a| of(calls, a, 1, |ms| Value::Int(ms.rem_euclid(60_000) / 1_000))),
    function("DATE_MILLISECOND", 1, 1, |calls, a| of(calls, a, 1, |ms| Value::Int(ms.rem_euclid(1_000)))),
    function("DATE_DAYOFWEEK", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| Value::Int((ms.div_euclid(DAY_MS) + 4).rem_euclid(7)))
    }),
    function("DATE_DAYOFYEAR", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| Value::Int(ms.div_euclid(DAY_MS) - days(civil(ms).0, 1, 1) + 1))
    }),
    function("DATE_ISOWEEK", 1, 2, |calls, a| of(calls, a, 1, |ms| Value::Int(iso_week(ms).1))),
    function("DATE_ISOWEEKYEAR", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| {
            let (year, week) = iso_week(ms);
            Value::object([("week", Value::Int(week)), ("year", Value::Int(year))])
        })
    }),
    function("DATE_LEAPYEAR", 1, 2, |calls, a| of(calls, a, 1, |ms| leap(civil(ms).0).into())),
    function("DATE_QUARTER", 1, 2, |calls, a| of(calls, a, 1, |ms| Value::Int((civil(ms).1 + 2) / 3))),
    function("DATE_DAYS_IN_MONTH", 1, 2, |calls, a| {
        of(calls, a, 1, |ms| {
            let (year, month, _) = civil(ms);
            Value::Int(month_days(year, month))
        })
    }),
    function("DATE_ADD", 3, 4, |calls, a| shift(calls, a, 1)),
    function("DATE_SUBTRACT", 3, 4, |calls, a| shift(calls, a, -1)),
    function("DATE_DIFF", 3, 6, diff),
    function("DATE_TRUNC", 2, 3, trunc),
    function("DATE_ROUND", 3, 4, round),
];

pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Applies to the first argument; `plain` arguments in all may be given.
fn of(calls: &mut Calls, a: &[Value], plain: usize, give: impl FnOnce(i64) -> Value) -> Outcome<Value> {
    if a.len() > plain {
        return Err(calls.not_known("a time zone"));
    }
    match date(&a[0]) {
        Some(ms) => Ok(give(ms)),
        None => {
            calls.warn(1572, "invalid date value");
            Ok(Value::Null)
        }
    }
}

pub(super) fn date(value: &Value) -> Option<i64> {
    match value {
        Value::Int(ms) => Some(*ms),
        Value::Double(ms) => Some(*ms as i64),
        Value::Str(text) => parse(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Days from 1970 to a date of the Gregorian calendar.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day.
pub(super) fn civil(ms: i64) -> (i64, i64, i64) {
    let z = ms.div_euclid(DAY_MS) + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

pub(super) fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

pub(super) fn iso_week(ms: i64) -> (i64, i64) {
    // The week belongs to the year in which its Thursday lies.
    let day = ms.div_euclid(DAY_MS);
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil(thursday * DAY_MS);
    (year, (thursday - days(year, 1, 1)) / 7 + 1)
}

pub(crate) fn iso(ms: i64) -> String {
    let (year, month, day) = civil(ms);
    let time = ms.rem_euclid(DAY_MS);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        time / 3_600_000,
        time / 60_000 % 60,
        time / 1_000 % 60,
        time % 1_000
    )
}

/// Dates and times as ISO 8601 has them, with `Z` or a distance from it.
fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let year = parts.next()??;
    let month = parts.next().unwrap_or(Some(1))?;
    let day = parts.next().unwrap_or(Some(1))?;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    Some(days(year, month, day) * DAY_MS + parse_time(time)?)
}

fn parse_time(time: &str) -> Option<i64> {
    if time.is_empty() {
        return Some(0);
    }
    let (time, offset) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let offset_ms = match offset {
        "" | "Z" | "z" => 0,
        offset => {
            let (hours, minutes) = offset[1..].split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            minutes * if offset.starts_with('-') { -60_000 } else { 60_000 }
        }
    };
    let mut parts = time.split(':');
    let hours = parts.next()?.parse::<i64>().ok()?;
    let minutes = parts.next()?.parse::<i64>().ok()?;
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    let whole = whole.parse::<i64>().ok()?;
    let valid = hours < 24 && minutes < 60 && whole < 60 && parts.next().is_none();
    valid.then_some(hours * 3_600_000 + minutes * 60_000 + whole * 1_000 + ms - offset_ms)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Fixed(i64),
}

fn unit(text: &str) -> Option<Unit> {
    Some(match text.to_ascii_lowercase().as_str() {
        "y" | "year" | "years" => Unit::Year,
        "m" | "month" | "months" => Unit::Month,
        "w" | "week" | "weeks" => Unit::Fixed(7 * DAY_MS),
        "d" | "day" | "days" => Unit::Fixed(DAY_MS),
        "h" | "hour" | "hours" => Unit::Fixed(3_600_000),
        "i" | "minute" | "minutes" => Unit::Fixed(60_000),
        "s" | "second" | "seconds" => Unit::Fixed(1_000),
        "f" | "millisecond" | "milliseconds" => Unit::Fixed(1),
        _ => return None,
    })
}

fn shift(calls: &mut Calls, a: &[Value], sign: i64) -> Outcome<Value> {
    let Some(unit) = argument(a, 2).as_str().and_then(unit) else { return calls.mismatch() };
    let amount = a[1].to_f64() * sign as f64;
    let months = match unit {
        Unit::Year => 12,
        Unit::Month => 1,
        Unit::Fixed(ms) => {
            return of(calls, a, 3, |date| Value::from(iso(date + (amount * ms as f64) as i64)));
        }
    };
    if amount.fract() != 0.0 {
        return Err(calls.not_known("parts of months"));
    }
    of(calls, a, 3, |date| {
        let (year, month, day) = civil(date);
        let total = year * 12 + month - 1 + amount as i64 * months;
        // A day that the month does not have runs on into the next.
        let start = days(total.div_euclid(12), total.rem_euclid(12) + 1, 1);
        Value::from(iso((start + day - 1) * DAY_MS + date.rem_euclid(DAY_MS)))
    })
}

fn diff(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(Unit::Fixed(ms)) = a[2].as_str().and_then(unit) else {
        return Err(calls.not_known("a unit that is not of one length"));
    };
    let as_float = argument(a, 3).is_true();
    if a.len() > 4 || matches!(argument(a, 3), Value::Str(_)) {
        return Err(calls.not_known("a time zone"));
    }
    let Some(end) = date(&a[1]) else { return calls.mismatch() };
    of(calls, &a[..1], 1, |start| {
        let exact = (end - start) as f64 / ms as f64;
        if as_float { Value::double(exact) } else { Value::Int((end - start) / ms) }
    })
}

fn trunc(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(unit) = a[1].as_str().and_then(unit).filter(|unit| *unit != Unit::Fixed(7 * DAY_MS)) else {
        return Err(calls.not_known("the unit"));
    };
    of(calls, a, 2, |date| {
        let (year, month, _) = civil(date);
        Value::from(iso(match unit {
            Unit::Year => days(year, 1, 1) * DAY_MS,
            Unit::Month => days(year, month, 1) * DAY_MS,
            Unit::Fixed(ms) => date - date.rem_euclid(ms),
        }))
    })
}

fn round(calls: &mut Calls, a: &[Value]) -> Outcome<Value> {
    let Some(Unit::Fixed(ms)) = a[2].as_str().and_then(unit) else {
        return Err(calls.not_known("a unit that is not of one length"));
    };
    let step = a[1].to_i64().saturating_mul(ms);
    if step <= 0 {
        return calls.mismatch();
    }
    of(calls, a, 3, |date| Value::from(iso(date - date.rem_euclid(step))))
}
