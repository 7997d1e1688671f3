//! A build as one HTML page. Nothing is loaded from elsewhere, and the page forbids it: its
//! Content-Security-Policy allows only the script of this digest. It can be read without scripts; the script
//! lets a click on a bar show the step.

use std::fmt::Write;

use crossdock_oci::size::size;

use super::critical::{Piece, path};
use super::lanes::lanes;
use super::record::{Record, StepRecord};
use super::trace::kind;
use crate::progress::state::{End, Phase};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The source of a Content-Security-Policy that allows the script. It is counted here and not at each build,
/// of which it took one part in a hundred; a test compares it.
const SCRIPT_SOURCE: &str = "'sha256-fyKOmMiAsbz+iyFo4/w+bU/7cVjv7P/5c9wkTYEDPhY='";

/// Room for a page of some twenty steps, in bytes.
const PAGE_SIZE_USUAL: usize = 64 << 10;

/// The whole page.
pub fn page(record: &Record) -> String {
    let path = path(record);
    let mut html = String::with_capacity(PAGE_SIZE_USUAL);
    head(&mut html, record);
    figures(&mut html, record);
    if let Some(error) = &record.error {
        let _ = write!(
            html,
            "<section class=\"error\"><h2>Why it {}</h2><pre>{}</pre></section>",
            record.outcome(),
            Text(error)
        );
    }
    timeline(&mut html, record, &path);
    critical_path(&mut html, record, &path);
    steps(&mut html, record, &path);
    layers(&mut html, record);
    if !record.warnings.is_empty() {
        html.push_str("<section><h2>Warnings</h2><ul>");
        for warning in &record.warnings {
            let _ = write!(html, "<li>{}</li>", Text(warning));
        }
        html.push_str("</ul></section>");
    }
    let _ = writeln!(
        html,
        "<footer>Build {} · crossdock {} · times of steps overlap, so they add up to more than the build took.\
         </footer></main><script>{SCRIPT}</script></body></html>",
        Text(&record.id),
        env!("CARGO_PKG_VERSION"),
    );
    html
}

/// A text in HTML: every character that could end a text or an attribute is escaped, and control characters
/// are replaced (HTML Standard, section 13.1.2).
struct Text<'t>(&'t str);

/// Bytes that stand for themselves: ASCII without control characters and without what ends a text or an
/// attribute.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = !matches!(byte as u8, b'&' | b'<' | b'>' | b'"' | b'\'');
        byte += 1;
    }
    plain
};

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]) {
            f.write_str(&rest[..at])?;
            let mut chars = rest[at..].chars();
            match chars.next().unwrap_or_default() {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c @ ('\n' | '\t') => f.write_char(c)?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// A number with so many places behind the point. The standard library, which is exact for every number,
/// takes a sixth of a page's instructions for them.
struct Places<const COUNT: u32>(f64);

impl<const COUNT: u32> std::fmt::Display for Places<COUNT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = 10u64.pow(COUNT);
        // A cast keeps within the numbers that there are, and makes no number 0.
        let scaled = (self.0.abs() * one as f64).round() as u64;
        if self.0 < 0.0 && scaled > 0 {
            f.write_char('-')?;
        }
        match COUNT {
            0 => write!(f, "{scaled}"),
            _ => write!(f, "{}.{:0places$}", scaled / one, scaled % one, places = COUNT as usize),
        }
    }
}

/// A duration for people.
fn time(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 0.5 => "0 ms".to_string(),
        ms if ms < 1_000.0 => format!("{} ms", Places::<0>(ms)),
        ms if ms < 100_000.0 => format!("{} s", Places::<1>(ms / 1e3)),
        ms => format!("{:.0} min {:02.0} s", (ms / 60_000.0).floor(), (ms % 60_000.0 / 1e3).floor()),
    }
}

fn head(html: &mut String, record: &Record) {
    // Places of bars are style attributes, for which no digest can be given.
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src {SCRIPT_SOURCE}; base-uri 'none'; form-action 'none'"
    );
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Build of {title} – {outcome}</title><style>{STYLE}</style></head><body><main>\
         <h1>{title} <span class=\"badge {outcome}\">{outcome}</span></h1>\
         <p class=\"quiet\">{began} · {platforms}</p>",
        title = Text(&record.title),
        outcome = record.outcome(),
        began = Text(&record.began.replace('T', " ").replace('Z', " UTC")),
        platforms = Text(&record.platforms.join(", ")),
    );
}

fn figures(html: &mut String, record: &Record) {
    let added: u64 = record.steps.iter().filter_map(|step| step.layer.as_ref()).map(|layer| layer.2).sum();
    let pushed: u64 =
        record.transfers.iter().filter(|t| t.is_push() && t.outcome == "moved").map(|t| t.size).sum();
    html.push_str("<dl class=\"figures\">");
    for (name, value) in [
        ("Duration", time(record.milliseconds)),
        ("Steps executed", record.count(End::Executed).to_string()),
        ("Steps from the cache", record.count(End::Cached).to_string()),
        ("Time in the emulator", time(record.emulated())),
        ("Bytes added", size(added)),
        ("Pushed", size(pushed)),
    ] {
        let _ = write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", Text(&value));
    }
    html.push_str("</dl>");
}

fn timeline(html: &mut String, record: &Record, path: &[Piece]) {
    html.push_str(
        "<section aria-labelledby=\"timeline\"><h2 id=\"timeline\">Timeline</h2><ul class=\"legend\">",
    );
    for (class, name) in [
        ("native", "runs natively"),
        ("emulated", "runs in the emulator"),
        ("cached", "from the cache"),
        ("waiting", "waits"),
        ("looking", "reads files, looks up"),
        ("unpacking", "unpacks a base"),
        ("packing", "packs its layer"),
        ("transfer", "moves from or to a registry"),
    ] {
        let _ = write!(html, "<li><span class=\"{class}\"></span>{name}</li>");
    }
    html.push_str("</ul><div class=\"axis\" aria-hidden=\"true\"><span></span><div>");
    let whole = record.milliseconds.max(1.0);
    for tenth in [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] {
        let _ = write!(html, "<i style=\"left:{}%\">{}</i>", Places::<0>(tenth * 100.0), time(whole * tenth));
    }
    html.push_str("</div></div>");
    let place = |from: f64, to: f64| {
        let left = (from / whole * 100.0).clamp(0.0, 100.0);
        let width = ((to - from) / whole * 100.0).clamp(0.0, 100.0 - left);
        format!("left:{}%;width:{}%", Places::<3>(left), Places::<3>(width))
    };
    for lane in lanes(record) {
        let _ = write!(html, "<div class=\"lane\"><h3>{}</h3>", Text(&lane.name));
        for (stage, steps) in &lane.rows {
            let _ = write!(
                html,
                "<div class=\"row\"><span>{}</span><div class=\"track\">",
                Text(&stage_label(stage))
            );
            for step in steps {
                bar(html, record, step, path, &place);
            }
            html.push_str("</div></div>");
        }
        for (at, transfers) in lane.transfers.iter().enumerate() {
            let label = if at == 0 { "transfers" } else { "" };
            let _ = write!(html, "<div class=\"row\"><span>{label}</span><div class=\"track thin\">");
            for transfer in transfers {
                let to = transfer.to.unwrap_or(record.milliseconds);
                let title = format!(
                    "{}, {}, {}, {}",
                    transfer.label,
                    transfer.outcome,
                    size(transfer.size),
                    time(to - transfer.from)
                );
                let _ = write!(
                    html,
                    "<span class=\"move\" role=\"img\" style=\"{}\" title=\"{title}\" aria-label=\"{title}\"></span>",
                    place(transfer.from, to),
                    title = Text(&title)
                );
            }
            html.push_str("</div></div>");
        }
        html.push_str("</div>");
    }
    html.push_str("<div id=\"selected\" role=\"region\" aria-live=\"polite\" aria-label=\"Selected step\" hidden></div>");
    html.push_str("</section>");
}

fn stage_label(stage: &str) -> String {
    if stage.bytes().all(|byte| byte.is_ascii_digit()) { format!("stage {stage}") } else { stage.to_string() }
}

/// One step of the timeline, with its phases, and its packing below it.
fn bar(
    html: &mut String,
    record: &Record,
    step: &StepRecord,
    path: &[Piece],
    place: &dyn Fn(f64, f64) -> String,
) {
    let is_open = step.end.is_none();
    let to = if is_open { record.milliseconds } else { step.to() };
    let whole = (to - step.from()).max(0.001);
    let on_path = path.iter().any(|piece| piece.step == Some(step.step));
    let title = format!("{}: {}, {}", step.name, told(step), time(to - step.from()));
    let _ = write!(
        html,
        "<a class=\"bar{}{}{}\" href=\"#step-{}\" style=\"{}\" title=\"{title}\" aria-label=\"{title}\">",
        if on_path { " on-path" } else { "" },
        if step.end == Some(End::Failed) { " failed" } else { "" },
        if step.end == Some(End::Cached) { " cached" } else { "" },
        step.step,
        place(step.from(), to),
        title = Text(&title),
    );
    for span in &step.spans {
        let left = (span.from - step.from()) / whole * 100.0;
        let width = (span.to.unwrap_or(to) - span.from) / whole * 100.0;
        let kind = kind(step, &span.phase);
        let (left, width) = (Places::<2>(left), Places::<2>(width));
        let _ = write!(html, "<i class=\"{kind}\" style=\"left:{left}%;width:{width}%\"></i>");
    }
    // The label begins where the step no longer waits, if there is room.
    let waited = step.spans.iter().take_while(|span| span.phase != Phase::Running);
    let waited =
        waited.filter(|span| matches!(span.phase, Phase::Waiting(_))).filter_map(|span| span.to).last();
    let begin = waited.unwrap_or(step.from());
    if (to - begin) / record.milliseconds.max(1.0) > 0.03 {
        let left = (begin - step.from()) / whole * 100.0;
        let _ =
            write!(html, "<b style=\"left:calc({}% + 6px)\">{}</b>", Places::<2>(left), Text(&step.command));
    }
    html.push_str("</a>");
    if let Some(packing) = &step.packing {
        let to = packing.to.unwrap_or(record.milliseconds);
        let title = format!("packs the layer of step {}, {}", step.step, time(to - packing.from));
        let _ = write!(
            html,
            "<span class=\"pack\" role=\"img\" style=\"{}\" title=\"{title}\" aria-label=\"{title}\"></span>",
            place(packing.from, to),
            title = Text(&title),
        );
    }
}

/// How a step ended, in words.
fn told(step: &StepRecord) -> &'static str {
    match step.end {
        Some(End::Cached) => "from the cache",
        Some(End::Failed) => "failed",
        Some(End::Cancelled) => "cancelled",
        None => "did not end",
        Some(End::Executed) if step.emulated => "emulated",
        Some(End::Executed) if step.spans.iter().any(|span| span.phase == Phase::Running) => "native",
        Some(End::Executed) => "base image",
    }
}

fn critical_path(html: &mut String, record: &Record, path: &[Piece]) {
    if path.is_empty() {
        return;
    }
    let whole: f64 = path.iter().map(|piece| piece.milliseconds).sum();
    let _ = write!(
        html,
        "<section aria-labelledby=\"path\"><h2 id=\"path\">Critical path</h2>\
         <p class=\"quiet\">{} of {} went by in this chain, in which each piece began when the one before it ended. \
         The build gets faster only if one of these does.</p><ol class=\"path\">",
        time(whole),
        time(record.milliseconds)
    );
    for piece in path.iter().filter(|piece| piece.milliseconds >= 0.5) {
        let share = Places::<1>(piece.milliseconds / whole.max(0.001) * 100.0);
        let what = match piece.step {
            Some(step) => format!("<a href=\"#step-{step}\">{}</a>", Text(&piece.what)),
            None => format!("<em>{}</em>", Text(&piece.what)),
        };
        let _ = write!(
            html,
            "<li><span>{}</span><span class=\"meter\"><span style=\"width:{share}%\"></span></span>{what}</li>",
            time(piece.milliseconds)
        );
    }
    html.push_str("</ol></section>");
}

fn steps(html: &mut String, record: &Record, path: &[Piece]) {
    html.push_str("<section aria-labelledby=\"steps\"><h2 id=\"steps\">Steps</h2>");
    if record.steps_left_out > 0 {
        let _ = write!(html, "<p>{} more steps are not listed.</p>", record.steps_left_out);
    }
    for step in &record.steps {
        let told = told(step);
        let dot = match (step.end, told) {
            (Some(End::Cached), _) => "cached",
            (Some(End::Failed), _) => "failed",
            (Some(End::Cancelled) | None, _) => "waiting",
            (_, "emulated") => "emulated",
            (_, "base image") => "unpacking",
            _ => "native",
        };
        let added = step.layer.as_ref().map(|layer| format!("+{}", size(layer.2))).unwrap_or_default();
        let _ = write!(
            html,
            "<details id=\"step-{}\"><summary><span class=\"kind\" style=\"--dot:var(--{dot})\">{told}</span>\
             <span class=\"name\">{}</span><span class=\"time\">{}</span><span class=\"size\">{}</span></summary><dl>",
            step.step,
            Text(&step.name),
            time(step.to() - step.from() - step.waiting()),
            Text(&added),
        );
        facts(html, record, step, path);
        html.push_str("</dl></details>");
    }
    html.push_str("</section>");
}

/// Everything known of a step.
fn facts(html: &mut String, record: &Record, step: &StepRecord, path: &[Piece]) {
    let mut fact = |name: &str, value: &str| {
        let _ = write!(html, "<dt>{name}</dt><dd>{value}</dd>");
    };
    fact("Command", &format!("<pre>{}</pre>", Text(&step.command)));
    let place = if step.line > 0 { format!(", line {} of the Dockerfile", step.line) } else { String::new() };
    fact("Where", &Text(&format!("step {}, {}{place}", step.step, stage_label(&step.stage))).to_string());
    let platform = match step.platform == step.target {
        true => step.platform.clone(),
        false => format!("{} for {}", step.platform, step.target),
    };
    fact("Platform", &Text(&platform).to_string());
    if let Some(miss) = &step.miss {
        fact("Why executed", &Text(miss).to_string());
    }
    if let Some(worker) = &step.worker {
        let worker = if worker.is_empty() { "a worker whose name is not known" } else { worker };
        fact("On the farm", &Text(worker).to_string());
    }
    if step.waiting() > 0.0 {
        let waits = step.spans.iter().filter_map(|span| match &span.phase {
            Phase::Waiting(what) => Some(format!("{} {what}", time(span.milliseconds()))),
            _ => None,
        });
        fact("Waited", &Text(&waits.collect::<Vec<_>>().join(", ")).to_string());
    }
    if step.running() > 0.0 {
        fact(if step.emulated { "In the emulator" } else { "Ran natively" }, &time(step.running()));
    }
    if let Some((digest, compressed, unpacked)) = &step.layer {
        let packing = step.packing.as_ref().map(|span| format!(" in {}", time(span.milliseconds())));
        let text = format!(
            "{} added, packed to {}{}",
            size(*unpacked),
            size(*compressed),
            packing.unwrap_or_default()
        );
        fact("Layer", &format!("{} <code>{}</code>", Text(&text), Text(digest.as_str())));
    }
    let links = step.inputs.iter().filter_map(|input| record.step(*input));
    let links: Vec<String> =
        links.map(|input| format!("<a href=\"#step-{}\">{}</a>", input.step, Text(&input.name))).collect();
    if !links.is_empty() {
        fact("Builds on", &links.join("<br>"));
    }
    if let Some(digest) = &step.digest {
        fact("Digest", &format!("<code>{}</code>", Text(digest.as_str())));
    }
    if path.iter().any(|piece| piece.step == Some(step.step)) {
        fact("Critical path", "yes: a faster step makes the build faster");
    }
}

fn layers(html: &mut String, record: &Record) {
    if record.images.is_empty() {
        return;
    }
    html.push_str("<section aria-labelledby=\"layers\"><h2 id=\"layers\">Layers by size</h2>");
    for image in &record.images {
        let whole: u64 = image.layers.iter().map(|layer| layer.size).sum();
        let mut layers: Vec<_> = image.layers.iter().collect();
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        let _ = write!(
            html,
            "<h3>{} <span class=\"quiet\">{} in {} layers</span></h3><p class=\"quiet mono\">{}</p><table><thead><tr>\
             <th class=\"number\">Compressed</th><th class=\"share\">Share</th><th>Made by</th>\
             <th class=\"digest\">Digest</th></tr></thead><tbody>",
            Text(&image.platform),
            size(whole),
            layers.len(),
            Text(image.digest.as_str()),
        );
        for layer in layers {
            let share = Places::<1>(layer.size as f64 / whole.max(1) as f64 * 100.0);
            let short: String = layer.digest.hex().chars().take(12).collect();
            let _ = write!(
                html,
                "<tr><td class=\"number\">{}</td><td class=\"share\"><div class=\"meter\">\
                 <span style=\"width:{share}%\"></span></div></td><td class=\"made mono\" title=\"{made}\">{made}</td>\
                 <td class=\"digest mono\" title=\"{}\">{}</td></tr>",
                size(layer.size),
                Text(layer.digest.as_str()),
                Text(&short),
                made = Text(&layer.made_by),
            );
        }
        html.push_str("</tbody></table>");
    }
    html.push_str("</section>");
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn every_text_is_escaped() {
        let mut record = record();
        let evil = "</script><script>alert(1)</script>\"' onclick=x & \u{202e}\u{1b}[2J";
        record.title = evil.to_string();
        record.error = Some(evil.to_string());
        record.platforms = vec![evil.to_string()];
        for step in &mut record.steps {
            (step.name, step.command, step.stage) = (evil.into(), evil.into(), evil.into());
            (step.platform, step.miss) = (evil.into(), Some(evil.into()));
            step.spans[0].phase = Phase::Waiting(evil.into());
        }
        record.transfers[0].label = format!("push a/b{evil}");
        record.images[0].layers[0].made_by = evil.to_string();
        let page = page(&record);
        assert_eq!(page.matches("<script>").count(), 1, "our own");
        assert_eq!(page.matches("</script>").count(), 1, "our own");
        assert!(!page.contains("\"' onclick") && !page.contains('\u{202e}') && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;/script&gt;"));
    }

    #[test]
    fn the_page_names_what_matters() {
        let page = page(&record());
        for text in [
            "class=\"bar on-path\" href=\"#step-1\"",
            "<dt>Why executed</dt><dd>changed: the command</dd>",
            "30 ms waits for stage a",
            "3.00kB added, packed to 1.00kB in 20 ms",
            "RUN make &lt;all&gt; &amp;&amp; &quot;x&quot;",
            "<dt>In the emulator</dt><dd>70 ms</dd>",
            "push to the registry",
        ] {
            assert!(page.contains(text), "no {text}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is loaded from elsewhere");
    }

    #[test]
    fn the_policy_allows_the_script() {
        let digest = crossdock_oci::Digest::of(SCRIPT.as_bytes());
        let byte = |at: usize| u8::from_str_radix(&digest.hex()[at..at + 2], 16).expect("hexadecimal digits");
        let bytes: Vec<u8> = (0..digest.hex().len()).step_by(2).map(byte).collect();
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        assert_eq!(SCRIPT_SOURCE, format!("'sha256-{encoded}'"));
    }

    #[test]
    fn places_behind_the_point() {
        let shown =
            [0.0, 0.0004, -0.0004, 1.0, 99.9996, -12.3456, f64::NAN].map(|n| Places::<3>(n).to_string());
        assert_eq!(shown, ["0.000", "0.000", "0.000", "1.000", "100.000", "-12.346", "0.000"]);
        assert_eq!((Places::<0>(7.5).to_string(), Places::<1>(0.25).to_string()), ("8".into(), "0.3".into()));
    }

    #[test]
    fn characters_of_other_scripts_stay() {
        let text = "日本 ü\u{7f}\u{85}\t<é>\n";
        assert_eq!(Text(text).to_string(), "日本 ü\u{fffd}\u{fffd}\t&lt;é&gt;\n");
    }

    #[test]
    fn times_are_short() {
        let times = [0.2, 7.4, 999.4, 1_234.0, 61_000.0, 3_723_000.0].map(time);
        assert_eq!(times, ["0 ms", "7 ms", "999 ms", "1.2 s", "61.0 s", "62 min 03 s"]);
    }
}
