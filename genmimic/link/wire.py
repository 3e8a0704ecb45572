# SPDX-License-Identifier: Apache-2.0
"""LowCmd and LowState as bytes: layouts, checksum, packing and checking. NumPy and zlib; no DDS.

A *sample* is what DDS hands over: 4 bytes of encapsulation header, then the XCDR1 little-endian body. The checksum
covers the same message as Unitree's C struct, which has padding before its first motor where the wire has none. The
two differ only there: with the header in front, everything behind the first motor's ``mode`` lies at the same offset in
both. So one buffer serves both, and nothing is copied.

Sources: message fields of unitree_hg (LowCmd_, LowState_, BmsState_); wire and struct sizes 1000/1004 and 2088/2092
bytes and the checksum over 250/522 words as measured against Unitree's helper.
"""

from __future__ import annotations

import math
import struct
import zlib
from array import array
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from genmimic.core.robot import NUM_MOTOR_SLOTS, Robot
from genmimic.core.state import JointCommand, RobotState

HEADER = b"\x00\x01\x00\x00"
"""Encapsulation header of XCDR1, little endian, no options."""

Array = np.ndarray[Any, Any]


def _struct(size: int, **fields: tuple[Any, int]) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": list(fields),
            "formats": [item[0] for item in fields.values()],
            "offsets": [item[1] for item in fields.values()],
            "itemsize": size,
        }
    )


_MOTOR_CMD_FIELDS: dict[str, tuple[Any, int]] = {
    "q": ("<f4", 4), "dq": ("<f4", 8), "tau": ("<f4", 12), "kp": ("<f4", 16), "kd": ("<f4", 20), "reserve": ("<u4", 24)
}  # fmt: skip
_MOTOR_STATE_FIELDS: dict[str, tuple[Any, int]] = {
    "q": ("<f4", 4), "dq": ("<f4", 8), "ddq": ("<f4", 12), "tau_est": ("<f4", 16), "temperature": (("<i2", (2,)), 20),
    "vol": ("<f4", 24), "sensor": (("<u4", (2,)), 28), "motorstate": ("<u4", 36), "reserve": (("<u4", (4,)), 40),
}  # fmt: skip
_IMU = _struct(
    54,
    quaternion=(("<f4", (4,)), 0),
    gyroscope=(("<f4", (3,)), 16),
    accelerometer=(("<f4", (3,)), 28),
    rpy=(("<f4", (3,)), 40),
    temperature=("<i2", 52),
)

MOTOR_CMD = _struct(28, mode=("u1", 0), **_MOTOR_CMD_FIELDS)
"""MotorCmd_ in C."""

MOTOR_STATE = _struct(56, mode=("u1", 0), **_MOTOR_STATE_FIELDS)
"""MotorState_ in C."""

LOW_CMD = _struct(
    1004,
    mode_pr=("u1", 0),
    mode_machine=("u1", 1),
    motor_cmd=((MOTOR_CMD, (NUM_MOTOR_SLOTS,)), 4),
    reserve=(("<u4", (4,)), 984),
    crc=("<u4", 1000),
)
"""LowCmd_ in C, over which its checksum goes."""

LOW_STATE = _struct(
    2092,
    version=(("<u4", (2,)), 0),
    mode_pr=("u1", 8),
    mode_machine=("u1", 9),
    tick=("<u4", 12),
    imu_state=(_IMU, 16),
    motor_state=((MOTOR_STATE, (NUM_MOTOR_SLOTS,)), 72),
    wireless_remote=(("u1", (40,)), 2032),
    reserve=(("<u4", (4,)), 2072),
    crc=("<u4", 2088),
)
"""LowState_ in C, over which its checksum goes."""

# The first motor's mode lies elsewhere than the others': it is a field of its own, and theirs are `modes`.
LOW_CMD_SAMPLE = _struct(
    1004,
    header=("S4", 0),
    mode_pr=("u1", 4),
    mode_machine=("u1", 5),
    first_mode=("u1", 6),
    motor_cmd=((_struct(28, **_MOTOR_CMD_FIELDS), (NUM_MOTOR_SLOTS,)), 4),
    modes=((_struct(28, mode=("u1", 0)), (NUM_MOTOR_SLOTS - 1,)), 32),
    reserve=(("<u4", (4,)), 984),
    crc=("<u4", 1000),
)
"""LowCmd_ on the wire, header included."""

LOW_STATE_SAMPLE = _struct(
    2092,
    header=("S4", 0),
    version=(("<u4", (2,)), 4),
    mode_pr=("u1", 12),
    mode_machine=("u1", 13),
    tick=("<u4", 16),
    imu_state=(_IMU, 20),
    first_mode=("u1", 74),
    motor_state=((_struct(56, **_MOTOR_STATE_FIELDS), (NUM_MOTOR_SLOTS,)), 72),
    modes=((_struct(56, mode=("u1", 0)), (NUM_MOTOR_SLOTS - 1,)), 128),
    wireless_remote=(("u1", (40,)), 2032),
    reserve=(("<u4", (4,)), 2072),
    crc=("<u4", 2088),
)
"""LowState_ on the wire, header included."""

BMS_STATE_SAMPLE = _struct(
    168,
    header=("S4", 0),
    cell_vol=(("<u2", (40,)), 8),
    bmsvoltage=(("<u4", (3,)), 88),
    current=("<i4", 100),
    soc=("u1", 104),
    soh=("u1", 105),
    temperature=(("<i2", (12,)), 106),
    cycle=("<u2", 130),
    manufacturer_date=("<u2", 132),
    bmsstate=(("<u4", (5,)), 136),
    reserve=(("<u4", (3,)), 156),
)
"""BmsState_ on the wire, header included. It has no checksum."""

_IMU_AT, _MOTORS_AT = 20, 72
REMOTE_AT = 2032
"""Where a LowState sample carries the remote, in bytes."""

# checksum -------------------------------------------------------------------------------------------
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32_words(data: bytes | Array) -> int:
    """Return Unitree's checksum of little-endian words: polynomial 0x04C11DB7, start all ones, most significant bit of
    each word first, no final xor.

    zlib computes the mirrored polynomial, so words go in mirrored and the result comes out mirrored.

    Args:
        data: Of a length that is a multiple of 4 bytes.
    """
    words = array("I", bytes(data))  # NumPy takes twice as long when called 500 times a second: its code is never warm
    words.byteswap()
    crc = zlib.crc32(words.tobytes().translate(_REVERSED)) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED), "big")


def low_cmd_crc(sample: bytes | memoryview | Array) -> int:
    """Return the checksum that a LowCmd sample (1004 bytes) must carry."""
    view = memoryview(sample)  # type: ignore[arg-type]
    return crc32_words(b"".join((view[4:6], b"\0\0", view[6:7], b"\0\0\0", view[8:1000])))


def low_state_crc(sample: bytes | memoryview | Array) -> int:
    """Return the checksum that a LowState sample (2092 bytes) must carry."""
    view = memoryview(sample)  # type: ignore[arg-type]
    return crc32_words(b"".join((view[4:14], b"\0\0", view[16:74], b"\0\0", view[74:75], b"\0\0\0", view[76:2088])))


# reading --------------------------------------------------------------------------------------------
def _view(data: bytes, dtype: np.dtype[Any]) -> Array | None:
    if len(data) < dtype.itemsize or data[:2] != HEADER[:2]:
        return None
    return np.frombuffer(data, dtype, 1)[0]


def read_low_state(data: bytes) -> Array | None:
    """Return a LowState sample as a record (`LOW_STATE_SAMPLE`) that looks into ``data``, or None if it is none.

    Nothing is said about its checksum (`low_state_crc`) or its numbers.
    """
    return _view(data, LOW_STATE_SAMPLE)


class LowStateHead(NamedTuple):
    """What decides about a LowState sample before its numbers are looked at."""

    mode_machine: int
    tick: int
    crc: int


_LOW_STATE_HEAD = struct.Struct("<13xB2xI2068xI")


def low_state_head(data: bytes) -> LowStateHead | None:
    """Return the head of a LowState sample, or None if it is none; a tenth of the time of a record's fields."""
    if len(data) < LOW_STATE_SAMPLE.itemsize or data[:2] != HEADER[:2]:
        return None
    return LowStateHead._make(_LOW_STATE_HEAD.unpack_from(data))


def read_low_cmd(data: bytes) -> Array | None:
    """Return a LowCmd sample as a record (`LOW_CMD_SAMPLE`) that looks into ``data``, or None if it is none."""
    return _view(data, LOW_CMD_SAMPLE)


def read_bms_state(data: bytes) -> Array | None:
    """Return a BmsState sample as a record (`BMS_STATE_SAMPLE`) that looks into ``data``, or None if it is none."""
    return _view(data, BMS_STATE_SAMPLE)


class Measured(NamedTuple):
    """The numbers of a LowState sample, in the robot's order of joints."""

    tick: int
    imu: Array
    """Orientation wxyz, gyroscope in rad/s, accelerometer in m/s^2. Shape (10,)."""
    motors: Array
    """Position in rad, speed in rad/s, torque in N m and two temperatures in degrees of each joint. Shape (J, 5)."""


class LowStateReader:
    """Takes LowState samples apart.

    One `struct` format has all numbers of the joints. Called 500 times a second this takes less than half as long as
    gathering them with NumPy (measured): a loop that sleeps finds its caches cold, and NumPy has more code to fetch.
    """

    def __init__(self, robot: Robot) -> None:
        slots = np.asarray(robot.motor_slots)
        layout, at = "<16xI10f", _IMU_AT + 40
        for slot in np.sort(slots):
            motor = _MOTORS_AT + MOTOR_STATE.itemsize * int(slot)
            layout += f"{motor + 4 - at}x2f4xf2h"  # q, dq, not ddq, tau_est, temperatures
            at = motor + 24
        self._layout = struct.Struct(layout)
        self._order = None if (np.diff(slots) > 0).all() else np.argsort(np.argsort(slots))

    def measured(self, data: bytes) -> Measured:
        """Return the numbers of a sample, which may be anything."""
        tick, *values = self._layout.unpack_from(data)
        numbers: Array = np.array(values)
        motors = numbers[10:].reshape(-1, 5)
        return Measured(tick, numbers[:10], motors if self._order is None else motors[self._order])

    def state(
        self, data: bytes, stamp_ns: int = 0, battery: float = float("nan"), measured: Measured | None = None
    ) -> RobotState:
        """Return what a sample measures; ``measured`` is what `measured` says of it, where that is known already.

        An orientation that is none, such as the zeros of a dead IMU, becomes NaN: zeros would pass for upright.
        """
        tick, imu, motors = self.measured(data) if measured is None else measured
        w, x, y, z = imu[:4].tolist()
        if not 0.9 < w * w + x * x + y * y + z * z < 1.1:
            imu[:4] = math.nan
        position, speed, torque, first, second = motors.T
        return RobotState(
            stamp_ns, tick, position, speed, torque, np.maximum(first, second), imu[:4], imu[4:7], imu[7:], battery
        )


def command_of(sample: Array, robot: Robot) -> JointCommand:
    """Return what a LowCmd sample asks of the robot's joints; motors that are not enabled get zeros."""
    motors = sample["motor_cmd"][robot.motor_slots]
    on = motor_modes(sample)[robot.motor_slots] == 1
    with np.errstate(invalid="ignore"):
        parts = {name: np.where(on, motors[name], 0.0).astype(float) for name in ("q", "dq", "tau", "kp", "kd")}
    return JointCommand(
        0, 0, parts["q"], parts["dq"], parts["tau"], parts["kp"], parts["kd"], np.zeros(robot.num_joints)
    )  # fmt: skip


def motor_modes(sample: Array) -> Array:
    """Return each motor's ``mode`` of a LowCmd or LowState sample. Shape (35,)."""
    return np.concatenate([[sample["first_mode"]], sample["modes"]["mode"]])


# writing --------------------------------------------------------------------------------------------
class LowCmdWriter:
    """A LowCmd sample that is filled again and again. Motors that the robot lacks stay off and zero."""

    def __init__(self, robot: Robot) -> None:
        self.buffer: Array = np.zeros(LOW_CMD_SAMPLE.itemsize, np.uint8)
        self.sample = self.buffer.view(LOW_CMD_SAMPLE)[0]
        self.buffer[:4] = np.frombuffer(HEADER, np.uint8)
        self._slots = robot.motor_slots
        motors = self.sample["motor_cmd"]
        self._columns = [motors[name] for name in ("q", "dq", "tau", "kp", "kd")]
        on: Array = np.zeros(NUM_MOTOR_SLOTS, np.uint8)
        on[self._slots] = 1
        self.sample["first_mode"] = on[0]
        self.sample["modes"]["mode"] = on[1:]
        self._filled: tuple[Any, ...] = ()

    def fill(self, command: JointCommand, mode_machine: int) -> Array:
        """Write a command, with its checksum, and return the whole sample as bytes (1004,), valid until the next call.

        One whose arrays are those of the last call is there already: a command is a value, its arrays never change.

        Args:
            command: In the order of the robot's joints.
            mode_machine: Of the robot, as it reports it.
        """
        buffer, slots = self.buffer, self._slots
        values = command.joint_pos, command.joint_vel, command.joint_torque, command.kp, command.kd
        if self._filled and self._filled[5] == mode_machine and all(map(is_, values, self._filled)):
            return buffer
        self._filled = ()  # until it is whole
        for column, numbers in zip(self._columns, values, strict=True):
            column[slots] = numbers
        buffer[4], buffer[5] = 0, mode_machine  # mode_pr 0: serial pitch and roll joints
        self.sample["crc"] = low_cmd_crc(buffer)
        self._filled = (*values, mode_machine)
        return buffer


class LowStateWriter:
    """A LowState sample that is filled again and again, for the twin."""

    def __init__(self) -> None:
        self.buffer: Array = np.zeros(LOW_STATE_SAMPLE.itemsize, np.uint8)
        self.sample = self.buffer.view(LOW_STATE_SAMPLE)[0]
        self.buffer[:4] = np.frombuffer(HEADER, np.uint8)
        self.sample["version"] = 1, 0

    def fill(self, state: RobotState, robot: Robot, mode_machine: int, remote: bytes, voltage: float) -> Array:
        """Write a state, with its checksum, and return the whole sample as bytes (2092,), valid until the next call.

        Args:
            state: Its ``tick`` counts ms.
            robot: Says which motors there are.
            mode_machine: As the robot reports it.
            remote: The hand-held control's 40 bytes.
            voltage: Of the motors' supply, in V.
        """
        sample, slots = self.sample, robot.motor_slots
        motors, imu = sample["motor_state"], sample["imu_state"]
        motors["q"][slots], motors["dq"][slots] = state.joint_pos, state.joint_vel
        motors["tau_est"][slots] = state.joint_torque
        motors["temperature"][slots] = np.clip(np.round(state.joint_temperature), -100, 1000)[:, None]
        motors["vol"][slots] = voltage
        imu["quaternion"], imu["gyroscope"] = state.base_quat_w, state.base_ang_vel_b
        imu["accelerometer"] = state.base_lin_acc_b
        sample["mode_machine"] = mode_machine
        sample["tick"] = state.tick & 0xFFFFFFFF
        self.buffer[2032:2072] = np.frombuffer(remote, np.uint8)
        sample["crc"] = low_state_crc(self.buffer)
        return self.buffer


# requests and responses ---------------------------------------------------------------------------
class Call(NamedTuple):
    """A request to one of the robot's services, or its response. ``code`` is 0 in a request, and for success."""

    id: int
    api_id: int
    code: int
    text: str


_REQUEST = struct.Struct("<4sqqqi?3x")  # id, API, lease, priority, no reply
_RESPONSE = struct.Struct("<4sqqi")
_COUNT = struct.Struct("<I")
_NO_BINARY = _COUNT.pack(0)


def encode_request(number: int, api_id: int, text: str) -> bytes:
    """Return a unitree_api Request as a sample: no lease, priority 0, an answer wanted, no binary part."""
    return _REQUEST.pack(HEADER, number, api_id, 0, 0, False) + _text(text) + _NO_BINARY


def encode_response(number: int, api_id: int, code: int, text: str) -> bytes:
    """Return a unitree_api Response as a sample."""
    return _RESPONSE.pack(HEADER, number, api_id, code) + _text(text) + _NO_BINARY


def decode_request(data: bytes) -> Call | None:
    """Return the request in a sample, or None where there is none: strangers may write anything."""
    text = _text_at(data, _REQUEST.size)
    if text is None:
        return None
    _, number, api_id, *_ = _REQUEST.unpack_from(data)
    return Call(number, api_id, 0, text)


def decode_response(data: bytes) -> Call | None:
    """Return the response in a sample, or None where there is none."""
    text = _text_at(data, _RESPONSE.size)
    if text is None:
        return None
    _, number, api_id, code = _RESPONSE.unpack_from(data)
    return Call(number, api_id, code, text)


def _text(text: str) -> bytes:
    data = text.encode() + b"\0"
    return _COUNT.pack(len(data)) + data.ljust(-(-len(data) // 4) * 4, b"\0")


def _text_at(data: bytes, at: int) -> str | None:
    """Return the string that begins at byte ``at``, or None where there is none, whole."""
    if len(data) < at + 5 or data[:2] != HEADER[:2]:
        return None
    (size,) = _COUNT.unpack_from(data, at)
    if not 1 <= size <= len(data) - at - 4:
        return None
    return data[at + 4 : at + 3 + size].decode(errors="replace")
