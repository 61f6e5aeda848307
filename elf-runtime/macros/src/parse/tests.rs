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
                #[task(timeouts(queue = "1m 30s", run = "250ms", total = "366d"))]
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
    };
    assert_eq!((&elf.tasks[0].timeouts, &elf.tasks[1].timeouts), (&expected, &Timeouts::default()));
    assert!(
        !elf.block.to_token_stream().to_string().contains("timeouts"),
        "the block has no attributes of ours"
    );

    let of = |attribute: TokenStream| messages(quote!(impl A { #attribute fn task_a(&self) {} }));
    let no_time = "expected a time of 1 ms to 366 days as a text, such as `\"1h 30m\"` or `\"250ms\"`";
    for no in [quote!(10), quote!("10"), quote!("0s"), quote!("-1s"), quote!("367d"), quote!("soon")] {
        assert_eq!(of(quote!(#[task(timeouts(run = #no))])), [no_time], "{no}");
    }
    let unknown = "expected `queue`, `run` or `total`, each with a time such as `\"30s\"`";
    assert_eq!(of(quote!(#[task(timeouts(walk = "1s"))])), [unknown]);
    assert_eq!(of(quote!(#[task(timeouts(run = "1s", run = "2s"))])), ["this time is there twice"]);
    assert_eq!(
        of(quote!(#[task(timeouts(run = "1s"), timeouts(run = "2s"))])),
        ["the timeouts are there twice"]
    );
    assert_eq!(of(quote!(#[task(timeout = "1s")])), ["expected `timeouts(…)`"]);
    assert_eq!(of(quote!(#[task()])), ["expected `#[task(timeouts(run = \"10s\"))]`"]);
    let no_task =
        messages(quote!(impl A { fn task_a(&self) {} #[task(timeouts(run = "1s"))] fn b(&self) {} }));
    assert_eq!(no_task, ["this method is no task: begin its name with `task_`"]);
}
