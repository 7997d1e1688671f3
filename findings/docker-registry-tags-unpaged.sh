#!/bin/bash
# The reference registry 2.8.2 ignores `n` and `last` in GET /v2/NAME/tags/list: it sends all tags each time, in
# no order and without a Link. Its own API description since 2.0 and the OCI distribution specification ("Listing
# Tags") promise sorted pages, and its list of repositories keeps to that. A client that asks for the tags after
# the last one it got, until an answer is empty, never ends; one that takes the first entry of `n=1` for the
# first tag gets any. Pages may only be followed by the Link header.
#
# Seen:
#   repositories, n=1: 1 of 2, with a Link
#   tags, n=1: 3 of 3, without a Link
#   tags, n=1&last=c: 3 of 3
#
# Needs apt-get, dpkg, curl and a free port on the loopback interface. Exit status: 0 as described, 1 if that has
# changed, 77 if something is missing.
set -u
PACKAGES="docker-registry=2.8.2+ds1-1"
command -v apt-get dpkg curl sha256sum >/dev/null || { echo "needs apt-get, dpkg, curl"; exit 77; }
W=$(mktemp -d) || exit 77
chmod 755 "$W"
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$W"' EXIT
(cd "$W" && apt-get download -q $PACKAGES >/dev/null 2>"$W/apt") || { echo "packages cannot be had: $(tail -1 "$W/apt")"; exit 77; }
dpkg -x "$W"/*.deb "$W/unpacked" || exit 77
registry=$W/unpacked/usr/bin/docker-registry
[ -x "$registry" ] || { echo "the package has no program where it was"; exit 77; }
"$registry" --version | head -1 | sed "s,^.*/docker-registry,docker-registry,"

cat >"$W/config.yml" <<EOF
version: 0.1
storage:
  filesystem:
    rootdirectory: $W/data
http:
  addr: 127.0.0.1:0
EOF
: >"$W/log"
"$registry" serve "$W/config.yml" >>"$W/log" 2>&1 &
server=$!
for _ in $(seq 100); do
    address=$(grep -o 'listening on 127[0-9.:]*' "$W/log" | head -1)
    [ -n "$address" ] && break
    sleep 0.1
done
base=http://${address#listening on }/v2
[ -n "$address" ] || { echo "the server does not start: $(tail -1 "$W/log")"; exit 77; }

# Two repositories with one small image; the second has it under three tags.
printf '{}' >"$W/config"
digest=sha256:$(sha256sum "$W/config" | cut -d' ' -f1)
image=application/vnd.oci.image.manifest.v1+json
printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[]}' \
    "$image" "$digest" >"$W/manifest"
for name in one two; do
    upload=$(curl -s -i -X POST "$base/$name/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //Ip')
    curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$W/config" "$upload&digest=$digest" || exit 77
done
for tag in one:a two:a two:b two:c; do
    curl -sf -X PUT -H "Content-Type: $image" --data-binary "@$W/manifest" "$base/${tag%:*}/manifests/${tag#*:}" || exit 77
done

# Number of entries in the list of an answer, and whether it has a Link.
ask() { curl -s -i "$base/$1" | tr -d '\r'; }
entries() { grep -o '\[.*\]' | grep -o '"[a-z]*"' | wc -l; }
linked() { grep -qi '^Link:' && echo "with a Link" || echo "without a Link"; }
repositories=$(ask '_catalog?n=1' | entries) repositories_link=$(ask '_catalog?n=1' | linked)
tags=$(ask 'two/tags/list?n=1' | entries) tags_link=$(ask 'two/tags/list?n=1' | linked)
after=$(ask 'two/tags/list?n=1&last=c' | entries)
echo "repositories, n=1: $repositories of 2, $repositories_link"
echo "tags, n=1: $tags of 3, $tags_link"
echo "tags, n=1&last=c: $after of 3"
[ "$repositories" = 1 ] && [ "$repositories_link" = "with a Link" ] &&
    [ "$tags" = 3 ] && [ "$tags_link" = "without a Link" ] && [ "$after" = 3 ]
