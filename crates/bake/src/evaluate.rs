//! Evaluates expressions and templates. Source: the HCL specification (hclsyntax/spec.md).

use std::ops::Range;

use hcl_edit::Span;
use hcl_edit::expr::{BinaryOperator, Expression, ObjectKey, Traversal, TraversalOperator, UnaryOperator};
use hcl_edit::template::{Directive, Element, Template};
use serde_json::{Map, Value};

use crate::error::{BakeError, Result, SourceFile};
use crate::value::{equal, from_number, kind, list, number, text, truth};

/// Most expressions within each other.
const DEPTH_MAX: usize = 200;

/// What names mean.
pub trait Names {
    /// A variable of the files.
    fn variable(&self, name: &str) -> Option<Result<Value>>;
    /// A function: of the files, or of the language. `None` if there is none.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<std::result::Result<Value, String>>;
}

/// Names that are known in one place only: of loops, parameters and matrices.
#[derive(Clone, Default)]
pub struct Locals(Vec<(String, Value)>);

impl Locals {
    /// These names and one more.
    pub fn with(&self, name: &str, value: Value) -> Locals {
        let mut all = self.0.clone();
        all.push((name.to_string(), value));
        Locals(all)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// Evaluates the expressions of one file.
#[derive(Clone, Copy)]
pub struct Evaluator<'a> {
    /// The file, for errors.
    pub file: &'a SourceFile,
    /// What its names mean.
    pub names: &'a dyn Names,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    /// Evaluates expressions of `file`.
    pub fn new(file: &'a SourceFile, names: &'a dyn Names) -> Evaluator<'a> {
        Evaluator { file, names, depth: 0 }
    }

    fn at(&self, span: Option<Range<usize>>) -> impl Fn(String) -> BakeError + 'a {
        let file = self.file;
        move |message| file.error(span.clone(), message)
    }

    /// The value of an expression.
    pub fn value(&self, expression: &Expression, locals: &Locals) -> Result<Value> {
        let inner = Evaluator { depth: self.depth + 1, ..*self };
        let wrong = self.at(expression.span());
        if inner.depth > DEPTH_MAX {
            return Err(wrong(format!("more than {DEPTH_MAX} expressions are within each other")));
        }
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(truth) => Ok(Value::Bool(**truth)),
            Expression::Number(number) => {
                let float = number.as_f64().ok_or_else(|| wrong("the number is too large".to_string()))?;
                match number.as_i64() {
                    Some(integer) => Ok(Value::from(integer)),
                    None => from_number(float).map_err(wrong),
                }
            }
            Expression::String(text) => Ok(Value::from(text.as_str())),
            Expression::Array(items) => {
                Ok(Value::Array(items.iter().map(|item| inner.value(item, locals)).collect::<Result<_>>()?))
            }
            Expression::Object(object) => {
                let mut map = Map::new();
                for (key, value) in object {
                    let key = match key {
                        ObjectKey::Ident(name) => name.as_str().to_string(),
                        // A bare name in the place of a key is the key.
                        ObjectKey::Expression(Expression::Variable(name)) => name.as_str().to_string(),
                        ObjectKey::Expression(key) => {
                            text(&inner.value(key, locals)?).map_err(self.at(key.span()))?
                        }
                    };
                    map.insert(key, inner.value(value.expr(), locals)?);
                }
                Ok(Value::Object(map))
            }
            Expression::StringTemplate(template) => {
                let elements: Vec<&Element> = template.iter().collect();
                inner.template(&elements, locals)
            }
            Expression::HeredocTemplate(heredoc) => {
                let mut template = heredoc.template.clone();
                if let Some(indent) = heredoc.indent() {
                    let mut copy = (**heredoc).clone();
                    copy.dedent();
                    let _ = indent;
                    template = copy.template;
                }
                inner.whole(&template, locals)
            }
            Expression::Parenthesis(inside) => inner.value(inside.inner(), locals),
            Expression::Variable(name) => inner.variable(name.as_str(), expression.span(), locals),
            Expression::Conditional(condition) => {
                let is_so = truth(&inner.value(&condition.cond_expr, locals)?)
                    .map_err(self.at(condition.cond_expr.span()))?;
                let chosen = if is_so { &condition.true_expr } else { &condition.false_expr };
                inner.value(chosen, locals)
            }
            Expression::FuncCall(call) => inner.call(call, expression.span(), locals),
            Expression::Traversal(traversal) => inner.traversal(traversal, locals),
            Expression::UnaryOp(operation) => {
                let value = inner.value(&operation.expr, locals)?;
                match operation.operator.value() {
                    UnaryOperator::Neg => {
                        number(&value).and_then(|number| from_number(-number)).map_err(wrong)
                    }
                    UnaryOperator::Not => truth(&value).map(|truth| Value::Bool(!truth)).map_err(wrong),
                }
            }
            Expression::BinaryOp(operation) => {
                let left = inner.value(&operation.lhs_expr, locals)?;
                // Both sides are evaluated, as in HCL.
                let right = inner.value(&operation.rhs_expr, locals)?;
                binary(*operation.operator.value(), &left, &right).map_err(wrong)
            }
            Expression::ForExpr(each) => inner.each(each, locals),
        }
    }

    fn variable(&self, name: &str, span: Option<Range<usize>>, locals: &Locals) -> Result<Value> {
        if let Some(value) = locals.get(name) {
            return Ok(value.clone());
        }
        self.names
            .variable(name)
            .unwrap_or_else(|| Err(self.file.error(span, format!("there is no variable \"{name}\""))))
    }

    fn call(
        &self,
        call: &hcl_edit::expr::FuncCall,
        span: Option<Range<usize>>,
        locals: &Locals,
    ) -> Result<Value> {
        let name = call.name.name.as_str();
        // These two ask whether their arguments can be evaluated.
        match name {
            "try" => {
                let mut last = None;
                for argument in call.args.iter() {
                    match self.value(argument, locals) {
                        Ok(value) => return Ok(value),
                        Err(error) => last = Some(error),
                    }
                }
                return Err(last.unwrap_or_else(|| self.file.error(span, "try needs an argument")));
            }
            "can" => {
                let can = call.args.iter().all(|argument| self.value(argument, locals).is_ok());
                return Ok(Value::Bool(can));
            }
            _ => {}
        }
        let mut arguments =
            call.args.iter().map(|argument| self.value(argument, locals)).collect::<Result<Vec<_>>>()?;
        if call.args.expand_final()
            && let Some(last) = arguments.pop()
        {
            arguments.extend(list(&last).map_err(self.at(span.clone()))?.iter().cloned());
        }
        match self.names.call(name, &arguments) {
            Some(Ok(value)) => Ok(value),
            Some(Err(message)) => Err(self.file.error(span, format!("{name}: {message}"))),
            None => Err(self.file.error(span, format!("there is no function \"{name}\""))),
        }
    }

    fn traversal(&self, traversal: &Traversal, locals: &Locals) -> Result<Value> {
        let mut value = self.value(&traversal.expr, locals)?;
        let mut operators = traversal.operators.iter();
        while let Some(operator) = operators.next() {
            let span = operator.span().or_else(|| traversal.span());
            match operator.value() {
                TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                    let items = match value {
                        Value::Null => Vec::new(),
                        Value::Array(items) => items,
                        single => vec![single],
                    };
                    let rest: Vec<_> = operators.cloned().collect();
                    let each = |item: Value| {
                        rest.iter().try_fold(item, |value, operator| {
                            self.step(&value, operator.value(), operator.span(), locals)
                        })
                    };
                    return Ok(Value::Array(items.into_iter().map(each).collect::<Result<_>>()?));
                }
                operator => value = self.step(&value, operator, span, locals)?,
            }
        }
        Ok(value)
    }

    fn step(
        &self,
        value: &Value,
        operator: &TraversalOperator,
        span: Option<Range<usize>>,
        locals: &Locals,
    ) -> Result<Value> {
        let key = match operator {
            TraversalOperator::GetAttr(name) => Value::from(name.as_str()),
            TraversalOperator::LegacyIndex(index) => Value::from(**index),
            TraversalOperator::Index(index) => self.value(index, locals)?,
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                return Err(self.file.error(span, "one \"*\" cannot follow another"));
            }
        };
        index(value, &key).map_err(self.at(span))
    }

    fn each(&self, each: &hcl_edit::expr::ForExpr, locals: &Locals) -> Result<Value> {
        let collection = self.value(&each.intro.collection_expr, locals)?;
        let items = pairs(&collection).map_err(self.at(each.intro.collection_expr.span()))?;
        let mut list = Vec::new();
        let mut map: Map<String, Value> = Map::new();
        for (key, value) in items {
            let mut inner = locals.with(each.intro.value_var.as_str(), value);
            if let Some(name) = &each.intro.key_var {
                inner = inner.with(name.as_str(), key);
            }
            if let Some(condition) = &each.cond {
                let is_so = self.value(&condition.expr, &inner)?;
                if !truth(&is_so).map_err(self.at(condition.expr.span()))? {
                    continue;
                }
            }
            let value = self.value(&each.value_expr, &inner)?;
            let Some(key) = &each.key_expr else {
                list.push(value);
                continue;
            };
            let key = text(&self.value(key, &inner)?).map_err(self.at(key.span()))?;
            if !each.grouping {
                map.insert(key, value);
            } else if let Value::Array(group) = map.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
                group.push(value);
            }
        }
        Ok(if each.key_expr.is_some() { Value::Object(map) } else { Value::Array(list) })
    }

    /// The value of a template: of one interpolation alone, whatever it is, else a text.
    fn template(&self, elements: &[&Element], locals: &Locals) -> Result<Value> {
        if let [Element::Interpolation(only)] = elements {
            return self.value(&only.expr, locals);
        }
        let mut all = String::new();
        self.append(elements, locals, &mut all)?;
        Ok(Value::from(all))
    }

    /// The value of a template that was parsed by itself.
    pub fn whole(&self, template: &Template, locals: &Locals) -> Result<Value> {
        let elements: Vec<&Element> = template.iter().collect();
        self.template(&elements, locals)
    }

    fn append(&self, elements: &[&Element], locals: &Locals, all: &mut String) -> Result<()> {
        for (number, element) in elements.iter().enumerate() {
            match element {
                Element::Literal(literal) => {
                    // "~" removes white space beside it.
                    let mut text = literal.as_str();
                    if number > 0 && strips(elements[number - 1]).1 {
                        text = text.trim_start();
                    }
                    if elements.get(number + 1).is_some_and(|next| strips(next).0) {
                        text = text.trim_end();
                    }
                    all.push_str(text);
                }
                Element::Interpolation(interpolation) => {
                    let value = self.value(&interpolation.expr, locals)?;
                    all.push_str(&text(&value).map_err(self.at(interpolation.expr.span()))?);
                }
                Element::Directive(directive) => self.directive(directive, locals, all)?,
            }
        }
        Ok(())
    }

    fn directive(&self, directive: &Directive, locals: &Locals, all: &mut String) -> Result<()> {
        let inside = |template: &Template, locals: &Locals, all: &mut String| {
            let elements: Vec<&Element> = template.iter().collect();
            self.append(&elements, locals, all)
        };
        match directive {
            Directive::If(choice) => {
                let condition = &choice.if_expr.cond_expr;
                let is_so = truth(&self.value(condition, locals)?).map_err(self.at(condition.span()))?;
                match (is_so, &choice.else_expr) {
                    (true, _) => inside(&choice.if_expr.template, locals, all),
                    (false, Some(other)) => inside(&other.template, locals, all),
                    (false, None) => Ok(()),
                }
            }
            Directive::For(each) => {
                let each = &each.for_expr;
                let collection = self.value(&each.collection_expr, locals)?;
                for (key, value) in pairs(&collection).map_err(self.at(each.collection_expr.span()))? {
                    let mut inner = locals.with(each.value_var.as_str(), value);
                    if let Some(name) = &each.key_var {
                        inner = inner.with(name.as_str(), key);
                    }
                    inside(&each.template, &inner, all)?;
                }
                Ok(())
            }
        }
    }
}

/// Whether an element removes the white space before it and after it.
fn strips(element: &Element) -> (bool, bool) {
    use hcl_edit::template::Strip;
    let of = |first: Strip, last: Strip| {
        (matches!(first, Strip::Start | Strip::Both), matches!(last, Strip::End | Strip::Both))
    };
    match element {
        Element::Literal(_) => (false, false),
        Element::Interpolation(interpolation) => of(interpolation.strip, interpolation.strip),
        Element::Directive(directive) => match &**directive {
            Directive::If(choice) => of(choice.if_expr.strip, choice.endif_expr.strip),
            Directive::For(each) => of(each.for_expr.strip, each.endfor_expr.strip),
        },
    }
}

/// The items of a list with their numbers, or of an object with their keys, in the order of the keys.
fn pairs(collection: &Value) -> std::result::Result<Vec<(Value, Value)>, String> {
    match collection {
        Value::Array(items) => {
            Ok(items.iter().enumerate().map(|(n, item)| (Value::from(n), item.clone())).collect())
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> =
                map.iter().map(|(key, value)| (Value::from(key.as_str()), value.clone())).collect();
            pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
            Ok(pairs)
        }
        other => Err(format!("a list or an object is needed, this is {}", kind(other))),
    }
}

/// `value[key]`.
pub fn index(value: &Value, key: &Value) -> std::result::Result<Value, String> {
    match value {
        Value::Object(map) => {
            let key = text(key)?;
            map.get(&key).cloned().ok_or_else(|| format!("the object has no \"{key}\""))
        }
        Value::Array(items) => {
            let at = number(key)?;
            let found = (at >= 0.0 && at.fract() == 0.0).then(|| items.get(at as usize)).flatten();
            found.cloned().ok_or_else(|| format!("the list has {} items, and none at {at}", items.len()))
        }
        other => Err(format!("{} has no parts", kind(other))),
    }
}

fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> std::result::Result<Value, String> {
    let numbers = |of: fn(f64, f64) -> f64| from_number(of(number(left)?, number(right)?));
    let compare = |of: fn(&f64, &f64) -> bool| Ok(Value::Bool(of(&number(left)?, &number(right)?)));
    match operator {
        BinaryOperator::Eq => Ok(Value::Bool(equal(left, right))),
        BinaryOperator::NotEq => Ok(Value::Bool(!equal(left, right))),
        BinaryOperator::And => Ok(Value::Bool(truth(left)? && truth(right)?)),
        BinaryOperator::Or => Ok(Value::Bool(truth(left)? || truth(right)?)),
        BinaryOperator::Less => compare(f64::lt),
        BinaryOperator::LessEq => compare(f64::le),
        BinaryOperator::Greater => compare(f64::gt),
        BinaryOperator::GreaterEq => compare(f64::ge),
        BinaryOperator::Plus => numbers(|a, b| a + b),
        BinaryOperator::Minus => numbers(|a, b| a - b),
        BinaryOperator::Mul => numbers(|a, b| a * b),
        BinaryOperator::Div | BinaryOperator::Mod if number(right)? == 0.0 => {
            Err("a division by zero".into())
        }
        BinaryOperator::Div => numbers(|a, b| a / b),
        BinaryOperator::Mod => numbers(|a, b| a % b),
    }
}
