#!/bin/sh
# Resolves pyproject.toml with all extras in a throw-away environment and writes requirements.lock.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
torch=$(sed -n 's/^torch==/torch==/p' requirements.lock 2>/dev/null || true)
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --upgrade pip
"$work/venv/bin/pip" install --quiet "${torch:-torch}"
"$work/venv/bin/pip" install --quiet ".[s3,sftp,sql,webdav,hdfs,hf,metrics,ui,test,docs,bench,dev]"
{
    echo "# Every package of the environment that 'make venv' makes; written by 'make lock'."
    # A local version label (+cpu) names a build, not a version; CUDA libraries come with the build that needs them.
    "$work/venv/bin/pip" list --format=freeze --exclude pip --exclude setuptools --exclude modelfs |
        grep -v '^nvidia-\|^triton==' | sed 's/+[a-z0-9.]*$//'
} >requirements.lock
