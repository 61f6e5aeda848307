//! The JSON Schemas of the types that travel.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

/// An output of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDeclaration {
    /// Its name.
    pub name: Cow<'static, str>,
    /// JSON Schema (draft 2020-12) of its values, as JSON text; empty for any.
    pub schema: String,
}

/// JSON Schema (draft 2020-12) of a type, as JSON text.
pub fn schema_of<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.to_value().to_string()
}

/// The same of what is written of a type: what its values are held against when a task has returned them.
pub fn output_schema_of<T: JsonSchema>() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().to_value().to_string()
}
