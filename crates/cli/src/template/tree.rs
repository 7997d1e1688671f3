//! What a template does, read from its words.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::function::is_function;
use super::lexer::{Part, Word, parts};
use super::value::Value;

/// How deep blocks and parentheses may be nested; a limit against hostile templates.
const DEPTH_MAX: usize = 64;

/// A template and those that it defines.
#[derive(Debug)]
pub struct Template<'t> {
    pub nodes: Vec<Node<'t>>,
    pub defined: HashMap<String, Vec<Node<'t>>>,
}

#[derive(Debug)]
pub enum Node<'t> {
    Text(&'t str),
    Print(Pipeline),
    Block {
        kind: Block,
        condition: Pipeline,
        then: Vec<Node<'t>>,
        otherwise: Vec<Node<'t>>,
    },
    /// `{{template "name" value}}`
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Block {
    If,
    Range,
    With,
}

/// `$a, $b := A | B`: the value of each command is the last argument of the next.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `:=` and not `=`.
    pub is_declared: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub enum Operand {
    /// `.A.B`; empty for `.`.
    Field(Vec<String>),
    /// `$name.A`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Constant(Value),
    Nil,
    Function(String, Vec<String>),
    /// `(...).A`
    Group(Pipeline, Vec<String>),
}

impl<'t> Template<'t> {
    pub fn parse(text: &'t str) -> Result<Template<'t>> {
        let parts = parts(text)?;
        let mut parser = Parser { rest: &parts, defined: HashMap::new(), loops: 0 };
        let nodes = parser.nodes(0)?;
        match parser.rest.first() {
            Some(part) => bail!("unexpected {}", part.shown()),
            None => Ok(Template { nodes, defined: parser.defined }),
        }
    }
}

struct Parser<'p, 't> {
    rest: &'p [Part<'t>],
    defined: HashMap<String, Vec<Node<'t>>>,
    /// How many ranges are around.
    loops: usize,
}

impl<'t> Parser<'_, 't> {
    /// Parses up to `{{else}}` or `{{end}}`, which stay.
    fn nodes(&mut self, depth: usize) -> Result<Vec<Node<'t>>> {
        if depth > DEPTH_MAX {
            bail!("more than {DEPTH_MAX} blocks in each other");
        }
        let mut nodes = Vec::new();
        while let Some((part, rest)) = self.rest.split_first() {
            let (words, source) = match part {
                Part::Text(text) => {
                    nodes.push(Node::Text(text));
                    self.rest = rest;
                    continue;
                }
                Part::Action(words, source) => (words, source),
            };
            let (keyword, words) = match words.split_first() {
                Some((Word::Name(name), rest)) => (name.as_str(), rest),
                _ => ("", &words[..]),
            };
            if matches!(keyword, "else" | "end") {
                break;
            }
            self.rest = rest;
            match keyword {
                "if" => nodes.push(self.block(Block::If, words, source, depth)?),
                "range" => nodes.push(self.block(Block::Range, words, source, depth)?),
                "with" => nodes.push(self.block(Block::With, words, source, depth)?),
                "break" | "continue" => {
                    if self.loops == 0 || !words.is_empty() {
                        bail!("{{{{{source}}}}} stands alone in a range");
                    }
                    nodes.push(if keyword == "break" { Node::Break } else { Node::Continue });
                }
                "define" => {
                    let (name, words) = name(words, source)?;
                    if depth > 0 || words.iter().any(|word| *word != Word::Space) {
                        bail!("{{{{{source}}}}}: a definition has a name, and is in no block");
                    }
                    self.define(name, source, depth)?;
                }
                "block" => {
                    let (name, words) = name(words, source)?;
                    let value = pipeline(words, source, 1)?;
                    self.define(name.clone(), source, depth)?;
                    nodes.push(Node::Template(name, Some(value)));
                }
                "template" => {
                    let (name, words) = name(words, source)?;
                    let has_value = words.iter().any(|word| *word != Word::Space);
                    let value = has_value.then(|| pipeline(words, source, 1)).transpose()?;
                    nodes.push(Node::Template(name, value));
                }
                _ => {
                    let Part::Action(words, _) = part else { unreachable!("matched above") };
                    nodes.push(Node::Print(pipeline(words, source, 1)?));
                }
            }
        }
        Ok(nodes)
    }

    /// Parses a block from after its head to after its `{{end}}`.
    fn block(&mut self, kind: Block, words: &[Word], source: &str, depth: usize) -> Result<Node<'t>> {
        let node = self.open_block(kind, words, source, depth)?;
        self.end(source)?;
        Ok(node)
    }

    /// Parses a block up to its `{{end}}`, which stays: `{{else if}}` shares that of its block.
    fn open_block(&mut self, kind: Block, words: &[Word], source: &str, depth: usize) -> Result<Node<'t>> {
        let condition = pipeline(words, source, if kind == Block::Range { 2 } else { 1 })?;
        self.loops += usize::from(kind == Block::Range);
        let then = self.nodes(depth + 1)?;
        self.loops -= usize::from(kind == Block::Range);
        let mut otherwise = Vec::new();
        if let Some((Part::Action(words, source), rest)) = self.rest.split_first()
            && let [Word::Name(name), words @ ..] = &words[..]
            && name == "else"
        {
            self.rest = rest;
            otherwise = match (kind, words) {
                (_, []) => self.nodes(depth + 1)?,
                (Block::If, [Word::Space, Word::Name(name), words @ ..]) if name == "if" => {
                    vec![self.open_block(kind, words, source, depth + 1)?]
                }
                (Block::With, [Word::Space, Word::Name(name), words @ ..]) if name == "with" => {
                    vec![self.open_block(kind, words, source, depth + 1)?]
                }
                _ => bail!("unexpected {{{{{source}}}}}"),
            };
        }
        Ok(Node::Block { kind, condition, then, otherwise })
    }

    fn define(&mut self, name: String, source: &str, depth: usize) -> Result<()> {
        let loops = std::mem::take(&mut self.loops);
        let nodes = self.nodes(depth + 1)?;
        self.loops = loops;
        self.end(source)?;
        let is_empty = nodes.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()));
        match self.defined.get(&name) {
            Some(before) if !before.is_empty() && !is_empty => {
                bail!("{{{{{source}}}}}: \"{name}\" is defined twice")
            }
            Some(_) if is_empty => {}
            _ => {
                self.defined.insert(name, nodes);
            }
        }
        Ok(())
    }

    fn end(&mut self, source: &str) -> Result<()> {
        match self.rest.split_first() {
            Some((Part::Action(words, _), rest)) if matches!(&words[..], [Word::Name(name)] if name == "end") =>
            {
                self.rest = rest;
                Ok(())
            }
            Some((Part::Action(_, found), _)) => bail!("unexpected {{{{{found}}}}} after {{{{{source}}}}}"),
            _ => bail!("no {{{{end}}}} for {{{{{source}}}}}"),
        }
    }
}

/// The quoted name after `template`, `define` and `block`, and the words after it.
fn name<'w>(words: &'w [Word], source: &str) -> Result<(String, &'w [Word])> {
    match words {
        [Word::Space, Word::Constant(Value::Text(name)), rest @ ..] => Ok((name.clone(), rest)),
        _ => bail!("{{{{{source}}}}}: a quoted name is missing"),
    }
}

/// Reads a pipeline that sets at most that many variables.
fn pipeline(words: &[Word], source: &str, variables_max: usize) -> Result<Pipeline> {
    let mut words = words;
    let pipeline = read(&mut words, source, 0)?;
    if pipeline.variables.len() > variables_max {
        bail!("{{{{{source}}}}}: too many variables");
    }
    match words.first() {
        Some(word) => bail!("unexpected {} in {{{{{source}}}}}", word.shown()),
        None => Ok(pipeline),
    }
}

/// Reads a pipeline up to the `)` that ends it, or to the end.
fn read(words: &mut &[Word], source: &str, depth: usize) -> Result<Pipeline> {
    if depth > DEPTH_MAX {
        bail!("more than {DEPTH_MAX} parentheses");
    }
    let (variables, is_declared) = if depth == 0 { variables(words) } else { (Vec::new(), true) };
    let mut commands = Vec::new();
    loop {
        let mut command = Vec::new();
        loop {
            skip_space(words);
            match words.first() {
                None | Some(Word::Pipe | Word::Close) => break,
                _ => command.push(operand(words, source, depth)?),
            }
            match words.first() {
                None | Some(Word::Space | Word::Pipe | Word::Close) => {}
                Some(word) => bail!("unexpected {} in {{{{{source}}}}}", word.shown()),
            }
        }
        match &command[..] {
            [] => bail!("nothing in {{{{{source}}}}}"),
            [Operand::Nil, ..] => bail!("{{{{{source}}}}}: nil is no command"),
            [Operand::Constant(value), ..] if !commands.is_empty() => {
                bail!("{} is no function", value.printed())
            }
            _ => commands.push(command),
        }
        if words.first() != Some(&Word::Pipe) {
            return Ok(Pipeline { variables, is_declared, commands });
        }
        *words = &words[1..];
    }
}

fn skip_space(words: &mut &[Word]) {
    while let Some((Word::Space, rest)) = words.split_first() {
        *words = rest;
    }
}

/// The variables before `:=` or `=`, and whether it is `:=`. Without one of them the words stay.
fn variables(words: &mut &[Word]) -> (Vec<String>, bool) {
    let mut rest = *words;
    let mut variables = Vec::new();
    loop {
        skip_space(&mut rest);
        let Some((Word::Variable(name), after)) = rest.split_first() else { return (Vec::new(), true) };
        variables.push(name.clone());
        rest = after;
        skip_space(&mut rest);
        match rest.split_first() {
            Some((Word::Comma, after)) => rest = after,
            Some((word @ (Word::Declare | Word::Assign), after)) => {
                *words = after;
                return (variables, *word == Word::Declare);
            }
            _ => return (Vec::new(), true),
        }
    }
}

fn operand(words: &mut &[Word], source: &str, depth: usize) -> Result<Operand> {
    let Some((word, rest)) = words.split_first() else { bail!("a value is missing in {{{{{source}}}}}") };
    *words = rest;
    let mut operand = match word {
        Word::Dot => return Ok(Operand::Field(Vec::new())),
        Word::Field(name) => Operand::Field(vec![name.clone()]),
        Word::Variable(name) => Operand::Variable(name.clone(), Vec::new()),
        Word::Constant(value) => return Ok(Operand::Constant(value.clone())),
        Word::Name(name) if name == "nil" => return Ok(Operand::Nil),
        Word::Name(name) if is_function(name) => Operand::Function(name.clone(), Vec::new()),
        Word::Name(name) => bail!("there is no function {name}"),
        Word::Open => {
            let inner = read(words, source, depth + 1)?;
            let Some((Word::Close, rest)) = words.split_first() else {
                bail!("a ) is missing in {{{{{source}}}}}")
            };
            *words = rest;
            Operand::Group(inner, Vec::new())
        }
        other => bail!("unexpected {} in {{{{{source}}}}}", other.shown()),
    };
    let path = match &mut operand {
        Operand::Field(path)
        | Operand::Variable(_, path)
        | Operand::Function(_, path)
        | Operand::Group(_, path) => path,
        Operand::Constant(_) | Operand::Nil => return Ok(operand),
    };
    while let Some((Word::Field(name), rest)) = words.split_first() {
        path.push(name.clone());
        *words = rest;
    }
    Ok(operand)
}
