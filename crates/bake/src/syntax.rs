//! Files of definitions as blocks: in HCL, or in HCL's JSON form.
//!
//! Sources: the HCL specification, hclsyntax/spec.md and json/spec.md.

use std::ops::Range;

use hcl_edit::Span;
use hcl_edit::expr::Expression;
use hcl_edit::structure::{Body, Structure};
use serde_json::Value;

use crate::error::{Result, SourceFile};
use crate::evaluate::{Evaluator, Locals};

/// Largest file of definitions, in bytes.
pub const FILE_SIZE_MAX: usize = 16 << 20;
/// Most brackets within each other: the parser is recursive.
const NESTING_MAX: usize = 100;

/// The expression of an attribute.
#[derive(Clone, Debug)]
pub enum Expr {
    /// Of HCL.
    Hcl(Box<Expression>),
    /// Of JSON, where each text is a template.
    Json(Value),
}

impl Expr {
    /// Where it is, if that is known.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Expr::Hcl(expression) => expression.span(),
            Expr::Json(_) => None,
        }
    }

    /// Its value.
    pub fn value(&self, evaluator: &Evaluator<'_>, locals: &Locals) -> Result<Value> {
        match self {
            Expr::Hcl(expression) => evaluator.value(expression, locals),
            Expr::Json(value) => json(value, evaluator, locals),
        }
    }
}

fn json(value: &Value, evaluator: &Evaluator<'_>, locals: &Locals) -> Result<Value> {
    match value {
        Value::String(text) if text.contains("${") || text.contains("%{") => {
            let template = text.parse::<hcl_edit::template::Template>();
            let wrong = |error: hcl_edit::parser::Error| {
                evaluator.file.error(None, format!("the template \"{text}\": {}", error.message()))
            };
            evaluator.whole(&template.map_err(wrong)?, locals)
        }
        Value::Array(items) => items.iter().map(|item| json(item, evaluator, locals)).collect(),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, item)| Ok((key.clone(), json(item, evaluator, locals)?)));
            Ok(Value::Object(pairs.collect::<Result<_>>()?))
        }
        other => Ok(other.clone()),
    }
}

/// A block, such as `target "app" { ... }`.
#[derive(Clone, Debug)]
pub struct Block {
    /// `target`, `group`, `variable` or `function`; else an error tells it.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its attributes, in their order.
    pub attributes: Vec<(String, Expr)>,
    /// Blocks in it, by their kinds; only `validation` of variables is known.
    pub blocks: Vec<Block>,
    /// Number of its file.
    pub file: usize,
    /// Where it is.
    pub span: Option<Range<usize>>,
}

impl Block {
    /// The expression of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&Expr> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, expression)| expression)
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Blocks in their order.
    pub blocks: Vec<Block>,
    /// Attributes outside of blocks.
    pub globals: Vec<(String, Expr)>,
}

/// Reads a file; `number` is that of the file. A name that ends in `.json` is JSON; one that ends in `.hcl`
/// is HCL; any other is what it can be read as.
pub fn parse(file: &SourceFile, number: usize) -> Result<Parsed> {
    if file.text.len() > FILE_SIZE_MAX {
        return Err(file.error(None, format!("it has more than {FILE_SIZE_MAX} bytes")));
    }
    if nesting(&file.text) > NESTING_MAX {
        return Err(file.error(None, format!("more than {NESTING_MAX} brackets are within each other")));
    }
    let is_json = file.name.ends_with(".json")
        || (!file.name.ends_with(".hcl") && file.text.trim_start().starts_with('{'));
    if is_json { parse_json(file, number) } else { parse_hcl(file, number) }
}

/// How many brackets are open at most; those in texts count, too.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn parse_hcl(file: &SourceFile, number: usize) -> Result<Parsed> {
    let body = hcl_edit::parser::parse_body(&file.text).map_err(|error| {
        let at = error.location().offset();
        file.error(Some(at..at), error.message().to_string())
    })?;
    let mut parsed = Parsed::default();
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => {
                parsed
                    .globals
                    .push((attribute.key.as_str().to_string(), Expr::Hcl(Box::new(attribute.value))));
            }
            Structure::Block(block) => parsed.blocks.push(block_of(block, file, number)?),
        }
    }
    Ok(parsed)
}

fn block_of(block: hcl_edit::structure::Block, file: &SourceFile, number: usize) -> Result<Block> {
    let (kind, span) = (block.ident.as_str().to_string(), block.span());
    let labels: Vec<String> = block.labels.iter().map(|label| label.as_str().to_string()).collect();
    if labels.len() > 1 {
        return Err(file.error(span, format!("the block \"{kind}\" has more than one name")));
    }
    let (attributes, blocks) = body_of(block.body, file, number)?;
    Ok(Block {
        kind,
        name: labels.into_iter().next().unwrap_or_default(),
        attributes,
        blocks,
        file: number,
        span,
    })
}

type Content = (Vec<(String, Expr)>, Vec<Block>);

fn body_of(body: Body, file: &SourceFile, number: usize) -> Result<Content> {
    let (mut attributes, mut blocks): Content = Default::default();
    for structure in body {
        match structure {
            Structure::Attribute(attribute) => {
                let name = attribute.key.as_str().to_string();
                if attributes.iter().any(|(known, _)| *known == name) {
                    return Err(
                        file.error(attribute.span(), format!("the attribute \"{name}\" is set twice"))
                    );
                }
                attributes.push((name, Expr::Hcl(Box::new(attribute.value))));
            }
            Structure::Block(block) => blocks.push(block_of(block, file, number)?),
        }
    }
    Ok((attributes, blocks))
}

fn parse_json(file: &SourceFile, number: usize) -> Result<Parsed> {
    let value: Value = serde_json::from_str(&file.text).map_err(|error| {
        let before: usize =
            file.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = (before + error.column().saturating_sub(1)).min(file.text.len());
        file.error(Some(at..at), error.to_string())
    })?;
    let Value::Object(top) = value else { return Err(file.error(None, "it is no object")) };
    let mut parsed = Parsed::default();
    for (kind, value) in top {
        if !matches!(kind.as_str(), "target" | "group" | "variable" | "function") {
            parsed.globals.push((kind, Expr::Json(value)));
            continue;
        }
        for blocks in one_or_more(value) {
            let Value::Object(blocks) = blocks else {
                return Err(
                    file.error(None, format!("\"{kind}\" must be an object of blocks by their names"))
                );
            };
            for (name, bodies) in blocks {
                for body in one_or_more(bodies) {
                    parsed.blocks.push(json_block(&kind, &name, body, file, number)?);
                }
            }
        }
    }
    Ok(parsed)
}

fn json_block(kind: &str, name: &str, body: Value, file: &SourceFile, number: usize) -> Result<Block> {
    let Value::Object(body) = body else {
        return Err(file.error(None, format!("the {kind} \"{name}\" must be an object")));
    };
    let (mut attributes, mut blocks) = (Vec::new(), Vec::new());
    for (key, value) in body {
        match (kind, key.as_str()) {
            // The only block in a block.
            ("variable", "validation") => {
                for inner in one_or_more(value) {
                    blocks.push(json_block("validation", "", inner, file, number)?);
                }
            }
            // An expression as it stands, not a template.
            ("function", "result") => {
                attributes.push((key, Expr::Json(value)));
            }
            _ => attributes.push((key, Expr::Json(value))),
        }
    }
    Ok(Block { kind: kind.to_string(), name: name.to_string(), attributes, blocks, file: number, span: None })
}

fn one_or_more(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        single => vec![single],
    }
}
