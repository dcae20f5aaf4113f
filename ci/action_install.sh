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

# Variables and files of the job can name another interpreter (PIP_PYTHON, ~/.config/pip/pip.conf), and --isolated does
# not ignore that. So pip gets a home of its own and no variables but these. What an index delivers has to have the hashes.
set --
for name in HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
  eval "value=\${$name:-}"
  [ -z "$value" ] || set -- "$@" "$name=$value"
done
set -- env -i HOME="$home/tmp" TMPDIR="$home/tmp" PATH="$PATH" "$@" "$CGPF_PYTHON" -I -m pip --isolated install --quiet \
  --disable-pip-version-check --no-input --no-compile --no-deps --only-binary :all: --root-user-action ignore --target "$lib"
echo "::group::Install cgroup-preflight"
if [ -n "$CGPF_VERSION" ]; then
  # No hash is known for it, so the index is the one of the machine (/etc/pip.conf), and nothing that the job names.
  "$@" "cgroup-preflight==$CGPF_VERSION"
fi
[ -z "${PIP_INDEX_URL:-}" ] || set -- "$@" --index-url "$PIP_INDEX_URL"
[ -z "${PIP_CERT:-}" ] || set -- "$@" --cert "$PIP_CERT"
"$@" --require-hashes --requirement "$GITHUB_ACTION_PATH/ci/action-requirements.txt"
echo "::endgroup::"

seal=$(cat "$GITHUB_ACTION_PATH/ci/action_seal.py")
mark=$(cat /proc/sys/kernel/random/uuid)
{
  printf 'lib=%s\n' "$lib"
  printf 'sealed=%s\n' "$("$CGPF_PYTHON" -I -S -B -c "$seal" print "$lib" "$GITHUB_ACTION_PATH")"
  printf 'seal<<%s\n%s\n%s\n' "$mark" "$seal" "$mark"
} >>"$GITHUB_OUTPUT"
