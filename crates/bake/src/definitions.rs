//! What the files define: variables, functions, groups and targets, and how they refer to each other.
//!
//! Sources: buildx's "Bake file reference" and "Variables in Bake".

use std::cell::RefCell;
use std::collections::BTreeMap;

use crossdock_dockerfile::values::csv;
use hcl_edit::expr::Expression;
use serde_json::Value;

use crate::error::{BakeError, Result, SourceFile};
use crate::evaluate::{Evaluator, Locals, Names};
use crate::functions;
use crate::syntax::{Block, Expr, Parsed};
use crate::target::{STRUCTURE, Target};
use crate::value::{convert_to_type_of, kind, list, text};

/// Most targets that a matrix makes.
const MATRIX_MAX: usize = 10_000;
/// Most calls of functions of the files within each other.
const CALLS_MAX: usize = 100;

/// The definitions of all files, evaluated when they are asked for.
pub struct Definitions<'a> {
    files: &'a [SourceFile],
    variables: BTreeMap<String, &'a Block>,
    globals: BTreeMap<String, (usize, &'a Expr)>,
    functions: BTreeMap<String, &'a Block>,
    groups: Vec<&'a Block>,
    targets: Vec<&'a Block>,
    /// Variables of the caller: of the environment, and those that are built in.
    given: &'a dyn Fn(&str) -> Option<String>,
    builtin: &'a BTreeMap<String, String>,
    values: RefCell<BTreeMap<String, State>>,
    calls: RefCell<usize>,
}

#[derive(Clone)]
enum State {
    /// It is being evaluated: whoever asks for it goes round in a circle.
    Begun,
    Known(Value),
}

/// A variable, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, as text or JSON.
    pub value: Option<String>,
    /// What the file says about it.
    pub description: Option<String>,
}

impl<'a> Definitions<'a> {
    /// The definitions of files; `parsed` are their contents in the same order.
    ///
    /// # Errors
    ///
    /// A block of an unknown kind, or without a name.
    pub fn new(
        files: &'a [SourceFile],
        parsed: &'a [Parsed],
        given: &'a dyn Fn(&str) -> Option<String>,
        builtin: &'a BTreeMap<String, String>,
    ) -> Result<Definitions<'a>> {
        let mut all = Definitions {
            files,
            variables: BTreeMap::new(),
            globals: BTreeMap::new(),
            functions: BTreeMap::new(),
            groups: Vec::new(),
            targets: Vec::new(),
            given,
            builtin,
            values: RefCell::default(),
            calls: RefCell::default(),
        };
        for (number, parsed) in parsed.iter().enumerate() {
            for (name, expression) in &parsed.globals {
                all.globals.insert(name.clone(), (number, expression));
            }
            for block in &parsed.blocks {
                let wrong = |message: String| files[number].error(block.span.clone(), message);
                if block.name.is_empty() {
                    return Err(wrong(format!("the block \"{}\" has no name", block.kind)));
                }
                match block.kind.as_str() {
                    "target" | "group" if !is_name(&block.name) => {
                        return Err(wrong(format!(
                            "\"{}\" is no name of a {}: letters, digits, \"_\" and \"-\"",
                            block.name, block.kind
                        )));
                    }
                    "target" => all.targets.push(block),
                    "group" => all.groups.push(block),
                    "function" => drop(all.functions.insert(block.name.clone(), block)),
                    // A later block without a default keeps the earlier one's.
                    "variable" if block.attributes.is_empty() && all.variables.contains_key(&block.name) => {}
                    "variable" => drop(all.variables.insert(block.name.clone(), block)),
                    other => {
                        return Err(wrong(format!(
                            "there are no blocks \"{other}\": target, group, variable and function"
                        )));
                    }
                }
            }
        }
        Ok(all)
    }

    fn evaluator<'s>(&'s self, file: usize) -> Evaluator<'s> {
        Evaluator::new(&self.files[file], self)
    }

    /// The variables, by name, with their values; also checks their conditions.
    pub fn listed_variables(&self) -> Result<Vec<Variable>> {
        let mut all = Vec::new();
        for (name, block) in &self.variables {
            let value = self.variable(name).expect("it is defined")?;
            let description = block.attribute("description");
            let description = description
                .map(|of| of.value(&self.evaluator(block.file), &Locals::default()))
                .transpose()?;
            all.push(Variable {
                name: name.clone(),
                value: match &value {
                    Value::Null => None,
                    Value::Array(_) | Value::Object(_) => Some(value.to_string()),
                    single => text(single).ok(),
                },
                description: description.and_then(|value| text(&value).ok()),
            });
        }
        Ok(all)
    }

    /// Checks the conditions of all variables.
    pub fn check_variables(&self) -> Result<()> {
        self.listed_variables().map(drop)
    }

    fn evaluate_variable(&self, name: &str) -> Option<Result<Value>> {
        if let Some(block) = self.variables.get(name) {
            return Some(self.value_of_variable(name, block));
        }
        if let Some((file, expression)) = self.globals.get(name) {
            return Some(expression.value(&self.evaluator(*file), &Locals::default()));
        }
        if let Some(value) = self.builtin.get(name) {
            return Some(Ok(Value::from(value.as_str())));
        }
        // Names of blocks stand for their blocks: target.app.args.
        let of_kind = |blocks: &[&Block]| {
            let mut all = serde_json::Map::new();
            for block in blocks {
                let evaluator = self.evaluator(block.file);
                let entry =
                    all.entry(block.name.clone()).or_insert_with(|| Value::Object(Default::default()));
                for (key, expression) in &block.attributes {
                    // What cannot be evaluated by itself cannot be referred to, either.
                    if let Ok(value) = expression.value(&evaluator, &Locals::default()) {
                        entry[key.as_str()] = value;
                    }
                }
            }
            Value::Object(all)
        };
        match name {
            "target" => Some(Ok(of_kind(&self.targets))),
            "group" => Some(Ok(of_kind(&self.groups))),
            _ => None,
        }
    }

    fn value_of_variable(&self, name: &str, block: &Block) -> Result<Value> {
        let evaluator = self.evaluator(block.file);
        let none = Locals::default();
        let default = block.attribute("default").map(|of| of.value(&evaluator, &none)).transpose()?;
        let kind = block.attribute("type").map(type_name);
        let value = match (self.given)(name) {
            Some(text) => of_environment(&text, kind.as_deref(), default.as_ref())
                .map_err(|error| BakeError::Request(format!("the variable {name}: {error}")))?,
            // A variable without a default is empty.
            None => default.unwrap_or_else(|| Value::from("")),
        };
        // The conditions see the value under its own name.
        let locals = none.with(name, value.clone());
        for validation in block.blocks.iter().filter(|inner| inner.kind == "validation") {
            let Some(condition) = validation.attribute("condition") else { continue };
            let is_met = condition.value(&evaluator, &locals)?;
            if is_met != Value::Bool(true) {
                let message = validation.attribute("error_message");
                let message = message.map(|of| of.value(&evaluator, &locals)).transpose()?;
                let message = message.and_then(|value| text(&value).ok());
                return Err(self.files[block.file].error(
                    validation.span.clone().or_else(|| condition.span()),
                    format!(
                        "the variable {name} has a value that is not allowed: {}",
                        message.unwrap_or_else(|| "its condition is not met".to_string())
                    ),
                ));
            }
        }
        Ok(value)
    }

    fn call_function(&self, block: &Block, arguments: &[Value]) -> std::result::Result<Value, String> {
        let names = |attribute: &str| -> std::result::Result<Vec<String>, String> {
            match block.attribute(attribute) {
                None => Ok(Vec::new()),
                // Bare names, not variables.
                Some(Expr::Hcl(expression)) => match &**expression {
                    Expression::Array(items) => Ok(items.iter().filter_map(bare_name).collect()),
                    single => Ok(bare_name(single).into_iter().collect()),
                },
                Some(Expr::Json(Value::Array(items))) => items.iter().map(text).collect(),
                Some(Expr::Json(single)) => Ok(vec![text(single)?]),
            }
        };
        let (parameters, rest) = (names("params")?, names("variadic_params")?);
        if arguments.len() < parameters.len() || (rest.is_empty() && arguments.len() > parameters.len()) {
            return Err(format!("it has {} parameters, not {}", parameters.len(), arguments.len()));
        }
        let mut locals = Locals::default();
        for (name, value) in parameters.iter().zip(arguments) {
            locals = locals.with(name, value.clone());
        }
        if let Some(name) = rest.first() {
            locals = locals.with(name, Value::Array(arguments[parameters.len()..].to_vec()));
        }
        let result = block.attribute("result").ok_or("the function has no result")?;
        if *self.calls.borrow() == CALLS_MAX {
            return Err(format!("more than {CALLS_MAX} calls are within each other"));
        }
        *self.calls.borrow_mut() += 1;
        let value = result.value(&self.evaluator(block.file), &locals).map_err(|error| error.to_string());
        *self.calls.borrow_mut() -= 1;
        value
    }

    /// All targets by name, matrices expanded, without what they inherit; and the groups that matrices make.
    #[expect(clippy::type_complexity, reason = "two maps by name")]
    pub fn targets(&self) -> Result<(BTreeMap<String, Defined>, BTreeMap<String, Vec<String>>)> {
        let mut targets: BTreeMap<String, Defined> = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for block in &self.targets {
            let rows = self.matrix(block)?;
            let is_matrix = block.attribute("matrix").is_some();
            let mut made = Vec::new();
            for locals in rows {
                let name = match block.attribute("name") {
                    Some(_) if !is_matrix => {
                        return Err(self.wrong(
                            block,
                            "name",
                            "a name without a matrix; the block has its own",
                        ));
                    }
                    Some(name) => {
                        let value = name.value(&self.evaluator(block.file), &locals)?;
                        let name = text(&value).map_err(|error| self.wrong(block, "name", &error))?;
                        if !is_name(&name) {
                            return Err(self.wrong(
                                block,
                                "name",
                                &format!(
                                    "\"{name}\" is no name of a target: letters, digits, \"_\" and \"-\""
                                ),
                            ));
                        }
                        name
                    }
                    None if is_matrix => {
                        return Err(self.wrong(block, "matrix", "a matrix needs a name, too"));
                    }
                    None => block.name.clone(),
                };
                if made.contains(&name) {
                    return Err(self.wrong(
                        block,
                        "name",
                        &format!("two targets of the matrix have the name {name}"),
                    ));
                }
                let defined = self.target(block, &locals)?;
                made.push(name.clone());
                match targets.get_mut(&name) {
                    Some(known) => known.merge(&defined),
                    None => drop(targets.insert(name, defined)),
                }
            }
            if is_matrix {
                groups.insert(block.name.clone(), made);
            }
        }
        Ok((targets, groups))
    }

    fn wrong(&self, block: &Block, attribute: &str, message: &str) -> BakeError {
        let span = block.attribute(attribute).and_then(Expr::span).or_else(|| block.span.clone());
        self.files[block.file].error(span, format!("target {}: {message}", block.name))
    }

    fn target(&self, block: &Block, locals: &Locals) -> Result<Defined> {
        let mut defined = Defined::default();
        let evaluator = self.evaluator(block.file);
        for (name, expression) in &block.attributes {
            if STRUCTURE.contains(&name.as_str()) {
                continue;
            }
            let value = expression.value(&evaluator, locals)?;
            defined.target.set(name, &value).map_err(|error| self.wrong(block, name, &error))?;
        }
        if let Some(inherits) = block.attribute("inherits") {
            let value = inherits.value(&evaluator, locals)?;
            let names =
                list(&value).and_then(|items| items.iter().map(text).collect::<std::result::Result<_, _>>());
            defined.inherits = names.map_err(|error| self.wrong(block, "inherits", &error))?;
        }
        if let Some(inner) = block.blocks.first() {
            return Err(self.wrong(block, "", &format!("targets have no blocks \"{}\"", inner.kind)));
        }
        Ok(defined)
    }

    /// The names of each combination of a matrix; without a matrix, one without names.
    fn matrix(&self, block: &Block) -> Result<Vec<Locals>> {
        let Some(matrix) = block.attribute("matrix") else { return Ok(vec![Locals::default()]) };
        let wrong = |message: String| self.wrong(block, "matrix", &message);
        let value = matrix.value(&self.evaluator(block.file), &Locals::default())?;
        let Value::Object(axes) = &value else {
            return Err(wrong(format!("a matrix is an object of lists, this is {}", kind(&value))));
        };
        let mut rows = vec![Locals::default()];
        for (name, values) in axes {
            let values = list(values).map_err(|error| wrong(format!("{name}: {error}")))?;
            if rows.len().saturating_mul(values.len()) > MATRIX_MAX {
                return Err(wrong(format!("it would make more than {MATRIX_MAX} targets")));
            }
            rows = rows
                .iter()
                .flat_map(|row| values.iter().map(|value| row.with(name, value.clone())))
                .collect();
        }
        Ok(rows)
    }

    /// The groups by name, with the names that they hold.
    pub fn groups(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for block in &self.groups {
            let evaluator = self.evaluator(block.file);
            let wrong = |message: String| {
                self.files[block.file].error(block.span.clone(), format!("group {}: {message}", block.name))
            };
            for (name, expression) in &block.attributes {
                let value = expression.value(&evaluator, &Locals::default())?;
                match name.as_str() {
                    "targets" => {
                        let names = list(&value)
                            .and_then(|items| items.iter().map(text).collect::<std::result::Result<_, _>>());
                        groups.insert(block.name.clone(), names.map_err(wrong)?);
                    }
                    "description" => {}
                    other => return Err(wrong(format!("groups have no attribute \"{other}\""))),
                }
            }
            groups.entry(block.name.clone()).or_default();
        }
        Ok(groups)
    }
}

impl Names for Definitions<'_> {
    fn variable(&self, name: &str) -> Option<Result<Value>> {
        match self.values.borrow().get(name) {
            Some(State::Known(value)) => return Some(Ok(value.clone())),
            Some(State::Begun) => {
                return Some(Err(BakeError::Request(format!("the variable {name} is defined by itself"))));
            }
            None => {}
        }
        self.values.borrow_mut().insert(name.to_string(), State::Begun);
        let value = self.evaluate_variable(name);
        match &value {
            Some(Ok(value)) => {
                self.values.borrow_mut().insert(name.to_string(), State::Known(value.clone()));
            }
            _ => drop(self.values.borrow_mut().remove(name)),
        }
        value
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<std::result::Result<Value, String>> {
        match self.functions.get(name) {
            Some(block) => Some(self.call_function(block, arguments)),
            None if name == "homedir" => {
                let home = (self.given)("HOME").filter(|home| !home.is_empty());
                Some(home.map(Value::from).ok_or_else(|| "the variable HOME is not set".to_string()))
            }
            None => functions::find(name).map(|function| function(arguments)),
        }
    }
}

/// A target as its blocks define it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defined {
    /// Its own attributes.
    pub target: Target,
    /// Names of the targets that it inherits from, the last counting most.
    pub inherits: Vec<String>,
}

impl Defined {
    /// Lays another definition over this one.
    pub fn merge(&mut self, over: &Defined) {
        self.target.merge(&over.target);
        if !over.inherits.is_empty() {
            self.inherits.clone_from(&over.inherits);
        }
    }
}

/// Whether targets and groups may have this name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn bare_name(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Variable(name) => Some(name.as_str().to_string()),
        Expression::String(name) => Some(name.as_str().to_string()),
        _ => None,
    }
}

/// The name of a type: `string` of `string`, `list` of `list(string)`.
fn type_name(expression: &Expr) -> String {
    match expression {
        Expr::Hcl(expression) => match &**expression {
            Expression::FuncCall(call) => call.name.name.as_str().to_string(),
            other => bare_name(other).unwrap_or_default(),
        },
        Expr::Json(value) => {
            text(value).unwrap_or_default().split('(').next().unwrap_or_default().to_string()
        }
    }
}

/// A value of the environment as the type says, or as the default is.
fn of_environment(
    given: &str,
    kind: Option<&str>,
    default: Option<&Value>,
) -> std::result::Result<Value, String> {
    match kind {
        Some("bool") => convert_to_type_of(given, &Value::Bool(true)),
        Some("number") => convert_to_type_of(given, &Value::from(0)),
        Some("list" | "set" | "tuple") => Ok(match given {
            "" => Value::Array(Vec::new()),
            given => csv(given)?.into_iter().map(Value::from).collect(),
        }),
        Some("map" | "object") => {
            serde_json::from_str(given).map_err(|error| format!("it is no JSON: {error}"))
        }
        Some(_) => Ok(Value::from(given)),
        None => convert_to_type_of(given, default.unwrap_or(&Value::Null)),
    }
}
