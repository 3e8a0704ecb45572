# syntax=docker/dockerfile:1
# SPDX-License-Identifier: Apache-2.0
# GenMimic-ROS on Debian 12, with everything `make setup` brings. Not tried by its authors: see docs/tutorial.md.
#
#   docker build -t genmimic .
#   docker run --rm -it --init --shm-size 256m genmimic genmimic mimic wave
FROM debian:12-slim

# What docs/tutorial.md asks for, drawing without a screen (EGL by Mesa), and git for the revision in reports.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates \
        g++ \
        git \
        libegl1 \
        libgl1-mesa-dri \
        make \
        python3 \
        python3-dev \
        python3-venv \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 --shell /bin/bash robot
USER robot
WORKDIR /home/robot/genmimic-ros

# The long step first, from what it depends on alone: an edit of the sources does not repeat the download.
COPY --chown=robot:robot Makefile ./
COPY --chown=robot:robot requirements/ requirements/
RUN make .venv/.run-requirements \
    && rm -rf /home/robot/.cache/pip

COPY --chown=robot:robot . .
RUN make setup

ENV LANG=C.UTF-8
ENV PATH=/home/robot/genmimic-ros/.venv/bin:$PATH
CMD ["bash"]
