# SPDX-License-Identifier: Apache-2.0
"""The tracking environment: N robots, each chasing a clip; an rsl-rl ``VecEnv``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from genmimic.core.action import clip_action, joint_target
from genmimic.core.kinematics import KeypointState, forward_kinematics, soles_of_links
from genmimic.core.noise import NO_NOISE, PAPER_NOISE, ObservationNoise
from genmimic.core.observation import (
    FUTURE,
    HISTORY,
    MASS_GROUPS,
    PROPRIOCEPTION,
    gravity_direction,
    proprioception,
    push_history,
    size,
    student_goal,
    student_observation,
    teacher_observation,
    to_goal_frame,
)
from genmimic.core.odometry import Odometry, lag_excess, start_odometry, step_odometry
from genmimic.core.robot import G1_23DOF, Robot
from genmimic.core.rotation import (
    heading,
    quat_conjugate,
    quat_from_heading,
    quat_multiply,
    quat_rotate,
    quat_rotate_inverse,
    quat_to_rotation_vector,
    rotate_heading,
    wrap_angle,
)
from genmimic_train.config import EnvConfig
from genmimic_train.sim.base import Domain, Simulator
from genmimic_train.tracking.corruption import CorruptedGoals
from genmimic_train.tracking.encoding import JOINT_GOAL_NOISE_RAD, joint_goal_observation, output_size
from genmimic_train.tracking.motions import MotionLibrary
from genmimic_train.tracking.rewards import REWARDS, RewardInput

_CONTACT_N = 1.0
_TURNING_INERTIA = 1.5
"""kg m^2: rather less than the standing robot has, for its legs give way; 3 shook it."""
_LOOSEN_BELOW, _TIGHTEN_ABOVE = 0.8, 0.95
"""Share of episodes that fall: a held robot that explores falls often, and episodes of the clips on which it falls end,
and count, most often. At 0.4 a hold of 0.18 stayed for 2 M samples, at 0.6 and over 219 clips one of 0.21."""
ARM_LEAD_S = 0.02
"""The reference is led by kd / kp of the arms, the lag of their position control."""


class TrackingEnv(VecEnv):
    """Observation groups: ``critic`` (757, clean), ``teacher`` (757, noisy), ``student`` (2370, noisy).

    ``with_student`` puts the student's group in the place of the teacher's: a student's teacher labels
    from the clean group. Under the ablations of `EnvConfig` a teacher's groups have another size, and its actions
    may carry keypoint weights behind them.
    """

    def __init__(
        self,
        config: EnvConfig,
        sim: Simulator,
        library: MotionLibrary,
        robot: Robot = G1_23DOF,
        with_student: bool = False,
        seed: int = 1,
    ) -> None:
        self.cfg = config
        self.robot, self.sim, self.library = robot, sim, library
        self.num_envs = config.num_envs
        self._learned_weights = config.rewards.learned_weights and not with_student
        self.num_actions = output_size(robot, self._learned_weights)
        self.device = sim.device
        self.max_episode_length = round(config.episode_s / config.control_period_s)
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self.with_student = with_student
        self._follow_s = config.follow_s(with_student)
        self._with_odometry = with_student and config.goal_frame == "odometry"
        self.assist = 0.0 if with_student else config.assist.start_level
        self.level = min(config.randomization.start_level, config.randomization.level)
        low, high = config.student_noise if with_student else (config.teacher_noise, config.teacher_noise)
        self.noise: ObservationNoise = PAPER_NOISE if high > 0.0 else NO_NOISE
        self._noise_range = (low, high)
        self._generator = torch.Generator(device=self.device).manual_seed(seed)

        n, joints, device = self.num_envs, robot.num_joints, self.device
        self._dt = config.control_period_s
        self._lower = self._tensor(robot.joint_lower)
        self._upper = self._tensor(robot.joint_upper)
        self._kp, self._kd = self._tensor(robot.kp), self._tensor(robot.kd)
        self._effort = self._tensor(robot.joint_effort)
        self._default = self._tensor(robot.default_joint_pos)
        self._joint_weights = self._tensor(robot.joint_weights(**config.rewards.joint_weights))
        self._keypoint_weights = self._tensor(robot.keypoint_weights(**config.rewards.keypoint_weights))
        self._feet = torch.as_tensor(robot.keypoint_idx(["left_ankle_roll", "right_ankle_roll"]).copy(), device=device)
        self._foot_rest_height = float(-robot.soles[0].pos[2] + robot.soles[0].radius)

        self.frame = torch.zeros(n, dtype=torch.long, device=device)
        self._clip_end = torch.zeros(n, dtype=torch.long, device=device)
        self._place_xy = torch.zeros(n, 3, device=device)
        self._place_yaw = torch.zeros(n, device=device)
        self.domain = Domain.nominal(robot, n, device)
        self._delay = torch.zeros(n, dtype=torch.long, device=device)
        self._noise_scale = torch.zeros(n, device=device)
        self._goal_offset = torch.zeros(n, 3, device=device)
        self._action = torch.zeros(n, joints, device=device)
        self._target = self._default.repeat(n, 1)
        self._history = torch.zeros(n, HISTORY, size(PROPRIOCEPTION), device=device)
        self._last_joint_vel = torch.zeros(n, joints, device=device)
        self._air_time = torch.zeros(n, 2, device=device)
        self._peak_height = torch.zeros(n, 2, device=device)
        self._next_push = torch.zeros(n, device=device)
        self._weight_logits = torch.zeros(n, robot.num_keypoints, device=device)
        self._last_weight_logits = self._weight_logits
        self._corrupted = (
            CorruptedGoals.build(robot, library, config.corruption, seed) if config.corruption.on else None
        )
        self._variant = torch.zeros(n, dtype=torch.long, device=device)
        self._sums = {name: torch.zeros(n, device=device) for name in config.rewards.weights}
        self._error_sum = torch.zeros(n, 2, device=device)
        self._hands = torch.as_tensor(robot.keypoint_idx(["left_hand", "right_hand"]).copy(), device=device)
        self._arms = arm_joints(robot)
        self._obs = TensorDict({}, batch_size=[n])
        self._reset(torch.arange(n, device=device))
        # spread the ends of the first episodes
        self.episode_length_buf[:] = (self._rand(n) * self.max_episode_length * 0.5).long()
        self._read_state()
        if self._with_odometry:
            self._odometry = start_odometry(self._root_pos[:, :2], self._soles())
            self._odometry_root = self._root_pos
        self._observe(torch.ones(n, dtype=torch.bool, device=device))

    # VecEnv ------------------------------------------------------------------------------------
    def get_observations(self) -> TensorDict:
        return self._obs

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict[str, Any]]:
        config = self.cfg
        actions = actions.to(self.device)
        if self._learned_weights:
            self._last_weight_logits = self._weight_logits
            self._weight_logits = actions[:, self.robot.num_joints :]
        action = clip_action(self.robot, actions[:, : self.robot.num_joints])
        if self.cfg.arms_led and not self.with_student:
            action = self.lead_arms(action)
        last_action, last_target = self._action, self._target
        self._action, self._target = action, joint_target(self.robot, action)
        substep = torch.arange(config.substeps, device=self.device)
        late = (substep[None, :] < self._delay[:, None])[..., None]
        control = torch.where(late, last_target[:, None, :], self._target[:, None, :])

        self._push()
        bad = self.sim.step(control, self._assistance())
        self.episode_length_buf += 1
        self.frame = torch.minimum(self.frame + 1, self._clip_end - 1)
        self._read_state()
        if self._with_odometry:
            self._drift()
        if self._follow_s > 0.0:
            astray = self._root_pos - self._goal_root(self.frame)[0]
            self._place_xy[:, :2] += min(self._dt / self._follow_s, 1.0) * astray[:, :2]

        goal = self._goal_now()
        deviation = (self._keypoints.pos - goal.pos).norm(dim=-1).mean(-1)
        tilted = self._gravity_b[:, :2].abs().amax(-1) > config.max_gravity_xy
        terminated = (deviation > config.max_keypoint_error_m) | tilted | bad
        timed_out = (self.episode_length_buf >= self.max_episode_length) & ~terminated
        reward = self._reward(goal, last_action, terminated)

        self._error_sum[:, 0] += deviation
        self._error_sum[:, 1] += (self._keypoints.pos - goal.pos)[:, self._hands].norm(dim=-1).mean(-1)
        done = terminated | timed_out
        extras: dict[str, Any] = {"time_outs": timed_out.float()}
        self.library.record_failures(self.frame[terminated])
        idx = done.nonzero().squeeze(-1)
        if len(idx):
            extras["log"] = self._episode_log(idx, terminated)
            self._reset(idx)
        self._next_clip(self.frame >= self._clip_end - 1)
        if len(idx):
            self._read_state(idx)
            if self._with_odometry:
                self._locate(idx)
        self._observe(done)
        return self._obs, reward, done.long(), extras

    def reference_action(self, lead_s: float = 0.0) -> torch.Tensor:
        """Return the action whose target is the next goal's joint angles, led by ``lead_s``. Shape (N, J)."""
        ahead = torch.minimum(self.frame + 1, self._clip_end - 1)
        target = self.library.joint_pos[ahead] + lead_s * self.library.joint_vel[ahead]
        return clip_action(self.robot, (target - self._default) / self.robot.action_scale)

    def lead_arms(self, action: torch.Tensor) -> torch.Tensor:
        """Return ``action``, as a teacher with `EnvConfig.arms_led` gives it, as the robot takes it. Both (N, J).

        Light arms under stiff position control go where they are told: what is left to learn is by how much to depart
        from the reference, and legs that see the arms move need not share a network with their targets.
        """
        led = action.clone()
        led[:, self._arms] += self.reference_action(ARM_LEAD_S)[:, self._arms]
        return clip_action(self.robot, led)

    # to go on later ------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Return all that the future depends on, learner apart: robots, episodes, sampler, chance. Tensors are copies.

        `load_state_dict` of an environment with the same configuration and motions then goes on bit for bit.
        """
        state: dict[str, Any] = {
            "motion_set": self.library.digest(),
            "num_envs": self.num_envs,
            "groups": {name: values.clone() for name, values in self._obs.items()},
            "sim": self.sim.state_dict(),
            "level": self.level,
            "assist": self.assist,
            "failures": self.library.failures.clone(),
            "generator": self._generator.get_state(),
            "episode_length": self.episode_length_buf.clone(),
            "sums": {name: values.clone() for name, values in self._sums.items()},
            "domain": {name: getattr(self.domain, name).clone() for name in self.domain.__dataclass_fields__},
            "tensors": {name: getattr(self, name).clone() for name in self._stateful()},
        }
        if self._with_odometry:
            kept = {name: values.clone() for name, values in vars(self._odometry).items()}
            state["odometry"] = {**kept, "root": self._odometry_root.clone()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Go on from `state_dict`; return whether it fits. Otherwise (other motions, sizes, simulator) nothing changes.

        Raises nothing for a state that does not fit: a run goes on from its weights then, with new episodes.
        """
        tensors = {name: getattr(self, name) for name in self._stateful()}
        fits = (
            state.get("num_envs") == self.num_envs
            and state.get("motion_set") == self.library.digest()
            and {name: tuple(values.shape) for name, values in state["groups"].items()}
            == {name: tuple(values.shape) for name, values in self._obs.items()}
            and set(state["tensors"]) == set(tensors)
            and all(state["tensors"][name].shape == values.shape for name, values in tensors.items())
            and set(state["sums"]) == set(self._sums)
            and set(state.get("odometry", ())) == self._kept_of_odometry()
            and state["sim"].get("backend") == self.sim.state_dict()["backend"]
            and state["generator"].shape == self._generator.get_state().shape  # a GPU's is another than a CPU's
        )
        if not fits:
            return False
        device = self.device
        domain = Domain(**{name: values.to(device) for name, values in state["domain"].items()})
        changed = torch.zeros(self.num_envs, dtype=torch.bool, device=device)
        for name in domain.__dataclass_fields__:
            different = getattr(domain, name) != getattr(self.domain, name)
            changed |= different.reshape(self.num_envs, -1).any(-1)
        idx = changed.nonzero().squeeze(-1)
        if len(idx):
            rows = {name: getattr(domain, name)[idx] for name in domain.__dataclass_fields__}
            self.sim.set_domain(idx, Domain(**rows))
        self.domain = domain
        self.sim.load_state_dict(state["sim"])
        for name, values in state["tensors"].items():
            setattr(self, name, values.clone().to(device))
        self._sums = {name: values.clone().to(device) for name, values in state["sums"].items()}
        self.episode_length_buf = state["episode_length"].clone().to(device)
        self.level = state["level"]
        self.assist = state.get("assist", self.assist)  # runs from before there was any have none
        self.library.failures.copy_(state["failures"])
        self._generator.set_state(state["generator"])
        if self._with_odometry:
            kept = {name: values.clone().to(device) for name, values in state["odometry"].items()}
            self._odometry_root = kept.pop("root")
            self._odometry = Odometry(**kept)
        self._read_state()
        groups = {name: values.clone().to(device) for name, values in state["groups"].items()}
        self._obs = TensorDict(groups, batch_size=[self.num_envs], device=device)
        return True

    def _kept_of_odometry(self) -> set[str]:
        return {*vars(self._odometry), "root"} if self._with_odometry else set()

    def _stateful(self) -> tuple[str, ...]:
        names = (
            "frame", "_clip_end", "_place_xy", "_place_yaw", "_delay", "_noise_scale", "_goal_offset", "_action",
            "_target", "_last_joint_vel", "_air_time", "_peak_height", "_next_push", "_error_sum", "_weight_logits",
            "_variant",
        )  # fmt: skip
        return (*names, "_history") if self.with_student else names

    # state -------------------------------------------------------------------------------------
    @property
    def keypoints(self) -> KeypointState:
        """The robots' keypoints, world frame. Shapes (N, K, ...)."""
        return self._keypoints

    @property
    def clip(self) -> torch.Tensor:
        """Which clip of the library each robot follows. Shape (N,)."""
        return self.library.clip_of_frame[self.frame]

    @property
    def goal_keypoint_pos(self) -> torch.Tensor:
        """Where those should be, with each robot's goal as placed in its world. Shape (N, K, 3)."""
        return self._goal_now().pos

    @property
    def root_quat(self) -> torch.Tensor:
        """Orientation of the pelvis, wxyz. Shape (N, 4)."""
        return self._root_quat

    @property
    def tilt(self) -> torch.Tensor:
        """Angle of the pelvis to the vertical, in rad. Shape (N,)."""
        return torch.arccos((-self._gravity_b[:, 2]).clamp(-1.0, 1.0))

    def _read_state(self, idx: torch.Tensor | None = None) -> None:
        """Take the robots' state from the simulator; with ``idx`` (M,), only those have changed since the last time."""
        qpos, qvel = self.sim.qpos, self.sim.qvel
        self._root_pos, self._root_quat, self._joint_pos = qpos[:, :3], qpos[:, 3:7], qpos[:, 7:]
        self._ang_vel_b, self._joint_vel = qvel[:, 3:6], qvel[:, 6:]
        self._gravity_b = gravity_direction(self._root_quat)
        if idx is not None:
            qpos, qvel = qpos[idx], qvel[idx]
        root_pos, root_quat = qpos[:, :3], qpos[:, 3:7]
        ang_vel_w = quat_rotate(root_quat, qvel[:, 3:6])
        rates = qvel[:, :3], ang_vel_w, qvel[:, 6:]
        keypoints = forward_kinematics(self.robot, root_pos, root_quat, qpos[:, 7:], *rates)
        pos_b = quat_rotate_inverse(root_quat[:, None, :], keypoints.pos - root_pos[:, None, :])
        if idx is None:
            self._keypoints, self._keypoint_pos_b = keypoints, pos_b
            return
        # not in place: what was handed out for the step before stays as it was
        self._keypoint_pos_b = self._keypoint_pos_b.index_copy(0, idx, pos_b)
        self._keypoints = KeypointState(
            *(
                getattr(self._keypoints, name).index_copy(0, idx, getattr(keypoints, name))
                for name in ("pos", "quat", "lin_vel", "ang_vel")
            )
        )

    def _soles(self) -> torch.Tensor:
        """Return the sole points relative to the pelvis as measured, world axes. Shape (N, S, 3)."""
        soles = soles_of_links(self.robot, self._keypoints.pos, self._keypoints.quat) - self._root_pos[:, None, :]
        return self._noisy(soles, self.noise.sole_pos)

    def _locate(self, idx: torch.Tensor) -> None:
        """Begin odometry anew where an episode has begun."""
        fresh = start_odometry(self._root_pos[:, :2], self._soles())
        for name, values in vars(fresh).items():
            getattr(self._odometry, name)[idx] = values[idx]
        self._odometry_root = self._root_pos

    def _drift(self) -> None:
        """Move the goal's place by what odometry got wrong in this step.

        A robot chases goals that stand still in its own odometry, so they drift through the world as that does. Moving
        them here instead keeps the teacher's labels explainable: it corrects what the student can see, and no more.
        """
        now = step_odometry(self._odometry, self._soles())
        believed = (now.pos - self._odometry.pos)[:, :2]
        true = (self._root_pos - self._odometry_root)[:, :2]
        self._place_xy[:, :2] += true - believed
        self._place_xy[:, :2] -= lag_excess(self._root_pos[:, :2], self._goal_root(self.frame)[0][:, :2])
        self._odometry, self._odometry_root = now, self._root_pos

    def _goal_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Return goal keypoints at library ``frames`` (N, F), as placed in each world. Shape (N, F, K, 3)."""
        pos = self.library.keypoints.pos[frames]
        return rotate_heading(self._place_yaw[:, None, None], pos) + self._place_xy[:, None, None, :]

    def _goal_now(self) -> KeypointState:
        pos = self._goal_frames(self.frame[:, None])[:, 0]
        turn = quat_from_heading(self._place_yaw)[:, None, :]
        return KeypointState(pos, quat_multiply(turn, self.library.keypoints.quat[self.frame]))

    def _goal_root(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pos = rotate_heading(self._place_yaw, self.library.root_pos[frames]) + self._place_xy
        return pos, quat_multiply(quat_from_heading(self._place_yaw), self.library.root_quat[frames])

    # rewards -----------------------------------------------------------------------------------
    def _reward(self, goal: KeypointState, last_action: torch.Tensor, terminated: torch.Tensor) -> torch.Tensor:
        config = self.cfg.rewards
        force = self.sim.foot_force
        contact = force.norm(dim=-1) > _CONTACT_N
        height = self._keypoints.pos[:, self._feet, 2] - self._foot_rest_height
        first_contact = contact & (self._air_time > 0.0)
        self._air_time = self._air_time + self._dt
        self._peak_height = torch.maximum(self._peak_height, height)
        strength = self.domain.strength
        torque = (
            self._kp * self.domain.kp_scale * (self._target - self._joint_pos)
            - self._kd * self.domain.kd_scale * self._joint_vel
        )
        torque = strength * torch.maximum(torch.minimum(torque, self._effort), -self._effort)
        foot_quat = self._keypoints.quat[:, self._feet]
        terms = RewardInput(
            robot=self._keypoints,
            goal=goal,
            joint_pos=self._joint_pos,
            goal_joint_pos=self.library.joint_pos[self.frame],
            joint_vel=self._joint_vel,
            goal_joint_vel=self.library.joint_vel[self.frame],
            joint_acc=(self._joint_vel - self._last_joint_vel) / self._dt,
            joint_lower=self._lower,
            joint_upper=self._upper,
            torque=torque,
            action=self._action,
            last_action=last_action,
            gravity_dir_b=self._gravity_b,
            foot_gravity=gravity_direction(foot_quat),
            foot_force=force,
            foot_speed=self._keypoints.lin_vel[:, self._feet, :2].norm(dim=-1),  # type: ignore[index]
            foot_height=self._peak_height,
            air_time=self._air_time,
            first_contact=first_contact,
            goal_contact=self.library.foot_contact[self.frame],
            joint_weights=self._joint_weights,
            keypoint_weights=(
                torch.softmax(self._weight_logits, -1) if self._learned_weights else self._keypoint_weights
            ),
            weight_change=self._weight_logits - self._last_weight_logits,
            sigma=config.sigma,
            desired_step_height=config.desired_step_height_m,
            desired_air_time=config.desired_air_time_s,
            terminated=terminated,
        )
        total = torch.zeros(self.num_envs, device=self.device)
        for name, weight in config.weights.items():
            if weight:
                value = weight * self._dt * REWARDS[name](terms)
                self._sums[name] += value
                total += value
        self._air_time = self._air_time * ~contact
        self._peak_height = self._peak_height * ~contact
        self._last_joint_vel = self._joint_vel
        return config.scale * total

    # observations ------------------------------------------------------------------------------
    def _observe(self, fresh: torch.Tensor) -> None:
        """Build the observation groups; where ``fresh`` (N,), the history starts anew."""
        noise = self.noise
        frame = self._proprioception(noise)
        ahead = torch.minimum(self.frame + 1, self._clip_end - 1)
        goal_pos = self._goal_frames(ahead[:, None])[:, 0]
        root_pos, root_quat = self._goal_root(self.frame)
        goal_joint_pos = self.library.joint_pos[ahead]
        clean_g = to_goal_frame(self._keypoints, root_pos, root_quat)
        goal_g = to_goal_frame(KeypointState(goal_pos, self._keypoints.quat), root_pos, root_quat).pos
        domain = self.domain
        privileged = torch.cat(
            [
                domain.com_offset,
                domain.friction[:, None].expand(-1, 2),
                domain.mass_scale,
                domain.kd_scale,
                domain.kp_scale,
                domain.strength,
                self.sim.foot_force.reshape(self.num_envs, -1),
            ],
            -1,
        )
        clean = self._proprioception(NO_NOISE) if noise is not NO_NOISE else frame
        groups = {"critic": self._teacher_group(clean, clean_g, goal_g, goal_joint_pos, privileged)}
        if noise is NO_NOISE and self._corrupted is None:
            groups["teacher"] = groups["critic"]
        elif not self.with_student:
            noisy_g = KeypointState(
                self._noisy(clean_g.pos, noise.keypoint_pos_g),
                self._noisy(clean_g.quat, noise.keypoint_quat_g),
                self._noisy(clean_g.lin_vel, noise.keypoint_lin_vel_g),
                self._noisy(clean_g.ang_vel, noise.keypoint_ang_vel_g),
            )
            if self._corrupted is not None:
                seen = self._goal_frames_seen(ahead[:, None])[:, 0]
                goal_g = to_goal_frame(KeypointState(seen, self._keypoints.quat), root_pos, root_quat).pos
                goal_joint_pos = self._corrupted.joint_pos_of(self._variant, ahead)
            noisy_goal = self._noisy(goal_g, noise.goal_keypoint_pos) + self._goal_offset[:, None, :]
            if self.cfg.teacher_goal == "joints" and noise is not NO_NOISE:
                goal_joint_pos = self._noisy(goal_joint_pos, JOINT_GOAL_NOISE_RAD)
            groups["teacher"] = self._teacher_group(frame, noisy_g, noisy_goal, goal_joint_pos, privileged)
        if self.with_student:
            self._history = torch.where(
                fresh[:, None, None], frame[:, None, :].expand_as(self._history), push_history(self._history, frame)
            )
            groups["student"] = student_observation(self._history, self._student_goal(root_pos))
        self._obs = TensorDict(groups, batch_size=[self.num_envs], device=self.device)

    def _teacher_group(
        self,
        proprio: torch.Tensor,
        keypoints_g: KeypointState,
        goal_g: torch.Tensor,
        goal_joint_pos: torch.Tensor,
        privileged: torch.Tensor,
    ) -> torch.Tensor:
        """Return a teacher's observation, its goals as ``env.teacher_goal`` says. Shape (N, 757) or (N, 641)."""
        if self.cfg.teacher_goal == "keypoints":
            return teacher_observation(proprio, keypoints_g, goal_g, privileged)
        state = [keypoints_g.pos, keypoints_g.quat, keypoints_g.lin_vel, keypoints_g.ang_vel]
        return joint_goal_observation(proprio, state, goal_joint_pos, self._default, privileged)  # type: ignore[arg-type]

    def _goal_frames_seen(self, frames: torch.Tensor) -> torch.Tensor:
        """Return `_goal_frames` as a policy sees them: damaged, where an episode drew that. Shape (N, F, K, 3)."""
        if self._corrupted is None:
            return self._goal_frames(frames)
        pos = self._corrupted.keypoints_of(self._variant, frames)
        return rotate_heading(self._place_yaw[:, None, None], pos) + self._place_xy[:, None, None, :]

    def _student_goal(self, goal_root_pos: torch.Tensor) -> torch.Tensor:
        steps = 1 + torch.arange(FUTURE, device=self.device)
        frames = torch.minimum(self.frame[:, None] + steps, self._clip_end[:, None] - 1)
        if self._corrupted is not None:  # the pelvis comes first
            goal_root_pos = self._goal_frames_seen(self.frame[:, None])[:, 0, 0]
        goals = self._noisy(self._goal_frames_seen(frames), self.noise.goal_keypoint_pos)
        goals = goals + self._goal_offset[:, None, None, :]
        origin = self._root_pos if self._with_odometry else goal_root_pos
        return student_goal(goals, origin, heading(self._root_quat))

    def _proprioception(self, noise: ObservationNoise) -> torch.Tensor:
        return proprioception(
            self.robot,
            self._noisy(self._joint_pos, noise.joint_pos),
            self._noisy(self._joint_vel, noise.joint_vel),
            self._noisy(self._ang_vel_b, noise.base_ang_vel_b),
            self._noisy(self._gravity_b, noise.gravity_dir_b),
            self._action,
            self._noisy(self._keypoint_pos_b, noise.keypoint_pos_b),
        )

    def _noisy(self, values: torch.Tensor | None, sigma: float) -> torch.Tensor:
        if not sigma or values is None:
            return values  # type: ignore[return-value]
        scale = (sigma * self._noise_scale).reshape(-1, *[1] * (values.dim() - 1))
        return values + scale * torch.randn(values.shape, generator=self._generator, device=self.device)

    # resets ------------------------------------------------------------------------------------
    def _reset(self, idx: torch.Tensor) -> None:
        count = len(idx)
        frames = self._start_frames(idx)
        self.frame[idx] = frames
        self._clip_end[idx] = self.library.clip_end[self.library.clip_of_frame[frames]]
        self._place_xy[idx] = 0.0
        if self._with_odometry:
            self._place_xy[idx, :2] = 0.02 * self._randn(count, 2)
        self._place_yaw[idx] = 0.0
        self._randomize(idx)

        library = self.library
        root_pos = library.root_pos[frames].clone()
        root_pos[:, :2] += 0.02 * self._randn(count, 2)
        root_pos[:, 2] += 0.005 * self._rand(count)
        root_quat = quat_multiply(quat_from_heading(0.05 * self._randn(count)), library.root_quat[frames])
        joint_pos = library.joint_pos[frames] + 0.05 * self._randn(count, self.robot.num_joints)
        joint_pos = torch.maximum(torch.minimum(joint_pos, self._upper), self._lower)
        joint_vel = library.joint_vel[frames] + 0.1 * self._randn(count, self.robot.num_joints)
        lin_vel = library.root_lin_vel[frames] + 0.05 * self._randn(count, 3)
        ang_vel = quat_rotate_inverse(root_quat, library.root_ang_vel[frames])
        self.sim.reset(
            idx, torch.cat([root_pos, root_quat, joint_pos], -1), torch.cat([lin_vel, ang_vel, joint_vel], -1)
        )

        self.episode_length_buf[idx] = 0
        self._action[idx] = (library.joint_pos[frames] - self._default) / self.robot.action_scale
        self._target[idx] = library.joint_pos[frames]
        self._last_joint_vel[idx] = joint_vel
        self._air_time[idx] = 0.0
        self._peak_height[idx] = 0.0
        self._next_push[idx] = self._rand(count) * self.cfg.randomization.push_interval_s
        self._weight_logits = self._weight_logits.index_fill(0, idx, 0.0)
        if self._corrupted is not None:
            self._variant[idx] = self._corrupted.draw(count, self._generator)

    def _start_frames(self, idx: torch.Tensor) -> torch.Tensor:
        """Return the library frame at which each of the environments ``idx`` begins an episode."""
        return self.library.sample_frames(len(idx), self.cfg.failure_share, self._generator, self.cfg.clip_share)

    def _next_clip(self, ended: torch.Tensor) -> None:
        """Where a clip has ended, go on with another from the place where the goal stands (paper B.1)."""
        idx = ended.nonzero().squeeze(-1)
        if not len(idx):
            return
        root_pos, root_quat = self._goal_root(self.frame)
        first = self.library.sample_clips(len(idx), self._generator, self.cfg.clip_share)
        yaw = wrap_angle(heading(root_quat[idx]) - heading(self.library.root_quat[first]))
        there = rotate_heading(yaw, self.library.root_pos[first])
        self._place_yaw[idx] = yaw
        self._place_xy[idx] = (root_pos[idx] - there) * root_pos.new_tensor([1.0, 1.0, 0.0])
        self.frame[idx] = first
        self._clip_end[idx] = self.library.clip_end[self.library.clip_of_frame[first]]

    def _randomize(self, idx: torch.Tensor) -> None:
        config, count, joints = self.cfg.randomization, len(idx), self.robot.num_joints
        nominal = Domain.nominal(self.robot, count, self.device)
        if self.level > 0.0:
            domain = replace(
                nominal,
                friction=self._range(config.friction, 1.0, count),
                com_offset=self._range(config.com_offset_m, 0.0, count, 3),
                mass_scale=self._range(config.mass_scale, 1.0, count, len(MASS_GROUPS)),
                kp_scale=self._range(config.kp_scale, 1.0, count, joints),
                kd_scale=self._range(config.kd_scale, 1.0, count, joints),
                strength=self._range(config.strength, 1.0, count, joints),
            )
            self.domain.assign(idx, self.sim.set_domain(idx, domain))
            low, high = config.delay_substeps
            self._delay[idx] = (low + self._rand(count) * (self.level * (high - low) + 1.0)).long().clamp(max=high)
        low_noise, high_noise = self._noise_range
        scale = low_noise + self._rand(count) * (high_noise - low_noise)
        self._noise_scale[idx] = scale
        self._goal_offset[idx] = (scale * self.noise.goal_offset_m)[:, None] * (2.0 * self._rand(count, 3) - 1.0)

    def _range(self, limits: tuple[float, float], nominal: float, *shape: int) -> torch.Tensor:
        low = nominal + self.level * (limits[0] - nominal)
        high = nominal + self.level * (limits[1] - nominal)
        return low + self._rand(*shape) * (high - low)

    def _push(self) -> None:
        config = self.cfg.randomization
        if self.level <= 0.0:
            return
        self._next_push -= self._dt
        idx = (self._next_push <= 0.0).nonzero().squeeze(-1)
        if len(idx):
            self._next_push[idx] = config.push_interval_s
            low, high = config.push_velocity_m_s
            velocity = self.level * (low + self._rand(len(idx), 2) * (high - low))
            self.sim.set_root_velocity_xy(idx, velocity)

    def _assistance(self) -> torch.Tensor | None:
        """Return the wrench that helps each root along, as `Simulator.step` takes it, or None. Shape (N, 6)."""
        if self.assist <= 0.0:
            return None
        config = self.cfg.assist
        library, frames = self.library, self.frame
        goal_pos, goal_quat = self._goal_root(frames)
        velocity = rotate_heading(self._place_yaw, library.root_lin_vel[frames]) - self.sim.qvel[:, :3]
        turning_w = rotate_heading(self._place_yaw, library.root_ang_vel[frames])
        rate = 2.0 * math.pi * config.frequency_hz
        force = self.robot.mass * (rate**2 * (goal_pos - self._root_pos) + 2.0 * rate * velocity)
        error = quat_to_rotation_vector(quat_multiply(quat_conjugate(self._root_quat), goal_quat))
        turning = quat_rotate_inverse(self._root_quat, turning_w) - self._ang_vel_b
        torque = _TURNING_INERTIA * (rate**2 * error + 2.0 * rate * turning)
        wrench = torch.cat([_shorten(force, config.max_force), _shorten(torque, config.max_torque)], -1)
        return self.assist * wrench

    def adapt_level(self, fell: float, step: float = 0.004, few: float = 0.4, many: float = 0.65) -> None:
        """Move the strength of the randomisation: up while ``fell``, the share of episodes, is small.

        While a teacher is still held (`AssistConfig`), success loosens the hold first.
        """
        if self.assist > 0.0:
            rate = self.cfg.assist.rate
            if fell < _LOOSEN_BELOW:
                self.assist = self.assist * (1.0 - rate) if self.assist > 0.02 else 0.0
            elif fell > _TIGHTEN_ABOVE:
                self.assist = min(self.assist * (1.0 + 0.5 * rate), self.cfg.assist.start_level)
            return
        limit = self.cfg.randomization.level
        start = min(self.cfg.randomization.start_level, limit)
        if fell < few:
            self.level = min(self.level + step, limit)
        elif fell > many:
            self.level = max(self.level - step, start)

    def _episode_log(self, idx: torch.Tensor, terminated: torch.Tensor) -> dict[str, torch.Tensor]:
        length = self.episode_length_buf[idx].clamp(min=1).float()
        log = {f"reward/{name}": (values[idx] / (length * self._dt)).mean() for name, values in self._sums.items()}
        log["track/mpkpe_cm"] = 100.0 * (self._error_sum[idx, 0] / length).mean()
        log["track/hands_cm"] = 100.0 * (self._error_sum[idx, 1] / length).mean()
        log["track/fell"] = terminated[idx].float().mean()
        for values in self._sums.values():
            values[idx] = 0.0
        self._error_sum[idx] = 0.0
        return log

    def _rand(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self._generator, device=self.device)

    def _randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator, device=self.device)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values.tolist(), dtype=torch.float32, device=self.device)


def _shorten(vector: torch.Tensor, limit: float) -> torch.Tensor:
    """Return ``vector`` (..., 3), shortened to ``limit`` where it is longer."""
    return vector * (limit / vector.norm(dim=-1, keepdim=True).clamp(min=1e-9)).clamp(max=1.0)


def arm_joints(robot: Robot) -> torch.Tensor:
    """Return the indices of the joints of both arms."""
    parts = ("shoulder", "elbow", "wrist")
    return torch.tensor([idx for idx, name in enumerate(robot.joint_names) if any(part in name for part in parts)])
