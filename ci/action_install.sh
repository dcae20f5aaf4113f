#!/usr/bin/env bash
# Installs what the action needs into its own folder, without changing PATH. A virtual environment would take a second or
# two and need python3-venv. Versions and hashes are locked; only wheels are installed, so that nothing is built.
set -euo pipefail

home=$RUNNER_TEMP/cgroup-preflight
lib=$home/lib
lock=$GITHUB_ACTION_PATH/ci/action-requirements.txt
stamp=$("$CGPF_PYTHON" -I -c 'import sys, sysconfig; print(sysconfig.get_platform(), sys.version)')-$CGPF_VERSION
if [ -f "$home/stamp" ] && [ "$(cat "$home/stamp")" = "$stamp" ]; then
  exit 0 # the action's second use in this job
fi
if [ -n "$CGPF_VERSION" ] && ! [[ $CGPF_VERSION =~ ^[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?$ ]]; then
  echo "::error title=cgroup-preflight::the input version is not a version such as 1.2.3"
  exit 2
fi
rm -rf "$home"
mkdir -p "$lib"
install=("$CGPF_PYTHON" -I -m pip install --quiet --disable-pip-version-check --no-input --no-compile --root-user-action ignore --target "$lib")
echo "::group::Install cgroup-preflight"
# The lock is complete, so pip has nothing to resolve.
"${install[@]}" --no-deps --only-binary :all: --require-hashes --requirement "$lock"
if [ -n "$CGPF_VERSION" ]; then
  "${install[@]}" --no-deps --only-binary :all: "cgroup-preflight==$CGPF_VERSION"
fi
echo "::endgroup::"
printf '%s' "$stamp" >"$home/stamp"
