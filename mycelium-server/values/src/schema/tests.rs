use super::*;

fn misfit(schema: &str, json: &str) -> String {
    let compiled = Schema::compile(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
    match compiled.judge(json.as_bytes()) {
        Ok(()) => "fits".to_owned(),
        Err(misfit) => misfit.to_string(),
    }
}

#[track_caller]
fn expect(schema: &str, cases: &[(&str, &str)]) {
    for (json, expected) in cases {
        assert_eq!(misfit(schema, json), *expected, "{json} against {schema}");
    }
}

#[test]
fn a_misfit_names_place_expected_and_found_type_and_no_value() {
    expect(
        r#"{"type":"integer"}"#,
        &[
            ("1", "fits"),
            ("1.0", "fits"),
            ("1e3", "fits"),
            ("340282366920938463463374607431768211455", "fits"),
            ("\"hunter2\"", "expected integer, found string"),
            ("1.5", "expected integer, found number"),
            ("null", "expected integer, found null"),
            ("[1]", "expected integer, found array"),
            ("NaN", "byte 0: NaN is not JSON"),
        ],
    );
    expect(
        r##"{"type":"object","properties":{"rows":{"type":"array","items":{"$ref":"#/$defs/Row"}}},
            "required":["rows"],"additionalProperties":false,
            "$defs":{"Row":{"type":"object","properties":{"price":{"type":["number","null"]}},
                "additionalProperties":{"type":"string"}}}}"##,
        &[
            (r#"{"rows":[{"price":1.5},{"price":null,"x":"y"}]}"#, "fits"),
            (
                r#"{"rows":[{},{"price":"hunter2"}]}"#,
                "at `/rows/1/price`: expected number or null, found string",
            ),
            (r#"{"rows":[{"a":"b","hunter2":7}]}"#, "at `/rows/0/(entry 1)`: expected string, found integer"),
            ("{}", "expected an entry `rows`, found none"),
            (
                r#"{"rows":[],"hunter2":1}"#,
                "expected no entry but those that the schema names, found another",
            ),
        ],
    );
    expect(
        r#"{"const":"hunter1"}"#,
        &[
            ("\"hunter1\"", "fits"),
            ("\"hunter2\"", "expected the one value that the schema allows, found another string"),
        ],
    );
    expect(
        r#"{"enum":["a",1,{"x":[1.0]}]}"#,
        &[
            ("\"a\"", "fits"),
            ("1.0", "fits"),
            (r#"{"x":[1]}"#, "fits"),
            ("\"hunter2\"", "expected one of the 3 values that the schema lists, found another string"),
        ],
    );
}

#[test]
fn numbers_are_judged_by_their_digits() {
    expect(
        r#"{"type":"integer","format":"uint128","minimum":0}"#,
        &[
            ("340282366920938463463374607431768211455", "fits"),
            ("-1", "expected a number of at least 0, found a lesser one"),
        ],
    );
    expect(
        r#"{"maximum":18446744073709551615}"#,
        &[
            ("18446744073709551615", "fits"),
            (
                "18446744073709551616",
                "expected a number of at most 18446744073709551615, found a greater one",
            ),
        ],
    );
    expect(
        r#"{"const":9007199254740993}"#,
        &[
            ("9007199254740993", "fits"),
            ("9007199254740992", "expected the one value that the schema allows, found another integer"),
        ],
    );
    expect(
        r#"{"exclusiveMinimum":0,"exclusiveMaximum":1,"multipleOf":0.1}"#,
        &[
            ("0.3", "fits"),
            ("0", "expected a number above 0, found one that is not"),
            ("1", "expected a number below 1, found one that is not"),
            ("0.35", "expected a multiple of 0.1, found none"),
            ("\"0.35\"", "fits"),
        ],
    );
    expect(
        r#"{"minimum":0,"exclusiveMinimum":true}"#,
        &[("0", "expected a number above 0, found one that is not"), ("1", "fits")],
    );
}

#[test]
fn texts_lists_and_maps_are_judged() {
    expect(
        r#"{"minLength":1,"maxLength":1,"pattern":"^\\p{L}$"}"#,
        &[
            ("\"ä\"", "fits"),
            ("\"\"", "expected string of 1 characters, found another number of characters"),
            ("\"1\"", "expected a string of the schema's pattern, found another string"),
            ("1", "fits"),
        ],
    );
    expect(
        r#"{"prefixItems":[{"type":"string"},{"type":"integer"}],"items":false,"minItems":2}"#,
        &[
            (r#"["a",1]"#, "fits"),
            (r#"["a","b"]"#, "at `/1`: expected integer, found string"),
            (r#"["a"]"#, "expected array of at least 2 elements, found another number of elements"),
            (r#"["a",1,2]"#, "at `/2`: expected nothing, found integer"),
        ],
    );
    expect(
        r#"{"items":[{"type":"string"}],"additionalItems":{"type":"integer"}}"#,
        &[(r#"["a",1]"#, "fits"), (r#"["a","b"]"#, "at `/1`: expected integer, found string")],
    );
    expect(
        r#"{"uniqueItems":true}"#,
        &[
            (r#"[1,"1",true,{"a":1,"b":2},{"a":1,"b":3},[1],[[1]]]"#, "fits"),
            ("[1,2,1.0]", "expected elements that all differ, found two that are equal"),
            (
                r#"[{"a":1,"b":2},{"b":2.0,"a":1}]"#,
                "expected elements that all differ, found two that are equal",
            ),
        ],
    );
    expect(
        r#"{"contains":{"const":1},"maxContains":2}"#,
        &[
            ("[0,1]", "fits"),
            ("[]", "expected 1 to 2 elements of a certain kind, found another number of them"),
            ("[1,1,1]", "expected 1 to 2 elements of a certain kind, found another number of them"),
        ],
    );
    expect(
        r#"{"patternProperties":{"^-?\\d+$":{"type":"boolean"}},"additionalProperties":false,
            "propertyNames":{"maxLength":2},"minProperties":1}"#,
        &[
            (r#"{"1":true}"#, "fits"),
            (r#"{"1":2}"#, "at `/(entry 0)`: expected boolean, found integer"),
            (r#"{"x":true}"#, "expected no entry but those that the schema names, found another"),
            (
                r#"{"123":true}"#,
                "at `/(entry 0)`: expected string of at most 2 characters, found another number of characters",
            ),
            ("{}", "expected object of at least 1 entries, found another number of entries"),
        ],
    );
    expect(
        r#"{"dependentRequired":{"a":["b"]},"dependencies":{"c":["d"],"e":{"required":["f"]}}}"#,
        &[
            (r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}"#, "fits"),
            (r#"{"a":1}"#, "expected an entry `b`, found none"),
            (r#"{"c":1}"#, "expected an entry `d`, found none"),
            (r#"{"e":1}"#, "expected an entry `f`, found none"),
        ],
    );
}

#[test]
fn of_alternatives_the_one_is_told_that_was_most_likely_meant() {
    expect(
        r##"{"anyOf":[{"$ref":"#/$defs/Point"},{"type":"null"}],
            "$defs":{"Point":{"type":"object","properties":{"x":{"type":"integer"}}}}}"##,
        &[
            ("null", "fits"),
            (r#"{"x":"a"}"#, "at `/x`: expected integer, found string"),
            ("7", "expected object or null, found integer"),
        ],
    );
    expect(
        r#"{"oneOf":[{"type":"string","minLength":3},{"type":"integer"},{"multipleOf":2,"type":"number"}]}"#,
        &[
            ("3", "fits"),
            ("\"ab\"", "expected string of at least 3 characters, found another number of characters"),
            ("2", "expected one alternative alone to fit, found 2 that do"),
            ("[]", "expected number or string, found array"),
        ],
    );
    expect(
        r#"{"anyOf":[{"const":1},{"const":2}],"not":{"const":2}}"#,
        &[
            ("1", "fits"),
            ("2", "expected what the schema does not exclude, found integer that it does"),
            ("3", "expected one of 2 alternatives, found integer that is none"),
        ],
    );
    expect(
        r#"{"if":{"type":"integer"},"then":{"minimum":1},"else":{"type":"string"}}"#,
        &[
            ("1", "fits"),
            ("\"a\"", "fits"),
            ("0", "expected a number of at least 1, found a lesser one"),
            ("null", "expected string, found null"),
        ],
    );
}

#[test]
fn references_lead_within_the_schema_alone() {
    expect(
        r##"{"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"$ref":"#there"},"x":{"$anchor":"there","type":"null"}}}"##,
        &[("null", "fits"), ("1", "expected null, found integer")],
    );
    expect(
        r##"{"$id":"https://example.com/root.json","$ref":"item.json#/$defs/y",
            "$defs":{"item":{"$id":"https://example.com/item.json","$defs":{"y":{"$ref":"#/$defs/z"},"z":{"type":"null"}}}}}"##,
        &[("null", "fits"), ("1", "expected null, found integer")],
    );
    expect(
        r##"{"type":"object","properties":{"next":{"$ref":"#"},"n":{"type":"integer"}}}"##,
        &[
            (r#"{"next":{"next":{"n":1}}}"#, "fits"),
            (r#"{"next":{"next":{"n":"1"}}}"#, "at `/next/next/n`: expected integer, found string"),
        ],
    );
    // What draft 7 says beside a reference does not count.
    expect(
        r##"{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","type":"string",
            "definitions":{"a":{"type":"integer"}}}"##,
        &[("1", "fits")],
    );
    expect(
        r#"{"$ref":"https://example.com/elsewhere.json","type":"null"}"#,
        &[("null", "fits"), ("1", "expected null, found integer")],
    );
}

#[test]
fn what_is_not_judged_is_taken() {
    for schema in [
        "",
        "true",
        "{}",
        r#"{"format":"date-time"}"#,
        r#"{"x-unknown":[1,2]}"#,
        r#"{"unevaluatedProperties":false}"#,
        r#"{"$dynamicRef":"\#x"}"#.replace('\\', "").as_str(),
        // As the schemas of Python's decimals have it.
        r#"{"pattern":"^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}"#,
        r#"{"patternProperties":{"(?=a)":{"type":"null"}},"additionalProperties":false}"#,
        r#"{"pattern":"a{1000}{1000}{1000}"}"#,
    ] {
        assert_eq!(misfit(schema, r#"{"a":1}"#), "fits", "{schema}");
        assert_eq!(misfit(schema, "\"x\""), "fits", "{schema}");
        assert_ne!(misfit(schema, "{"), "fits", "it has to be JSON all the same");
    }
    assert!(Schema::compile("").expect("it is one").is_any());
    assert!(Schema::compile(r#"{"title":"anything"}"#).expect("it is one").is_any());
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    for (schema, expected) in [
        ("[]", "must be an object or a boolean"),
        ("5", "must be an object or a boolean"),
        ("null", "must be an object or a boolean"),
        ("\"integer\"", "must be an object or a boolean"),
        ("integer", "byte 0: is not valid JSON"),
        ("{\"type\":", "byte 8: is not valid JSON"),
        ("{\"type\":\"null\",\"type\":\"null\"}", "byte 15: a duplicate key"),
        (r#"{"type":"int"}"#, "at `/type`: `int` is no type"),
        (r#"{"type":[]}"#, "at `/type`: must be the name of a type, or an array of such"),
        (r#"{"type":["null",{}]}"#, "at `/type`: must be the name of a type, or an array of such"),
        (
            r#"{"properties":{"a/b":{"items":[true,{"type":1}]}}}"#,
            "at `/properties/a~1b/items/1/type`: must be the name of a type, or an array of such",
        ),
        (r#"{"properties":[]}"#, "at `/properties`: must be an object"),
        (r#"{"properties":{"a":1}}"#, "at `/properties/a`: must be an object or a boolean"),
        (r#"{"$defs":{"a":{"minimum":"1"}}}"#, "at `/$defs/a/minimum`: must be a number"),
        (r#"{"multipleOf":0}"#, "at `/multipleOf`: must be a number above 0"),
        (r#"{"minLength":-1}"#, "at `/minLength`: must be a whole number of at least 0"),
        (r#"{"maxItems":1.5}"#, "at `/maxItems`: must be a whole number of at least 0"),
        (r#"{"required":"a"}"#, "at `/required`: must be an array of strings"),
        (r#"{"required":true}"#, "at `/required`: must be an array of strings"),
        (r#"{"enum":1}"#, "at `/enum`: must be an array"),
        (r#"{"anyOf":[]}"#, "at `/anyOf`: must be an array that is not empty"),
        (r#"{"anyOf":[{},7]}"#, "at `/anyOf/1`: must be an object or a boolean"),
        (r#"{"uniqueItems":1}"#, "at `/uniqueItems`: must be a boolean"),
        (r#"{"pattern":"("}"#, "at `/pattern`: is no regular expression"),
        (r#"{"pattern":"[a"}"#, "at `/pattern`: is no regular expression"),
        (r#"{"pattern":"*a"}"#, "at `/pattern`: is no regular expression"),
        (r##"{"$ref":"#/$defs/nowhere"}"##, "at `/$ref`: refers to nothing"),
        (r##"{"$ref":"#"}"##, "leads back to itself without going into the value"),
        (
            r##"{"properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"}]},"b":{"not":{"$ref":"#/$defs/a"}}}}"##,
            "at `/$defs/a`: leads back to itself without going into the value",
        ),
    ] {
        let error = Schema::compile(schema).expect_err(schema);
        assert_eq!(error.to_string(), expected, "{schema}");
    }
}

#[test]
fn no_schema_takes_more_than_its_bounds() {
    let error = |schema: String| Schema::compile(&schema).expect_err("it is refused").to_string();
    let many = format!("{{\"anyOf\":[{}]}}", vec!["{\"type\":\"null\"}"; 10_001].join(","));
    assert_eq!(error(many), "holds more than 10000 schemas");
    let deep = "{\"not\":".repeat(129) + "{}" + &"}".repeat(129);
    assert_eq!(error(deep), "byte 896: nests more than 128 deep");
    let patterns: Vec<String> =
        (0..1_000).map(|n| format!("{{\"pattern\":\"\\\\w{{{n}}}\\\\pL{{200}}\"}}")).collect();
    assert_eq!(
        error(format!("{{\"anyOf\":[{}]}}", patterns.join(","))),
        "takes more memory than a schema may"
    );
    let long = "x".repeat(1_000);
    let mut place = "{\"type\":\"int\"}".to_owned();
    for _ in 0..60 {
        place = format!("{{\"properties\":{{\"{long}\":{place}}}}}");
    }
    let told = error(place);
    assert!(told.len() < 600 && told.contains("steps more)`: `int` is no type"), "{told}");
}

#[test]
fn no_schema_hangs_or_overflows_whoever_judges() {
    // Twice as many ways for each definition: 2^100 of them.
    let doubling: Vec<String> = (0..100)
        .map(|n| {
            format!(
                "\"d{n}\":{{\"allOf\":[{{\"$ref\":\"#/$defs/d{m}\"}},{{\"$ref\":\"#/$defs/d{m}\"}}]}}",
                m = n + 1
            )
        })
        .collect();
    let doubling = format!(
        "{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d100\":{{\"type\":\"null\"}}}}}}",
        doubling.join(",")
    );
    // As long a way without going into the value as there can be, at each level of a value as deep as there can be.
    let links: Vec<String> =
        (0..4_000).map(|n| format!("\"d{n}\":{{\"$ref\":\"#/$defs/d{}\"}}", n + 1)).collect();
    let chain = format!(
        "{{\"$ref\":\"#/$defs/d0\",\"$defs\":{{{},\"d4000\":{{\"items\":{{\"$ref\":\"#\"}}}}}}}}",
        links.join(",")
    );
    let patterns = ["{\"pattern\":\"(x?){900}y\"}"; 5].join(",");
    let patterns = format!("{{\"allOf\":[{patterns}]}}");
    let deep = "[".repeat(128) + &"]".repeat(128);
    let text = format!("\"{}y\"", "x".repeat(60_000));
    let numbers: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let numbers = format!("[{}]", numbers.join(","));
    let digits = "1".repeat(300);
    let long = format!("[{}]", vec![digits.as_str(); 200].join(","));
    let among = format!(
        "{{\"items\":{{\"enum\":[{}]}}}}",
        vec![format!("{digits}2"); 2_000].join(",") + "," + &digits
    );
    let begin = std::time::Instant::now();
    // What an asynchronous runtime gives its threads.
    let small = std::thread::Builder::new().stack_size(1024 * 1024);
    let judged = small.spawn(move || {
        for (schema, json) in [
            (&doubling, "null"),
            (&chain, &deep),
            (&patterns, &text),
            (&"{\"uniqueItems\":true}".to_owned(), &numbers),
            (&among, &long),
        ] {
            assert_eq!(misfit(schema, json), "fits", "what is not judged to its end is taken");
        }
    });
    judged.expect("a thread").join().expect("no panic");
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}
