//! Fills a template with a value.

use anyhow::{Result, bail};

use super::function::function;
use super::tree::{Block, Node, Operand, Pipeline, Template};
use super::value::Value;

/// How deep blocks and templates may be in each other while a template is filled; templates can call
/// themselves.
const DEPTH_MAX: usize = 300;

/// How many parts of a template are written in all, and how often a range over a number goes round: limits
/// against mistakes, about a second's work.
const STEPS_MAX: usize = 10_000_000;
const COUNT_MAX: i64 = 1_000_000;

/// The longest result, in bytes, of a value whose JSON is short.
const OUTPUT_MAX: usize = 32 * 1024 * 1024;

/// What comes after a part.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Part,
    Break,
    Continue,
}

/// A template that is being filled.
pub struct Filling<'t> {
    template: &'t Template<'t>,
    /// For the head of a table: docker's functions leave titles as they are.
    is_head: bool,
    /// The innermost last; the first is `$`.
    variables: Vec<(String, Value)>,
    depth: usize,
    steps: usize,
    out: String,
    out_max: usize,
}

/// Fills a template with a value.
pub fn fill(template: &Template<'_>, value: &Value, is_head: bool) -> Result<String> {
    let mut filling = Filling {
        template,
        is_head,
        variables: vec![(String::new(), value.clone())],
        depth: 0,
        steps: 0,
        out: String::new(),
        out_max: OUTPUT_MAX,
    };
    filling.nodes(&template.nodes, value)?;
    Ok(filling.out)
}

impl Filling<'_> {
    fn nodes(&mut self, nodes: &[Node<'_>], dot: &Value) -> Result<Next> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            bail!("more than {DEPTH_MAX} blocks and templates in each other");
        }
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                bail!("more than {STEPS_MAX} steps");
            }
            let next = self.node(node, dot)?;
            if next != Next::Part {
                self.depth -= 1;
                return Ok(next);
            }
        }
        self.depth -= 1;
        Ok(Next::Part)
    }

    fn node(&mut self, node: &Node<'_>, dot: &Value) -> Result<Next> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.write(&value.shown())?;
                }
            }
            Node::Template(name, argument) => {
                let Some(nodes) = self.template.defined.get(name) else {
                    bail!("no template \"{name}\" is defined")
                };
                let value = match argument {
                    Some(argument) => self.pipeline(argument, dot)?,
                    None => Value::NOTHING,
                };
                let outer = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
                self.nodes(nodes, &value)?;
                self.variables = outer;
            }
            Node::Break => return Ok(Next::Break),
            Node::Continue => return Ok(Next::Continue),
            Node::Block { kind, condition, then, otherwise } => {
                let kept = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                let next = match kind {
                    Block::Range => self.range(&value, condition, then, otherwise, dot),
                    _ if !value.is_true() => self.nodes(otherwise, dot),
                    Block::If => self.nodes(then, dot),
                    Block::With => self.nodes(then, &value),
                };
                self.variables.truncate(kept);
                return next;
            }
        }
        Ok(Next::Part)
    }

    fn range(
        &mut self,
        value: &Value,
        pipeline: &Pipeline,
        nodes: &[Node<'_>],
        otherwise: &[Node<'_>],
        dot: &Value,
    ) -> Result<Next> {
        let numbered = |(n, item): (usize, &Value)| (Value::Int(n as i64), item.clone());
        let items: Vec<(Value, Value)> = match value {
            Value::List(items) => items.iter().enumerate().map(numbered).collect(),
            Value::Map(map) => map.iter().map(|(key, item)| (Value::text(key), item.clone())).collect(),
            // An object of JSON may be a map in docker.
            Value::Structure(members) => {
                let shown = members.iter().filter(|member| !member.is_implied);
                let mut items: Vec<_> =
                    shown.map(|member| (member.name.as_str(), member.value.clone())).collect();
                items.sort_by_key(|(name, _)| *name);
                items.into_iter().map(|(name, item)| (Value::text(name), item)).collect()
            }
            Value::Nil(_) => Vec::new(),
            Value::Int(count) | Value::Int64(count) if *count <= COUNT_MAX => {
                (0..*count).map(|n| (Value::Int(n), Value::Int(n))).collect()
            }
            Value::Int(count) | Value::Int64(count) => bail!("range over {count}: more than {COUNT_MAX}"),
            other => bail!("range needs a list or a map, not {}", other.printed()),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let kept = self.variables.len();
        for (key, item) in items {
            match &pipeline.variables[..] {
                [one] => self.set(one, item.clone(), pipeline.is_declared)?,
                [first, second] => {
                    self.set(first, key, pipeline.is_declared)?;
                    self.set(second, item.clone(), pipeline.is_declared)?;
                }
                _ => {}
            }
            let next = self.nodes(nodes, &item)?;
            self.variables.truncate(kept);
            if next == Next::Break {
                break;
            }
        }
        Ok(Next::Part)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.out.push_str(text);
        if self.out.len() > self.out_max {
            // A long value may have a long text.
            self.out_max = OUTPUT_MAX.max(4 * self.variables[0].1.json().to_string().len());
            if self.out.len() > self.out_max {
                bail!("the result is longer than {} bytes", self.out_max);
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, is_declared: bool) -> Result<()> {
        if is_declared {
            self.variables.push((name.to_string(), value));
            return Ok(());
        }
        match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
            Some(variable) => variable.1 = value,
            None => bail!("there is no variable ${name}"),
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        let Some(value) = last else { bail!("an empty pipeline") };
        // A range sets its variables at each turn.
        if let [name] = &pipeline.variables[..] {
            self.set(name, value.clone(), pipeline.is_declared)?;
        }
        Ok(value)
    }

    /// A value, or a function with its arguments.
    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value> {
        let Some((first, rest)) = command.split_first() else { bail!("an empty pipeline") };
        let Operand::Function(name, path) = first else {
            let value = self.operand(first, dot)?;
            if !rest.is_empty() || piped.is_some() {
                bail!("{} is no function", value.printed());
            }
            return Ok(value);
        };
        let decides = match name.as_str() {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        };
        let mut arguments = Vec::new();
        for operand in rest {
            let value = self.operand(operand, dot)?;
            // "and" and "or" evaluate no more than they need.
            if decides == Some(value.is_true()) {
                return value.field(path);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        match (decides, arguments.pop()) {
            (Some(_), Some(last)) => last.field(path),
            (_, last) => {
                arguments.extend(last);
                function(name, &arguments, self.is_head)?.field(path)
            }
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        match operand {
            Operand::Field(path) => dot.field(path),
            Operand::Variable(name, path) => {
                match self.variables.iter().rev().find(|(known, _)| known == name) {
                    Some((_, value)) => value.field(path),
                    None => bail!("there is no variable ${name}"),
                }
            }
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Nil => Ok(Value::NOTHING),
            Operand::Function(name, path) => function(name, &[], self.is_head)?.field(path),
            Operand::Group(pipeline, path) => self.pipeline(pipeline, dot)?.field(path),
        }
    }
}
