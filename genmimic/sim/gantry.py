# SPDX-License-Identifier: Apache-2.0
"""The simulated robot as a bridge drives it: gate, physics, and a gantry that works its rope by itself.

No ROS, no thread, no clock: the caller gives the time, the mode and the newest command, and asks for steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from genmimic.core.gate import CommandGate, GateConfig, GateResult
from genmimic.core.modes import APPLIED, DAMPING, Mode
from genmimic.core.state import JointCommand, RobotState
from genmimic.sim.simulated_g1 import SimulatedG1

CLEARANCE_M = 0.05
"""Height of the soles above the floor while hanging in the standing pose."""

LOWERING_M_S = 0.03
"""Speed of the rope when the robot is put on its feet: about 2 s for the clearance."""

LOWEST_M = 0.12
"""The rope is not paid out further than this below hanging, feet or no feet."""

CARRIED_RATIO = 0.4
"""Lowering ends when the rope carries no more than this share of the weight. The standing pose does not balance without
any (docs/simulation.md); the policy does."""

SETTLE_S = 0.5
"""Time on the feet before the robot counts as standing."""

STOOD_RAD = 0.25
"""Largest joint error of a robot that stands."""

SLACK_M = 0.15
"""Slack of the rope while the policy moves the robot."""

SLACK_M_S = 0.5
"""Speed at which that slack is paid out and taken in."""

LOWEST_HOOK_M = 0.6
"""The rope catches a fall at this height of the hook between the shoulders (1.2 m when standing)."""


class Gantry:
    """Works the rope of a `SimulatedG1`. One `update` per physics step.

    - DISARMED: the robot hangs. One that was lowered or has fallen is put back under the gantry.
    - STANDING: hangs until ``pose_reached``, then is lowered until its feet carry most of the weight.
    - READY, MIMIC, HOLD: as in STANDING until the policy speaks; then the rope is slack and follows.
    - DAMPED, ESTOP: the rope catches the robot where it is.

    Args:
        sim: The robot, which is hung up.
        clearance_m: Height of its soles above the floor then.
    """

    held = False
    """Whether the physics stands still: never, see `FreeStart`."""

    def __init__(self, sim: SimulatedG1, clearance_m: float = CLEARANCE_M) -> None:
        self._sim, self._clearance_m = sim, clearance_m
        self._mode = Mode.DISARMED
        self._hanging, self._lowered = True, False
        self._settled_s = self._hanging_length_m = 0.0
        self._hang()

    @property
    def lowered(self) -> bool:
        """Whether the robot is on its feet."""
        return self._lowered

    @property
    def settled_s(self) -> float:
        """How long it has been."""
        return self._settled_s

    @property
    def tension_n(self) -> float:
        """Pull of the rope."""
        return self._sim.tether_tension_n

    def update(self, mode: Mode, pose_reached: bool, policy_speaks: bool) -> None:
        """Work the rope for the next physics step.

        Args:
            mode: Of the bridge.
            pose_reached: Whether the joints have reached the standing pose.
            policy_speaks: Whether the policy's commands reach the motors.
        """
        before, self._mode = self._mode, mode
        tether, dt = self._sim.tether, self._sim.config.timestep_s
        if mode is Mode.DISARMED:
            if not self._hanging:
                self._hang()
        elif mode in DAMPING:
            if before not in DAMPING and not self._hanging:
                tether.set_length(min(tether.length_m, self._distance()))
        elif mode is Mode.STANDING:
            if pose_reached and not self._lowered:
                self._hanging = False
                tether.set_length(tether.length_m + LOWERING_M_S * dt)
                paid_out = tether.length_m - self._hanging_length_m
                carried = 0.0 < self.tension_n <= CARRIED_RATIO * self._sim.weight_n
                self._lowered = carried or paid_out >= LOWEST_M
            elif self._lowered:
                self._settled_s += dt
        elif policy_speaks:
            self._hanging = False
            hook = self._hook()
            tether.move_anchor((float(hook[0]), float(hook[1])))
            wanted = self._distance() + SLACK_M
            longest = float(tether.anchor_w[2]) - LOWEST_HOOK_M
            change = np.clip(wanted - tether.length_m, -SLACK_M_S * dt, SLACK_M_S * dt)
            tether.set_length(min(tether.length_m + float(change), longest))

    def _hang(self) -> None:
        self._sim.hang(self._clearance_m)
        self._hanging, self._lowered, self._settled_s = True, False, 0.0
        self._hanging_length_m = self._sim.tether.length_m

    def _hook(self) -> np.ndarray:
        return self._sim.data.site("tether_hook").xpos

    def _distance(self) -> float:
        return float(np.linalg.norm(self._sim.tether.anchor_w - self._hook()))


class FreeStart:
    """In place of a gantry: no rope. The robot is held on its feet until the policy speaks, and may fall."""

    tension_n = float("nan")

    def __init__(self, sim: SimulatedG1) -> None:
        self._sim = sim
        self.held = True
        """Whether the physics stands still."""
        sim.stand()

    @property
    def lowered(self) -> bool:
        """Whether the robot is on its feet: from the start."""
        return True

    @property
    def settled_s(self) -> float:
        """How long it has been: long enough."""
        return SETTLE_S

    def update(self, mode: Mode, pose_reached: bool, policy_speaks: bool) -> None:
        """Hold or let go; arguments as in `Gantry.update`."""
        if mode is Mode.DISARMED and not self.held:
            self._sim.stand()
        if mode in (Mode.DISARMED, Mode.STANDING):
            self.held = True
        elif mode in DAMPING or policy_speaks:
            self.held = False


@dataclass(frozen=True)
class BridgeStep:
    """What one step of the bridge gives.

    Attributes:
        state: Measured after the step; its tick counts ms and never goes back.
        mode: What the bridge does. READY while the monitor says STANDING means: the robot stands.
        reason: Why it is damped, one line; else empty.
        tension_n: Of the rope; NaN without one.
    """

    state: RobotState
    mode: Mode
    reason: str
    tension_n: float


class SimulatedBridge:
    """Gate, simulated robot and gantry, stepped together.

    Args:
        sim: The robot; put into its start by this.
        config: Of the gate.
        tether: Whether it hangs from a gantry; without, it starts on its feet.
    """

    def __init__(self, sim: SimulatedG1, config: GateConfig | None = None, *, tether: bool = True) -> None:
        self.sim = sim
        self.gate = CommandGate(sim.robot, config)
        self.gantry: Gantry | FreeStart = Gantry(sim) if tether else FreeStart(sim)
        self._steps = 0
        self._stood = False

    def step(
        self,
        now_ns: int,
        mode: Mode | None,
        heartbeat_received_ns: int | None,
        command: JointCommand | None,
        command_received_ns: int | None,
        *,
        steps: int = 1,
        stamp_ns: int = 0,
    ) -> BridgeStep:
        """Gate the command, advance the physics, and measure.

        Args:
            now_ns: Steady clock; the others as in `CommandGate.gate`.
            steps: Physics steps to take with this command.
            stamp_ns: For the state's header.
        """
        sim, gantry = self.sim, self.gantry
        result = self.gate.gate(
            now_ns, mode, heartbeat_received_ns, command, command_received_ns, sim.state(stamp_ns)
        )  # fmt: skip
        self._drive(result, steps)
        state = replace(sim.state(stamp_ns), tick=round(1e3 * self._steps * sim.config.timestep_s))
        return BridgeStep(state, self._reported(result), result.reason, gantry.tension_n)

    def damp(self, now_ns: int, reason: str) -> None:
        """Damp at once, whatever is asked for; for the way out."""
        self.gate.trip(reason)
        result = self.gate.gate(now_ns, None, None, None, None, self.sim.state())
        self._drive(result, 1)

    def _drive(self, result: GateResult, steps: int) -> None:
        sim, gantry = self.sim, self.gantry
        for i in range(steps):
            gantry.update(result.mode, self.gate.standing or result.mode in APPLIED, self.gate.policy_speaks)
            if i == 0:  # after the gantry: a robot that was put back has forgotten its command
                sim.apply(result.command)
            if not gantry.held:
                sim.step()
            self._steps += 1

    def _reported(self, result: GateResult) -> Mode:
        if result.mode is not Mode.STANDING:
            self._stood = False
            return result.mode
        if self.gate.standing and self.gantry.lowered and self.gantry.settled_s >= SETTLE_S - 1e-9:
            error = np.abs(self.sim.joint_pos - self.sim.robot.default_joint_pos).max()
            self._stood = self._stood or bool(error < STOOD_RAD)  # once it stands, it does
        return Mode.READY if self._stood else Mode.STANDING
