#!/bin/bash
# skopeo 1.9.3 (Debian 12), run by anybody but root, cannot read an `oci-archive:` whose tar has the files of
# blobs/sha256 but no entries of the directories: it makes each missing directory and gives it to root, which fails.
# The files of the same archive belong to root as well, and are no problem: their owners are ignored. With entries
# of blobs/ and blobs/sha256/, which belong to root too, the archive is read. The OCI image layout asks for no
# such entries.
#
# Seen:
#   files only: 1 (chown .../blobs/sha256: operation not permitted)
#   with entries of directories: 0
#
# Needs apt-get, dpkg, python3, and setpriv (util-linux) if root runs this. Exit status: 0 as described, 1 if that
# has changed, 77 if something is missing.
set -u
PACKAGES="skopeo=1.9.3+ds1-1+b10"
command -v apt-get dpkg python3 >/dev/null || { echo "needs apt-get, dpkg, python3"; exit 77; }
W=$(mktemp -d) || exit 77
trap 'rm -rf "$W"' EXIT
chmod 755 "$W"
mkdir -m 777 "$W/user" "$W/tmp"
(cd "$W" && apt-get download -q $PACKAGES >/dev/null 2>"$W/apt") || { echo "packages cannot be had: $(tail -1 "$W/apt")"; exit 77; }
dpkg -x "$W"/skopeo_*.deb "$W/unpacked" || exit 77
skopeo=$W/unpacked/usr/bin/skopeo
user=
if [ "$(id -u)" = 0 ]; then
    command -v setpriv >/dev/null || { echo "needs setpriv"; exit 77; }
    user="setpriv --reuid 65534 --regid 65534 --clear-groups"
fi
run() { env HOME="$W/user" TMPDIR="$W/tmp" $user "$skopeo" "$@"; }
run --version || { echo "skopeo does not run: its libraries are missing (libgpgme11, libdevmapper1.02.1)"; exit 77; }
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$W/policy.json"

python3 - "$W" <<'PYTHON' || exit 77
import hashlib, io, json, sys, tarfile
where = sys.argv[1]
blobs = {}
def blob(kind, content):
    digest = hashlib.sha256(content).hexdigest()
    blobs["blobs/sha256/" + digest] = content
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(content)}
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    tar.addfile(tarfile.TarInfo("file"))
config = {"architecture": "amd64", "os": "linux", "config": {},
          "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}
manifest = blob("manifest.v1+json", json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": blob("config.v1+json", json.dumps(config).encode()),
    "layers": [blob("layer.v1.tar", layer.getvalue())]}).encode())
files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
         "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode(), **blobs}
for name, directories in ("files", []), ("directories", ["blobs", "blobs/sha256"]):
    with tarfile.open(f"{where}/{name}.tar", "w") as tar:
        for path in directories:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
PYTHON

copy() { run --policy "$W/policy.json" copy -q "oci-archive:$W/$1.tar" "dir:$W/user/$1" >"$W/said" 2>&1; }
copy files; only=$?
why=$(grep -o 'chown .*/blobs/sha256: operation not permitted' "$W/said" | sed 's,chown .*/blobs,chown .../blobs,')
copy directories; whole=$?
echo "files only: $only ($why)"
echo "with entries of directories: $whole"
[ "$only" = 1 ] && [ -n "$why" ] && [ "$whole" = 0 ]
