//! What is wrong with the variables of OpenTelemetry. The libraries take their defaults for what they cannot read, and say so in
//! a log that is not there yet.

use std::ops::RangeInclusive;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// The variables that say where spans go, of which the first wins.
pub(super) const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SAMPLERS: [&str; 3] = ["always_on", "always_off", "traceidratio"];

const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const BATCH: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
/// How many spans wait at most if nobody says so: what OpenTelemetry asks for.
const QUEUE_DEFAULT: usize = 2_048;
/// The room for all of them is taken from the beginning: some 400 bytes for each.
const QUEUE_MAX: u64 = 1_000_000;
/// In milliseconds: an hour. What is longer is meant to be something else.
const LONG_MS: u64 = 3_600_000;

/// The variable of this end, that of traces alone before the one of all signals.
pub(super) fn of_traces(name: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")]
}

/// How many spans wait at most. Only of use where there are no [`problems`].
pub(super) fn queue_size(variable: impl Fn(&str) -> Option<String>) -> usize {
    variable(QUEUE).and_then(|value| value.parse().ok()).unwrap_or(QUEUE_DEFAULT)
}

/// What is wrong with them, each problem with its variable and what it may be.
pub(super) fn problems(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    // The libraries do not trim either.
    let mut check = |name: &str, is_right: &dyn Fn(&str) -> bool, what: &str| {
        if let Some(value) = variable(name).filter(|value| !is_right(value)) {
            problems.push(format!("{name}: `{}` {what}", without_user(&value)));
        }
    };
    for name in ENDPOINTS {
        check(name, &is_endpoint, "is no URL of http or https without a user, such as http://127.0.0.1:4317");
    }
    // That of traces wins over the one of all.
    let [protocol, of_all] = of_traces("PROTOCOL");
    let protocol = if variable(&protocol).is_some() { protocol } else { of_all };
    check(&protocol, &|value| value == "grpc", "is not spoken: spans are exported by grpc");
    check("OTEL_TRACES_EXPORTER", &|value| value == "otlp", "is not known: it is `otlp` or `none`");
    let is_bool = |value: &str| ["true", "false"].iter().any(|is| value.eq_ignore_ascii_case(is));
    check("OTEL_SDK_DISABLED", &is_bool, "is neither `true` nor `false`");
    for name in of_traces("COMPRESSION") {
        let is_none = |value: &str| value.eq_ignore_ascii_case("none");
        check(&name, &is_none, "is not spoken: spans are exported as they are (`none`)");
    }
    let is_sampler = |value: &str| SAMPLERS.contains(&value.strip_prefix("parentbased_").unwrap_or(value));
    check("OTEL_TRACES_SAMPLER", &is_sampler, "is no sampler, such as parentbased_traceidratio");
    let is_ratio = |value: &str| value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    check("OTEL_TRACES_SAMPLER_ARG", &is_ratio, "is no number from 0 to 1");
    let mut check_number = |name: &str, bounds: RangeInclusive<u64>, unit: &str| {
        let is_within = |value: &str| value.parse().is_ok_and(|number: u64| bounds.contains(&number));
        check(name, &is_within, &format!("is no number from {} to {}{unit}", bounds.start(), bounds.end()));
    };
    for name in of_traces("TIMEOUT") {
        check_number(&name, 1..=LONG_MS, " (milliseconds)");
    }
    for name in ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT"] {
        check_number(name, 1..=LONG_MS, " (milliseconds)");
    }
    check_number(QUEUE, 1..=QUEUE_MAX, "");
    check_number(BATCH, 1..=QUEUE_MAX, "");
    // It is not told of the one because the other is wrong.
    let number = |name: &str, or: usize| variable(name).map_or(Some(or), |value| value.parse().ok());
    if let (Some(batch), Some(queue)) = (number(BATCH, 1), number(QUEUE, QUEUE_DEFAULT))
        && (1..=QUEUE_MAX).contains(&(queue as u64))
        && (1..=QUEUE_MAX).contains(&(batch as u64))
        && batch > queue
    {
        problems.push(format!("{BATCH}: `{batch}` is more than may wait ({QUEUE}: {queue})"));
    }
    for name in of_traces("HEADERS") {
        if variable(&name).is_some_and(|value| !are_headers(&value)) {
            // They are what proves who exports.
            problems
                .push(format!("{name} is no list of NAME=VALUE with commas between (it is not shown here)"));
        }
    }
    problems
}

/// A user would be left out without a word.
fn is_endpoint(value: &str) -> bool {
    value.parse::<Uri>().is_ok_and(|url| {
        let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        !has_user && url.host().is_some() && matches!(url.scheme_str(), Some("http" | "https"))
    })
}

/// Whether this is spoken to by TLS.
pub(super) fn is_secure(endpoint: &str) -> bool {
    endpoint.parse::<Uri>().is_ok_and(|url| url.scheme_str() == Some("https"))
}

/// What may be shown of it: a URL may have a password before its `@`.
fn without_user(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((_user, host)) => format!("...@{host}"),
        None => value.to_owned(),
    }
}

fn are_headers(value: &str) -> bool {
    value.split_terminator(',').all(|header| {
        header.split_once('=').is_some_and(|(name, value)| {
            let value = decoded(value.trim());
            name.trim().parse::<HeaderName>().is_ok()
                && !value.is_empty()
                && HeaderValue::from_bytes(&value).is_ok()
        })
    })
}

/// What stands there with bytes as `%20`; what is malformed stands for itself.
fn decoded(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.as_bytes());
        let hex = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match hex {
            Some(byte) => bytes.push(byte),
            None => return value.as_bytes().to_vec(),
        }
        rest = after.get(2..).unwrap_or_default();
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(given: &[(&str, &str)]) -> Vec<String> {
        problems(|name| given.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn variables_that_cannot_be_used_are_told_of_all_at_once() {
        let right = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:4317/"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20YQ==, x-tenant = bees,"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "None"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_SDK_DISABLED", "False"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000"),
        ];
        assert_eq!(told(&right), [""; 0]);
        let wrong = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "many"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "18446744073709551615"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000000000"),
        ];
        let told = told(&wrong);
        assert_eq!(told.len(), wrong.len(), "{told:?}");
        for ((name, value), problem) in wrong.iter().zip(&told) {
            assert!(problem.starts_with(&format!("{name}: `{value}` is ")), "{problem}");
        }
    }

    #[test]
    fn each_is_held_against_its_bounds() {
        for (name, wrong) in [
            ("OTEL_BSP_MAX_QUEUE_SIZE", &["0", "1000001", "18446744073709551615", "100000000000"][..]),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &["0", "2049", "18446744073709551615"]),
            ("OTEL_BSP_SCHEDULE_DELAY", &["0", "3600001", " 100"]),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &["0", "18446744073709551615"]),
            ("OTEL_TRACES_SAMPLER_ARG", &["-0.1", "1.1", "NaN", "50%"]),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &["http://u:p@a:4317", "unix:///a"]),
            ("OTEL_EXPORTER_OTLP_HEADERS", &["nonsense", "a=", "=b", "a b=c", "a=%0a", "a=1,,b=2"]),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", &["gzip"]),
        ] {
            for value in wrong {
                let told = told(&[(name, value)]);
                assert!(told.len() == 1 && told[0].starts_with(name), "{name}={value}: {told:?}");
            }
        }
        let more = [("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "101")];
        let expected =
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE: `101` is more than may wait (OTEL_BSP_MAX_QUEUE_SIZE: 100)";
        assert_eq!(told(&more), [expected]);
    }

    #[test]
    fn what_is_told_has_no_passwords() {
        for secret in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://user:hushed@collector:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "user:hu@hushed@collector:4317"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: hushed"),
        ] {
            let told = told(&[secret]);
            assert!(told.len() == 1 && !told[0].contains("hushed"), "{told:?}");
        }
    }
}
