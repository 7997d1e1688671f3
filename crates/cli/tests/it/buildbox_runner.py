"""A runner for buildbox-casd: buildbox_runner.py DIRECTORY OPTION...

buildbox-casd starts one for each action (buildbox-run --help of BuildBox describes the options). BuildBox's own
runner for machines without bubblewrap, buildbox-run-hosttools, is in no package.
"""

import argparse
import os
import urllib.parse

import grpc
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from reapi_worker import Worker


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--capabilities", action="store_true")
    parser.add_argument("--validate-parameters", action="store_true")
    for name in ["remote", "action", "action-result"]:
        parser.add_argument(f"--{name}")
    arguments, _ = parser.parse_known_args()
    if arguments.capabilities:
        print("platform:OSFamily=linux\nplatform:ISA=x86-64")
    if arguments.capabilities or arguments.validate_parameters:
        return
    os.makedirs(arguments.directory, exist_ok=True)
    with open(arguments.action, "rb") as file:
        action = api.Action.FromString(file.read())
    channel = grpc.insecure_channel(urllib.parse.urlsplit(arguments.remote).netloc)
    result = Worker(channel, f"runner-{os.getpid()}", arguments.directory).execute(action)
    with open(arguments.action_result, "wb") as file:
        file.write(result.SerializeToString())


main()
