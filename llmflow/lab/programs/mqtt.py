"""MQTT over TLS: sensors publish, and a client listens to some of them."""

from __future__ import annotations

import threading
from typing import Any

from llmflow.lab.programs import ClientPlace, Program, ServerPlace
from llmflow.lab.programs._place import Popen, trusting
from llmflow.lab.script import OTHER

PORT = 8883


def serve(place: ServerPlace) -> list[Popen]:
    """Mosquitto, for anybody, over TLS."""
    listeners = [
        f"listener {PORT} {address}\ncertfile {place.certificate}\nkeyfile {place.key}\n"
        for address in place.addresses
    ]
    config = place.scratch / "mosquitto.conf"
    config.write_text(
        "".join(listeners) + "allow_anonymous true\nset_tcp_nodelay true\nuser root\n"
    )
    return [place.start("mosquitto", "-c", config)]


def visit(place: ClientPlace) -> None:
    """Subscribe to what one publishes oneself: both directions of telemetry in one connection."""
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    rng = place.rng
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"sensor-{place.number}",
        protocol=rng.choice((mqtt.MQTTv311, mqtt.MQTTv5)),
    )
    client.tls_set_context(trusting(place.authority))
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(place.server, PORT, keepalive=rng.choice((10, 30, 60)))
    socket: Any = client.socket()
    place.connected("tcp", socket.getsockname(), socket.getpeername())
    topic, level = f"site/{place.number}", rng.choice((0, 0, 1, 2))
    client.subscribe(f"{topic}/#", level)
    client.loop_start()
    try:
        if not subscribed.wait(10):
            raise TimeoutError("no answer to the subscription")
        # Steady sensors, events at random, or bursts of them.
        steady, size = rng.choice((True, False)), rng.choice((12, 40, 120, 600))
        rate, burst = rng.choice((0.5, 2, 8, 25, 60)), rng.choice((1, 1, 1, 5))
        while place.left > 0:
            for sensor in range(rng.randint(1, burst)):
                body = rng.randbytes(max(4, int(rng.gauss(size, size / 5)))).hex()
                client.publish(f"{topic}/{sensor}", body, level)
            place.pause(1 / rate if steady else rng.expovariate(rate))
    finally:
        client.disconnect()
        client.loop_stop()


PROGRAMS = (
    Program(
        name="mqtt",
        label=OTHER,
        category="telemetry",
        needs=("mosquitto",),
        modules=("paho.mqtt.client",),
        ports=(("tcp", PORT),),
        serve=serve,
        visit=visit,
    ),
)
