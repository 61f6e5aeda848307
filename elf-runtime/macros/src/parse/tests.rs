use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;

use super::*;

fn parse(arguments: TokenStream, item: TokenStream) -> Result<MachineElf, Error> {
    machine_elf(arguments, item, Span::call_site())
}

fn messages(item: TokenStream) -> Vec<String> {
    parse(quote!(), item).err().unwrap().into_iter().map(|error| error.to_string()).collect()
}

#[test]
fn a_block_becomes_a_model_of_its_elf() {
    let elf = parse(
        quote!(),
        quote! {
            /// Weighs animals.
            impl zoo::Scale {
                /// Weighs one.
                ///
                /// Slowly.
                pub async fn task_weigh(
                    &self,
                    context: &TaskContext,
                    species: Vec<String>,
                    #[task(default = 2 + 1)] r#type: i64,
                ) -> Result<(i64, i64), TaskError> { unreachable!() }
                fn task_reset(&self, elf_runtime::TaskContext { .. }: elf_runtime::TaskContext) {}
                fn helper(self) {}
            }
        },
    )
    .unwrap();
    assert_eq!((elf.name.to_string().as_str(), elf.docs.as_str()), ("Scale", "Weighs animals."));
    let [weigh, reset] = &elf.tasks[..] else { panic!("two tasks expected") };
    assert_eq!(weigh.docs, "Weighs one.\n\nSlowly.");
    assert!(weigh.is_async && !reset.is_async);
    let names: Vec<String> = weigh.parameters().map(|parameter| name_of(&parameter.name)).collect();
    assert_eq!(names, ["species", "type"]);
    assert!(matches!(weigh.inputs[0], Input::Context { by_reference: true }));
    assert!(matches!(reset.inputs[..], [Input::Context { by_reference: false }]));
    assert!(weigh.parameters().nth(1).unwrap().default.is_some());
    assert_eq!(
        weigh.signature,
        "async fn task_weigh(&self, context: &TaskContext, species: Vec<String>, r#type: i64) -> \
         Result<(i64, i64), TaskError>"
    );
    assert!(matches!(&reset.returns, Type::Tuple(tuple) if tuple.elems.is_empty()));
    assert!(
        !elf.block.to_token_stream().to_string().contains("default"),
        "the block has no attributes of ours"
    );
}

#[test]
fn revisions_follow_the_source_whether_it_is_sent_or_not() {
    let of = |arguments, item| parse(arguments, item).unwrap().tasks.remove(0).source;
    let one = of(quote!(), quote!(impl A { fn task_a(&self) -> i64 { 1 } }));
    let hidden = of(quote!(source = false), quote!(impl A { fn task_a(&self) -> i64 { 1 } }));
    let other = of(quote!(), quote!(impl A { fn task_a(&self) -> i64 { 2 } }));
    assert_eq!(one.revision, hidden.revision);
    assert_ne!(one.revision, other.revision);
    assert!(one.text.is_some() && hidden.text.is_none());
}

#[test]
fn an_option_may_be_left_out_and_has_none_unless_another_default_is_given() {
    let elf = parse(
        quote!(),
        quote!(
            impl A {
                fn task_a(&self, a: Option<i64>, b: std::option::Option<i64>, #[task(default = Some(1))] c: Option<i64>, d: i64) {}
            }
        ),
    )
    .unwrap();
    let defaults: Vec<Option<String>> = elf.tasks[0]
        .parameters()
        .map(|parameter| parameter.default.as_ref().map(|default| quote!(#default).to_string()))
        .collect();
    let none = Some(":: core :: option :: Option :: None".to_owned());
    assert_eq!(defaults, [none.clone(), none, Some("Some (1)".to_owned()), None]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let all = messages(quote! {
        impl A {
            fn task_a(self) {}
            fn task_b<T>(&mut self, (x, y): (i64, i64), text: &str, list: &[u8]) {}
            fn task_c() {}
        }
    });
    let expected =
        ["none of them can use it up", "Mutex", "type parameters", "plain name", "`String`", "`Vec<u8>`"];
    for part in expected {
        assert!(all.iter().any(|message| message.contains(part)), "{part}: {all:#?}");
    }
    assert!(all.iter().any(|message| message == "a task takes `&self` first"), "{all:#?}");
    assert_eq!(all.len(), 7);
}

#[test]
fn wrong_places_and_wrong_options_are_told() {
    assert!(
        messages(quote!(
            struct A;
        ))[0]
            .contains("put `#[machine_elf]` on the `impl` block")
    );
    assert!(messages(quote!(impl A { fn a(&self) {} }))[0].contains("has no tasks"));
    assert!(messages(quote!(impl B for A { fn task_a(&self) {} }))[0].contains("without a trait"));
    assert!(
        messages(quote!(
            impl<T> A<T> {
                fn task_a(&self) {}
            }
        ))[0]
            .contains("one type")
    );
    assert!(messages(quote!(impl A { fn task_a(&self) {} fn task_a(&self) {} }))[0].contains("twice"));
    assert!(
        messages(quote!(impl A { fn task_a(&self, _: i64) {} }))[0].contains("give the parameter a name")
    );
    assert!(messages(quote!(impl A { fn task_a(&self) -> impl Sized {} }))[0].contains("name the type"));
    assert!(
        messages(quote!(impl A { fn task_a(&self, #[task(defolt = 1)] x: i64) {} }))[0].contains("default")
    );
    assert!(messages(quote!(impl A { fn task_a(&self, #[task()] x: i64) {} }))[0].contains("default"));
    let error = parse(quote!(sources = false), quote!(impl A { fn task_a(&self) {} })).err().unwrap();
    assert!(error.to_string().contains("expected `source = false`"));
}

#[test]
fn garbage_is_an_error_and_no_panic() {
    for item in [quote!(), quote!(impl), quote!(fn), quote!(@ #), quote!(impl A { fn task_a(&self) } )] {
        parse(quote!(), item).err().unwrap();
    }
    parse(quote!(@), quote!(impl A { fn task_a(&self) {} })).err().unwrap();
}

#[test]
fn tokens_read_as_one_would_write_them() {
    for (spaced, expected) in [
        ("fn a (& self , x : Vec < u8 > ,) -> (i64 , i64)", "fn a(&self, x: Vec<u8>) -> (i64, i64)"),
        ("Result < A :: B , C >", "Result<A::B, C>"),
        ("[u8 ; 4]", "[u8; 4]"),
    ] {
        assert_eq!(pretty(spaced), expected);
    }
}

#[test]
fn timeouts_are_read_and_what_is_no_time_is_told_where_it_stands() {
    let mut elf = parse(
        quote!(),
        quote! {
            impl A {
                #[task(timeouts(queue = "1m 30s", run = "250ms"))]
                #[task(timeouts())]
                fn task_a(&self) {}
            }
        },
    );
    assert!(elf.is_err(), "nothing in it");
    elf = parse(
        quote!(),
        quote! {
            impl A {
                #[task(timeouts(queue = "1m 30s", run = "250ms", total = "366d", progress = "30s"))]
                fn task_a(&self) {}
                fn task_b(&self) {}
            }
        },
    );
    let elf = elf.unwrap();
    let expected = Timeouts {
        queue: Some(Duration::from_secs(90)),
        run: Some(Duration::from_millis(250)),
        total: Some(Duration::from_secs(366 * 86_400)),
        progress: Some(Duration::from_secs(30)),
    };
    assert_eq!(
        (&elf.tasks[0].declared.timeouts, &elf.tasks[1].declared.timeouts),
        (&expected, &Timeouts::default())
    );
    assert!(
        !elf.block.to_token_stream().to_string().contains("timeouts"),
        "the block has no attributes of ours"
    );

    let of = |attribute: TokenStream| messages(quote!(impl A { #attribute fn task_a(&self) {} }));
    let no_time = "expected a time of 1 ms to 366 days as a text, such as `\"1h 30m\"` or `\"250ms\"`";
    for no in [quote!(10), quote!("10"), quote!("0s"), quote!("-1s"), quote!("367d"), quote!("soon")] {
        assert_eq!(of(quote!(#[task(timeouts(run = #no))])), [no_time], "{no}");
    }
    let unknown = "expected `queue`, `run`, `total` or `progress`, each with a time such as `\"30s\"`";
    assert_eq!(of(quote!(#[task(timeouts(walk = "1s"))])), [unknown]);
    assert_eq!(of(quote!(#[task(timeouts(run = "1s", run = "2s"))])), ["this time is there twice"]);
    assert_eq!(
        of(quote!(#[task(timeouts(run = "1s"), timeouts(run = "2s"))])),
        ["the timeouts are there twice"]
    );
    assert_eq!(of(quote!(#[task(timeout = "1s")])), ["expected `retry(…)` or `timeouts(…)`"]);
    assert_eq!(of(quote!(#[task()])), ["expected `#[task(retry(attempts = 5), timeouts(run = \"10s\"))]`"]);
    let no_task =
        messages(quote!(impl A { fn task_a(&self) {} #[task(timeouts(run = "1s"))] fn b(&self) {} }));
    assert_eq!(no_task, ["this method is no task: begin its name with `task_`"]);
}

#[test]
fn rules_to_try_again_are_read_and_what_is_out_of_range_is_told_where_it_stands() {
    let elf = parse(
        quote!(),
        quote! {
            impl A {
                #[task(
                    retry(attempts = 5, first = "1s", factor = 2, cap = "1m", jitter = 0.2, never = [NotFound, a::Cut]),
                    timeouts(run = "10s")
                )]
                fn task_a(&self) {}
                #[task(retry(panics = true, argument_errors = false))]
                fn task_b(&self) {}
                fn task_c(&self) {}
            }
        },
    )
    .unwrap();
    let rules = |index: usize| -> Vec<String> {
        let rules = elf.tasks[index].declared.retry.rules.iter();
        rules.map(|rule| rule.to_string().replace(' ', "")).collect()
    };
    let first = [
        ".attempts(5u32)",
        ".first(::core::time::Duration::from_nanos(1000000000))",
        ".factor(2f64)",
        ".cap(::core::time::Duration::from_nanos(60000000000))",
        ".jitter(0.2f64)",
        ".never([\"NotFound\",\"a::Cut\"])",
    ];
    assert_eq!(rules(0), first);
    assert_eq!(rules(1), [".panics(true)", ".argument_errors(false)"]);
    assert!(rules(2).is_empty());
    assert_eq!(elf.tasks[0].declared.timeouts.run, Some(Duration::from_secs(10)));

    let of = |rules: TokenStream| messages(quote!(impl A { #[task(retry(#rules))] fn task_a(&self) {} }));
    for no in [quote!(attempts = 0), quote!(attempts = 1_000_001), quote!(attempts = "5")] {
        assert_eq!(of(no.clone()), ["expected a number of 1 to 1000000"], "{no}");
    }
    for no in [quote!(factor = 0.5), quote!(factor = 1001), quote!(factor = "2")] {
        assert_eq!(of(no.clone()), ["expected a number of 1 to 1000, such as `2.0`"], "{no}");
    }
    assert_eq!(of(quote!(jitter = 1.5)), ["expected a number of 0 to 1, such as `0.2`"]);
    assert_eq!(of(quote!(first = "2s", cap = "1s")), ["`cap` must not be less than `first`"]);
    assert_eq!(of(quote!(attempts = 2, attempts = 3)), ["this rule is there twice"]);
    let twice = quote!(#[task(retry(attempts = 2))] #[task(retry(panics = true))]);
    let twice = messages(quote!(impl A { #twice fn task_a(&self) {} }));
    assert_eq!(twice, ["the rules to try again are there twice"]);
    assert_eq!(of(quote!(panics = 1)), ["expected `true` or `false`"]);
    for no in [quote!(never = []), quote!(never = NotFound), quote!(never = ["NotFound"])] {
        let expected = "expected 1 to 64 types of failures, such as `[NotFound, ReadError::Cut]`";
        assert_eq!(of(no.clone()), [expected], "{no}");
    }
    assert!(of(quote!(tries = 3))[0].starts_with("expected `attempts`, `first`"));
    assert_eq!(of(quote!()).len(), 1, "no rule");
}
