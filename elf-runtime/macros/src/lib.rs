//! The macros of `elf-runtime`, which re-exports them; use them from there.
//!
//! Nothing here depends on that crate, not even in tests: whatever tests of a crate with macros need is built for the
//! compiler's own machine, all of gRPC a second time.

use proc_macro::TokenStream;

mod expand;
mod levels;
mod output;
mod parse;
mod source;

/// Makes a machine elf of a type; `elf_runtime::machine_elf` has its documentation.
#[proc_macro_attribute]
pub fn machine_elf(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let written = item.clone();
    let attribute = proc_macro2::Span::call_site();
    match parse::machine_elf(arguments.into(), item.into(), attribute) {
        Ok(elf) => expand::machine_elf(&elf).into(),
        Err(error) => {
            // The block stays, so that its own mistakes and uses are judged as ever.
            let mut tokens = TokenStream::from(parse::without_our_attributes(written.into()));
            tokens.extend(TokenStream::from(error.into_compile_error()));
            tokens
        }
    }
}

/// Makes a type travel between tasks; `elf_runtime::Output` has its documentation.
#[proc_macro_derive(Output, attributes(output))]
pub fn derive_output(item: TokenStream) -> TokenStream {
    match output::derive(item.into()) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}
