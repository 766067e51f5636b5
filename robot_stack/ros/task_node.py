"""The instruction of a real robot, on ``task``, for policies and logs; simulated robots tell theirs themselves."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String

from robot_stack.ros import topics
from robot_stack.ros.connections import tell_connections
from robot_stack.ros.node import declare_parameters, run_node


@dataclass(frozen=True)
class TaskSettings:
    """Parameters of the node.

    Attributes:
        instruction: the task in words; a new value is told at once.
    """

    instruction: str = ""


class TaskNode(Node):
    """See the module. The message is latched, so the node has to stay."""

    def __init__(self) -> None:
        super().__init__("task")
        settings = declare_parameters(self, TaskSettings)
        self._task_out = self.create_publisher(String, topics.TASK, topics.LATCHED)
        self._task_out.publish(String(data=settings.instruction))
        self.add_post_set_parameters_callback(self._on_parameters)
        tell_connections(self)

    def close(self) -> None:
        """Nothing to let go."""

    def _on_parameters(self, parameters: Sequence[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == "instruction":
                self._task_out.publish(String(data=parameter.value))


def main(_: Any = None) -> int:
    return run_node(TaskNode)


if __name__ == "__main__":
    sys.exit(main())
