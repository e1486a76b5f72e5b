#!/bin/sh
# Slurm's Epilog, run by root on each node after a job: brings in what is pending, and unmounts. What the store does not
# take in two minutes stays in the node's journal for the next mount, or `modelfs journal retry`.
set -u
mountpoint=${MODELFS_JOB_BASE:-/run/modelfs}/${SLURM_JOB_ID:?}

# A mount whose daemon is gone is there, and does not exist.
[ -e "$mountpoint" ] || grep -q " $mountpoint " /proc/mounts || exit 0
modelfs umount --timeout 120 "$mountpoint" || modelfs umount --force --lazy "$mountpoint" || exit 1
rmdir "$mountpoint"
