# SPDX-License-Identifier: Apache-2.0
"""The robot's wire protocol: messages, DDS, the hardware bridge, and a twin that speaks it. No ROS.

Modules: `wire` (bytes), `idl` (DDS types), `dds` (transport), `rpc` (motion switcher), `remote` (hand-held control),
`hardware` (the link and the gated bridge), `guard` (damps when the bridge has died), `twin` (a simulated G1 as a peer),
`drill` (faults on purpose). All but `wire` and `remote` need cyclonedds (``pip install 'genmimic-ros[hardware]'``).
"""
