//! `#[derive(Output)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Type};

use crate::levels;
use crate::parse::{docs, name_of};

/// A field that becomes an output.
struct Field<'a> {
    name: &'a Ident,
    /// The name on the wire: serde's.
    output: String,
    ty: &'a Type,
    docs: String,
}

/// What serde makes of the name of each field.
type Renaming = fn(&str) -> String;

pub(crate) fn derive(item: TokenStream) -> Result<TokenStream, Error> {
    let input: DeriveInput = syn::parse2(item)?;
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a type that travels has no parameters: its schema has to be known. Wrap the type you need",
        ));
    }
    let one_value = is_one_value(&input.attrs)?;
    keeps_levels(&input.data)?;
    let schema = schema(&input);
    let implementation = match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !one_value => record(&input, &fields.named)?,
            Fields::Named(_) | Fields::Unnamed(_) | Fields::Unit => value(&input),
        },
        Data::Enum(_) => value(&input),
        Data::Union(data) => {
            return Err(Error::new_spanned(data.union_token, "a union cannot be written to the wire"));
        }
    };
    Ok(quote! {
        #implementation
        #schema
    })
}

/// Checks that JSON loses no level of a field. One that says itself how it is written is left to its author; if that
/// loses a value all the same, it is refused when it is written.
fn keeps_levels(data: &Data) -> Result<(), Error> {
    let fields: Vec<&syn::Field> = match data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(_) => Vec::new(),
    };
    let mut lost = fields
        .iter()
        .filter(|field| !is_written_otherwise(&field.attrs))
        .flat_map(|field| levels::lost(&field.ty));
    match lost.next() {
        None => Ok(()),
        Some(mut first) => {
            lost.for_each(|error| first.combine(error));
            Err(first)
        }
    }
}

/// Whether a field's own code writes it, or nothing does.
fn is_written_otherwise(attributes: &[Attribute]) -> bool {
    let mut is_otherwise = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        // An invalid attribute of serde is reported by serde.
        let _unreadable = attribute.parse_nested_meta(|meta| {
            is_otherwise |= ["with", "serialize_with", "skip", "skip_serializing"]
                .iter()
                .any(|name| meta.path.is_ident(name));
            skip_value(&meta)
        });
    }
    is_otherwise
}

/// Reads `#[output(value)]`.
fn is_one_value(attributes: &[Attribute]) -> Result<bool, Error> {
    let mut one_value = false;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("output")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("value") {
                return Err(meta.error("expected `value`: the whole type as one output"));
            }
            one_value = true;
            Ok(())
        })?;
    }
    Ok(one_value)
}

/// A type with the one output `value`.
fn value(input: &DeriveInput) -> TokenStream {
    let name = &input.ident;
    quote! {
        #[automatically_derived]
        impl ::elf_runtime::Output for #name {
            type Fields = ::elf_runtime::NoFields;
            ::elf_runtime::__one_value!();
        }
    }
}

/// A struct with one output for each field, and its companion.
fn record(
    input: &DeriveInput,
    fields: &syn::punctuated::Punctuated<syn::Field, syn::Token![,]>,
) -> Result<TokenStream, Error> {
    let (name, visibility) = (&input.ident, &input.vis);
    let renaming = renaming(&input.attrs)?;
    let fields = read_fields(fields, renaming)?;
    let companion = format_ident!("{name}Values");
    let companion_docs = format!("The fields of a [`{name}`] that is not there yet, as values.");
    let build_docs = format!("A `{name}` of values and literals that mix freely.");

    let declarations = fields.iter().map(|Field { output, ty, .. }| {
        quote_spanned! {ty.span()=>
            ::elf_runtime::OutputDeclaration {
                name: ::std::borrow::Cow::Borrowed(#output),
                schema: ::elf_runtime::__private::output_schema_of::<#ty>(),
            }
        }
    });
    let methods = fields.iter().map(|Field { name: field, output, ty, docs }| {
        let docs = if docs.is_empty() { format!("The field `{}`.", name_of(field)) } else { docs.clone() };
        quote_spanned! {ty.span()=>
            #[doc = #docs]
            #visibility fn #field(&self) -> ::elf_runtime::Value<#ty> {
                ::elf_runtime::Value::from_node(self.node.field(#output))
            }
        }
    });
    let places = format_ident!("__{}_fields", name.to_string().to_lowercase());
    let place_types = fields.iter().map(|field| {
        let field = field.name;
        quote!(#[derive(Debug)] pub struct #field;)
    });
    let parameters = fields.iter().map(|Field { name: field, ty, .. }| {
        quote_spanned!(ty.span()=> #field: impl ::elf_runtime::IntoValue<#ty, #places::#field>)
    });
    let entries = fields.iter().map(|Field { name: field, output, .. }| {
        quote!((::std::borrow::Cow::Borrowed(#output), ::core::clone::Clone::clone(#field.into_value().node())))
    });
    Ok(quote! {
        #[automatically_derived]
        impl ::elf_runtime::Output for #name {
            type Fields = #companion;

            fn declarations() -> ::std::vec::Vec<::elf_runtime::OutputDeclaration> {
                ::std::vec![#(#declarations),*]
            }

            fn into_outputs(
                self,
            ) -> ::core::result::Result<::elf_runtime::TaskOutputs, ::elf_runtime::PayloadError> {
                ::elf_runtime::__private::record_into_outputs(&self)
            }

            fn from_outputs(
                outputs: ::elf_runtime::TaskOutputs,
            ) -> ::core::result::Result<Self, ::elf_runtime::PayloadError> {
                ::elf_runtime::__private::record_from_outputs(&outputs)
            }
        }

        #[doc = #companion_docs]
        #[derive(Clone, Debug)]
        #visibility struct #companion {
            node: ::elf_runtime::__private::Node,
        }

        #[automatically_derived]
        impl ::elf_runtime::Fields for #companion {
            fn from_node(node: ::elf_runtime::__private::Node) -> Self {
                Self { node }
            }

            fn node(&self) -> &::elf_runtime::__private::Node {
                &self.node
            }
        }

        #[allow(dead_code, private_interfaces, reason = "not every field is used on its own")]
        impl #companion {
            #(#methods)*
        }

        #[allow(
            dead_code,
            private_bounds,
            private_interfaces,
            clippy::too_many_arguments,
            reason = "not every struct is made of values"
        )]
        impl #companion {
            #[doc = #build_docs]
            #visibility fn build(#(#parameters),*) -> ::elf_runtime::Value<#name> {
                use ::elf_runtime::IntoValue as _;
                ::elf_runtime::Value::from_node(::elf_runtime::__private::Node::map(::std::vec![#(#entries),*]))
            }
        }

        #[doc(hidden)]
        #[allow(non_camel_case_types, non_snake_case, unreachable_pub, dead_code, reason = "named like the fields")]
        #visibility mod #places {
            #(#place_types)*
        }
    })
}

fn read_fields(
    fields: &syn::punctuated::Punctuated<syn::Field, syn::Token![,]>,
    renaming: Option<Renaming>,
) -> Result<Vec<Field<'_>>, Error> {
    let mut mistakes: Option<Error> = None;
    let mut read = Vec::new();
    for field in fields {
        let Some(name) = &field.ident else { continue };
        match renamed(&field.attrs) {
            Ok(own) => read.push(Field {
                name,
                output: own.unwrap_or_else(|| {
                    let name = name_of(name);
                    renaming.map_or(name.clone(), |renamed| renamed(&name))
                }),
                ty: &field.ty,
                docs: docs(&field.attrs),
            }),
            Err(error) => match &mut mistakes {
                Some(all) => all.combine(error),
                None => mistakes = Some(error),
            },
        }
    }
    mistakes.map_or(Ok(read), Err)
}

/// What serde calls the field, if it says so itself.
fn renamed(attributes: &[Attribute]) -> Result<Option<String>, Error> {
    let mut name = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let said = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match said.as_str() {
                "rename" if meta.input.peek(syn::Token![=]) => {
                    name = Some(meta.value()?.parse::<LitStr>()?.value());
                    Ok(())
                }
                "rename" | "flatten" | "skip" | "skip_serializing" | "skip_deserializing"
                | "skip_serializing_if" => Err(meta.error(format!(
                    "each field is an output, so `{said}` cannot be followed here: write `#[output(value)]` on the \
                     struct to make the whole of it one output"
                ))),
                _ => skip_value(&meta),
            }
        })?;
    }
    Ok(name)
}

/// What serde calls all fields.
fn renaming(attributes: &[Attribute]) -> Result<Option<Renaming>, Error> {
    let mut renaming = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let said = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            match said.as_str() {
                "rename_all" if meta.input.peek(syn::Token![=]) => {
                    let rule: LitStr = meta.value()?.parse()?;
                    // An unknown rule is reported by serde.
                    renaming = renaming_by(&rule.value());
                    Ok(())
                }
                "rename_all" | "transparent" | "tag" | "from" | "into" | "try_from" => Err(meta.error(format!(
                    "each field is an output, so `{said}` cannot be followed here: write `#[output(value)]` on the \
                     struct to make the whole of it one output"
                ))),
                _ => skip_value(&meta),
            }
        })?;
    }
    Ok(renaming)
}

/// Passes over the value of an attribute that makes no difference here.
fn skip_value(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<(), Error> {
    if meta.input.peek(syn::Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        meta.input.parse::<proc_macro2::Group>()?;
    }
    Ok(())
}

fn renaming_by(rule: &str) -> Option<Renaming> {
    Some(match rule {
        "lowercase" | "snake_case" => str::to_owned,
        "UPPERCASE" | "SCREAMING_SNAKE_CASE" => str::to_ascii_uppercase,
        "PascalCase" => capitalised,
        "camelCase" => |field| with_first(&capitalised(field), char::to_ascii_lowercase),
        "kebab-case" => |field| field.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => |field| field.to_ascii_uppercase().replace('_', "-"),
        _ => return None,
    })
}

fn capitalised(field: &str) -> String {
    field.split('_').map(|word| with_first(word, char::to_ascii_uppercase)).collect()
}

/// The word with another first letter.
fn with_first(word: &str, changed: fn(&char) -> char) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| changed(&first).to_string() + letters.as_str()).unwrap_or_default()
}

/// `impl JsonSchema`, through schemars' own derive on a copy of the type that only serves for that: the derive follows
/// serde's attributes, and users need not depend on schemars.
fn schema(input: &DeriveInput) -> TokenStream {
    let name = &input.ident;
    let text = name_of(name);
    let mut copy = input.clone();
    copy.ident = format_ident!("{name}Schema");
    copy.vis = syn::Visibility::Inherited;
    let is_kept = |attribute: &Attribute| {
        ["serde", "schemars", "doc"].iter().any(|kept| attribute.path().is_ident(kept))
    };
    copy.attrs.retain(is_kept);
    match &mut copy.data {
        Data::Struct(data) => data.fields.iter_mut().for_each(|field| field.attrs.retain(is_kept)),
        Data::Enum(data) => data.variants.iter_mut().for_each(|variant| {
            variant.attrs.retain(is_kept);
            variant.fields.iter_mut().for_each(|field| field.attrs.retain(is_kept));
        }),
        Data::Union(_) => {}
    }
    let copy_name = &copy.ident;
    quote! {
        const _: () = {
            #[derive(::elf_runtime::__private::schemars::JsonSchema)]
            #[schemars(crate = "::elf_runtime::__private::schemars", rename = #text)]
            #[allow(dead_code, reason = "only its schema is used")]
            #copy

            #[automatically_derived]
            impl ::elf_runtime::__private::schemars::JsonSchema for #name {
                fn inline_schema() -> bool {
                    <#copy_name as ::elf_runtime::__private::schemars::JsonSchema>::inline_schema()
                }

                fn schema_name() -> ::std::borrow::Cow<'static, str> {
                    <#copy_name as ::elf_runtime::__private::schemars::JsonSchema>::schema_name()
                }

                fn schema_id() -> ::std::borrow::Cow<'static, str> {
                    ::std::borrow::Cow::Borrowed(::core::concat!(::core::module_path!(), "::", #text))
                }

                fn json_schema(
                    generator: &mut ::elf_runtime::__private::schemars::SchemaGenerator,
                ) -> ::elf_runtime::__private::schemars::Schema {
                    <#copy_name as ::elf_runtime::__private::schemars::JsonSchema>::json_schema(generator)
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(item: TokenStream) -> String {
        derive(item).unwrap_err().into_iter().map(|e| e.to_string()).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn fields_have_the_names_that_serde_gives_them() {
        for (rule, expected) in [
            ("lowercase", "legs_many"),
            ("UPPERCASE", "LEGS_MANY"),
            ("PascalCase", "LegsMany"),
            ("camelCase", "legsMany"),
            ("snake_case", "legs_many"),
            ("SCREAMING_SNAKE_CASE", "LEGS_MANY"),
            ("kebab-case", "legs-many"),
            ("SCREAMING-KEBAB-CASE", "LEGS-MANY"),
        ] {
            assert_eq!(renaming_by(rule).unwrap()("legs_many"), expected);
        }
    }

    #[test]
    fn what_serde_leaves_out_is_refused_for_outputs_and_fine_for_one_value() {
        let both = message(quote! {
            struct A { #[serde(skip)] x: i64, #[serde(default, flatten)] y: B }
        });
        assert!(both.contains("`skip` cannot") && both.contains("`flatten` cannot"), "{both}");
        assert!(
            message(quote!(
                #[serde(transparent)]
                struct A {
                    x: i64,
                }
            ))
            .contains("`transparent`")
        );
        derive(quote!(
            #[output(value)]
            struct A {
                #[serde(skip)]
                x: i64,
            }
        ))
        .unwrap();
        derive(quote!(
            struct A {
                #[serde(default = "f", with = "m", rename = "y")]
                x: i64,
            }
        ))
        .unwrap();
    }

    #[test]
    fn a_field_that_loses_a_level_is_refused_unless_it_is_written_by_code_of_its_own() {
        let both = message(quote! {
            enum A { B { #[serde(default)] x: Option<Option<i64>> }, C(Vec<Option<()>>) }
        });
        assert!(
            both.contains("`Option<Option<i64>>` loses") && both.contains("`Option<()>` loses"),
            "{both}"
        );
        derive(quote!(
            struct A {
                #[serde(default, with = "double_option")]
                x: Option<Option<i64>>,
            }
        ))
        .unwrap();
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        assert!(
            message(quote!(
                struct A<T> {
                    x: T,
                }
            ))
            .contains("has no parameters")
        );
        assert!(message(quote!(union A { x: i64 })).contains("union"));
        assert!(
            message(quote!(
                #[output(values)]
                struct A {
                    x: i64,
                }
            ))
            .contains("expected `value`")
        );
    }
}
