//! From the syntax of an `impl` block to a small model of the elf. All that can be wrong is found here, at once.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, LitBool, Meta, Pat, ReturnType,
    Type,
};

use crate::source::pretty;
use crate::{levels, source};

mod declared;
mod retry;
mod timeouts;

use declared::{Declared, default};
pub(crate) use retry::{Retry, time_tokens};
pub(crate) use timeouts::Timeouts;

/// As in the contract: `mycelium_proto::limits`, which a macro need not depend on.
const PARAMETERS_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 255;
const TASKS_PER_ELF_MAX: usize = 1_024;

/// An elf, as its `impl` block says.
pub(crate) struct MachineElf {
    /// The block as it is left, without the attributes that are for us.
    pub(crate) block: ItemImpl,
    /// The last name of its type.
    pub(crate) name: Ident,
    pub(crate) docs: String,
    pub(crate) source: Source,
    pub(crate) tasks: Vec<Task>,
}

/// The source text of an elf or a task, if it is sent, and its revision in any case.
pub(crate) struct Source {
    pub(crate) text: Option<String>,
    pub(crate) revision: [u8; 32],
}

pub(crate) struct Task {
    pub(crate) name: Ident,
    pub(crate) docs: String,
    /// For people: the line that declares it.
    pub(crate) signature: String,
    pub(crate) source: Source,
    pub(crate) is_async: bool,
    /// Its `#[cfg(…)]`, for everything that is written because of it.
    pub(crate) cfgs: Vec<Attribute>,
    /// `#[deprecated]` and the documentation, for those who call it.
    pub(crate) lazy_attributes: Vec<Attribute>,
    pub(crate) inputs: Vec<Input>,
    /// What it declares for its jobs.
    pub(crate) declared: Declared,
    /// What it returns; `()` if it does not say.
    pub(crate) returns: Type,
}

/// What a task takes at one place.
pub(crate) enum Input {
    Context { by_reference: bool },
    Parameter(Box<Parameter>),
}

pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    pub(crate) default: Option<Expr>,
}

impl Task {
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.inputs.iter().filter_map(|input| match input {
            Input::Context { .. } => None,
            Input::Parameter(parameter) => Some(&**parameter),
        })
    }
}

/// Mistakes, to be told together.
#[derive(Default)]
struct Mistakes(Option<Error>);

impl Mistakes {
    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn at(&mut self, place: impl ToTokens, message: &str) {
        self.add(Error::new_spanned(place, message));
    }

    fn result(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Reads `#[machine_elf(…)]` and the block it stands on. `attribute` is the place of the former.
pub(crate) fn machine_elf(
    arguments: TokenStream,
    item: TokenStream,
    attribute: Span,
) -> Result<MachineElf, Error> {
    let mut block: ItemImpl = match syn::parse2(item.clone()) {
        Ok(block) => block,
        Err(_)
            if syn::parse2::<syn::Item>(item.clone())
                .is_ok_and(|item| !matches!(item, syn::Item::Impl(_))) =>
        {
            return Err(Error::new_spanned(
                item,
                "put `#[machine_elf]` on the `impl` block that has the tasks: `#[machine_elf] impl Type { … }`",
            ));
        }
        Err(error) => return Err(error),
    };
    let mut mistakes = Mistakes::default();
    let sends_source = sends_source(arguments, &mut mistakes);
    let name = elf_name(&block, &mut mistakes);

    let mut tasks: Vec<Task> = Vec::new();
    for item in &block.items {
        let ImplItem::Fn(method) = item else { continue };
        if !method.sig.ident.to_string().starts_with("task_") {
            for attribute in method.attrs.iter().filter(|attribute| is_ours(attribute)) {
                mistakes.at(attribute, "this method is no task: begin its name with `task_`");
            }
            for input in &method.sig.inputs {
                for attribute in input_attributes(input).iter().filter(|attribute| is_ours(attribute)) {
                    mistakes.at(
                        attribute,
                        "only parameters of tasks have defaults: begin the method's name with `task_`",
                    );
                }
            }
            continue;
        }
        if let Some(other) = tasks.iter().find(|task| task.name == method.sig.ident)
            && other.cfgs.is_empty()
        {
            let message = format!("`{}` is there twice: give one of the two another name", other.name);
            mistakes.at(&method.sig.ident, &message);
        }
        tasks.push(task(method, sends_source, &mut mistakes));
    }
    if tasks.is_empty() {
        mistakes.add(Error::new(
            attribute,
            "this block has no tasks: add a method whose name begins with `task_`, \
             such as `async fn task_greet(&self, name: String) -> String`",
        ));
    }
    if tasks.len() > TASKS_PER_ELF_MAX {
        mistakes.at(&block.self_ty, "an elf has at most 1024 tasks: split it into several elves");
    }
    mistakes.result()?;

    let source = Source::of(first_span(attribute, &item), &item, sends_source);
    let docs = docs(&block.attrs);
    WithoutOurs.visit_item_impl_mut(&mut block);
    Ok(MachineElf { block, name, docs, source, tasks })
}

/// The item without the attributes that are for us, or as it is if it cannot be read.
pub(crate) fn without_our_attributes(item: TokenStream) -> TokenStream {
    match syn::parse2::<ItemImpl>(item.clone()) {
        Ok(mut block) => {
            WithoutOurs.visit_item_impl_mut(&mut block);
            block.into_token_stream()
        }
        Err(_) => item,
    }
}

/// The elf's source begins at its documentation or at our attribute, whichever is first.
fn first_span(attribute: Span, item: &TokenStream) -> Span {
    match source::ends(item) {
        // An attribute made by another macro lies elsewhere.
        Some((first, _)) if first.file() == attribute.file() && attribute.start() < first.start() => {
            attribute
        }
        Some((first, _)) => first,
        None => attribute,
    }
}

impl Source {
    fn of(first: Span, tokens: &TokenStream, is_sent: bool) -> Self {
        let last = source::ends(tokens).map_or(first, |(_, last)| last);
        let text = source::text(first, last, tokens);
        Self { revision: source::revision(&text), text: is_sent.then_some(text) }
    }
}

/// Reads `source = true | false`.
fn sends_source(arguments: TokenStream, mistakes: &mut Mistakes) -> bool {
    let mut sends = true;
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("source") {
            sends = meta.value()?.parse::<LitBool>()?.value;
            return Ok(());
        }
        Err(meta.error("expected `source = false`, or nothing"))
    });
    if let Err(error) = syn::parse::Parser::parse2(parser, arguments) {
        mistakes.add(error);
    }
    sends
}

fn elf_name(block: &ItemImpl, mistakes: &mut Mistakes) -> Ident {
    if let Some((_, path, _)) = &block.trait_ {
        mistakes.at(path, "tasks stand in a block of the type's own: `impl Type { … }`, without a trait");
    }
    if !block.generics.params.is_empty() {
        mistakes.at(
            &block.generics,
            "an elf is one type: write the block for a type without parameters, such as `impl Scale<Grams>`",
        );
    }
    match &*block.self_ty {
        Type::Path(path) if path.qself.is_none() => match path.path.segments.last() {
            Some(segment) => segment.ident.clone(),
            None => Ident::new("Elf", Span::call_site()),
        },
        other => {
            mistakes.at(other, "an elf is a named type: `impl Type { … }`");
            Ident::new("Elf", Span::call_site())
        }
    }
}

fn task(method: &ImplItemFn, sends_source: bool, mistakes: &mut Mistakes) -> Task {
    let signature = &method.sig;
    check_signature(method, mistakes);

    let mut inputs = Vec::new();
    for input in signature.inputs.iter().skip(usize::from(signature.receiver().is_some())) {
        if let FnArg::Typed(typed) = input
            && let Some(input) = self::input(typed, mistakes)
        {
            if let Input::Parameter(parameter) = &input
                && name_of(&parameter.name).len() > NAME_BYTES_MAX
            {
                mistakes.at(&parameter.name, "a parameter's name has at most 255 bytes");
            }
            inputs.push(input);
        }
    }
    if inputs.len() > PARAMETERS_MAX {
        mistakes.at(&signature.inputs, "a task has at most 256 parameters: take a struct instead");
    }

    let mut shown = signature.clone();
    shown.inputs.iter_mut().for_each(|input| match input {
        FnArg::Typed(typed) => typed.attrs.clear(),
        FnArg::Receiver(receiver) => receiver.attrs.clear(),
    });
    let tokens = method.to_token_stream();
    let is_named = |attribute: &&Attribute, name: &str| attribute.path().is_ident(name);
    Task {
        name: signature.ident.clone(),
        docs: docs(&method.attrs),
        signature: pretty(&shown.into_token_stream().to_string()),
        source: match source::ends(&tokens) {
            Some((first, _)) => Source::of(first, &tokens, sends_source),
            None => Source { text: None, revision: source::revision("") },
        },
        is_async: signature.asyncness.is_some(),
        cfgs: method.attrs.iter().filter(|a| is_named(a, "cfg")).cloned().collect(),
        lazy_attributes: method
            .attrs
            .iter()
            .filter(|a| is_named(a, "doc") || is_named(a, "deprecated"))
            .cloned()
            .collect(),
        inputs,
        declared: Declared::of(&method.attrs, mistakes),
        returns: match &signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        },
    }
}

fn check_signature(method: &ImplItemFn, mistakes: &mut Mistakes) {
    let signature = &method.sig;
    if signature.ident.to_string().len() > NAME_BYTES_MAX {
        mistakes.at(&signature.ident, "a task's name has at most 255 bytes");
    }
    match signature.receiver() {
        None => mistakes.at(&signature.ident, "a task takes `&self` first"),
        Some(receiver) if receiver.colon_token.is_some() => {
            mistakes.at(receiver, "a task takes `&self`, in this short form");
        }
        Some(receiver) if receiver.reference.is_none() => mistakes
            .at(receiver, "a task takes `&self`: an elf runs many jobs, so none of them can use it up"),
        Some(receiver) if receiver.mutability.is_some() => mistakes.at(
            receiver,
            "a task takes `&self`: several jobs may run at once. Keep what changes in a `Mutex` or an atomic",
        ),
        Some(_) => {}
    }
    if !signature.generics.params.is_empty() {
        mistakes.at(
            &signature.generics,
            "a task has no type parameters or lifetimes: its arguments come over the wire, so their types are fixed",
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        mistakes.at(clause, "a task has no `where` clause");
    }
    if let Some(token) = &signature.unsafety {
        mistakes.at(token, "a task is safe to call: any program can do so");
    }
    if let Some(token) = &signature.constness {
        mistakes.at(token, "a task is not `const`");
    }
    if let Some(token) = &signature.abi {
        mistakes.at(token, "a task is a Rust function");
    }
    if let Some(token) = &signature.variadic {
        mistakes.at(token, "a task has named parameters");
    }
    if let ReturnType::Type(_, ty) = &signature.output {
        levels::lost(ty).into_iter().for_each(|error| mistakes.add(error));
        match &**ty {
            Type::ImplTrait(_) => {
                mistakes
                    .at(ty, "name the type: what a task returns is written to the wire and read by others");
            }
            Type::Reference(_) => {
                mistakes.at(ty, "return an owned value: what a task returns outlives the elf");
            }
            _ => {}
        }
    }
}

/// Reads one input of a task; `None` if it is none.
fn input(typed: &syn::PatType, mistakes: &mut Mistakes) -> Option<Input> {
    let default = default(&typed.attrs, mistakes).or_else(|| none_of_option(&typed.ty));
    if let Some(by_reference) = context(&typed.ty) {
        if default.is_some() {
            mistakes.at(&typed.ty, "the context has no default: it is always given");
        }
        return Some(Input::Context { by_reference });
    }
    levels::lost(&typed.ty).into_iter().for_each(|error| mistakes.add(error));
    match &*typed.ty {
        Type::Reference(reference) => {
            let owned = owned(&reference.elem);
            let message = format!("take an owned value, such as `{owned}`: arguments come over the wire");
            mistakes.at(&typed.ty, &message);
        }
        Type::ImplTrait(_) => {
            mistakes.at(&typed.ty, "name the type: arguments come over the wire, so their types are fixed");
        }
        _ => {}
    }
    match &*typed.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            Some(Input::Parameter(Box::new(Parameter {
                name: pattern.ident.clone(),
                ty: (*typed.ty).clone(),
                default,
            })))
        }
        Pat::Wild(_) => {
            mistakes.at(&typed.pat, "give the parameter a name: jobs give their arguments by name");
            None
        }
        other => {
            mistakes.at(
                other,
                "give the parameter a plain name and take it apart inside: jobs give their arguments by name",
            );
            None
        }
    }
}

/// The owned type to propose in place of a borrowed one.
fn owned(borrowed: &Type) -> String {
    match borrowed {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Slice(slice) => format!("Vec<{}>", pretty(&slice.elem.to_token_stream().to_string())),
        other => pretty(&other.to_token_stream().to_string()),
    }
}

/// Whether this is the type of the context, and if so whether it is taken by reference.
fn context(ty: &Type) -> Option<bool> {
    let is_context = |ty: &Type| {
        matches!(ty, Type::Path(path)
        if path.path.segments.last().is_some_and(|segment| segment.ident == "TaskContext"))
    };
    match ty {
        Type::Reference(reference) if reference.mutability.is_none() && is_context(&reference.elem) => {
            Some(true)
        }
        other if is_context(other) => Some(false),
        _ => None,
    }
}

/// The default of an `Option`: what is left out is not there.
fn none_of_option(ty: &Type) -> Option<Expr> {
    let Type::Path(path) = ty else { return None };
    let is_option = path.path.segments.last().is_some_and(|segment| segment.ident == "Option");
    is_option.then(|| syn::parse_quote!(::core::option::Option::None))
}

fn is_ours(attribute: &Attribute) -> bool {
    attribute.path().is_ident("task")
}

fn input_attributes(input: &FnArg) -> &[Attribute] {
    match input {
        FnArg::Typed(typed) => &typed.attrs,
        FnArg::Receiver(receiver) => &receiver.attrs,
    }
}

/// Takes `#[task(…)]` off the tasks and their parameters, for the compiler does not know it, and silences lints that ask of a
/// task what we do not allow: to borrow its arguments, or not to take `&self`.
struct WithoutOurs;

impl VisitMut for WithoutOurs {
    fn visit_impl_item_fn_mut(&mut self, method: &mut ImplItemFn) {
        method.attrs.retain(|attribute| !is_ours(attribute));
        if method.sig.ident.to_string().starts_with("task_") {
            method.attrs.push(syn::parse_quote! {
                #[allow(
                    clippy::needless_pass_by_value,
                    clippy::unused_self,
                    clippy::unused_async,
                    reason = "what a task takes and that it is async is part of being a task"
                )]
            });
        }
        for input in &mut method.sig.inputs {
            if let FnArg::Typed(typed) = input {
                typed.attrs.retain(|attribute| !is_ours(attribute));
            }
        }
    }
}

/// The documentation as Markdown: the lines of `///`, without the blank they begin with.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &meta.value
        {
            let text = text.value();
            lines.extend(text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()));
            if text.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines.join("\n").trim().to_owned()
}

/// The name without the mark of a raw identifier.
pub(crate) fn name_of(ident: &Ident) -> String {
    let written = ident.to_string();
    written.strip_prefix("r#").map(str::to_owned).unwrap_or(written)
}

#[cfg(test)]
mod tests;
