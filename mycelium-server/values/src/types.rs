//! The types of JSON values, as operations tell them apart.

use std::fmt;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number without a fraction or an exponent, within −2^63 and 2^64−1.
    Int,
    /// Any other number.
    Float,
    /// A string.
    String,
    /// A list.
    List,
    /// A map from strings.
    Map,
}

impl Type {
    /// All types.
    pub const ALL: [Self; 7] =
        [Self::Null, Self::Bool, Self::Int, Self::Float, Self::String, Self::List, Self::Map];

    /// Its name, as the contract has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::List => "list",
            Self::Map => "map",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of types.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Types(u8);

impl Types {
    /// Every type.
    pub const ANY: Self = Self(0x7f);
    /// Int and float.
    pub const NUMBER: Self = Self::of(&[Type::Int, Type::Float]);

    /// These types.
    #[must_use]
    pub const fn of(types: &[Type]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < types.len() {
            bits |= 1 << types[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether a type is among them.
    #[must_use]
    pub const fn contains(self, one: Type) -> bool {
        self.0 & (1 << one as u8) != 0
    }

    /// Whether there is a type in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The types, in their fixed order.
    pub fn iter(self) -> impl Iterator<Item = Type> {
        Type::ALL.into_iter().filter(move |one| self.contains(*one))
    }
}

impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any value");
        }
        for (index, one) in self.iter().enumerate() {
            f.write_str(if index > 0 { " or " } else { "" })?;
            f.write_str(one.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Types({self})")
    }
}
