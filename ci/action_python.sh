#!/bin/sh
# Finds the Python for the action. Outputs its `path` if it is installed, else a `version` for setup-python.
#
# Only the system's folders are searched: an earlier step can put a folder of the pull request first in PATH.
set -eu
PATH=/usr/local/bin:/usr/bin:/bin
export PATH

fits() {
  "$1" -I -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

wanted=$CGPF_PYTHON
case $wanted in
  '') candidates='python3 python3.13 python3.12 python3.11' ;;
  */*) candidates= ;;
  *[!0-9.]*) candidates= ;;
  *) candidates=python$wanted ;;
esac
for candidate in $candidates "$wanted"; do
  if found=$(command -v "$candidate") && fits "$found"; then
    # The interpreter itself: a wrapper would search for it at every start.
    printf 'path=%s\n' "$("$found" -I -c 'import sys; print(sys.executable)')" >>"$GITHUB_OUTPUT"
    exit 0
  fi
done
case $wanted in
  */*)
    echo "::error title=cgroup-preflight::the input python names no Python of 3.11 or newer with pip"
    exit 2
    ;;
  '') wanted=3.13 ;;
esac
case $wanted in
  3.[0-9] | 3.[0-9][0-9]) printf 'version=%s\n' "$wanted" >>"$GITHUB_OUTPUT" ;;
  *)
    echo "::error title=cgroup-preflight::the input python is neither a path nor a version such as 3.13"
    exit 2
    ;;
esac
