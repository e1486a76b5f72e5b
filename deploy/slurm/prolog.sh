#!/bin/sh
# Slurm's Prolog, run by root on each node before a job: mounts the store at /run/modelfs/JOB for the job's user alone.
# Which one: /etc/modelfs/NAME.toml, whose cache all jobs of the node share. A Prolog that fails drains the node.
set -eu
name=${MODELFS_JOB_MOUNT:-team-a}
base=${MODELFS_JOB_BASE:-/run/modelfs}
: "${SLURM_JOB_ID:?}" "${SLURM_JOB_UID:?}" "${SLURM_JOB_GID:?}"

mkdir -p -m 755 "$base"
mkdir -p -m 700 "$base/$SLURM_JOB_ID"
modelfs mount "@$name" "$base/$SLURM_JOB_ID" --allow-other --uid "$SLURM_JOB_UID" --gid "$SLURM_JOB_GID" --umask 077
