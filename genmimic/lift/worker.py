# SPDX-License-Identifier: Apache-2.0
"""The pose landmarker's own process: pictures in on standard input, landmarks out on standard output.

Runs alone, by path, in the isolated environment (see `genmimic.lift.environment`): it must import nothing of ours.

Protocol, little endian. Request: one byte ``L`` (landmarks), ``D`` (detect people) or ``R`` (forget the person), width
and height as uint32, then for L and D width*height*3 bytes of RGB. Answer to L: uint32 0, or 33 and 33 rows of 6
float32 (x, y in pixels, visibility, world x, y, z in m). Answer to D: uint32 count and as many rows of 5 float32
(score, box x0, y0, x1, y1 in pixels; the box spans hips, shoulders and the circle around the whole body). Answer to R:
uint32 0. The first thing written is ``GMLW`` when the models are loaded.
"""

import importlib.machinery
import os
import struct
import sys
import types

LANDMARKS = 33
_DETECTION_GRAPH = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


def _stand_in(name):
    """Let `import name` work for a package that is imported and not used: drawing helpers."""
    try:
        importlib.import_module(name)
    except ImportError:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def main():
    """Serve requests until standard input ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix with answers
    os.environ.setdefault("GLOG_minloglevel", "2")
    for name in ("matplotlib", "matplotlib.pyplot", "cv2"):
        _stand_in(name)
    import numpy as np
    from google.protobuf import text_format
    from mediapipe.framework import calculator_pb2
    from mediapipe.python.solution_base import SolutionBase
    from mediapipe.python.solutions.pose import Pose

    config = text_format.Parse(_DETECTION_GRAPH, calculator_pb2.CalculatorGraphConfig())
    pose = Pose(model_complexity=1, smooth_landmarks=False, min_detection_confidence=0.5, min_tracking_confidence=0.5)
    detector = None
    source = sys.stdin.buffer
    out.write(b"GMLW")
    out.flush()
    while True:
        head = source.read(9)
        if len(head) < 9:
            return
        kind, width, height = struct.unpack("<cII", head)
        if kind == b"R":
            pose.reset()
            out.write(struct.pack("<I", 0))
            out.flush()
            continue
        raw = source.read(width * height * 3)
        if len(raw) < width * height * 3:
            return
        image = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
        rows: list[tuple[float, ...]] = []
        if kind == b"L":
            found = pose.process(image)
            if found.pose_landmarks is not None and found.pose_world_landmarks is not None:
                both = zip(found.pose_landmarks.landmark, found.pose_world_landmarks.landmark, strict=True)
                for flat, world in both:
                    rows.append((flat.x * width, flat.y * height, flat.visibility, world.x, world.y, world.z))
        else:
            if detector is None:
                detector = SolutionBase(graph_config=config, outputs=["detections"])
            for item in detector.process({"image": image}).detections or ():
                points = [(p.x * width, p.y * height) for p in item.location_data.relative_keypoints]
                (cx, cy), (rx, ry) = points[0], points[1]  # middle of the hips, a point on the circle
                radius = ((rx - cx) ** 2 + (ry - cy) ** 2) ** 0.5
                rows.append((item.score[0], cx - radius, cy - radius, cx + radius, cy + radius))
        out.write(struct.pack("<I", len(rows)))
        out.write(np.asarray(rows, "<f4").tobytes())
        out.flush()


if __name__ == "__main__":
    main()
