# SPDX-License-Identifier: Apache-2.0
"""Random and cut-off messages into every DDS subscription of bridge and twin: nothing may crash, nothing may move.

    python bench/fuzz_link.py [--messages 50000] [--seed 0] [--domain 196]

A stranger on the wire writes to each topic that bridge or twin read: random bytes of the right and of any size, good
messages cut off, good ones with a bit turned, and good ones with numbers that are none. Bridge and twin run in made-up
time, 500 steps a second, DISARMED. Prints one JSON object; exit code 0 when nothing moved. The tests run a short form
(test/genmimic/test_link_hardware.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from typing import Any

import mujoco
import numpy as np

from genmimic.core.modes import Mode
from genmimic.core.robot import G1_23DOF
from genmimic.core.state import RobotState, damping_command
from genmimic.link import idl, wire
from genmimic.link.bus import BMS_STATE_TOPIC, LOW_CMD_TOPIC, LOW_STATE_TOPIC
from genmimic.link.config import LinkConfig
from genmimic.link.dds import Bus
from genmimic.link.hardware import HardwareBridge, RobotLink
from genmimic.link.rpc import SERVICE, encode
from genmimic.link.twin import Twin, TwinConfig

STEP_NS = 2_000_000
NUMBERS = (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\xff\xff", b"\xff\xff\x7f\x7f")
"""NaN, infinity, NaN again, the largest number of single precision."""

SETTLE_STEPS = 2_000

MOVED_RAD = 1e-3
"""How far the pose may be from that of the same robot at the same time without strangers. It hangs limp and swings,
slowly and for minutes; the simulation is deterministic."""


def main() -> int:
    """Fuzz, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=50_000, help="into each topic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", type=int, default=196)
    args = parser.parse_args()
    report = fuzz(args.messages, args.seed, args.domain)
    print(json.dumps(report, indent=1))
    return 0 if report["good"] else 1


def seeds() -> dict[str, tuple[str, bytes]]:
    """Return a good message of each topic."""
    robot = G1_23DOF
    command = wire.LowCmdWriter(robot).fill(damping_command(robot, robot.default_joint_pos), 4).tobytes()
    still = np.zeros(robot.num_joints)
    state = RobotState(
        0, 1, robot.default_joint_pos, still, still, still + 30.0, np.array([1.0, 0, 0, 0]), np.zeros(3), np.zeros(3)
    )
    low_state = wire.LowStateWriter().fill(state, robot, 4, bytes(40), 54.0).tobytes()
    charge = encode(idl.BmsState(1, 0, 0, [1] * 40, [2] * 3, -5, 87, 99, [21] * 12, 3, 4, [0] * 5, [0] * 3))
    return {
        LOW_CMD_TOPIC: ("LowCmd", command),
        LOW_STATE_TOPIC: ("LowState", low_state),
        BMS_STATE_TOPIC: ("BmsState", charge),
        f"rt/api/{SERVICE}/request": ("Request", wire.encode_request(7, 1003, "{}")),
        f"rt/api/{SERVICE}/response": ("Response", wire.encode_response(7, 1003, 0, '{"name": "ai"}')),
    }


def spoil(good: bytes, kind: int, rng: np.random.Generator) -> bytes:
    """Return a message that is wrong in one of five ways."""
    if kind == 0:
        return good[:4] + rng.bytes(len(good) - 4)
    if kind == 1:
        return good[:4] + rng.bytes(int(rng.integers(0, 2 * len(good))))
    data = bytearray(good)
    if kind == 2:
        return bytes(data[: int(rng.integers(0, len(data)))])
    if kind == 3:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        return bytes(data)
    at = 4 * int(rng.integers(1, len(data) // 4))
    data[at : at + 4] = NUMBERS[int(rng.integers(len(NUMBERS)))]
    return bytes(data)


def fuzz(messages: int, seed: int, domain: int) -> dict[str, Any]:
    """Write so many messages into each topic and return what became of bridge and twin."""
    rng, twin = np.random.default_rng(seed), Twin(TwinConfig(domain=domain, controller="", operator=False, seed=seed))
    with Bus("lo", domain) as bus, Bus("lo", domain) as stranger:
        bridge, stopping = HardwareBridge(RobotLink(bus, G1_23DOF, LinkConfig(find_s=20.0))), threading.Event()
        thread = threading.Thread(target=twin.run, args=(stopping.is_set,), daemon=True)
        thread.start()
        try:
            bridge.open()
        finally:
            stopping.set()
            thread.join()
        known = seeds()
        writers = {topic: stranger.writer(topic, kind) for topic, (kind, _) in known.items()}
        now_ns, taken, furthest, stiff = time.monotonic_ns(), dict.fromkeys(known, 0), 0.0, 0

        def step() -> np.ndarray:
            nonlocal now_ns
            now_ns += STEP_NS
            twin.tick(now_ns)
            bridge.step(now_ns, Mode.DISARMED, now_ns, None, None)
            return twin.sim.joint_pos.copy()

        for _ in range(SETTLE_STEPS):
            step()
        model, data = twin.sim.model, twin.sim.data
        start = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, start, mujoco.mjtState.mjSTATE_INTEGRATION)
        alone = [step() for _ in range(-(-messages // 4))]
        mujoco.mj_setState(model, data, start, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        begin = time.monotonic()
        for number in range(messages):
            for topic, (_, good) in known.items():
                taken[topic] += writers[topic].write(spoil(good, number % 5, rng))
            if number % 4 == 0:
                pose = step()
                stiff += bool(bridge.last.command.kp.any()) or bool(twin.order("stats")["stiff"])
                furthest = max(furthest, float(np.abs(pose - alone[number // 4]).max()))
        counts = bridge.link.counts
        report = {
            "messages": messages * len(known),
            "taken_by_dds": taken,
            "seconds": round(time.monotonic() - begin, 1),
            "bridge": vars(counts),
            "twin": twin.counts,
            "stiff_steps": stiff,
            "furthest_from_undisturbed_rad": round(furthest, 6),
            "swings_by_itself_rad": round(float(np.abs(alone[-1] - alone[0]).max()), 3),
            "good": stiff == 0 and furthest < MOVED_RAD,
        }
        twin.close()
    return report


if __name__ == "__main__":
    sys.exit(main())
