# SPDX-License-Identifier: Apache-2.0
"""The browser view: a page with the robot, its goal and their difference, live or afterwards. No ROS here.

- `genmimic.view.meshes`: what the robot looks like, as triangles; NumPy alone
- `genmimic.view.server`: the page's server, on this machine alone unless told otherwise
- `genmimic.view.scene`: robot, keypoints, errors, contacts and rope in the browser
- `genmimic.view.clip`, `genmimic.view.player`: motions and finished runs, with a time line
- `genmimic.view.live`: a running robot, with buttons and plots; `genmimic_ros.nodes.viewer_node` feeds it
- `genmimic.view.pictures`: the source video beside it

Needs viser, of the extra ``viewer``.
"""
