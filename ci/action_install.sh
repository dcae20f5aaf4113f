#!/bin/sh
# Installs what the action needs into a new folder of its own, without changing PATH. A virtual environment would take a
# second or two and need python3-venv. Versions and hashes are locked; only wheels are installed, so that nothing is built.
#
# Nothing is used again, also not by a second use of the action in the job: a step in between can change every file.
# Outputs the folder `lib`, the code of action_seal.py and its hash of all that is imported later: both stay with the
# runner, where a service cannot change them.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

if [ -n "$CGPF_VERSION" ] && ! "$CGPF_PYTHON" -I -S -c \
  'import re, sys; sys.exit(not re.fullmatch(r"\d+(\.\d+)*((a|b|rc)\d+)?", sys.argv[1], re.ASCII))' "$CGPF_VERSION"; then
  echo "::error title=cgroup-preflight::the input version is not a version such as 1.2.3"
  exit 2
fi
home=$(mktemp -d "$RUNNER_TEMP/cgroup-preflight-XXXXXXXXXX")
lib=$home/lib
mkdir "$lib" "$home/tmp"
TMPDIR=$home/tmp
export TMPDIR

# --isolated: variables and files of the job can name another interpreter or index. With hashes an index may be named.
install() {
  "$CGPF_PYTHON" -I -m pip --isolated install --quiet --disable-pip-version-check --no-input --no-compile --no-deps \
    --only-binary :all: --root-user-action ignore --target "$lib" "$@"
}
set --
[ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --index-url "$PIP_INDEX_URL"
[ -z "${PIP_CERT:-}" ] || set -- "$@" --cert "$PIP_CERT"
echo "::group::Install cgroup-preflight"
install "$@" --require-hashes --requirement "$GITHUB_ACTION_PATH/ci/action-requirements.txt"
if [ -n "$CGPF_VERSION" ]; then
  install --no-cache-dir "cgroup-preflight==$CGPF_VERSION"
fi
echo "::endgroup::"

seal=$(cat "$GITHUB_ACTION_PATH/ci/action_seal.py")
mark=$(cat /proc/sys/kernel/random/uuid)
{
  printf 'lib=%s\n' "$lib"
  printf 'sealed=%s\n' "$("$CGPF_PYTHON" -I -S -B -c "$seal" print "$lib" "$GITHUB_ACTION_PATH")"
  printf 'seal<<%s\n%s\n%s\n' "$mark" "$seal" "$mark"
} >>"$GITHUB_OUTPUT"
