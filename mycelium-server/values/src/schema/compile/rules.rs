//! The keywords of one schema, as rules.

use regex::RegexBuilder;

use super::references::Target;
use super::{Compiler, Name, Origin, Queued, SchemaError};
use crate::json::Json;
use crate::schema::number::Number;
use crate::schema::{Bound, Counts, Id, Kinds, Pattern, Properties, Rule, Sized};

/// The longest pattern that is judged, in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024;
/// The program of a pattern may take so much memory, in bytes, which its cost for each byte of a text grows with.
const PROGRAM_BYTES: [(usize, usize); 4] = [(4 << 10, 1), (16 << 10, 4), (64 << 10, 16), (256 << 10, 64)];

/// Reads the rules of a schema that is a map.
pub(super) fn rules<'a>(compiler: &mut Compiler<'a>, queued: &Queued<'a>) -> Result<Vec<Rule>, SchemaError> {
    let mut schema = Reading { compiler, queued, rules: Vec::new() };
    if let Some(reference) = schema.get("$ref") {
        schema.reference(reference)?;
        if schema.compiler.references.only_reference() {
            schema.definitions()?;
            return Ok(schema.rules);
        }
    }
    schema.any_type()?;
    schema.number()?;
    schema.text()?;
    schema.list()?;
    schema.map()?;
    schema.combinations()?;
    schema.definitions()?;
    Ok(schema.rules)
}

/// One schema that is being read.
struct Reading<'c, 'a> {
    compiler: &'c mut Compiler<'a>,
    queued: &'c Queued<'a>,
    rules: Vec<Rule>,
}

impl<'a> Reading<'_, 'a> {
    fn get(&self, keyword: &str) -> Option<&'a Json<'a>> {
        self.queued.json.get(keyword)
    }

    fn wrong(&self, keyword: &str, problem: &str) -> SchemaError {
        self.compiler.wrong(self.queued.id, keyword, problem)
    }

    fn take(&mut self, bytes: usize) -> Result<(), SchemaError> {
        self.compiler.take(bytes)
    }

    /// A schema under a keyword.
    fn schema(
        &mut self,
        keyword: &'static str,
        name: Name<'a>,
        json: &'a Json<'a>,
    ) -> Result<Id, SchemaError> {
        let origin = Origin { parent: Some(self.queued.id), keyword, name };
        self.compiler.schema(json, self.queued.resource, origin)
    }

    fn one(&mut self, keyword: &'static str) -> Result<Option<Id>, SchemaError> {
        let json = self.get(keyword);
        json.map(|json| self.schema(keyword, Name::None, json)).transpose()
    }

    fn list_of(&mut self, keyword: &'static str, items: &'a [Json<'a>]) -> Result<Box<[Id]>, SchemaError> {
        self.take(size_of_val(items))?;
        let items = items.iter().enumerate();
        items.map(|(index, json)| self.schema(keyword, Name::Index(index), json)).collect()
    }

    /// Schemas by name.
    fn map_of(&mut self, keyword: &'static str) -> Result<Vec<(&'a str, Id)>, SchemaError> {
        let Some(json) = self.get(keyword) else { return Ok(Vec::new()) };
        let Json::Map(entries) = json else { return Err(self.wrong(keyword, "must be an object")) };
        let mut schemas = Vec::with_capacity(entries.len());
        for (name, json) in entries {
            self.take(name.len() + 32)?;
            schemas.push((&**name, self.schema(keyword, Name::Key(name), json)?));
        }
        Ok(schemas)
    }

    /// How many of something: a whole number from 0.
    fn count(&self, keyword: &str) -> Result<Option<u64>, SchemaError> {
        let wrong = || self.wrong(keyword, "must be a whole number of at least 0");
        match self.get(keyword) {
            None => Ok(None),
            Some(Json::Number(text)) => {
                let number = Number::new(text);
                if !number.is_integer() || number.cmp(Number::new("0")).is_lt() {
                    return Err(wrong());
                }
                // `2.0` is a whole number too; what no machine holds is more than there is.
                let whole = text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|float| float as u64));
                Ok(Some(whole.unwrap_or(u64::MAX)))
            }
            Some(_) => Err(wrong()),
        }
    }

    fn counts(&self, min: &str, max: &str) -> Result<Option<Counts>, SchemaError> {
        let (min, max) = (self.count(min)?, self.count(max)?);
        Ok((min.is_some() || max.is_some())
            .then(|| Counts { min: min.unwrap_or(0), max: max.unwrap_or(u64::MAX) }))
    }

    fn length(&mut self, sized: Sized, min: &str, max: &str) -> Result<(), SchemaError> {
        let counts = self.counts(min, max)?;
        self.rules.extend(counts.map(|counts| Rule::Length(sized, counts)));
        Ok(())
    }

    fn flag(&self, keyword: &str) -> Result<bool, SchemaError> {
        match self.get(keyword) {
            None => Ok(false),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(keyword, "must be a boolean")),
        }
    }

    /// Names that are told apart.
    fn names(&mut self, keyword: &str, json: &Json<'_>) -> Result<Box<[Box<str>]>, SchemaError> {
        let problem = "must be an array of strings";
        let Json::List(items) = json else { return Err(self.wrong(keyword, problem)) };
        let mut names = Vec::with_capacity(items.len());
        for item in items {
            let Json::Text(name) = item else { return Err(self.wrong(keyword, problem)) };
            self.take(name.len() + 32)?;
            names.push(Box::from(&**name));
        }
        Ok(names.into())
    }

    fn reference(&mut self, json: &'a Json<'a>) -> Result<(), SchemaError> {
        let Json::Text(reference) = json else { return Err(self.wrong("$ref", "must be a string")) };
        match self.compiler.references.resolve(reference, self.queued.resource) {
            Target::Schema { json, resource } => {
                let origin = Origin { parent: Some(self.queued.id), keyword: "$ref", name: Name::None };
                let id = self.compiler.schema(json, resource, origin)?;
                self.rules.push(Rule::Reference(id));
                Ok(())
            }
            Target::Elsewhere => Ok(()),
            Target::Nothing => Err(self.wrong("$ref", "refers to nothing")),
        }
    }

    fn any_type(&mut self) -> Result<(), SchemaError> {
        if let Some(types) = self.get("type") {
            let names = match types {
                Json::List(names) if !names.is_empty() => names,
                one => std::slice::from_ref(one),
            };
            let mut kinds = Kinds::default();
            for name in names {
                let Json::Text(name) = name else {
                    return Err(self.wrong("type", "must be the name of a type, or an array of such"));
                };
                let Some(kind) = Kinds::named(name) else {
                    let problem = format!("`{}` is no type", crate::value::shorten(name));
                    return Err(self.wrong("type", &problem));
                };
                kinds = Kinds(kinds.0 | kind.0);
            }
            self.rules.push(Rule::Types(kinds));
        }
        if let Some(value) = self.get("const") {
            self.values(std::slice::from_ref(value))?;
        }
        match self.get("enum") {
            None => Ok(()),
            Some(Json::List(values)) => self.values(values),
            Some(_) => Err(self.wrong("enum", "must be an array")),
        }
    }

    fn values(&mut self, values: &[Json<'_>]) -> Result<(), SchemaError> {
        let mut bytes = 0;
        let mut waiting: Vec<&Json<'_>> = values.iter().collect();
        while let Some(json) = waiting.pop() {
            bytes += size_of::<Json<'_>>();
            match json {
                Json::Number(text) | Json::Text(text) => bytes += text.len(),
                Json::List(items) => waiting.extend(items),
                Json::Map(entries) => {
                    bytes += entries.iter().map(|(key, _)| key.len() + 24).sum::<usize>();
                    waiting.extend(entries.iter().map(|(_, value)| value));
                }
                Json::Null | Json::Bool(_) => {}
            }
        }
        self.take(bytes)?;
        self.rules.push(Rule::Enum(values.iter().map(|value| value.clone().into_owned()).collect()));
        Ok(())
    }

    fn number(&mut self) -> Result<(), SchemaError> {
        let pairs = [
            ("minimum", Bound::Minimum, "exclusiveMinimum", Bound::Above),
            ("maximum", Bound::Maximum, "exclusiveMaximum", Bound::Below),
        ];
        for (within, bound, beyond, exclusive) in pairs {
            let mut bound = bound;
            match self.get(beyond) {
                None => {}
                Some(Json::Number(limit)) => self.bound(exclusive, limit)?,
                // Draft 4 has it say how the other is meant.
                Some(Json::Bool(flag)) => bound = if *flag { exclusive } else { bound },
                Some(_) => return Err(self.wrong(beyond, "must be a number")),
            }
            match self.get(within) {
                None => {}
                Some(Json::Number(limit)) => self.bound(bound, limit)?,
                Some(_) => return Err(self.wrong(within, "must be a number")),
            }
        }
        match self.get("multipleOf") {
            None => Ok(()),
            Some(Json::Number(of)) if Number::new(of).cmp(Number::new("0")).is_gt() => {
                self.take(of.len())?;
                self.rules.push(Rule::MultipleOf(Box::from(&**of)));
                Ok(())
            }
            Some(_) => Err(self.wrong("multipleOf", "must be a number above 0")),
        }
    }

    fn bound(&mut self, bound: Bound, limit: &str) -> Result<(), SchemaError> {
        self.take(limit.len())?;
        self.rules.push(Rule::Bound(bound, Box::from(limit)));
        Ok(())
    }

    fn text(&mut self) -> Result<(), SchemaError> {
        self.length(Sized::Text, "minLength", "maxLength")?;
        match self.get("pattern") {
            None => Ok(()),
            Some(Json::Text(pattern)) => {
                let pattern = self.pattern("pattern", pattern)?;
                self.rules.extend(pattern.map(|pattern| Rule::Pattern(Box::new(pattern))));
                Ok(())
            }
            Some(_) => Err(self.wrong("pattern", "must be a string")),
        }
    }

    /// Compiles a pattern; `None` if it is one that is not judged.
    fn pattern(&mut self, keyword: &str, pattern: &str) -> Result<Option<Pattern>, SchemaError> {
        self.take(pattern.len())?;
        if pattern.len() > PATTERN_BYTES_MAX {
            return Ok(None);
        }
        for (bytes, cost) in PROGRAM_BYTES {
            match RegexBuilder::new(pattern).size_limit(bytes).build() {
                Ok(regex) => {
                    self.take(2 * bytes)?;
                    return Ok(Some(Pattern { regex, cost }));
                }
                // What was built in vain counts too: it took its time.
                Err(regex::Error::CompiledTooBig(_)) => self.take(bytes)?,
                Err(_) if is_unbalanced(pattern) => {
                    return Err(self.wrong(keyword, "is no regular expression"));
                }
                // Other dialects know more.
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn list(&mut self) -> Result<(), SchemaError> {
        let mut first = 0;
        let (before, rest) = match self.get("items") {
            // Until draft 2019-09.
            Some(Json::List(_)) => ("items", "additionalItems"),
            _ => ("prefixItems", "items"),
        };
        match self.get(before) {
            None => {}
            Some(Json::List(items)) => {
                let ids = self.list_of(before, items)?;
                first = ids.len();
                self.rules.push(Rule::Prefix(ids));
            }
            Some(_) => return Err(self.wrong(before, "must be an array")),
        }
        let rest = self.one(rest)?;
        self.rules.extend(rest.map(|id| Rule::Items(first, id)));
        self.length(Sized::List, "minItems", "maxItems")?;
        if self.flag("uniqueItems")? {
            self.rules.push(Rule::Unique);
        }
        let counts = self.counts("minContains", "maxContains")?;
        if let Some(id) = self.one("contains")? {
            let (min, max) = match counts {
                Some(counts) if self.get("minContains").is_some() => (counts.min, counts.max),
                Some(counts) => (1, counts.max),
                None => (1, u64::MAX),
            };
            self.rules.push(Rule::Contains(id, Counts { min, max }));
        }
        Ok(())
    }

    fn map(&mut self) -> Result<(), SchemaError> {
        let named = self.map_of("properties")?;
        let mut named: Vec<(Box<str>, Id)> =
            named.into_iter().map(|(name, id)| (Box::from(name), id)).collect();
        named.sort_unstable();
        let mut patterns = Vec::new();
        for (pattern, id) in self.map_of("patternProperties")? {
            patterns.push((self.pattern("patternProperties", pattern)?, id));
        }
        let others = self.one("additionalProperties")?;
        if !named.is_empty() || !patterns.is_empty() || others.is_some() {
            let properties = Properties { named: named.into(), patterns: patterns.into(), others };
            self.rules.push(Rule::Properties(Box::new(properties)));
        }
        let names = self.one("propertyNames")?;
        self.rules.extend(names.map(Rule::PropertyNames));
        self.length(Sized::Map, "minProperties", "maxProperties")?;
        if let Some(required) = self.get("required") {
            let names = self.names("required", required)?;
            self.rules.push(Rule::Required(names));
        }
        self.dependents()
    }

    fn dependents(&mut self) -> Result<(), SchemaError> {
        for (name, id) in self.map_of("dependentSchemas")? {
            self.rules.push(Rule::DependentSchema(Box::from(name), id));
        }
        // Draft 7 has both under one keyword.
        for keyword in ["dependentRequired", "dependencies"] {
            let Some(json) = self.get(keyword) else { continue };
            let Json::Map(entries) = json else { return Err(self.wrong(keyword, "must be an object")) };
            for (name, json) in entries {
                self.take(name.len())?;
                let rule = match json {
                    Json::Map(_) | Json::Bool(_) if keyword == "dependencies" => {
                        let id = self.schema("dependencies", Name::Key(name), json)?;
                        Rule::DependentSchema(Box::from(&**name), id)
                    }
                    names => Rule::DependentRequired(Box::from(&**name), self.names(keyword, names)?),
                };
                self.rules.push(rule);
            }
        }
        Ok(())
    }

    fn combinations(&mut self) -> Result<(), SchemaError> {
        type Combined = fn(Box<[Id]>) -> Rule;
        let kinds: [(&str, Combined); 3] = [("allOf", Rule::All), ("anyOf", Rule::Any), ("oneOf", Rule::One)];
        for (keyword, rule) in kinds {
            match self.get(keyword) {
                None => {}
                Some(Json::List(items)) if !items.is_empty() => {
                    let ids = self.list_of(keyword, items)?;
                    self.rules.push(rule(ids));
                }
                Some(_) => return Err(self.wrong(keyword, "must be an array that is not empty")),
            }
        }
        let not = self.one("not")?;
        self.rules.extend(not.map(Rule::Not));
        let condition = self.one("if")?;
        let (then, otherwise) = (self.one("then")?, self.one("else")?);
        if let Some(condition) = condition
            && (then.is_some() || otherwise.is_some())
        {
            let any = self.compiler.any();
            self.rules.push(Rule::If(condition, then.unwrap_or(any), otherwise.unwrap_or(any)));
        }
        Ok(())
    }

    /// What is there to be referred to has to be schemas too.
    fn definitions(&mut self) -> Result<(), SchemaError> {
        for keyword in ["$defs", "definitions"] {
            self.map_of(keyword)?;
        }
        Ok(())
    }
}

/// Whether a pattern that cannot be read is wrong in every dialect: its brackets do not match, or it repeats nothing.
fn is_unbalanced(pattern: &str) -> bool {
    let (mut open, mut in_class, mut before) = (0_usize, false, None);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.next().is_none() => return true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '(' => open += 1,
            ')' if open == 0 => return true,
            ')' => open -= 1,
            '*' | '+' if matches!(before, None | Some('(' | '|')) => return true,
            _ => {}
        }
        before = Some(character);
    }
    open > 0 || (in_class && !pattern.contains("[]"))
}
