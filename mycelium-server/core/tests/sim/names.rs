//! Lists of names, each with what it stands for.

/// Declares an enumeration, and the list of all that is in it.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($one:ident: $says:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $(#[doc = $says] $one,)+ }

        impl $name {
            pub(crate) const ALL: [Self; [$($name::$one),+].len()] = [$(Self::$one),+];

            pub(crate) fn says(self) -> &'static str {
                match self { $(Self::$one => $says,)+ }
            }
        }
    };
}
