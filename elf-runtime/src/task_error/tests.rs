use super::*;

#[derive(Debug, thiserror::Error)]
#[error("cannot read the scale")]
struct ScaleError(#[source] std::num::ParseIntError);

fn parse_error() -> std::num::ParseIntError {
    "x".parse::<i32>().unwrap_err()
}

fn raise() -> Result<(), TaskError> {
    Err(ScaleError(parse_error()))?;
    Ok(())
}

#[test]
fn the_question_mark_names_its_file_and_line_and_the_chain() {
    let error = raise().unwrap_err();
    assert_eq!(error.failure_type(), "ScaleError");
    assert_eq!(error.message_text(), "cannot read the scale");
    assert_eq!(
        error.causes(),
        [Cause {
            failure_type: "ParseIntError".to_owned(),
            message: "invalid digit found in string".to_owned()
        }]
    );
    let [frame] = error.frames() else { panic!("one frame expected") };
    assert!(frame.file.ends_with("task_error/tests.rs"), "{frame:?}");
    let expected = include_str!("tests.rs")
        .lines()
        .position(|line| line.contains("Err(ScaleError(parse_error()))?;"))
        .unwrap();
    assert_eq!(frame.line as usize, expected + 1);
}

#[test]
fn context_keeps_the_error_as_its_nearest_cause() {
    let line = line!() + 1;
    let error = Err::<(), _>(parse_error()).context("cannot count").unwrap_err();
    assert_eq!(error.to_string(), "cannot count: invalid digit found in string");
    assert_eq!(error.failure_type(), "ParseIntError");
    assert_eq!(error.causes()[0].message, "invalid digit found in string");
    assert_eq!(error.frames()[0].line, line);
    let error = Err::<(), _>(error).with_context(|| "step 2").unwrap_err();
    assert_eq!(error.to_string(), "step 2: cannot count: invalid digit found in string");
    assert_eq!(error.causes().len(), 2);
    assert_eq!(error.frames()[0].line, line, "the place is where it was raised");
}

#[test]
fn boxed_errors_and_texts_become_failures() {
    let boxed: BoxError = Box::new(parse_error());
    assert_eq!(TaskError::from_boxed(boxed).failure_type(), "ParseIntError");
    let text = Err::<(), _>("no animals").or_fail().unwrap_err();
    assert_eq!((text.failure_type(), text.message_text()), ("Error", "no animals"));
}

#[test]
fn a_boxed_task_error_comes_back_as_it_was() {
    let line = line!() + 1;
    let boxed: BoxError = TaskError::new("Hungry", "no honey").into();
    assert_eq!(boxed.to_string(), "no honey");
    let back = TaskError::from_boxed(boxed);
    assert_eq!((back.failure_type(), back.frames()[0].line), ("Hungry", line));
}

#[test]
fn what_travels_is_bounded_and_cut_at_characters() {
    let mut error = TaskError::new("T".repeat(1_000), "ü".repeat(100_000))
        .with_details("d".repeat(limits::FAILURE_DETAILS_BYTES_MAX + 1));
    for n in 0..300 {
        error = error.context(n);
    }
    let wire = v1::Failure::from(error);
    assert!(wire.r#type.len() <= limits::NAME_BYTES_MAX);
    assert!(wire.message.len() <= limits::FAILURE_MESSAGE_BYTES_MAX);
    for cut in [&wire.r#type, &wire.message, &wire.details, &wire.causes[0].message] {
        assert!(cut.contains("… (cut, of ") && cut.ends_with(" bytes)"), "{}", &cut[cut.len() - 40..]);
    }
    assert!(wire.details.ends_with("d… (cut, of 65537 bytes)"));
    assert_eq!(wire.details.len(), limits::FAILURE_DETAILS_BYTES_MAX);
    assert_eq!(wire.causes.len(), limits::FAILURE_FRAMES_MAX);
    assert!(wire.causes.iter().map(|c| c.message.len()).sum::<usize>() <= limits::FAILURE_MESSAGE_BYTES_MAX);
}

#[test]
fn an_error_that_is_its_own_source_has_an_end() {
    #[derive(Debug)]
    struct Ouroboros;
    impl fmt::Display for Ouroboros {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("ouroboros")
        }
    }
    impl StdError for Ouroboros {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&Self)
        }
    }
    assert_eq!(TaskError::from(Ouroboros).causes().len(), limits::FAILURE_FRAMES_MAX);
}
