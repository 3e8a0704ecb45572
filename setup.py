# SPDX-License-Identifier: Apache-2.0
"""Makes the library installable with pip, without ROS 2.

The metadata is in pyproject.toml. colcon does not use this file: with ROS 2, CMakeLists.txt installs the packages.
"""

from setuptools import setup

setup()
