# SPDX-License-Identifier: Apache-2.0
"""The simulated G1: physics, motors, sensors and a gantry tether. No ROS, no threads, no clock.

The caller applies commands and asks for physics steps; the same seed and calls give the same numbers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from genmimic.core.errors import ConfigError
from genmimic.core.kinematics import KeypointState, forward_kinematics
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import quat_from_rotation_vector, quat_multiply, quat_rotate
from genmimic.core.state import JointCommand, RobotState
from genmimic.sim.mjcf import FOOT_SENSORS, IMU_SENSORS, build_model

FALLEN_HEIGHT_M = 0.4
"""Below this height of the pelvis the robot has fallen."""

FALLEN_TILT_RAD = math.radians(60.0)
"""Beyond this angle between the pelvis's z axis and the vertical the robot has fallen."""

AMBIENT_TEMPERATURE_C = 30.0
"""Motor temperature at rest, and after a reset."""

HEATING_TIME_S = 200.0
"""Time constant of the windings. Ours: the order of magnitude of a motor of this size."""

HEATING_AT_RATED_C = 45.0
"""Rise above ambient after holding a third of the peak torque for long. Ours, as above."""

_RUNAWAY_SPEED = 1e3  # m/s or rad/s: nothing real; the integration has failed


@dataclass(frozen=True)
class SensorNoise:
    """Standard deviations of Gaussian sensor noise, drawn afresh for every physics step that is read.

    Attributes:
        joint_pos: In rad.
        joint_vel: In rad/s.
        gyro: In rad/s.
        gravity: Of the two horizontal components of the gravity direction, no unit. Applied as a random
            tilt of the IMU orientation (rad, small angles), so that orientation and gravity agree.
        acc: In m/s^2. Table 8 has none.
    """

    joint_pos: float = 0.0
    joint_vel: float = 0.0
    gyro: float = 0.0
    gravity: float = 0.0
    acc: float = 0.0

    def __post_init__(self) -> None:
        for name in ("joint_pos", "joint_vel", "gyro", "gravity", "acc"):
            _require(name, getattr(self, name), 0.0, 10.0)

    @classmethod
    def none(cls) -> SensorNoise:
        """Return perfect sensors."""
        return cls()

    @classmethod
    def paper(cls) -> SensorNoise:
        """Return the noise of Table 8."""
        return cls(joint_pos=0.01, joint_vel=0.1, gyro=0.5, gravity=0.1)


@dataclass(frozen=True)
class SimConfig:
    """What may differ from one simulated robot to the next. Ranges of the paper: Table 8.

    Attributes:
        timestep_s: Of the physics and of the PD law.
        delay_steps: Physics steps between `SimulatedG1.apply` and the motors. Table 8's "control delay",
            whose step we read as 5 ms.
        noise: Of the sensors.
        friction: Of the floor, sliding.
        mass_scale: Of mass and inertia; one number, or one per link.
        kp_scale: Of the commanded kp; one number, or one per joint.
        kd_scale: Of the commanded kd; one number, or one per joint.
        strength_scale: Of the whole torque and of its limit; one number, or one per joint.
        com_offset_m: Added to the pelvis's centre of mass. Table 8 prints grams; we read it as a length.
        battery: State of charge that the robot reports.
    """

    timestep_s: float = 0.005
    delay_steps: int = 0
    noise: SensorNoise = field(default_factory=SensorNoise)
    friction: float = 1.0
    mass_scale: float | Sequence[float] = 1.0
    kp_scale: float | Sequence[float] = 1.0
    kd_scale: float | Sequence[float] = 1.0
    strength_scale: float | Sequence[float] = 1.0
    com_offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    battery: float = 0.9

    def __post_init__(self) -> None:
        _require("timestep_s", self.timestep_s, 0.0005, 0.02)
        if not isinstance(self.delay_steps, (int, np.integer)) or not 0 <= self.delay_steps <= 20:
            raise ConfigError(f"delay_steps is {self.delay_steps!r}; expected a whole number from 0 to 20")
        _require("friction", self.friction, 0.0, 5.0)
        _require("battery", self.battery, 0.0, 1.0)
        for name, low, high in (
            ("mass_scale", 0.1, 10.0),
            ("kp_scale", 0.0, 10.0),
            ("kd_scale", 0.0, 10.0),
            ("strength_scale", 0.0, 10.0),
            ("com_offset_m", -0.5, 0.5),
        ):
            value = getattr(self, name)
            _require(name, value, low, high)
            if np.ndim(value):  # a tuple, so that configurations stay comparable
                object.__setattr__(self, name, tuple(float(item) for item in np.ravel(value)))
        if np.shape(self.com_offset_m) != (3,):
            raise ConfigError(f"com_offset_m is {self.com_offset_m!r}; expected three numbers in m")


@dataclass(frozen=True)
class TetherConfig:
    """The gantry's rope: pulls only when taut.

    Attributes:
        stiffness_n_m: Of the taut rope; at 15 kN/m the hanging robot stretches it by 2 cm.
        damping_n_s_m: Against lengthening or shortening while taut.
        anchor_height_m: Of the point above the robot that the rope runs down from.
        length_m: Unstretched, from anchor to hook, when attached without saying otherwise.
    """

    stiffness_n_m: float = 15000.0
    damping_n_s_m: float = 600.0
    anchor_height_m: float = 2.5
    length_m: float = 1.5

    def __post_init__(self) -> None:
        _require("stiffness_n_m", self.stiffness_n_m, 100.0, 1e5)
        _require("damping_n_s_m", self.damping_n_s_m, 0.0, 5000.0)
        _require("anchor_height_m", self.anchor_height_m, 1.0, 20.0)
        _require("length_m", self.length_m, 0.0, 20.0)


class Tether:
    """The rope as it is now. It holds the robot at the site ``tether_hook``, between the shoulders."""

    def __init__(self, config: TetherConfig, model: mujoco.MjModel) -> None:
        self.config = config
        self._model = model
        self._site_idx = model.site("tether_hook").id
        self._body_idx = int(model.site_bodyid[self._site_idx])
        self._velocity = np.zeros(6)
        self._attached = False
        self._length_m = config.length_m
        self._tension_n = 0.0
        self._anchor_w = np.array([0.0, 0.0, config.anchor_height_m])

    @property
    def attached(self) -> bool:
        """Whether the rope is on the hook."""
        return self._attached

    @property
    def length_m(self) -> float:
        """Unstretched length from anchor to hook."""
        return self._length_m

    @property
    def tension_n(self) -> float:
        """Pull of the rope in the last physics step, 0 when slack or off the hook."""
        return self._tension_n

    @property
    def anchor_w(self) -> np.ndarray:
        """Where the rope runs down from, in m, world. Shape (3,)."""
        return self._anchor_w.copy()

    def attach(self, length_m: float | None = None) -> None:
        """Hook the rope on, with this unstretched length or the configured one."""
        self.set_length(self.config.length_m if length_m is None else length_m)
        self._attached = True

    def detach(self) -> None:
        """Unhook the rope."""
        self._attached = False
        self._tension_n = 0.0

    def set_length(self, length_m: float) -> None:
        """Pay out or haul in the rope. In small steps it lowers; in one big step it drops."""
        _require("tether length_m", length_m, 0.0, 20.0)
        self._length_m = float(length_m)

    def move_anchor(self, xy: Sequence[float]) -> None:
        """Roll the gantry so that the anchor is above ``xy`` (2,), in m, world."""
        _require("tether anchor", xy, -1e3, 1e3)
        self._anchor_w[:2] = xy

    def _pull(self, data: mujoco.MjData) -> None:
        """Write the rope's force; needs the positions and velocities of this instant in ``data``."""
        wrench = data.xfrc_applied[self._body_idx]
        wrench[:] = 0.0
        hook = data.site_xpos[self._site_idx]
        rope = self._anchor_w - hook
        distance = math.sqrt(float(rope @ rope))
        stretch = distance - self._length_m
        self._tension_n = 0.0
        if not self._attached or stretch <= 0.0 or distance < 1e-6:
            return
        direction = rope / distance
        mujoco.mj_objectVelocity(
            self._model, data, mujoco.mjtObj.mjOBJ_SITE, self._site_idx, self._velocity, 0
        )  # world: angular, then linear
        lengthening = -float(direction @ self._velocity[3:])
        config = self.config
        self._tension_n = max(0.0, config.stiffness_n_m * stretch + config.damping_n_s_m * lengthening)
        force = self._tension_n * direction
        wrench[:3] = force
        wrench[3:] = np.cross(hook - data.xipos[self._body_idx], force)


class SimulatedG1:
    """One robot on a floor.

    Motors are limp until the first command. Torque follows eq. 5 with the command's numbers,
    ``s clip(tau + kp (q_des - q) + kd (dq_des - dq), +-effort)``, ``s`` the motor strength; it is
    evaluated inside MuJoCo's implicit integration, which stays stable at stiff gains.

    Args:
        robot: What to simulate.
        config: Delay, noise and randomised properties; `configure` changes them later.
        tether: The gantry's rope; off the hook at first.
        seed: Of the sensor noise.
        self_collision: Whether arms and legs meet the body and each other.
        fall_contact: Whether more than the soles meets the floor.
        visuals: Put the drawn shapes into ``model`` too, for a viewer on it; a step then costs a tenth more.
    """

    def __init__(
        self,
        robot: Robot = G1_23DOF,
        config: SimConfig | None = None,
        *,
        tether: TetherConfig | None = None,
        seed: int = 0,
        self_collision: bool = True,
        fall_contact: bool = True,
        visuals: bool = False,
    ) -> None:
        self.robot = robot
        self.model = build_model(robot, self_collision=self_collision, fall_contact=fall_contact, visuals=visuals)
        # A bad state must stay visible; MuJoCo would silently start again from the initial pose.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = mujoco.MjData(self.model)
        self.tether = Tether(tether or TetherConfig(), self.model)
        self._pelvis_idx = self.model.body(robot.links[0].name).id
        self._floor_idx = self.model.geom("floor").id
        self._foot_adr = [int(self.model.sensor(name).adr[0]) for name in FOOT_SENSORS]
        self._acc_adr = int(self.model.sensor(IMU_SENSORS[1]).adr[0])
        self._nominal_mass = self.model.body_mass.copy()
        self._nominal_inertia = self.model.body_inertia.copy()
        self._nominal_com = self.model.body_ipos.copy()
        self._seed = seed
        self._command: JointCommand | None = None
        self.configure(config or SimConfig())
        self.stand()

    # configuration and start -------------------------------------------------------------------
    @property
    def config(self) -> SimConfig:
        """The configuration in force."""
        return self._config

    def configure(self, config: SimConfig) -> None:
        """Put a configuration in force; the robot's pose and velocity stay.

        Raises:
            ConfigError: A per-joint or per-link value has the wrong length.
        """
        robot, model = self.robot, self.model
        mass_scale = _per("mass_scale", config.mass_scale, len(robot.links), "links")
        kp_scale, kd_scale, strength = (
            _per(name, getattr(config, name), robot.num_joints, "joints")
            for name in ("kp_scale", "kd_scale", "strength_scale")
        )
        model.opt.timestep = config.timestep_s
        model.geom_friction[self._floor_idx, 0] = config.friction
        model.body_mass[1:] = self._nominal_mass[1:] * mass_scale
        model.body_inertia[1:] = self._nominal_inertia[1:] * mass_scale[:, None]
        model.body_ipos[self._pelvis_idx] = self._nominal_com[self._pelvis_idx] + config.com_offset_m
        mujoco.mj_setConst(model, mujoco.MjData(model))
        self._kp_scale, self._kd_scale, self._strength = kp_scale, kd_scale, strength
        limit = robot.joint_effort * strength
        model.actuator_forcerange[:, 0], model.actuator_forcerange[:, 1] = -limit, limit
        self._config = config
        self._drive(self._command)

    def reset(
        self,
        root_pos: Sequence[float] | None = None,
        root_quat: Sequence[float] | None = None,
        joint_pos: np.ndarray | None = None,
        joint_vel: np.ndarray | None = None,
        root_lin_vel: Sequence[float] | None = None,
        root_ang_vel: Sequence[float] | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        """Put the robot somewhere, at time 0, motors limp and cool, no command under way; the tether stays.

        Args:
            root_pos: Pelvis in m, world; None is at the origin at standing height. Shape (3,).
            root_quat: Pelvis orientation, wxyz; None is upright. Shape (4,).
            joint_pos: In rad; None is the default pose. Shape (J,).
            joint_vel: In rad/s; None is at rest. Shape (J,).
            root_lin_vel: In m/s, world; None is at rest. Shape (3,).
            root_ang_vel: In rad/s, base frame; None is at rest. Shape (3,).
            seed: Restart the sensor noise from this seed; None restarts it from the last one.

        Raises:
            ConfigError: An argument has the wrong shape or is not finite.
        """
        robot, data = self.robot, self.data
        qpos = np.concatenate(
            [
                _vector("root_pos", root_pos, (0.0, 0.0, robot.standing_height)),
                _vector("root_quat", root_quat, (1.0, 0.0, 0.0, 0.0)),
                _vector("joint_pos", joint_pos, robot.default_joint_pos),
            ]
        )
        norm = float(np.linalg.norm(qpos[3:7]))
        if not 0.9 < norm < 1.1:
            raise ConfigError(f"root_quat has length {norm:g}; expected 1")
        qpos[3:7] /= norm
        qvel = np.concatenate(
            [
                _vector("root_lin_vel", root_lin_vel, (0.0,) * 3),
                _vector("root_ang_vel", root_ang_vel, (0.0,) * 3),
                _vector("joint_vel", joint_vel, (0.0,) * robot.num_joints),
            ]
        )
        if seed is not None:
            self._seed = seed
        self._rng = np.random.default_rng(self._seed)
        mujoco.mj_resetData(self.model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        self._step_count = 0
        self._failed = False
        self._pending: deque[tuple[int, JointCommand]] = deque()
        self._command = None
        self._drive(None)
        self._temperature = np.full(robot.num_joints, AMBIENT_TEMPERATURE_C)
        self._reading: tuple[np.ndarray, ...] | None = None
        mujoco.mj_forward(self.model, data)

    def stand(self, *, seed: int | None = None) -> None:
        """Reset to the default pose with the soles on the floor, tether off. Nothing holds it: apply a command."""
        self.tether.detach()
        self.reset(seed=seed)

    def hang(self, clearance_m: float = 0.05, *, seed: int | None = None) -> None:
        """Reset to the default pose, hanging still from the tether, soles ``clearance_m`` above the floor.

        Raises:
            ConfigError: The anchor is too low for that.
        """
        _require("clearance_m", clearance_m, -0.1, 2.0)
        tether = self.tether
        tether.detach()
        self.reset((0.0, 0.0, self.robot.standing_height + clearance_m), seed=seed)
        hook = self.data.site("tether_hook").xpos
        tether.move_anchor(hook[:2])
        stretch = self.weight_n / tether.config.stiffness_n_m
        length = float(tether.anchor_w[2] - hook[2]) - stretch
        if length <= 0.05:
            raise ConfigError(
                f"anchor_height_m is {tether.config.anchor_height_m:g} m; the hook alone is at {hook[2]:.2f} m"
            )
        tether.attach(length)

    # physics -----------------------------------------------------------------------------------
    def apply(self, command: JointCommand) -> None:
        """Send a command; it reaches the motors ``delay_steps`` physics steps later and holds until the next.

        Raises:
            ConfigError: A number is not finite or an array is not of shape (J,); the last command holds.
        """
        expected = (self.robot.num_joints,)
        for name in ("joint_pos", "joint_vel", "joint_torque", "kp", "kd"):
            value = getattr(command, name)
            if np.shape(value) != expected:
                raise ConfigError(
                    f"command {command.sequence}: {name} has shape {np.shape(value)}; expected {expected}"
                )
        if not command.is_finite():
            raise ConfigError(f"command {command.sequence} holds a number that is not finite")
        self._pending.append((self._step_count + self._config.delay_steps, command))

    def step(self, n: int = 1) -> None:
        """Advance ``n`` physics steps. Does nothing once the physics has failed (see `fallen`)."""
        model, data, tether = self.model, self.data, self.tether
        done = 0
        while done < n and not self._failed:
            while self._pending and self._pending[0][0] <= self._step_count:
                self._command = self._pending.popleft()[1]
                self._drive(self._command)
            if tether.attached:
                mujoco.mj_step1(model, data)
                tether._pull(data)
                mujoco.mj_step2(model, data)
                batch = 1
            else:
                if tether._tension_n or data.xfrc_applied.any():
                    data.xfrc_applied[:] = 0.0
                    tether._tension_n = 0.0
                batch = n - done
                if self._pending:
                    batch = min(batch, self._pending[0][0] - self._step_count)
                mujoco.mj_step(model, data, batch)
            done += batch
            self._step_count += batch
            self._failed = not _sane(data)
        if done:
            self._heat(done * self._config.timestep_s)
            self._reading = None

    def push(self, vel_xy: Sequence[float]) -> None:
        """Set the pelvis's horizontal velocity, in m/s, world. Shape (2,). Source: Table 8, "set value"."""
        self.data.qvel[:2] = _vector("vel_xy", vel_xy, (0.0, 0.0))

    def _drive(self, command: JointCommand | None) -> None:
        """Write a command into the actuators: force = gain * ctrl + bias0 + bias1 * q + bias2 * dq."""
        model = self.model
        if command is None:
            model.actuator_gainprm[:, 0] = 0.0
            model.actuator_biasprm[:, :3] = 0.0
            self.data.ctrl[:] = self.data.qpos[7:]
            return
        kp = command.kp * self._kp_scale * self._strength
        kd = command.kd * self._kd_scale * self._strength
        model.actuator_gainprm[:, 0] = kp
        model.actuator_biasprm[:, 0] = self._strength * command.joint_torque + kd * command.joint_vel
        model.actuator_biasprm[:, 1] = -kp
        model.actuator_biasprm[:, 2] = -kd
        self.data.ctrl[:] = command.joint_pos

    def _heat(self, dt: float) -> None:
        load = self.data.actuator_force / (self.robot.joint_effort / 3.0)
        target = AMBIENT_TEMPERATURE_C + HEATING_AT_RATED_C * load**2
        self._temperature += (target - self._temperature) * -math.expm1(-dt / HEATING_TIME_S)

    # what the robot reports --------------------------------------------------------------------
    def state(self, stamp_ns: int = 0) -> RobotState:
        """Return what the robot's sensors say now. Reading twice without a step gives the same numbers."""
        if self._reading is None:
            self._reading = self._measure()
        joint_pos, joint_vel, quat, gyro, acc, torque, temperature, root_pos = (part.copy() for part in self._reading)
        return RobotState(
            stamp_ns=stamp_ns,
            tick=round(self._step_count * self._config.timestep_s * 1000.0),
            joint_pos=joint_pos,
            joint_vel=joint_vel,
            joint_torque=torque,
            joint_temperature=temperature,
            base_quat_w=quat,
            base_ang_vel_b=gyro,
            base_lin_acc_b=acc,
            battery=self._config.battery,
            root_pos_w=root_pos,
        )

    def _measure(self) -> tuple[np.ndarray, ...]:
        data, noise, rng = self.data, self._config.noise, self._rng
        joint_pos, joint_vel = data.qpos[7:], data.qvel[6:]
        quat, gyro = data.qpos[3:7], data.qvel[3:6]
        acc = data.sensordata[self._acc_adr : self._acc_adr + 3]
        if noise != SensorNoise():
            joint_pos = joint_pos + noise.joint_pos * rng.standard_normal(joint_pos.shape)
            joint_vel = joint_vel + noise.joint_vel * rng.standard_normal(joint_vel.shape)
            gyro = gyro + noise.gyro * rng.standard_normal(3)
            acc = acc + noise.acc * rng.standard_normal(3)
            tilt: np.ndarray = np.append(noise.gravity * rng.standard_normal(2), 0.0)  # about horizontal world axes
            quat = quat_multiply(quat_from_rotation_vector(tilt), quat)
        parts = (joint_pos, joint_vel, quat, gyro, acc, data.actuator_force, self._temperature, data.qpos[:3])
        return tuple(part.copy() for part in parts)

    # the truth ---------------------------------------------------------------------------------
    @property
    def step_count(self) -> int:
        """Physics steps since the reset."""
        return self._step_count

    @property
    def time_s(self) -> float:
        """Simulated time since the reset."""
        return self._step_count * self._config.timestep_s

    @property
    def joint_pos(self) -> np.ndarray:
        """In rad. Shape (J,)."""
        return self.data.qpos[7:].copy()

    @property
    def joint_vel(self) -> np.ndarray:
        """In rad/s. Shape (J,)."""
        return self.data.qvel[6:].copy()

    @property
    def joint_torque(self) -> np.ndarray:
        """Of the last physics step, in N m. Shape (J,)."""
        return self.data.actuator_force.copy()

    @property
    def root_pos_w(self) -> np.ndarray:
        """Pelvis in m. Shape (3,)."""
        return self.data.qpos[:3].copy()

    @property
    def root_quat_w(self) -> np.ndarray:
        """Pelvis orientation, wxyz. Shape (4,)."""
        return self.data.qpos[3:7].copy()

    @property
    def root_lin_vel_w(self) -> np.ndarray:
        """Pelvis velocity in m/s. Shape (3,)."""
        return self.data.qvel[:3].copy()

    @property
    def root_ang_vel_b(self) -> np.ndarray:
        """Pelvis angular velocity in rad/s, base frame. Shape (3,)."""
        return self.data.qvel[3:6].copy()

    def keypoints(self) -> KeypointState:
        """Return keypoint poses and velocities of this instant, world frame, by forward kinematics.

        MuJoCo's own positions lag a step behind the joint angles after a step.
        """
        return forward_kinematics(
            self.robot, self.root_pos_w, self.root_quat_w, self.joint_pos,
            self.root_lin_vel_w, quat_rotate(self.root_quat_w, self.root_ang_vel_b), self.joint_vel,
        )  # fmt: skip

    @property
    def keypoint_pos_w(self) -> np.ndarray:
        """In m. Shape (K, 3)."""
        return forward_kinematics(self.robot, self.root_pos_w, self.root_quat_w, self.joint_pos).pos

    @property
    def foot_force_w(self) -> np.ndarray:
        """Net contact force on the left and right foot in the last physics step, in N. Shape (2, 3)."""
        return np.stack([self.data.sensordata[adr : adr + 3] for adr in self._foot_adr])

    @property
    def tether_tension_n(self) -> float:
        """Pull of the gantry's rope in the last physics step, in N."""
        return self.tether.tension_n

    @property
    def weight_n(self) -> float:
        """Mass as configured times gravity, in N."""
        return float(self.model.body_mass.sum() * -self.model.opt.gravity[2])

    @property
    def tilt_rad(self) -> float:
        """Angle between the pelvis's z axis and the vertical."""
        _, x, y, _ = self.data.qpos[3:7]
        return math.acos(max(-1.0, min(1.0, 1.0 - 2.0 * (x * x + y * y))))

    @property
    def failed(self) -> bool:
        """Whether the physics broke down (non-finite or runaway numbers); only a reset helps."""
        return self._failed

    @property
    def fallen(self) -> bool:
        """Whether the pelvis is too low or too tilted, or the physics broke down."""
        return self._failed or bool(self.data.qpos[2] < FALLEN_HEIGHT_M) or self.tilt_rad > FALLEN_TILT_RAD


def _sane(data: mujoco.MjData) -> bool:
    # NaN makes each comparison false; the sum is one call where isfinite().all() would be two
    return float(np.abs(data.qvel).max()) < _RUNAWAY_SPEED and math.isfinite(float(data.qpos.sum()))


def _require(name: str, value: float | Sequence[float], low: float, high: float) -> None:
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {value!r}; expected a number") from None
    if not (array.size and np.all((array >= low) & (array <= high))):
        raise ConfigError(f"{name} is {value!r}; expected {low:g} to {high:g}")


def _per(name: str, value: float | Sequence[float], count: int, what: str) -> np.ndarray:
    array = np.asarray(value, float)
    if array.shape not in ((), (count,)):
        raise ConfigError(f"{name} has shape {array.shape}; expected one number or {count}, one per {what.rstrip('s')}")
    return np.broadcast_to(array, (count,)).copy()


def _vector(name: str, value: Sequence[float] | np.ndarray | None, default: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(default if value is None else value, float)
    if array.shape != np.shape(default):
        raise ConfigError(f"{name} has shape {array.shape}; expected {np.shape(default)}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{name} holds a number that is not finite")
    return array
