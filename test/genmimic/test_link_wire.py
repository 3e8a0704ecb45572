# SPDX-License-Identifier: Apache-2.0
"""The robot's messages as bytes: layouts, checksum, type hashes, and whatever strangers may send."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from genmimic.core.robot import ABSENT_MOTOR_SLOTS
from genmimic.core.robot import G1_23DOF as ROBOT
from genmimic.core.state import RobotState, position_command
from genmimic.link import remote, wire

READER = wire.LowStateReader(ROBOT)


def slow_crc(words):
    """The checksum as Unitree's C code writes it, bit by bit."""
    crc = 0xFFFFFFFF
    for word in words:
        bit = 1 << 31
        for _ in range(32):
            crc = ((crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
            if word & bit:
                crc ^= 0x04C11DB7
            bit >>= 1
    return crc


def random_command(rng):
    arrays = (rng.normal(size=23).astype(np.float32).astype(float) for _ in range(5))
    return dataclasses.replace(
        position_command(ROBOT, ROBOT.default_joint_pos),
        **dict(zip(("joint_pos", "joint_vel", "joint_torque", "kp", "kd"), arrays, strict=True)),
    )


def random_state(rng):
    single = lambda *shape: rng.normal(size=shape).astype(np.float32).astype(float)  # noqa: E731
    quat = single(4)
    return RobotState(
        0, int(rng.integers(2**32)), single(23), single(23), single(23), rng.integers(20, 90, 23).astype(float),
        (quat / np.linalg.norm(quat)).astype(np.float32).astype(float), single(3), single(3),
    )  # fmt: skip


def test_sizes_are_the_published_ones():
    assert wire.LOW_CMD.itemsize == 1004 and wire.LOW_STATE.itemsize == 2092
    assert wire.MOTOR_CMD.itemsize == 28 and wire.MOTOR_STATE.itemsize == 56
    assert wire.LOW_CMD_SAMPLE.itemsize == 4 + 1000 and wire.LOW_STATE_SAMPLE.itemsize == 4 + 2088


def test_the_checksum_is_the_one_of_the_bit_loop():
    # CRC-32/MPEG-2 of the text "12345678", worked with the bit loop over its two big-endian words
    assert wire.crc32_words(b"43218765") == slow_crc([0x31323334, 0x35363738])
    assert wire.crc32_words(b"") == 0xFFFFFFFF
    rng = np.random.default_rng(0)
    for _ in range(20):
        words = rng.integers(2**32, size=rng.integers(1, 40), dtype=np.uint32)
        assert wire.crc32_words(words.tobytes()) == slow_crc(words.tolist())


def as_c_command(sample):
    """Return a LowCmd sample as Unitree's C struct, field by field."""
    struct = np.zeros((), wire.LOW_CMD)
    for name in ("mode_pr", "mode_machine", "reserve"):
        struct[name] = sample[name]
    struct["motor_cmd"]["mode"] = wire.motor_modes(sample)
    for name in ("q", "dq", "tau", "kp", "kd", "reserve"):
        struct["motor_cmd"][name] = sample["motor_cmd"][name]
    return struct


def as_c_state(sample):
    struct = np.zeros((), wire.LOW_STATE)
    for name in ("version", "mode_pr", "mode_machine", "tick", "wireless_remote", "reserve"):
        struct[name] = sample[name]
    for name in ("quaternion", "gyroscope", "accelerometer", "rpy", "temperature"):
        struct["imu_state"][name] = sample["imu_state"][name]
    struct["motor_state"]["mode"] = wire.motor_modes(sample)
    for name in ("q", "dq", "ddq", "tau_est", "temperature", "vol", "sensor", "motorstate", "reserve"):
        struct["motor_state"][name] = sample["motor_state"][name]
    return struct


def test_the_checksum_goes_over_the_c_struct():
    rng = np.random.default_rng(1)
    for size, dtype, crc, as_c in (
        (1004, wire.LOW_CMD_SAMPLE, wire.low_cmd_crc, as_c_command),
        (2092, wire.LOW_STATE_SAMPLE, wire.low_state_crc, as_c_state),
    ):
        for _ in range(5):
            noise = rng.integers(256, size=size, dtype=np.uint8)
            sample = np.zeros(size, np.uint8).view(dtype)[0]
            source = noise.view(dtype)[0]
            for name in dtype.names:  # copies fields, not padding, which is zero in the robot's struct
                if dtype[name].names is None and dtype[name].subdtype is None or name in ("reserve", "wireless_remote"):
                    sample[name] = source[name]
            for part in ("motor_cmd", "motor_state"):
                if part in dtype.names:
                    for name in dtype[part].base.names:
                        sample[part][name] = source[part][name]
            if "imu_state" in dtype.names:
                sample["imu_state"] = source["imu_state"]
                sample["version"] = source["version"]
            sample["modes"]["mode"] = source["modes"]["mode"]
            expected = slow_crc(np.frombuffer(as_c(sample).tobytes()[:-4], "<u4").tolist())
            assert crc(sample.tobytes()) == expected


def test_a_command_reaches_the_slots_of_its_joints():
    writer = wire.LowCmdWriter(ROBOT)
    rng = np.random.default_rng(2)
    for mode_machine in (1, 4, 10):
        command = random_command(rng)
        data = writer.fill(command, mode_machine).tobytes()
        sample = wire.read_low_cmd(data)
        assert sample["mode_pr"] == 0 and sample["mode_machine"] == mode_machine
        assert sample["crc"] == wire.low_cmd_crc(data)
        modes = wire.motor_modes(sample)
        assert (modes[ROBOT.motor_slots] == 1).all() and modes.sum() == 23
        for slot in (*ABSENT_MOTOR_SLOTS, *range(29, 35)):
            assert all(sample["motor_cmd"][name][slot] == 0 for name in ("q", "dq", "tau", "kp", "kd"))
        back = wire.command_of(sample, ROBOT)
        for name in ("joint_pos", "joint_vel", "joint_torque", "kp", "kd"):
            np.testing.assert_array_equal(getattr(back, name), getattr(command, name))
    knee, elbow = ROBOT.joint_idx(["left_knee_joint", "right_elbow_joint"])
    assert sample["motor_cmd"]["q"][3] == np.float32(command.joint_pos[knee])
    assert sample["motor_cmd"]["q"][25] == np.float32(command.joint_pos[elbow])


def test_a_state_comes_back_as_it_was_written():
    writer = wire.LowStateWriter()
    rng = np.random.default_rng(3)
    for _ in range(50):
        state = random_state(rng)
        pressed = remote.Remote(frozenset({"A", "left"}), (0.5, -0.25, 0.0, 1.0))
        data = writer.fill(state, ROBOT, 4, remote.encode(pressed), 54.0).tobytes()
        sample = wire.read_low_state(data)
        assert sample["crc"] == wire.low_state_crc(data) and sample["mode_machine"] == 4
        back = READER.state(data)
        for name in ("tick", "joint_pos", "joint_vel", "joint_torque", "joint_temperature", "base_quat_w",
                     "base_ang_vel_b", "base_lin_acc_b"):  # fmt: skip
            np.testing.assert_array_equal(getattr(back, name), getattr(state, name), name)
        assert remote.decode(sample["wireless_remote"].tobytes()) == pressed


def test_the_order_of_the_joints_is_the_tables_and_not_the_wires():
    rng = np.random.default_rng(6)
    data = wire.LowStateWriter().fill(random_state(rng), ROBOT, 4, bytes(40), 54.0).tobytes()
    order = rng.permutation(ROBOT.num_joints)
    shuffled = wire.LowStateReader(SimpleNamespace(motor_slots=ROBOT.motor_slots[order])).state(data)
    for name in ("joint_pos", "joint_vel", "joint_torque", "joint_temperature"):
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(READER.state(data), name)[order], name)


@pytest.mark.parametrize("quat", [(0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (np.nan, 0.0, 0.0, 0.0)])
def test_a_dead_imu_does_not_look_upright(quat):
    state = dataclasses.replace(random_state(np.random.default_rng(4)), base_quat_w=np.array(quat))
    data = wire.LowStateWriter().fill(state, ROBOT, 4, bytes(40), 54.0).tobytes()
    assert not READER.state(data).is_finite()


def test_the_head_says_what_the_record_says():
    rng = np.random.default_rng(3)
    for size in (0, 3, 2091, 2092, 2096):
        data = wire.HEADER[: min(4, size)] + rng.bytes(max(0, size - 4))
        head, record = wire.low_state_head(data), wire.read_low_state(data)
        assert (head is None) == (record is None) == (size < 2092)
        if head is not None and record is not None:
            assert head == (record["mode_machine"], record["tick"], record["crc"])
    assert wire.low_state_head(b"\x00\x03" + bytes(2090)) is None, "another encapsulation"


def test_a_command_that_comes_again_is_not_packed_again_and_each_new_one_is():
    rng, writer = np.random.default_rng(4), wire.LowCmdWriter(ROBOT)
    first, second = random_command(rng), random_command(rng)
    whole = wire.LowCmdWriter(ROBOT).fill(first, 4).tobytes()
    for _ in range(2):
        assert writer.fill(first, 4).tobytes() == whole
    later = dataclasses.replace(first, stamp_ns=1, sequence=2)
    assert writer.fill(later, 4).tobytes() == whole, "stamp and sequence are not on the wire"
    assert writer.fill(first, 10).tobytes() == wire.LowCmdWriter(ROBOT).fill(first, 10).tobytes() != whole
    for name in ("joint_pos", "joint_vel", "joint_torque", "kp", "kd"):
        changed = dataclasses.replace(first, **{name: getattr(second, name)})
        expected = wire.LowCmdWriter(ROBOT).fill(changed, 4).tobytes()
        assert writer.fill(first, 4).tobytes() == whole and writer.fill(changed, 4).tobytes() == expected != whole


def test_whatever_comes_nothing_breaks():
    rng = np.random.default_rng(5)
    good = wire.LowStateWriter().fill(random_state(rng), ROBOT, 4, bytes(40), 54.0).tobytes()
    wrong = 0
    for step in range(20_000):
        length = int(rng.integers(0, 2200))
        data = rng.bytes(length) if step % 2 else wire.HEADER + rng.bytes(length)
        if step % 4 == 0:  # a good one, cut off or with one bit turned
            data = bytearray(good[: int(rng.integers(len(good) + 1))])
            if len(data) == len(good):
                data = bytearray(good)
            if data:
                data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            data = bytes(data)
        state, command, bms = wire.read_low_state(data), wire.read_low_cmd(data), wire.read_bms_state(data)
        assert (state is None) == (len(data) < 2092 or data[:2] != b"\0\1")
        assert (command is None) == (len(data) < 1004 or data[:2] != b"\0\1")
        if state is not None:
            wrong += int(state["crc"]) != wire.low_state_crc(data[:2092])
            READER.state(data)
        if command is not None:
            wire.command_of(command, ROBOT)
        if bms is not None:
            assert 0 <= bms["soc"] <= 255
        remote.decode(data[:40])
    assert wrong > 100


def test_each_turned_bit_is_noticed():
    state = random_state(np.random.default_rng(6))
    good = wire.LowStateWriter().fill(state, ROBOT, 4, bytes(40), 54.0).tobytes()
    rng = np.random.default_rng(7)
    meant = [*range(4, 14), *range(16, 75), *range(76, 2092)]  # neither header nor padding
    for byte in rng.choice(meant, 300, replace=False):
        data = bytearray(good)
        data[byte] ^= 1 << int(rng.integers(8))
        assert wire.low_state_crc(bytes(data)) != int(wire.read_low_state(bytes(data))["crc"])


# the remote -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("button", remote.BUTTONS)
def test_each_button_has_its_bit(button):
    data = remote.encode(remote.Remote(frozenset({button})))
    bit = remote.BUTTONS.index(button)
    assert data[2 + bit // 8] == 1 << bit % 8 and len(data) == 40
    assert remote.decode(data).buttons == {button}


def test_presses_are_edges_and_silence_is_noticed():
    watch, ms = remote.RemoteWatch(lost_s=3.0), 1_000_000
    idle, held = (remote.encode(remote.Remote(frozenset(names))) for names in ((), ("start",)))
    assert watch.update(0, held) == frozenset(), "held when first heard: no press"
    assert watch.update(2 * ms, idle) == frozenset()
    assert watch.update(4 * ms, held) == {"start"}
    assert watch.update(6 * ms, held) == frozenset()
    assert not watch.lost(3006 * ms) and watch.lost(3007 * ms)
    assert watch.update(3100 * ms, bytes(40)) == frozenset() and watch.lost(3100 * ms)
    assert watch.update(3200 * ms, held) == frozenset() and not watch.lost(3200 * ms)
    never = remote.RemoteWatch(lost_s=3.0)
    never.update(0, bytes(40))
    assert not never.lost(3000 * ms) and never.lost(3001 * ms)


# against cyclonedds -----------------------------------------------------------------------------------
HASHES = {  # of the type descriptions compiled into Unitree's C++ headers
    "LowCmd": "65 69 fc 15 f0 d4 7a a8 60 0b 9e 91 fb bc",
    "LowState": "2f 38 29 6b 52 aa 02 30 b9 2d 37 8b 1e 39",
    "ImuState": "fc 68 71 76 65 12 06 55 84 73 df 44 22 80",
    "MotorCmd": "82 7f 55 de 9b 9d e3 8c 62 ba cd 1e 56 c9",
    "MotorState": "7c c5 84 ed 94 0b 8f 30 18 f1 8d e0 ed 24",
    "Request": "cb a4 dc 96 5d 39 3a da 76 b4 de 08 19 25",
    "Response": "48 c9 97 d3 79 c3 e1 8c 53 0b 5f 8f e9 46",
}


@pytest.fixture(scope="module")
def idl():
    pytest.importorskip("cyclonedds", reason="needs cyclonedds 11")
    from genmimic.link import idl

    return idl


@pytest.mark.parametrize("name", HASHES)
def test_the_types_are_unitrees(idl, name):
    assert idl.minimal_hash(getattr(idl, name)).hex(" ") == HASHES[name]


def test_no_octet_is_declared_as_a_number(idl):
    for cls in vars(idl).values():
        if dataclasses.is_dataclass(cls):
            assert not any(word in str(cls.__annotations__) for word in ("uint8", "int8"))


def test_our_bytes_are_those_of_cyclone(idl):
    from genmimic.link.rpc import encode

    rng = np.random.default_rng(8)
    command_writer, state_writer = wire.LowCmdWriter(ROBOT), wire.LowStateWriter()
    for _ in range(5):
        data = command_writer.fill(random_command(rng), 4).tobytes()
        message = idl.LowCmd.deserialize(data)
        assert message.serialize(use_version_2=False) == data and message.crc == wire.low_cmd_crc(data)
        assert message.mode_machine == 4 and message.motor_cmd[13].mode == 0 and message.motor_cmd[0].mode == 1
        state = random_state(rng)
        data = state_writer.fill(state, ROBOT, 10, bytes(range(40)), 54.0).tobytes()
        message = idl.LowState.deserialize(data)
        assert message.serialize(use_version_2=False) == data and message.crc == wire.low_state_crc(data)
        assert message.tick == state.tick & 0xFFFFFFFF and bytes(message.wireless_remote) == bytes(range(40))
        assert message.motor_state[26].q == state.joint_pos[-1]
    for text in ("", "{}", '{"name": "ai"}', "\N{SNOWMAN}" * 7):
        identity = idl.RequestIdentity(2**62 + 5, 1003)
        request = idl.Request(idl.RequestHeader(identity, idl.RequestLease(0), idl.RequestPolicy(0, False)), text, [])
        response = idl.Response(idl.ResponseHeader(identity, idl.ResponseStatus(-3)), text, [])
        assert wire.encode_request(2**62 + 5, 1003, text) == encode(request)
        assert wire.encode_response(2**62 + 5, 1003, -3, text) == encode(response)
        assert wire.decode_request(encode(request)) == (2**62 + 5, 1003, 0, text)
        assert wire.decode_response(encode(response)) == (2**62 + 5, 1003, -3, text)
        for size in range(len(encode(response)) - 8):
            assert wire.decode_response(encode(response)[:size]) is None or not text
            wire.decode_request(encode(request)[:size])
    charge = idl.BmsState(1, 0, 0, [1] * 40, [2] * 3, -5, 87, 99, [21] * 12, 3, 4, [0] * 5, [0] * 3)
    sample = wire.read_bms_state(charge.serialize(use_version_2=False))
    assert (sample["soc"], sample["soh"], sample["current"], sample["cycle"]) == (87, 99, -5, 3)
