# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes around the GenMimic library, and the messages they exchange.

The generated modules ``genmimic_ros.msg`` and ``genmimic_ros.srv`` live in the install folder, the nodes in the source
tree. ``extend_path`` joins both into one package, whichever of the two is found first.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
