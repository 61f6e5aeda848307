//! The statements of ArangoDB's query language that this store runs: each of always the same text, in a file of its own.

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    /// The name of its file, without the ending.
    pub(super) name: &'static str,
    /// Its text.
    pub(super) text: &'static str,
    /// Whether it changes what is stored. The answer of one that does is taken in one piece.
    pub(super) writes: bool,
}

/// Declares statements by the names of their files, and lists them.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident = $file:literal, writes $writes:literal;)*) => {
        $($(#[$meta])* pub(super) static $name: Statement = Statement {
            name: $file,
            text: include_str!(concat!("statements/", $file, ".aql")),
            writes: $writes,
        };)*

        /// All of them.
        pub(super) static ALL: &[&Statement] = &[$(&$name),*];
    };
}

statements! {
    /// Acquires the lease.
    ACQUIRE = "acquire", writes true;
    /// Renews the lease.
    RENEW = "renew", writes true;
}
