//! Good uses of the macros compile, and do what they say. Here and not with those that do not compile (`ui`), because
//! these need code, and that only checks: dependencies need not be built for it once more.

mod own_names;
mod visibility_and_modules;
