//! Annotations that a build sets: `--annotation` and the attributes `annotation…` of `--output` (buildx's
//! reference, "buildx build"; BuildKit, docs/annotations.md).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use crossdock_platform::Platform;

/// What an annotation is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The manifests of images.
    Manifest,
    /// The entries of manifests in the index, or in the OCI layout.
    ManifestDescriptor,
    /// The index.
    Index,
    /// The entry of the index in the OCI layout.
    IndexDescriptor,
}

impl Level {
    fn of(text: &str) -> Option<Level> {
        Some(match text {
            "manifest" => Level::Manifest,
            "manifest-descriptor" => Level::ManifestDescriptor,
            "index" => Level::Index,
            "index-descriptor" => Level::IndexDescriptor,
            _ => return None,
        })
    }

    /// Whether it is about an index, which has all platforms.
    pub fn is_index(self) -> bool {
        matches!(self, Level::Index | Level::IndexDescriptor)
    }
}

/// One annotation, for all platforms or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    level: Level,
    platform: Option<Platform>,
    name: String,
    value: String,
}

/// Annotations in the order in which they were given; later ones win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Reads the values of `--annotation`: `[LEVEL[PLATFORM],...:]NAME=VALUE`.
    pub fn of_options(given: &[String]) -> Result<Annotations> {
        let mut all = Annotations::default();
        for text in given {
            all.add_option(text).with_context(|| format!("--annotation {text}"))?;
        }
        Ok(all)
    }

    fn add_option(&mut self, text: &str) -> Result<()> {
        let (before, value) = text.split_once('=').context("not NAME=VALUE")?;
        // A name may have colons, too, but what has the form of levels is meant as such, as in buildx.
        let split = before.split_once(':').map(|(levels, name)| (levels, places(levels), name));
        let (places, name) = match split {
            Some((_, Some(places), name)) => (places?, name),
            Some((levels, None, _)) if has_form_of_levels(levels) => bail!(
                "unknown annotation type \"{levels}\": it is manifest, index, manifest-descriptor or index-descriptor"
            ),
            _ => (vec![(Level::Manifest, None)], before),
        };
        for (level, platform) in places {
            self.add(level, platform, name, value)?;
        }
        Ok(())
    }

    /// Reads an attribute of `--output`; false if it is none of annotations.
    pub fn add_attribute(&mut self, attribute: &str, value: &str) -> Result<bool> {
        let Some(rest) = attribute.strip_prefix("annotation") else { return Ok(false) };
        // A platform may have dots, and a name brackets.
        let first = rest.find(['.', '[']).unwrap_or(rest.len());
        let platform = if rest[first..].starts_with('[') { rest[first..].find(']').unwrap_or(0) } else { 0 };
        let Some(dot) = rest[first + platform..].find('.') else { return Ok(false) };
        let dot = first + platform + dot;
        let place =
            rest[..dot].strip_prefix('-').map_or_else(|| format!("manifest{}", &rest[..dot]), str::to_string);
        let Some(place) = self::place(&place) else { return Ok(false) };
        let (level, platform) = place?;
        self.add(level, platform, &rest[dot + 1..], value)?;
        Ok(true)
    }

    fn add(&mut self, level: Level, platform: Option<Platform>, name: &str, value: &str) -> Result<()> {
        if name.is_empty() {
            bail!("not NAME=VALUE");
        }
        self.0.push(Annotation { level, platform, name: name.to_string(), value: value.to_string() });
        Ok(())
    }

    /// These annotations, then the others.
    pub fn and(mut self, others: &Annotations) -> Annotations {
        self.0.extend(others.0.iter().cloned());
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some are for an index.
    pub fn need_index(&self) -> bool {
        self.0.iter().any(|annotation| annotation.level.is_index())
    }

    /// Those of a level, for a platform if the level is about one.
    pub fn at(&self, level: Level, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let fits = |annotation: &&Annotation| {
            let wanted = annotation.platform.as_ref().map(Platform::normalised);
            annotation.level == level && (wanted.is_none() || wanted == platform.map(Platform::normalised))
        };
        self.0.iter().filter(fits).map(|found| (found.name.clone(), found.value.clone())).collect()
    }
}

type Place = (Level, Option<Platform>);

/// Whether a text is words of small letters and hyphens, with platforms in brackets.
fn has_form_of_levels(text: &str) -> bool {
    text.split(',').all(|part| {
        let (word, platform) = part.split_once('[').unwrap_or((part, "]"));
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        is_word && platform.ends_with(']')
    })
}

/// Reads `LEVEL[PLATFORM],...`; `None` if the text has another form.
fn places(text: &str) -> Option<Result<Vec<Place>>> {
    text.split(',').map(place).collect()
}

/// Reads `LEVEL` or `LEVEL[PLATFORM]`; `None` if it is no level.
fn place(text: &str) -> Option<Result<Place>> {
    let (level, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((level, platform)) => (level, Some(platform)),
        None => (text, None),
    };
    let level = Level::of(level)?;
    Some(match platform {
        Some(_) if level.is_index() => Err(anyhow::anyhow!("{text}: an index has all platforms")),
        Some(platform) => platform
            .parse::<Platform>()
            .with_context(|| format!("platform {platform}"))
            .map(|platform| (level, Some(platform))),
        None => Ok((level, None)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str) -> Option<Annotation> {
        let mut all = Annotations::default();
        all.add_attribute(name, "v").expect("valid").then(|| all.0[0].clone())
    }

    #[test]
    fn attributes_name_level_platform_and_name() {
        for (text, level, platform, name) in [
            ("annotation.org.x.y", Level::Manifest, None, "org.x.y"),
            ("annotation[linux/arm64].k", Level::Manifest, Some("linux/arm64"), "k"),
            ("annotation-manifest.k", Level::Manifest, None, "k"),
            ("annotation-manifest[linux/arm/v7].k", Level::Manifest, Some("linux/arm/v7"), "k"),
            ("annotation-manifest-descriptor.k", Level::ManifestDescriptor, None, "k"),
            ("annotation-index.k", Level::Index, None, "k"),
            ("annotation-index-descriptor.k", Level::IndexDescriptor, None, "k"),
        ] {
            let found = attribute(text).expect("an annotation");
            let platform = platform.map(|p| p.parse().expect("a platform"));
            assert_eq!((found.level, found.platform, found.name.as_str()), (level, platform, name), "{text}");
        }
        for other in ["annotations.k", "annotation", "annotation-layer.k", "compression"] {
            assert_eq!(attribute(other), None, "{other}");
        }
        let mut all = Annotations::default();
        assert!(all.add_attribute("annotation-index[linux/arm64].k", "v").is_err());
        assert!(all.add_attribute("annotation[nonsense].k", "v").is_err());
        assert!(all.add_attribute("annotation.", "v").is_err());
    }

    #[test]
    fn options_name_several_levels() {
        let given = ["index,manifest[linux/arm64]:a=b", "c.x:d=e", "f=g:h"].map(str::to_string);
        let all = Annotations::of_options(&given).expect("valid");
        let arm64 = "linux/arm64".parse().expect("a platform");
        let amd64 = "linux/amd64".parse().expect("a platform");
        let text = |map: BTreeMap<String, String>| {
            map.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(all.at(Level::Index, None)), "a=b");
        assert_eq!(text(all.at(Level::Manifest, Some(&arm64))), "a=b c.x:d=e f=g:h");
        assert_eq!(text(all.at(Level::Manifest, Some(&amd64))), "c.x:d=e f=g:h");
        assert!(Annotations::of_options(&["novalue".into()]).is_err());
        for typo in ["manifests:a=b", "index,foo:a=b", "foo[linux/amd64]:a=b"] {
            let error = format!("{:#}", Annotations::of_options(&[typo.into()]).expect_err(typo));
            assert!(error.contains("unknown annotation type"), "{error}");
        }
        assert!(Annotations::of_options(&["index[linux/amd64]:a=b".into()]).is_err());
    }
}
