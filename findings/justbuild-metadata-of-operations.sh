#!/bin/bash
# justbuild 1.5.1, run as a server (`just execute`), sends a google.protobuf.Timestamp as the metadata of its
# operations, where Bazel's Remote Execution API says ExecuteOperationMetadata (remote_execution.proto, Execute).
# Both have a number as their field 1, so a client that decodes the bytes without a look at their type reads the
# seconds since 1970 as `stage`. Whether a step is queued or executed is never told: a client that gives queued steps
# up after a time gives up those that run. 1.6.5 does the same.
#
# Seen (the seconds vary):
#   done False metadata google.protobuf.Timestamp decoded stage above 4: True
#   done True metadata google.protobuf.Timestamp decoded stage above 4: True
#
# Needs apt-get, dpkg, python3 with venv, 150 MB, and a free port on the loopback interface; an x86-64 machine. Exit
# status: 0 as described, 1 if that has changed, 77 if something is missing.
set -u
command -v apt-get dpkg python3 >/dev/null || { echo "needs apt-get, dpkg, python3"; exit 77; }
W=$(mktemp -d) || exit 77
chmod 755 "$W"
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$W"' EXIT
mkdir -p "$W"/{lists/partial,cache/archives/partial,none,packages}
: >"$W/status"
mirror=$(apt-get indextargets --format '$(SITE)' 'Identifier: Packages' | grep -m1 '/debian/\?$')
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$W/sources"
APT=(-q -o "Dir::State::Lists=$W/lists" -o "Dir::Cache=$W/cache" -o "Dir::State::Status=$W/status" -o "Dir::Etc::SourceList=$W/sources"
    -o "Dir::Etc::SourceParts=$W/none" -o "Dir::Etc::PreferencesParts=$W/none" -o APT::Sandbox::User=root)
apt-get "${APT[@]}" update >/dev/null 2>"$W/apt"
# The program with the libraries of its own distribution.
needed=$(apt-cache "${APT[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances justbuild 2>>"$W/apt" | grep -E '^(justbuild|lib[a-z0-9.+-]*)$' | sort -u)
(cd "$W/packages" && apt-get "${APT[@]}" download $needed >/dev/null 2>"$W/apt") || { echo "justbuild cannot be had: $(tail -1 "$W/apt")"; exit 77; }
for package in "$W"/packages/*.deb; do dpkg -x "$package" "$W/tree" || exit 77; done
libraries=$W/tree/usr/lib/x86_64-linux-gnu
just=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$W/tree/usr/bin/justbuild")
"${just[@]}" version | tr -d ' \n' | grep -o '"version":\[1,5,1\]' || { echo "this is another version of justbuild"; exit 77; }

# BuildGrid's package has the messages of the API.
python3 -m venv "$W/python" && "$W/python/bin/pip" install -q --disable-pip-version-check buildgrid==0.1.32 2>"$W/pip" ||
    { echo "buildgrid cannot be had: $(tail -1 "$W/pip")"; exit 77; }

"${just[@]}" execute --compatible --plain-log --info-file "$W/info" --local-build-root "$W/build" >"$W/log" 2>&1 &
server=$!
for _ in $(seq 100); do [ -s "$W/info" ] && break; sleep 0.1; done
[ -s "$W/info" ] || { echo "the server does not start: $(tail -1 "$W/log")"; exit 77; }

cat >"$W/client.py" <<'P'
import hashlib, json, sys
import grpc
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as services

def digest(blob):
    return api.Digest(hash=hashlib.sha256(blob).hexdigest(), size_bytes=len(blob))

channel = grpc.insecure_channel("127.0.0.1:%d" % json.load(open(sys.argv[1]))["port"])
command = api.Command(arguments=["/bin/sh", "-c", "sleep 2"]).SerializeToString()
inputs = api.Directory().SerializeToString()
action = api.Action(command_digest=digest(command), input_root_digest=digest(inputs)).SerializeToString()
upload = api.BatchUpdateBlobsRequest(instance_name="remote-execution")
for blob in (command, inputs, action):
    upload.requests.add(digest=digest(blob), data=blob)
services.ContentAddressableStorageStub(channel).BatchUpdateBlobs(upload)
request = api.ExecuteRequest(instance_name="remote-execution", action_digest=digest(action), skip_cache_lookup=True)
for operation in services.ExecutionStub(channel).Execute(request):
    # The enumeration's last value is COMPLETED, 4.
    stage = api.ExecuteOperationMetadata.FromString(operation.metadata.value).stage
    kind = operation.metadata.type_url.rpartition("/")[2]
    print("done", operation.done, "metadata", kind, "decoded stage above 4:", stage > 4)
P
seen=$("$W/python/bin/python" "$W/client.py" "$W/info") || { echo "the client failed"; exit 77; }
echo "$seen"
[ "$seen" = "done False metadata google.protobuf.Timestamp decoded stage above 4: True
done True metadata google.protobuf.Timestamp decoded stage above 4: True" ]
