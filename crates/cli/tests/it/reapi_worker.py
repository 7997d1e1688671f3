"""What workers of several engines share: an action of the Remote Execution API becomes a process.

The stubs are those of BuildGrid.
"""

import hashlib
import os
import shutil
import subprocess
import uuid

from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid._protos.google.bytestream import bytestream_pb2, bytestream_pb2_grpc

CHUNK = 1 << 20


class Worker:
    """Lays the inputs of an action out below a directory, starts the command, and sends the files that it names.

    A worker that misunderstands something dies, and so the test fails.
    """

    def __init__(self, channel, name, directory):
        self.name, self.directory = name, directory
        self.bytes = bytestream_pb2_grpc.ByteStreamStub(channel)

    def read(self, digest):
        if digest.size_bytes == 0:
            return b""
        request = bytestream_pb2.ReadRequest(resource_name=f"blobs/{digest.hash}/{digest.size_bytes}")
        content = b"".join(response.data for response in self.bytes.Read(request))
        assert hashlib.sha256(content).hexdigest() == digest.hash
        return content

    def write(self, content):
        digest = api.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        name = f"uploads/{uuid.uuid4()}/blobs/{digest.hash}/{digest.size_bytes}"

        def pieces():
            for start in range(0, max(len(content), 1), CHUNK):
                data = content[start : start + CHUNK]
                yield bytestream_pb2.WriteRequest(
                    resource_name=name,
                    write_offset=start,
                    data=data,
                    finish_write=start + len(data) == len(content),
                )

        self.bytes.Write(pieces())
        return digest

    def message(self, kind, digest):
        return kind.FromString(self.read(digest))

    def kept(self, digest, is_executable):
        """A blob as a file that actions link to: executables are large, and the same each time."""
        path = os.path.join(self.directory, f"{digest.hash}-{is_executable}")
        if not os.path.exists(path):
            own = f"{path}-{self.name}"
            with open(own, "wb") as file:
                file.write(self.read(digest))
            os.chmod(own, 0o555 if is_executable else 0o444)
            os.rename(own, path)
        return path

    def lay_out(self, digest, place):
        directory = self.message(api.Directory, digest)
        for file in directory.files:
            os.link(self.kept(file.digest, file.is_executable), os.path.join(place, file.name))
        for child in directory.directories:
            below = os.path.join(place, child.name)
            os.mkdir(below)
            self.lay_out(child.digest, below)

    def execute(self, action):
        command = self.message(api.Command, action.command_digest)
        place = os.path.join(self.directory, f"action-{uuid.uuid4()}")
        os.mkdir(place)
        try:
            self.lay_out(action.input_root_digest, place)
            done = subprocess.run(
                list(command.arguments),
                cwd=place,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                executable=os.path.join(place, command.arguments[0]),
            )
            result = api.ActionResult(exit_code=done.returncode, stdout_raw=done.stdout, stderr_raw=done.stderr)
            result.execution_metadata.worker = self.name
            for path in command.output_paths or command.output_files:
                file = os.path.join(place, path)
                if os.path.exists(file):
                    with open(file, "rb") as opened:
                        result.output_files.add(path=path, digest=self.write(opened.read()))
            return result
        finally:
            shutil.rmtree(place)
