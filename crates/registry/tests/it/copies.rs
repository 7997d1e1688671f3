//! Copies include the manifests that refer to an image.

use crossdock_oci::manifest::{Descriptor, Index};
use crossdock_oci::{Digest, Reference, media_type};
use crossdock_registry::transfer::{Platforms, WithReferrers, copy};
use crossdock_registry::{Client, Error};
use crossdock_testkit::DockerRegistry as Peer;

use crate::support::*;

/// Pushes a small manifest by digest, or by a tag.
fn put(client: &Client, name: &Reference, tag: Option<&str>, bytes: &[u8]) -> Descriptor {
    client.put_blob(name, &blob(b"{}"), &b"{}".to_vec(), &[]).expect("pushed");
    let name = match tag {
        Some(tag) => name.with_tag(tag).expect("a tag"),
        None => name.with_digest(Digest::of(bytes)),
    };
    client.put_manifest(&name, media_type::OCI_MANIFEST, bytes).expect("pushed");
    Descriptor::of(media_type::OCI_MANIFEST, bytes)
}

/// An image in an index, a signature of each of them, an SBOM of the image, a signature of the SBOM, and
/// cosign's tag of the index.
fn signed(client: &Client, name: &Reference) -> [Descriptor; 6] {
    let image = put(client, name, None, &small_manifest(None, "x/image"));
    let bytes = Index::new(vec![image.clone()]).to_bytes();
    client.put_manifest(&name.with_tag("v").expect("a tag"), media_type::OCI_INDEX, &bytes).expect("pushed");
    let index = Descriptor::of(media_type::OCI_INDEX, &bytes);
    let of =
        |subject: &Descriptor, kind| put(client, name, None, &small_manifest(Some(subject.clone()), kind));
    let sbom = of(&image, "x/sbom");
    let signatures = [of(&index, "x/signature"), of(&image, "x/signature"), of(&sbom, "x/signature")];
    let cosign = format!("sha256-{}.sig", index.digest.hex());
    put(client, name, Some(&cosign), &small_manifest(None, "x/cosign"));
    let [a, b, c] = signatures;
    [index, image, sbom, a, b, c]
}

#[test]
fn signatures_and_sboms_come_along() {
    let (site, client) = (Site::new(), client());
    let from = site.reference("a:v");
    let [index, image, sbom, of_index, of_image, of_sbom] = signed(&client, &from);
    let mut number = 0;
    let mut copied = |with| {
        number += 1;
        let to = site.reference(&format!("copy{number}:v"));
        let pushed = copy(&client, &[&from], &to, &Platforms::All, with).expect("copied");
        let cosign = to.with_tag(&format!("sha256-{}.sig", index.digest.hex())).expect("a tag");
        (pushed.referrers, to.clone(), client.head_manifest(&cosign).expect("answers").is_some())
    };
    let (count, to, cosign) = copied(WithReferrers::No);
    assert_eq!((count, cosign), (0, false));
    assert_eq!(client.referrers(&to, &image.digest, None).expect("lists"), []);
    for (with, expected) in [(WithReferrers::Listed, (4, false)), (WithReferrers::All, (5, true))] {
        let (count, to, cosign) = copied(with);
        assert_eq!((count, cosign), expected);
        let referrers = |subject: &Descriptor| {
            let mut all: Vec<Digest> = client
                .referrers(&to, &subject.digest, None)
                .expect("lists")
                .into_iter()
                .map(|d| d.digest)
                .collect();
            all.sort();
            all
        };
        let mut of_the_image = vec![sbom.digest.clone(), of_image.digest.clone()];
        of_the_image.sort();
        assert_eq!(referrers(&index), std::slice::from_ref(&of_index.digest));
        assert_eq!(referrers(&image), of_the_image);
        assert_eq!(referrers(&sbom), std::slice::from_ref(&of_sbom.digest));
    }
}

#[test]
fn a_registry_without_a_list_gets_the_tag() {
    let (site, peer, client) = (Site::new(), Peer::start(""), client());
    let from = site.reference("a:v");
    let [index, image, ..] = signed(&client, &from);
    let to = peer.reference("b:v");
    copy(&client, &[&from], &to, &Platforms::All, WithReferrers::All).expect("copied");
    let tags = client.tags(&to).expect("lists");
    assert!(tags.contains(&format!("sha256-{}", image.digest.hex())), "{tags:?}");
    assert_eq!(client.referrers(&to, &image.digest, None).expect("lists").len(), 2);
    assert_eq!(client.referrers(&to, &index.digest, None).expect("lists").len(), 1);
    // A copy from there includes them again.
    let back = site.reference("back:v");
    let copied = copy(&client, &[&to], &back, &Platforms::All, WithReferrers::Listed).expect("copied");
    assert_eq!(copied.referrers, 4);
    assert_eq!(client.referrers(&back, &image.digest, None).expect("lists").len(), 2);
}

#[test]
fn a_list_that_is_refused_fails_only_who_asked_for_it() {
    use crossdock_registry::server::faults::Fault;
    let site =
        Site::faulty(|seen, _| seen.path.contains("/referrers/").then(|| Fault::status(403, "not for you")));
    let client = client();
    let from = site.reference("a:v");
    put(&client, &from, Some("v"), &small_manifest(None, "x/image"));
    let copied = |with| copy(&client, &[&from], &site.reference("b:v"), &Platforms::All, with);
    assert_eq!(copied(WithReferrers::Listed).expect("copied").referrers, 0);
    assert!(matches!(copied(WithReferrers::All), Err(Error::Denied(_))));
}
