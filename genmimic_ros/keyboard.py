# SPDX-License-Identifier: Apache-2.0
"""`genmimic keys`: the remote's four buttons on the keyboard of any terminal, and what the robot is doing.

To the hardware bridge they go as presses, on the topic ``press``, and mean what they mean on the remote. A simulated
bridge does not listen to presses: there the same services are called from here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import Trigger

from genmimic.core.errors import ConfigError
from genmimic.core.modes import APPLIED, DAMPING, Mode
from genmimic_ros.msg import SafetyStatus
from genmimic_ros.runtime import PRESS_QOS, STATUS_SUB, make_executor, prepare_transport
from genmimic_ros.stack import NAMESPACE

KEYS = {"s": "start", "a": "A", "b": "B", " ": "B", "\x1b": "B", "q": "select"}
"""Buttons by key. Space and Escape damp, too: they are found without looking."""

HELP = "s: Start   a: A   space, b, Esc: B, damp at once   q: Select, damp and end the bridge   Ctrl-C: leave"

SERVICES = ("arm", "start", "estop", "reset")


def service_for(button: str, mode: Mode) -> str:
    """Return the service that a press asks for in ``mode``; empty where it means nothing."""
    if button in ("B", "select"):
        return "estop"
    if button == "start":
        return "arm" if mode is Mode.DISARMED else "reset" if mode in DAMPING else ""
    return "start" if button == "A" and mode in APPLIED and mode is not Mode.MIMIC else ""


class Keyboard:
    """Turns keys into presses or service calls, and prints what changes.

    Args:
        node: To speak and listen through.
    """

    def __init__(self, node: Node) -> None:
        self._executor = make_executor(node.context)
        self._executor.add_node(node)
        self._press_pub = node.create_publisher(String, "press", PRESS_QOS)
        self._clients = {name: node.create_client(Trigger, name) for name in SERVICES}
        node.create_subscription(SafetyStatus, "safety_status", self._on_status, STATUS_SUB)
        self._mode = Mode.DISARMED
        self._told = ""

    def press(self, button: str) -> str:
        """Press a button; return one line about what was done."""
        if self._press_pub.get_subscription_count() > 0:
            self._press_pub.publish(String(data=button))
            return f"{button} pressed"
        name = service_for(button, self._mode)
        if not name:
            return f"{button} means nothing in {self._mode.name}"
        if not self._clients[name].service_is_ready():
            return f"{button}: nobody answers to {name}; do the nodes run, in this ROS domain?"
        self._clients[name].call_async(Trigger.Request())
        return f"{button}: {name}"

    def spin(self) -> None:
        """Serve what has come."""
        self._executor.spin_once(timeout_sec=0.01)

    def close(self) -> None:
        """Stop listening."""
        self._executor.shutdown(timeout_sec=1.0)

    def _on_status(self, msg: SafetyStatus) -> None:
        self._mode = Mode(msg.mode)
        text = "; ".join([self._mode.name, *msg.reasons])
        if text != self._told:
            self._told = text
            print(text, flush=True)


def run(args: argparse.Namespace) -> int:
    """Read keys until Ctrl-C or the end of input. Raises GenMimicError."""
    if not sys.stdin.isatty():
        raise ConfigError("keys come from a terminal; for scripts there are the services (docs/hardware.md)")
    if args.ros_domain is not None:
        if not 0 <= args.ros_domain <= 101:
            raise ConfigError(f"--ros-domain is {args.ros_domain}, expected 0 to 101")
        os.environ["ROS_DOMAIN_ID"] = str(args.ros_domain)
    prepare_transport()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    keyboard = Keyboard(rclpy.create_node("keys", namespace=NAMESPACE))
    print(HELP, flush=True)
    try:
        with _single_keys():
            while True:
                keyboard.spin()
                if not select.select([sys.stdin], [], [], 0.0)[0]:
                    time.sleep(0.005)
                    continue
                key = os.read(sys.stdin.fileno(), 1).decode(errors="replace")
                if not key:
                    return 0
                if key.lower() in KEYS:
                    print(keyboard.press(KEYS[key.lower()]), flush=True)
    except KeyboardInterrupt:
        return 0
    finally:
        keyboard.close()
        rclpy.try_shutdown()


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Read keys as they are pressed."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
