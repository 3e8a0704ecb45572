# SPDX-License-Identifier: Apache-2.0
# mypy: disable-error-code="call-arg, misc, valid-type, type-arg"
"""Unitree's DDS types for cyclonedds 11.

Every octet is declared `byte`, also inside sequences. cyclonedds 11 describes ``uint8`` as a kind that the robot's
Cyclone 0.10.2 does not know: its processes crash when they hear of such a type. With `byte` the type hashes are those
of Unitree's own headers (a test says so), and nothing is looked up. For the same reason: no ``int8``.

Sources: field names, order and types of unitree_hg and unitree_api; the hashes in Unitree's C++ headers.
"""

# no `from __future__ import annotations`: the annotations are the types
from dataclasses import dataclass

from genmimic.core.errors import MissingDependencyError
from genmimic.core.robot import NUM_MOTOR_SLOTS

try:
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl.annotations import autoid, final
    from cyclonedds.idl.types import array, byte, float32, int16, int32, int64, sequence, uint16, uint32
except ImportError as error:
    raise MissingDependencyError(
        f"the robot link needs cyclonedds 11 ({error}); run `pip install cyclonedds==11.0.1`"
    ) from None

_HG, _API = "unitree_hg.msg.dds_.", "unitree_api.msg.dds_."


@dataclass
@final
@autoid("sequential")
class MotorCmd(IdlStruct, typename=_HG + "MotorCmd_"):
    """One motor's part of LowCmd."""

    mode: byte
    q: float32
    dq: float32
    tau: float32
    kp: float32
    kd: float32
    reserve: uint32


@dataclass
@final
@autoid("sequential")
class LowCmd(IdlStruct, typename=_HG + "LowCmd_"):
    """Topic rt/lowcmd."""

    mode_pr: byte
    mode_machine: byte
    motor_cmd: array[MotorCmd, NUM_MOTOR_SLOTS]
    reserve: array[uint32, 4]
    crc: uint32


@dataclass
@final
@autoid("sequential")
class ImuState(IdlStruct, typename=_HG + "IMUState_"):
    """Part of LowState, and topic rt/secondary_imu."""

    quaternion: array[float32, 4]
    gyroscope: array[float32, 3]
    accelerometer: array[float32, 3]
    rpy: array[float32, 3]
    temperature: int16


@dataclass
@final
@autoid("sequential")
class MotorState(IdlStruct, typename=_HG + "MotorState_"):
    """One motor's part of LowState."""

    mode: byte
    q: float32
    dq: float32
    ddq: float32
    tau_est: float32
    temperature: array[int16, 2]
    vol: float32
    sensor: array[uint32, 2]
    motorstate: uint32
    reserve: array[uint32, 4]


@dataclass
@final
@autoid("sequential")
class LowState(IdlStruct, typename=_HG + "LowState_"):
    """Topics rt/lowstate and rt/lf/lowstate."""

    version: array[uint32, 2]
    mode_pr: byte
    mode_machine: byte
    tick: uint32
    imu_state: ImuState
    motor_state: array[MotorState, NUM_MOTOR_SLOTS]
    wireless_remote: array[byte, 40]
    reserve: array[uint32, 4]
    crc: uint32


@dataclass
@final
@autoid("sequential")
class BmsState(IdlStruct, typename=_HG + "BmsState_"):
    """Topic rt/lf/bmsstate."""

    version_high: byte
    version_low: byte
    fn: byte
    cell_vol: array[uint16, 40]
    bmsvoltage: array[uint32, 3]
    current: int32
    soc: byte
    soh: byte
    temperature: array[int16, 12]
    cycle: uint16
    manufacturer_date: uint16
    bmsstate: array[uint32, 5]
    reserve: array[uint32, 3]


@dataclass
@final
@autoid("sequential")
class RequestIdentity(IdlStruct, typename=_API + "RequestIdentity_"):
    """Which request, and of which kind."""

    id: int64
    api_id: int64


@dataclass
@final
@autoid("sequential")
class RequestLease(IdlStruct, typename=_API + "RequestLease_"):
    """Unused here."""

    id: int64


@dataclass
@final
@autoid("sequential")
class RequestPolicy(IdlStruct, typename=_API + "RequestPolicy_"):
    """Whether an answer is wanted."""

    priority: int32
    noreply: bool


@dataclass
@final
@autoid("sequential")
class RequestHeader(IdlStruct, typename=_API + "RequestHeader_"):
    """Head of a request."""

    identity: RequestIdentity
    lease: RequestLease
    policy: RequestPolicy


@dataclass
@final
@autoid("sequential")
class Request(IdlStruct, typename=_API + "Request_"):
    """Topics rt/api/<service>/request."""

    header: RequestHeader
    parameter: str
    binary: sequence[byte]


@dataclass
@final
@autoid("sequential")
class ResponseStatus(IdlStruct, typename=_API + "ResponseStatus_"):
    """0 for success."""

    code: int32


@dataclass
@final
@autoid("sequential")
class ResponseHeader(IdlStruct, typename=_API + "ResponseHeader_"):
    """Head of a response."""

    identity: RequestIdentity
    status: ResponseStatus


@dataclass
@final
@autoid("sequential")
class Response(IdlStruct, typename=_API + "Response_"):
    """Topics rt/api/<service>/response."""

    header: ResponseHeader
    data: str
    binary: sequence[byte]


def minimal_hash(cls: type[IdlStruct]) -> bytes:
    """Return the type's minimal XTypes hash (14 bytes), by which DDS peers compare types."""
    cls.__idl__.populate()
    cls.__idl__.fill_type_data()
    return bytes(cls.__idl__.get_type_info().minimal.typeid_with_size.type_id.value)
