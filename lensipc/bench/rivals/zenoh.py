# SPDX-License-Identifier: MIT
"""zenoh: peers over a Unix socket, none of which scouts for others."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import zenoh

from ..contest import Contest
from ..side import Side, patiently

KEY = "bench"
HELLO = "hello"


class Events(Contest):
    """Main listens and publishes; renderers connect and subscribe. A publisher waits where a queue is full."""

    def _open(self, **where: Any) -> Any:
        config = zenoh.Config()
        config.insert_json5("scouting/multicast/enabled", "false")
        config.insert_json5("transport/shared_memory/enabled", "false")  # bytes go through the socket; it leaves files
        for key, value in where.items():
            config.insert_json5(f"{key}/endpoints", json.dumps([value]))
        return zenoh.open(config)

    def main(self, side: Side) -> None:
        """Publish."""
        with self._open(listen=f"unixsock-stream/{self.task.path}") as session:
            publisher = session.declare_publisher(KEY, congestion_control=zenoh.CongestionControl.BLOCK)
            subscribed = threading.Semaphore(0)

            def on_hello(query: Any) -> None:
                query.reply(HELLO, b"")
                subscribed.release()

            with session.declare_queryable(HELLO, on_hello):
                for _ in range(self.task.renderers):
                    subscribed.acquire()
                side.send_all(publisher.put)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Hear in zenoh's own thread, which is the fastest of its ways, and wait for the end here."""
        ended = threading.Event()
        listen, loads, raw = side.listener, pickle.loads, self.task.payload == "raw64"

        def on_sample(sample: Any) -> None:
            body = sample.payload.to_bytes()
            if raw:
                listen.add(1)
            else:
                listen(loads(body))
            if listen.finished:
                ended.set()

        def opened() -> Any:
            try:
                return self._open(connect=f"unixsock-stream/{self.task.path}")
            except zenoh.ZError as error:
                raise ConnectionRefusedError from error

        with patiently(opened) as session:
            session.declare_subscriber(KEY, on_sample)
            while not list(session.get(HELLO, timeout=0.1)):  # main knows of the subscription when it answers
                pass
            side.ready()
            ended.wait()
            side.done(listen.report())
