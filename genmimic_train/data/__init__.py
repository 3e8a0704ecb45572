# SPDX-License-Identifier: Apache-2.0
"""What is trained on: motions of our own making."""
