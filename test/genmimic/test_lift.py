# SPDX-License-Identifier: Apache-2.0
"""Lifting: reading video, finding what disturbs it, and cleaning, against made-up people of whom all is known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from genmimic.core.errors import ConfigError, GenMimicError, InputFileError, MissingDependencyError, MotionError
from genmimic.core.human import REQUIRED_JOINTS, load_human_motion
from genmimic.lift.environment import ensure_python, find_python
from genmimic.lift.ground import up_vector
from genmimic.lift.importers.smpl import REST_JOINTS
from genmimic.lift.landmarks import LANDMARK_NAMES, NUM_LANDMARKS, LandmarkError
from genmimic.lift.motion import Steps, lift_observation, resample_paths
from genmimic.lift.observe import Observation, _crossed, _Picture, _Watch, observe
from genmimic.lift.solve import POINTS
from genmimic.lift.video import looks_like_video

av = pytest.importorskip("av", reason="reading video needs PyAV")
SHARED = Path(os.environ.get("GENMIMIC_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FOCAL, SIZE = 1000.0, (1000, 1000)


# a made-up person ------------------------------------------------------------------------------
def person(time_s, wave_hz=2.0, step_m=0.0):
    """World paths by point name: stands, facing x; the left hand waves; the left foot steps aside in the middle."""
    rest = {name: REST_JOINTS["neutral"][idx] for idx, name in enumerate(_smpl_names())}
    to_world = np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 1.0, 0]])  # x left, y up, z forward to x forward, y left, z up
    at = {name: to_world @ pos + [0.0, 0.0, 1.175] for name, pos in rest.items()}
    still = {name: np.tile(pos, (len(time_s), 1)) for name, pos in at.items()}
    points = {name: still[name] for name in POINTS if name in still}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        ankle = still[f"{side}_ankle"]
        points[f"{side}_heel"] = ankle + [-0.05, 0.0, -0.06]
        points[f"{side}_toe"] = ankle + [0.17, 0.0, -0.07]
        points[f"{side}_ear"] = still["head"] + [0.0, 0.07 * sign, 0.08]
        shoulder = still[f"{side}_shoulder"]
        points[f"{side}_elbow"] = shoulder + [0.0, 0.05 * sign, -0.27]
        points[f"{side}_wrist"] = points[f"{side}_elbow"] + [0.05, 0.0, -0.24]
        points[f"{side}_knuckles"] = points[f"{side}_wrist"] + [0.0, 0.0, -0.09]
    points["nose"] = still["head"] + [0.1, 0.0, 0.06]
    angle = 0.6 * np.sin(2 * np.pi * wave_hz * time_s)
    swing = np.stack([np.zeros_like(angle), np.sin(angle), np.cos(angle)], -1)
    points["left_elbow"] = still["left_shoulder"] + [0.0, 0.27, 0.05]
    points["left_wrist"] = points["left_elbow"] + 0.25 * swing
    points["left_knuckles"] = points["left_elbow"] + 0.34 * swing
    share = np.clip((time_s - 1.0) / 0.4, 0.0, 1.0)
    smooth = share * share * (3 - 2 * share)
    for name in ("left_ankle", "left_heel", "left_toe"):
        points[name] = points[name] + np.stack(
            [0 * smooth, step_m * smooth, 0.1 * (step_m > 0) * np.sin(np.pi * smooth)], -1
        )
    knee = 0.5 * (points["left_hip"] + points["left_ankle"])
    knee[:, 0] += 0.05 + 0.1 * (step_m > 0) * np.sin(np.pi * smooth)
    points["left_knee"] = knee
    return points


def _smpl_names():
    from genmimic.core.human import SMPL_JOINTS

    return SMPL_JOINTS


def film(time_s, points, pitch_deg=10.0, noise_px=0.0, noise_m=0.0, seed=0):
    """What a perfect landmarker sees of it from 4 m ahead, and how to get from the camera to the world."""
    up = up_vector(np.array([np.deg2rad(pitch_deg), 0.0]))
    right = np.array([1.0, 0.0, 0.0])
    away = np.cross(up, right)  # level and away from the camera
    world_from_camera = np.stack([-away, right, up])  # the person faces the camera: x is towards it
    eye = np.array([4.0, 0.0, 1.2])
    rng = np.random.default_rng(seed)
    camera = {name: (pos - eye) @ world_from_camera for name, pos in points.items()}
    hips = 0.5 * (camera["left_hip"] + camera["right_hip"])
    pixel, world = np.zeros((len(time_s), NUM_LANDMARKS, 2)), np.zeros((len(time_s), NUM_LANDMARKS, 3))
    for number, name in enumerate(LANDMARK_NAMES):
        side = name.split("_")[0]
        source = name if name in camera else f"{side}_knuckles" if ("index" in name or "pinky" in name) else "nose"
        pos = camera[source]
        pixel[:, number] = FOCAL * pos[:, :2] / pos[:, 2:] + 0.5 * np.array(SIZE)
        world[:, number] = pos - hips
    # The landmarker does not know that the person is off the middle of the picture: see Steps.turn.
    pixel += noise_px * rng.standard_normal(pixel.shape)
    world += noise_m * rng.standard_normal(world.shape)
    return Observation(
        time_s, pixel, np.ones((len(time_s), NUM_LANDMARKS)), world, SIZE, 30.0, frame_number=np.arange(len(time_s))
    )


def lift(seen, **options):
    steps = options.pop("steps", Steps(turn=False))
    return lift_observation(seen, height=1.72, focal_px=FOCAL, steps=steps, **options)


def error_cm(motion, points, time_s):
    """Mean distance after aligning the start of the hips and nothing else."""
    at = time_s[0] + np.arange(len(motion)) / motion.fps
    total = []
    shift = motion.pos("left_hip")[0] - points["left_hip"][0]
    for name in REQUIRED_JOINTS:
        truth = np.stack([np.interp(at, time_s, points[name][:, axis]) for axis in range(3)], -1)
        total.append(np.linalg.norm(motion.pos(name) - truth - shift * [1.0, 1.0, 0.0], axis=-1))
    return 100 * float(np.mean(total))


TIME = np.arange(75) / 30.0


def test_clean_landmarks_come_back_in_the_world():
    points = person(TIME, step_m=0.25)
    result = lift(film(TIME, points))
    assert error_cm(result.motion, points, TIME) < 3.0
    assert result.ground.pitch_deg == pytest.approx(10.0, abs=3.0)
    assert result.motion.confidence.min() > 0.5
    assert abs(result.motion.pos("left_hip")[0, 1] - result.motion.pos("right_hip")[0, 1]) > 0.1, "it faces x"
    assert (result.motion.pos("left_hip") - result.motion.pos("right_hip"))[0, 1] > 0


@pytest.mark.parametrize("pitch", [0.0, 20.0])
def test_gravity_is_found(pitch):
    result = lift(film(TIME, person(TIME, step_m=0.25), pitch_deg=pitch, noise_px=3.0))
    assert result.ground.pitch_deg == pytest.approx(pitch, abs=5.0)
    feet = result.motion.pos("left_ankle")[:, 2]
    assert 0.03 < np.median(feet) < 0.14


def test_noise_is_removed_and_a_fast_wave_stays_fast():
    points = person(TIME, wave_hz=3.0)
    seen = film(TIME, points, noise_px=3.0, noise_m=0.03)
    result = lift(seen)
    assert error_cm(result.motion, points, TIME) < 4.5

    def speed(path):
        return np.linalg.norm(np.diff(path, axis=0), axis=-1) * 30.0

    got, true = speed(result.motion.pos("left_wrist")), speed(points["left_wrist"])
    assert np.percentile(got, 90) > 0.8 * np.percentile(true, 90), "the wave is as fast as it was"
    resting = speed(result.motion.pos("right_wrist"))
    raw = speed(result.raw_pos[:, POINTS.index("right_wrist")])
    assert np.median(resting) < 0.15 * np.median(raw), "a resting hand rests"


def test_bones_keep_their_lengths():
    result = lift(film(TIME, person(TIME), noise_px=3.0, noise_m=0.04))
    assert result.bone_spread[1] < 0.25 * result.bone_spread[0]


def test_standing_feet_do_not_slide():
    seen = film(TIME, person(TIME), noise_px=4.0, noise_m=0.03)

    def slide(steps):
        foot = lift(seen, steps=steps).motion.pos("right_ankle")
        return np.linalg.norm(np.diff(foot[:, :2], axis=0), axis=-1).mean() * 30.0

    assert slide(Steps(turn=False)) < 0.02
    assert slide(Steps(turn=False)) < 0.7 * slide(Steps(turn=False, stance=False))


def test_swaps_of_left_and_right_are_undone():
    points = person(TIME, step_m=0.25)
    seen = film(TIME, points, noise_px=2.0, noise_m=0.02)
    swapped = [LANDMARK_NAMES.index(name) for name in LANDMARK_NAMES]
    mirror = [
        LANDMARK_NAMES.index(
            name.replace("left", "~").replace("right", "left").replace("~", "right")
        )
        for name in LANDMARK_NAMES
    ]  # fmt: skip
    pixel, world = seen.pixel.copy(), seen.world.copy()
    bad = [10, 11, 12, 40, 41]
    for frame in bad:
        pixel[frame], world[frame] = pixel[frame][mirror], world[frame][mirror]
    assert swapped != mirror
    result = lift(replace(seen, pixel=pixel, world=world))
    assert result.swapped == len(bad) and any("swapped back" in note for note in result.notes)
    clean = error_cm(lift(seen).motion, points, TIME)
    assert error_cm(result.motion, points, TIME) < clean + 0.5
    assert lift(seen).swapped == 0


def test_outliers_and_gaps_are_bridged_and_say_so():
    points = person(TIME)
    seen = film(TIME, points, noise_px=2.0, noise_m=0.02)
    pixel, world, visible = seen.pixel.copy(), seen.world.copy(), seen.visibility.copy()
    wrist = LANDMARK_NAMES.index("right_wrist")
    pixel[20, wrist] += [300.0, -200.0]
    world[20, wrist] += [0.5, 0.5, 0.5]
    visible[50:56] = 0.0
    pixel[50:56], world[50:56] = 0.0, 0.0
    result = lift(replace(seen, pixel=pixel, world=world, visibility=visible))
    column = result.motion.joint_names.index("right_wrist")
    true = points["right_wrist"][20] - points["right_hip"][20]
    got = result.motion.joint_pos[20, column] - result.motion.pos("right_hip")[20]
    assert np.linalg.norm(got - true) < 0.08
    assert result.motion.confidence[20, column] < 0.3 < result.motion.confidence[10, column]
    assert (result.motion.confidence[51:55] == 0.0).all()
    assert error_cm(result.motion, points, TIME) < 5.0


def test_an_upside_down_film_is_turned_and_says_so():
    seen = film(TIME[:30], person(TIME[:30]))
    over = replace(seen, pixel=np.array(SIZE) - seen.pixel, world=seen.world * [-1.0, -1.0, 1.0])
    turned = lift(over)
    np.testing.assert_allclose(turned.motion.joint_pos, lift(seen).motion.joint_pos, atol=1e-9)
    assert any("upside down" in note for note in turned.notes)


def test_uneven_stamps_are_honoured():
    rng = np.random.default_rng(3)
    uneven = np.sort(rng.choice(np.arange(150), 80, replace=False)) / 60.0
    points = person(uneven, wave_hz=1.0)
    result = lift(film(uneven, points, noise_px=1.0), fps=50.0)
    assert result.motion.fps == 50.0
    assert result.motion.duration == pytest.approx(uneven[-1] - uneven[0], abs=0.021)
    assert error_cm(result.motion, points, uneven) < 4.0


def test_resampling_passes_through_what_it_was_given_and_keeps_straight_lines():
    time_s = np.array([0.0, 0.1, 0.25, 0.3])
    line = np.stack([time_s * 2.0, 1.0 - time_s], -1)
    np.testing.assert_allclose(resample_paths(time_s, line, time_s), line, atol=1e-12)
    at = np.linspace(0.0, 0.3, 13)
    np.testing.assert_allclose(resample_paths(time_s, line, at), np.stack([2 * at, 1 - at], -1), atol=1e-12)


def test_height_scales_and_bad_numbers_are_refused():
    seen = film(TIME, person(TIME))
    small = lift_observation(seen, height=0.9, focal_px=FOCAL)
    tall = lift_observation(seen, height=1.8, focal_px=FOCAL)
    ratio = np.ptp(tall.motion.joint_pos[0, :, 2]) / np.ptp(small.motion.joint_pos[0, :, 2])
    assert ratio == pytest.approx(2.0, rel=0.05)
    for bad in ({"height": 17.0}, {"focal_px": 3.0}, {"fps": 0.0}):
        with pytest.raises(ConfigError):
            lift_observation(seen, **bad)
    with pytest.raises(MotionError, match="pictures"):
        lift_observation(seen.part(slice(0, 2)))


# watching a video ------------------------------------------------------------------------------
def write_video(path, images, stamps=None, fps=30, codec="libx264"):
    """Write RGB pictures, shown at ``stamps`` (in 1/90000 s) or evenly."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], "yuv420p"
        stream.time_base = Fraction(1, 90000)
        if codec == "libx264":
            stream.codec_context.time_base = Fraction(1, 90000)  # else stamps are rounded to whole frames
            stream.options = {"preset": "ultrafast", "crf": "15", "bf": "0"}
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = int(stamps[number]) if stamps is not None else number * 90000 // fps
            frame.time_base = Fraction(1, 90000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scene(number, shift=0, seed=1):
    """A picture of a textured wall with a bright bar that moves."""
    wall = np.kron(np.random.default_rng(seed).integers(40, 200, (12, 16)), np.ones((20, 20))).astype(np.uint8)
    image = np.repeat(np.roll(wall, shift, 1)[..., None], 3, -1)
    image[60:180, 40 + 4 * number : 80 + 4 * number] = 255
    return image


class FakeLandmarker:
    """Sees one person on the bar, or nobody where it is dark; remembers what it was shown."""

    def __init__(self, people=1):
        self.people, self.shown, self.resets, self._last = people, [], 0, None

    def reset(self):
        self.resets += 1

    def detect(self, image):
        boxes = [[0.9, 20.0, 20.0, 200.0, 200.0], [0.8, 230.0, 60.0, 310.0, 140.0]]
        return np.array(boxes[: self.people if image.mean() > 5 else 0]).reshape(-1, 5)

    def send(self, image):
        self.shown.append(image)
        self._last = image

    def receive(self):
        if self._last.mean() < 5:
            return None
        row = np.zeros((NUM_LANDMARKS, 6))
        row[:, 0], row[:, 1], row[:, 2] = np.linspace(90, 130, 33), np.linspace(40, 180, 33), 0.9
        return row


def watch(path, **options):
    options.setdefault("landmarkers", [FakeLandmarker()])
    return observe(path, **options)


def test_stamps_come_from_the_container(tmp_path):
    stamps = np.array([0, 3000, 9000, 10500, 18000, 21000])
    path = write_video(tmp_path / "a.mp4", [scene(n) for n in range(6)], stamps)
    np.testing.assert_allclose(watch(path).time_s, stamps / 90000.0, atol=1e-6)


@pytest.mark.parametrize("fps", [16, 24, 25, 60])
def test_usual_rates(tmp_path, fps):
    seen = watch(write_video(tmp_path / "a.mp4", [scene(n) for n in range(6)], fps=fps))
    assert np.diff(seen.time_s) == pytest.approx(1.0 / fps, abs=1e-3)


def test_the_name_does_not_matter_and_crops_are_checked(tmp_path):
    path = write_video(tmp_path / "a.txt", [scene(n) for n in range(6)])
    assert looks_like_video(path) and not looks_like_video(__file__) and not looks_like_video(tmp_path / "absent")
    assert watch(path).size == (320, 240)
    assert watch(path, crop=[0, 0, 160, 240]).size == (160, 240)
    with pytest.raises(ConfigError, match="inside the picture of 320 x 240"):
        watch(path, crop=[200, 0, 160, 240])


def test_repeated_pictures_are_left_out_and_times_made_even(tmp_path):
    images = [scene(n * 16 // 30) for n in range(30)]  # 16 Hz shown at 30 Hz
    seen = watch(write_video(tmp_path / "a.mp4", images))
    assert len(seen) == 16 and seen.repeats == 14
    assert np.diff(seen.time_s) == pytest.approx(1 / 16, abs=2e-3)


def test_a_cut_keeps_the_longer_part(tmp_path):
    images = [scene(n) for n in range(10)] + [255 - scene(n, seed=5) for n in range(16)]
    fake = FakeLandmarker()
    seen = watch(write_video(tmp_path / "a.mp4", images), landmarkers=[fake])
    assert seen.cuts_s == (pytest.approx(10 / 30, abs=0.01),) and len(seen) == 16
    assert any("cut at 0.33 s" in note for note in seen.notes) and fake.resets >= 2


def test_a_moving_camera_is_noticed_and_a_still_one_is_not(tmp_path):
    still = watch(write_video(tmp_path / "a.mp4", [scene(n) for n in range(12)]))
    moving = watch(write_video(tmp_path / "b.mp4", [scene(n, shift=5 * n) for n in range(12)]))
    assert any("camera moves" in note for note in moving.notes)
    assert not any("camera moves" in note for note in still.notes)


def test_other_people_are_reported_and_hidden(tmp_path):
    fake = FakeLandmarker(people=2)
    seen = watch(write_video(tmp_path / "a.mp4", [scene(n) for n in range(5)]), landmarkers=[fake])
    assert seen.people == 2 and any("2 people" in note for note in seen.notes)
    shown = fake.shown[-1]
    assert (shown[100, 265:275] == 114).all() and not (shown[100, 100:110] == 114).all()
    fake = FakeLandmarker(people=2)
    watch(tmp_path / "a.mp4", landmarkers=[fake], point=[270.0, 100.0])
    assert not (fake.shown[0][100, 265:275] == 114).all(), "the one pointed at is the one to follow"


class FakeFollower:
    """Two people stand side by side; the larger one, on the right, is seen unless it is hidden. The picture's number is
    in its first pixel and comes back as the height of all landmarks."""

    def __init__(self):
        self.resets, self.seen = 0, 0

    def reset(self):
        self.resets += 1

    def detect(self, image):
        return np.array([[0.9, 20.0, 50.0, 60.0, 90.0], [0.9, 100.0, 30.0, 180.0, 110.0]])

    def send(self, image):
        self.seen += 1
        self._number, self._right = int(image[0, 0, 0]), image[70, 140, 0] != 114

    def receive(self):
        row = np.zeros((NUM_LANDMARKS, 6))
        row[:, 0] = np.linspace(-15, 15, 33) + (140 if self._right else 40)
        row[:, 1], row[:, 2] = np.linspace(-20, 20, 33) + 70 + 0.01 * self._number, 0.9
        return row


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("point", [None, np.array([40.0, 70.0])])
def test_many_landmarkers_find_what_one_finds(count, point):
    fakes = [FakeFollower() for _ in range(count)]
    rows = []
    with _Watch(fakes, 230) as watch:
        for number in range(230):
            image = np.full((140, 220, 3), 30, np.uint8)
            image[0, 0] = number
            rows += watch.add(_Picture(number / 30.0, image), fresh=number == 0, point=None if number else point)
        rows += watch.rest()
    found = np.array(rows)
    assert len(found) == 230 and watch.people == 2
    np.testing.assert_allclose(
        found[:, :, 1].mean(1), 70.0 + 0.01 * np.arange(230), atol=1e-9, err_msg="in their order"
    )
    np.testing.assert_allclose(found[:, :, 0].mean(1), 140.0 if point is None else 40.0, err_msg="the same person")
    if count == 1:
        assert fakes[0].resets == 1 and fakes[0].seen == 230, "a single one goes on where it was"


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("at", [3, 61, 150])
def test_a_landmarker_that_fails_ends_the_work(count, at):
    class Failing(FakeFollower):
        def send(self, image):
            super().send(image)
            if self._number == at:
                raise LandmarkError("gone")

    with pytest.raises(LandmarkError, match="gone"), _Watch([Failing() for _ in range(count)], 230) as watch:
        for number in range(230):
            image = np.full((140, 220, 3), 30, np.uint8)
            image[0, 0] = number
            watch.add(_Picture(number / 30.0, image), fresh=number == 0, point=None)
        watch.rest()


def test_where_two_landmarkers_meet_landmarks_go_over_gradually_and_swapped_sides_at_once():
    a, b = np.zeros((2, NUM_LANDMARKS, 6))
    a[:, :2] = b[:, :2] = np.random.default_rng(0).uniform(0.0, 100.0, (NUM_LANDMARKS, 2))
    b[0, 0] += 1.0
    b[1, 0] += 30.0
    middle = _crossed(a, b, 0.5)
    assert middle[0, 0] == pytest.approx(a[0, 0] + 0.5) and middle[1, 0] == a[1, 0]
    assert _crossed(None, b, 0.5) is None


def test_nobody_and_darkness(tmp_path):
    dark = [np.full((64, 64, 3), n % 2, np.uint8) for n in range(6)]
    with pytest.raises(MotionError, match="picture"):
        watch(write_video(tmp_path / "a.mp4", dark))
    images = [scene(n) for n in range(5)] + [0 * scene(0) + 2 * (n % 2) for n in range(5)]
    seen = watch(write_video(tmp_path / "b.mp4", images))
    assert len(seen) == 5


def test_damaged_videos_say_what_is_wrong(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    whole = write_video(tmp_path / "whole.mp4", [scene(n) for n in range(30)])
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text = tmp_path / "text.mp4"
    text.write_text("not a video at all\n" * 20)
    single = write_video(tmp_path / "single.mp4", [scene(0)])
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for path, words in (
        (tmp_path / "absent.mp4", "no such file"), (tmp_path, "is not a file"), (empty, "0 bytes"),
        (headless, "cut off"), (text, "not a video"), (single, "1 picture"), (sound, "only audio"),
    ):  # fmt: skip
        with pytest.raises((InputFileError, MotionError), match=words) as caught:
            watch(path)
        assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_a_truncated_video_is_used_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(number), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    seen = watch(path)
    assert 5 < len(seen) < 30


def test_large_pictures_are_shrunk(tmp_path):
    image = np.kron(scene(0)[::4, ::4], np.ones((36, 48, 1), np.uint8))  # 2160 x 3840
    images = [np.roll(image, 40 * n, 1) for n in range(3)]
    seen = watch(write_video(tmp_path / "a.mp4", images, codec="mpeg4"))
    assert max(seen.size) == 960


# the landmarker itself -------------------------------------------------------------------------
def test_without_the_landmarker_there_is_one_clear_line(tmp_path, monkeypatch):
    for name in ("GENMIMIC_LIFT_PYTHON", "GENMIMIC_LIFT_ENV", "GENMIMIC_LIFT_SETUP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GENMIMIC_LIFT_ENV", str(tmp_path / "none"))
    monkeypatch.setenv("GENMIMIC_LIFT_SETUP", "0")
    if find_python() is None:
        with pytest.raises(MissingDependencyError, match="lift-setup"):
            ensure_python()
    monkeypatch.setenv("GENMIMIC_LIFT_PYTHON", str(tmp_path / "no-python"))
    from genmimic.lift.landmarks import Landmarker

    with pytest.raises(MissingDependencyError, match="cannot start"):
        Landmarker()
    monkeypatch.setenv("GENMIMIC_LIFT_PYTHON", "/bin/true")
    with pytest.raises(MissingDependencyError, match="does not start"):
        Landmarker()


def cli(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "genmimic.cli", "lift", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_command_refuses_before_it_works(tmp_path):
    video = write_video(tmp_path / "a.mp4", [scene(n) for n in range(3)])
    from genmimic.cli import main

    for arguments in ([tmp_path / "absent.mp4", "-o", tmp_path / "b.npz"], [video, "-o", tmp_path / "b.txt"]):
        assert main(["lift", *map(str, arguments)]) == 2
    assert not list(tmp_path.glob("b.*"))


CLIP = SHARED / "data" / "videos" / "pose2sim_singleperson" / "cam01.mp4"


@pytest.mark.skipif(not CLIP.is_file(), reason="public video clips not here")
@pytest.mark.skipif(find_python() is None, reason="the pose landmarker is not set up: make lift-setup")
def test_a_real_clip_from_end_to_end(tmp_path):
    out, film_path, plots = tmp_path / "a.npz", tmp_path / "a.mp4", tmp_path / "a.png"
    page = tmp_path / "a.html"
    done = cli(
        CLIP, "-o", out, "--end", "0.5", "--height", "1.7", "--preview", film_path, "--plots", plots, "--html", page,
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    motion = load_human_motion(out)
    assert report["found"] == 1.0 and len(motion) == report["frames"] and motion.fps == pytest.approx(60.0)
    assert 1.3 < motion.pos("head")[0, 2] < 1.7 and motion.confidence.mean() > 0.5
    assert 0.0 < motion.pos("right_ankle")[0, 2] < 0.2
    with av.open(str(film_path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == report["pictures"]
    assert plots.read_bytes()[:4] == b"\x89PNG"
    told = page.read_text()
    assert "data:video/mp4" in told and "data:image/png" in told and 'class="player"' in told and "1.70 m" in told
    assert not re.search(r'(src|href)="http', told), "the page needs no other file"
    again = cli(CLIP, "-o", out)
    assert again.returncode == 2 and "--force" in again.stderr and len(again.stderr.splitlines()) == 1


def test_errors_are_ours():
    assert issubclass(MotionError, GenMimicError)
