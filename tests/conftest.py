"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let child processes be interrupted: a shell that runs the tests in the background has them ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
