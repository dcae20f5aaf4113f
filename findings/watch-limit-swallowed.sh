#!/usr/bin/env bash
# watchfiles 0.20.0 to 1.3.0: with ignore_permission_denied=True, `watch` also ignores that the inotify limit is reached. It
# watches only some of the folders then, without an error or a warning, and changes in the others are never seen.
# Expected: only "permission denied" is ignored; without the option, `watch` raises OSError "OS file watch limit reached".
# For users: leave the option off, and raise fs.inotify.max_user_watches when the error comes.
# The limit is that of a user namespace of its own (/proc/sys/user/max_inotify_watches), so this machine stays as it is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q watchfiles==1.3.0

cat >seen.py <<'SEEN'
import os, sys, tempfile, threading, watchfiles
with tempfile.TemporaryDirectory() as top:
    for number in range(20):
        os.mkdir(f"{top}/{number}")
    stop = threading.Event()
    threading.Timer(2, stop.set).start()
    try:
        for _ in watchfiles.watch(top, stop_event=stop, ignore_permission_denied=sys.argv[1] == "yes"):
            pass
        print("no error")
    except OSError as error:
        print(str(error).partition(".")[0])
    finally:
        stop.set()
SEEN

seen() {
    unshare --user --map-root-user sh -euc 'echo 3 >/proc/sys/user/max_inotify_watches; exec "$@"' sh venv/bin/python seen.py "$1"
}
venv/bin/python -c 'import watchfiles; print("watchfiles", watchfiles.__version__)'
without=$(seen no)
with=$(seen yes)
echo "ignore_permission_denied=False: $without"
echo "ignore_permission_denied=True: $with"
if [ "$without" != "OS file watch limit reached" ] || [ "$with" != "no error" ]; then
    echo "CHANGED: the limit is reported differently"
    exit 1
fi
echo "as described: the option hides that the limit is reached"
