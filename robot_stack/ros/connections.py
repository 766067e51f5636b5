"""Whether the topics of a robot's nodes have found each other.

Discovery takes the longer the busier a machine is, and a message that is sent before it is over is lost, reliable or not. In
lock-step one lost message stops the clock for good. So every node tells how many partners each of its topics has, and whoever
runs episodes waits until none is missing.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from robot_stack.ros import topics
from robot_stack.ros.node import Complaints

SERVICE = "connections"


@dataclass(frozen=True)
class Connections:
    """Topics of one node.

    Attributes:
        publishers: topic -> listeners found.
        subscriptions: topic -> senders found.
    """

    publishers: Mapping[str, int] = field(default_factory=dict)
    subscriptions: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Any) -> "Connections":
        """Those of a node of this process."""
        return cls(
            {publisher.topic_name: publisher.get_subscription_count() for publisher in node.publishers},
            {subscription.topic_name: subscription.get_publisher_count() for subscription in node.subscriptions},
        )

    @classmethod
    def from_message(cls, message: str) -> "Connections":
        """Inverse of what ``~/connections`` answers."""
        return cls(**json.loads(message))


def tell_connections(node: Any) -> None:
    """Offer ``~/connections``: a ``std_srvs/Trigger`` whose message is this node's ``Connections`` as JSON."""

    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        connections = Connections.of(node)
        told = {"publishers": connections.publishers, "subscriptions": connections.subscriptions}
        response.success, response.message = True, json.dumps(told)
        return response

    node.create_service(Trigger, f"~/{SERVICE}", answer)


def watch_types(node: Any, complaints: Complaints, may_look: Callable[[], bool] = lambda: True) -> None:
    """Tell once a second of topics on which somebody sends messages of another type: the middleware just does not connect them.

    Args:
        node: whose subscriptions are watched.
        complaints: of the node.
        may_look: whether there is time for it now.
    """

    def look() -> None:
        if not may_look():
            return
        for subscription in node.subscriptions:
            topic, wanted = subscription.topic_name, topics.type_name(subscription.msg_type)
            given = {info.topic_type for info in node.get_publishers_info_by_topic(topic)}
            for other in sorted(given - {wanted}):
                complaints.bad(f"{topic} as {other}", f"messages on {topic}: {other}, expected {wanted}")

    node.create_timer(1.0, look, clock=Clock(clock_type=ClockType.STEADY_TIME))


def missing_connections(nodes: Mapping[str, Connections]) -> list[str]:
    """What is still missing between ``nodes`` (name -> its topics), for people; empty: nothing."""
    senders: dict[str, list[str]] = defaultdict(list)
    listeners: dict[str, list[str]] = defaultdict(list)
    for name, connections in nodes.items():
        for topic in connections.publishers:
            senders[topic].append(name)
        for topic in connections.subscriptions:
            listeners[topic].append(name)
    missing = []
    for name, connections in nodes.items():
        for topic, found in connections.publishers.items():
            if found < len(listeners[topic]):
                missing.append(f"{topic}: {name} reaches {found} of {len(listeners[topic])} ({', '.join(listeners[topic])})")
        for topic, found in connections.subscriptions.items():
            if found < len(senders[topic]):
                missing.append(f"{topic}: {name} hears {found} of {len(senders[topic])} ({', '.join(senders[topic])})")
    return missing
