"""A process with a RedisBus under gevent, as a worker has it: publishes what stdin names, prints what arrives.

Lines in: ``message <conversation> <seq>``, ``left <conversation> <user>``, ``end <session>``, ``read <conversation> <user> <seq>``,
``typing <conversation> <user>``. Lines out: ``subscribed``, ``missed`` and the events, as JSON.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from uuid import UUID  # noqa: E402

from gevent.fileobject import FileObject  # noqa: E402

from hockey_hub_chat.config import Settings  # noqa: E402
from hockey_hub_chat.realtime import bus as bus_module  # noqa: E402
from hockey_hub_chat.realtime.redis_client import make_client  # noqa: E402


def tell(**fields: object) -> None:
    """Print one line."""
    print(json.dumps(fields, default=lambda odd: odd.decode() if isinstance(odd, bytes) else str(odd)), flush=True)


def on_events(events: Sequence[bus_module.BusEvent]) -> None:
    """Print events."""
    for event in events:
        fields = {name: getattr(event, name) for name in event.__slots__}
        tell(kind=type(event).__name__, **fields)


def main() -> None:
    """Run until stdin ends."""
    settings = Settings(redis_url=sys.argv[1])
    bus = bus_module.RedisBus(lambda: make_client(settings))
    bus.start(on_events, lambda: tell(kind="missed", healthy=bus.healthy))
    if not bus.wait_subscribed(10):
        sys.exit("no subscription")
    tell(kind="subscribed")
    for line in FileObject(sys.stdin, "r"):
        name, *rest = line.split()
        if name == "message":
            conversation, seq = map(int, rest)
            bus.publish([bus_module.MessageStored(conversation, seq, b'{"body":"b%d"}' % seq)])
        elif name == "left":
            bus.publish([bus_module.MembershipChanged(int(rest[0]), int(rest[1]), "left")])
        elif name == "end":
            bus.publish([bus_module.SessionEnded(UUID(rest[0]))])
        elif name == "read":
            bus.publish([bus_module.ReadPositionMoved(*map(int, rest))])
        elif name == "typing":
            bus.publish([bus_module.TypingSeen(*map(int, rest))])
    bus.close()


main()
