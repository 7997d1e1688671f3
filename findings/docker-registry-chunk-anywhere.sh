#!/bin/bash
# The reference registry 2.8.2 does not look at the Content-Range of a chunk: it appends whatever comes and says
# so with 202 and a Range of its own. The OCI distribution specification ("Pushing a blob in chunks") and the
# registry's API description promise 416 for a chunk that does not begin where the upload ends. And the URL of an
# upload is good for one request only: after a chunk, the status of the upload is to be had at the newest Location,
# and at the previous one, all that a client has whose connection was cut, there is no such upload (404). So a
# client that resumes must compare the Range of each 202 with what it sent, and start anew after a 404.
#
# Seen:
#   chunk 100-102 of an empty upload: 202, Range: 0-2
#   status at the previous location: 404
#   status at the newest location: 204, Range: 0-2
#
# Needs apt-get, dpkg, curl and a free port on the loopback interface. Exit status: 0 as described, 1 if that has
# changed, 77 if something is missing.
set -u
PACKAGES="docker-registry=2.8.2+ds1-1"
command -v apt-get dpkg curl >/dev/null || { echo "needs apt-get, dpkg, curl"; exit 77; }
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

# Sends a request; prints its status, and its Range if it has one, and keeps its Location.
ask() {
    curl -s -i "$@" | tr -d '\r' >"$W/answer"
    status=$(sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p' "$W/answer")
    range=$(sed -n 's/^Range: /, Range: /Ip' "$W/answer")
    location=$(sed -n 's/^Location: //Ip' "$W/answer")
}
ask -X POST "$base/a/blobs/uploads/"
previous=$location
ask -X PATCH -H 'Content-Type: application/octet-stream' -H 'Content-Range: 100-102' --data-binary abc "$previous"
chunk=$status$range newest=$location
ask "$previous"
of_previous=$status$range
ask "$newest"
of_newest=$status$range
echo "chunk 100-102 of an empty upload: $chunk"
echo "status at the previous location: $of_previous"
echo "status at the newest location: $of_newest"
[ "$chunk" = "202, Range: 0-2" ] && [ "$of_previous" = 404 ] && [ "$of_newest" = "204, Range: 0-2" ]
