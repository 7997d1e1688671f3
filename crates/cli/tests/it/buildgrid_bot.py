"""Workers for BuildGrid: buildgrid_bot.py ADDRESS COUNT DIRECTORY.

Each thread is a bot of the Remote Workers API (google/devtools/remoteworkers/v1test2/bots.proto), with the
stubs of BuildGrid itself.
"""

import os
import sys
import threading

import grpc
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as api
from buildgrid._protos.google.devtools.remoteworkers.v1test2 import bots_pb2, bots_pb2_grpc, worker_pb2
from reapi_worker import Worker

PENDING, ACTIVE, COMPLETED = 1, 2, 4
# Seconds for which the server may hold an update until there is work.
WAIT = 20
# Counts the bots that the server knows.
CREATED = threading.Semaphore(0)


class Bot(Worker):
    def __init__(self, channel, name, directory):
        super().__init__(channel, name, directory)
        self.bots = bots_pb2_grpc.BotsStub(channel)

    def serve(self):
        device = worker_pb2.Device(handle="cpu")
        for key, value in [("ISA", "x86-64"), ("OSFamily", "linux")]:
            device.properties.add(key=key, value=value)
        session = bots_pb2.BotSession(
            bot_id=self.name, status=1, worker=worker_pb2.Worker(devices=[device])
        )
        request = bots_pb2.CreateBotSessionRequest(parent="", bot_session=session)
        session = self.bots.CreateBotSession(request, timeout=WAIT)
        CREATED.release()
        while True:
            for lease in session.leases:
                if lease.state == PENDING:
                    lease.state = ACTIVE
                    self.update(session)
                    action = api.Action()
                    assert lease.payload.Unpack(action), lease.payload.type_url
                    lease.result.Pack(self.execute(action))
                    lease.status.code = 0
                    lease.state = COMPLETED
            session = self.update(session)

    def update(self, session):
        request = bots_pb2.UpdateBotSessionRequest(name=session.name, bot_session=session)
        return self.bots.UpdateBotSession(request, timeout=WAIT)


def main():
    address, count, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.makedirs(directory, exist_ok=True)
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=60)
    threads = [
        threading.Thread(target=Bot(channel, f"bot-{number}", directory).serve)
        for number in range(1, count + 1)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        CREATED.acquire()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


main()
