//! From the model of an elf to what is written for it.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::parse::{Input, MachineElf, Parameter, Retry, Source, Task, Timeouts, name_of, time_tokens};

pub(crate) fn machine_elf(elf: &MachineElf) -> TokenStream {
    let block = &elf.block;
    let implementation = implementation(elf);
    let handle = handle(elf);
    quote! {
        #block
        #implementation
        #handle
    }
}

/// `impl Elf for Type`.
fn implementation(elf: &MachineElf) -> TokenStream {
    let ty = &elf.block.self_ty;
    let docs = &elf.docs;
    let declaration = declared(&quote!(::elf_runtime::ElfDeclaration), None, &elf.source);
    let tasks = elf.tasks.iter().map(|task| {
        let cfgs = &task.cfgs;
        let declaration = task_declaration(task);
        quote! {
            #(#cfgs)*
            let declaration = declaration.task(#declaration);
        }
    });
    let arms = elf.tasks.iter().map(arm);
    quote! {
        #[automatically_derived]
        impl ::elf_runtime::Elf for #ty {
            fn declaration(&self) -> ::elf_runtime::ElfDeclaration {
                let declaration = #declaration.docs(#docs);
                #(#tasks)*
                declaration
            }

            #[allow(unused_mut, unused_variables, reason = "not every task takes arguments and the context")]
            fn call(
                self: ::std::sync::Arc<Self>,
                mut call: ::elf_runtime::TaskCall,
                context: ::elf_runtime::TaskContext,
            ) -> ::elf_runtime::__private::BoxFuture<
                'static,
                ::core::result::Result<::elf_runtime::TaskOutputs, ::elf_runtime::TaskError>,
            > {
                match call.task() {
                    #(#arms)*
                    _ => {
                        let unknown = call.unknown_task();
                        ::std::boxed::Box::pin(async move { ::core::result::Result::Err(unknown) })
                    }
                }
            }
        }
    }
}

/// The constructor of a declaration, with or without the source text.
fn declared(ty: &TokenStream, name: Option<&str>, source: &Source) -> TokenStream {
    let name = name.map(|name| quote!(#name,));
    match &source.text {
        Some(text) => quote!(#ty::new(#name #text)),
        None => {
            let revision = source.revision.iter().map(|byte| Literal::u8_unsuffixed(*byte));
            quote!(#ty::without_source(#name [#(#revision),*]))
        }
    }
}

fn task_declaration(task: &Task) -> TokenStream {
    let Task { docs, signature, returns, .. } = task;
    let declaration =
        declared(&quote!(::elf_runtime::TaskDeclaration), Some(&name_of(&task.name)), &task.source);
    let parameters = task.parameters().map(|parameter| {
        let (ty, name) = (&parameter.ty, name_of(&parameter.name));
        let method = match &parameter.default {
            Some(_) => quote!(optional_parameter),
            None => quote!(parameter),
        };
        quote_spanned!(ty.span()=> .#method::<#ty>(#name))
    });
    let Timeouts { queue, run, total, progress } = &task.declared.timeouts;
    let timeouts = [
        ("queue_timeout", queue),
        ("run_timeout", run),
        ("total_timeout", total),
        ("progress_timeout", progress),
    ];
    let timeouts = timeouts.into_iter().filter_map(|(method, time)| {
        let (method, time) = (Ident::new(method, Span::call_site()), time_tokens((*time)?));
        Some(quote!(.#method(#time)))
    });
    let Retry { rules } = &task.declared.retry;
    let retry = (!rules.is_empty()).then(|| quote!(.retry(::elf_runtime::RetryPolicy::new() #(#rules)*)));
    let outputs = quote_spanned! {returns.span()=>
        .outputs::<<#returns as ::elf_runtime::TaskReturn>::Value>()
    };
    quote! {
        #declaration
            .docs(#docs)
            .signature(#signature)
            #(#parameters)*
            #(#timeouts)*
            #retry
            #outputs
    }
}

/// The arm of `call` that runs a task.
fn arm(task: &Task) -> TokenStream {
    let Task { name, cfgs, is_async, .. } = task;
    let text = name_of(name);
    // Names of ours that no parameter can have: those of `mixed_site` are apart from what is written by hand.
    let site = Span::mixed_site();
    let variables: Vec<Ident> =
        (0..task.inputs.len()).map(|index| format_ident!("argument_{index}", span = site)).collect();
    let read = task.inputs.iter().zip(&variables).filter_map(|(input, variable)| match input {
        Input::Context { .. } => None,
        Input::Parameter(parameter) => Some(read(parameter, variable)),
    });
    let given: Vec<TokenStream> = task
        .inputs
        .iter()
        .zip(&variables)
        .map(|(input, variable)| match input {
            Input::Context { by_reference: true } => quote!(&context),
            Input::Context { by_reference: false } => quote!(::core::clone::Clone::clone(&context)),
            Input::Parameter(_) => quote!(#variable),
        })
        .collect();
    let method = quote_spanned!(name.span()=> self.#name(#(#given),*));
    // At the task's name, which is the place of an error that has none of its own.
    let outputs = |returned: TokenStream| quote_spanned!(name.span()=> ::elf_runtime::__private::outputs(#text, #returned));
    let run = if *is_async {
        outputs(quote!(#method.await))
    } else {
        let outputs = outputs(method);
        quote!(::elf_runtime::__private::blocking(move || #outputs).await)
    };
    quote! {
        #(#cfgs)*
        #text => ::std::boxed::Box::pin(async move {
            #(#read)*
            call.finish()?;
            #run
        }),
    }
}

fn read(parameter: &Parameter, variable: &Ident) -> TokenStream {
    let Parameter { name, ty, default } = parameter;
    // At the parameter, which is the place of an argument that does not fit.
    let span = name.span();
    let name = name_of(name);
    let read = match default {
        Some(default) => {
            let default = quote_spanned!(default.span()=> || #default);
            quote_spanned!(span=> argument_or_else(#name, #default))
        }
        None => quote_spanned!(span=> argument(#name)),
    };
    quote!(let #variable: #ty = call.#read?;)
}

/// `Type::tasks` and what it returns.
fn handle(elf: &MachineElf) -> TokenStream {
    let ty = &elf.block.self_ty;
    let handle = format_ident!("{}Tasks", elf.name);
    let places = format_ident!("__{}_parameters", elf.name.to_string().to_lowercase());
    let docs = format!("The tasks of an elf [`{}`], as calls that a flow records.", elf.name);
    let tasks_docs =
        "The tasks of an elf of this type, served under the name `elf`, as calls that the flow records.";
    let methods = elf.tasks.iter().map(|task| lazy_method(task, &places));
    let place_modules = elf.tasks.iter().map(place_module);
    quote! {
        impl #ty {
            #[doc = #tasks_docs]
            #[allow(dead_code, unreachable_pub, reason = "a process that only serves the elf calls none of its tasks")]
            pub fn tasks(
                flow: &::elf_runtime::Flow,
                elf: impl ::core::convert::Into<::std::string::String>,
            ) -> #handle {
                #handle { tasks: ::elf_runtime::__private::Tasks::new(flow, elf) }
            }
        }

        #[doc = #docs]
        #[derive(Clone, Debug)]
        #[allow(unreachable_pub, dead_code, reason = "the macro cannot see how visible the type is")]
        pub struct #handle {
            tasks: ::elf_runtime::__private::Tasks,
        }

        #[allow(
            dead_code,
            unreachable_pub,
            private_interfaces,
            private_bounds,
            clippy::too_many_arguments,
            reason = "the macro cannot see how visible the types are, nor which tasks are called"
        )]
        impl #handle {
            #(#methods)*
        }

        #[doc(hidden)]
        #[allow(non_camel_case_types, non_snake_case, unreachable_pub, reason = "named like the parameters")]
        pub mod #places {
            #(#place_modules)*
        }
    }
}

/// The types that stand for the parameters of a task, so that the compiler's messages name them.
fn place_module(task: &Task) -> TokenStream {
    let Task { name, cfgs, .. } = task;
    let places = task.parameters().map(|parameter| {
        let name = &parameter.name;
        let optional =
            parameter.default.is_some().then(|| quote!(impl ::elf_runtime::OptionalPlace for #name {}));
        quote! {
            #[derive(Debug)]
            pub struct #name;
            #optional
        }
    });
    quote! {
        #(#cfgs)*
        pub mod #name {
            #(#places)*
        }
    }
}

/// The method of the handle that records a call of a task.
fn lazy_method(task: &Task, places: &Ident) -> TokenStream {
    let Task { name, cfgs, lazy_attributes, returns, .. } = task;
    let text = name_of(name);
    let parameters = task.parameters().map(|parameter| {
        let Parameter { name: parameter, ty, .. } = parameter;
        // At the type's place, so that a message about a wrong argument points to the parameter.
        quote_spanned! {ty.span()=>
            #parameter: impl ::elf_runtime::IntoValue<#ty, #places::#name::#parameter>
        }
    });
    // Apart from a parameter that is called so.
    let arguments = Ident::new("arguments", Span::mixed_site());
    let given = task.parameters().map(|parameter| {
        let (parameter, text) = (&parameter.name, name_of(&parameter.name));
        quote! {
            let #arguments = ::elf_runtime::__private::argument(#arguments, #text, #parameter);
        }
    });
    let docs = task.docs.is_empty().then(|| {
        let docs = format!("Records a call of the task `{text}`.");
        quote!(#[doc = #docs])
    });
    let value = quote_spanned!(returns.span()=> <#returns as ::elf_runtime::TaskReturn>::Value);
    quote! {
        #(#cfgs)*
        #docs
        #(#lazy_attributes)*
        pub fn #name(&self, #(#parameters),*) -> ::elf_runtime::Job<#value> {
            let #arguments = ::elf_runtime::Arguments::new();
            #(#given)*
            self.tasks.call(#text, #arguments)
        }
    }
}
