"""LeRobot's policy server on this machine alone: `python -m benchmarks.lerobot_side.server PORT FPS`."""

import sys
from collections.abc import Sequence
from concurrent import futures

import grpc
from lerobot.async_inference.configs import PolicyServerConfig
from lerobot.async_inference.constants import SUPPORTED_POLICIES
from lerobot.async_inference.policy_server import PolicyServer
from lerobot.transport import services_pb2_grpc

from benchmarks.lerobot_side.configuration_circle import CircleConfig


def main(argv: Sequence[str]) -> int:
    port, fps = int(argv[0]), int(argv[1])
    SUPPORTED_POLICIES.append(CircleConfig().type)
    # No latency is added: the policy takes its own.
    own = PolicyServer(PolicyServerConfig(host="127.0.0.1", port=port, fps=fps, inference_latency=0.0))
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    services_pb2_grpc.add_AsyncInferenceServicer_to_server(own, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
