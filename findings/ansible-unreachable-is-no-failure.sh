#!/usr/bin/env bash
# ansible-core 2.19.14: a host that cannot be reached does not count for `max_fail_percentage`.
#
# With `serial` and `max_fail_percentage: 0` a play stops after the first batch in which a task failed on one host. Where
# the host is unreachable instead, the play goes on through all batches. The documentation of max_fail_percentage
# (playbook_guide/playbooks_error_handling, "Setting a maximum failure percentage") speaks of failures and does not say it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "ansible-core==2.19.14" 2>/dev/null
cd "$work"
cat >play.yml <<'END'
- hosts: all
  gather_facts: false
  serial: [3, 1]
  max_fail_percentage: 0
  tasks:
    - ansible.builtin.raw: "{{ action_on_host }}"
    - ansible.builtin.debug: {msg: "reached {{ inventory_hostname }}"}
END
hosts() {
    printf '%s\n' one "two $1" three late "[all:vars]" ansible_connection=local "action_on_host=true"
}
hosts "action_on_host=false" >failing
# Nothing listens on port 1 of this machine.
hosts "ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1" >unreachable
expect() {
    if [ "$2" = "$3" ]; then
        echo "as described: $1: $2"
    else
        echo "CHANGED: $1: $2, described as $3"
        exit 1
    fi
}
reached() {
    ANSIBLE_NOCOLOR=1 "$work/venv/bin/ansible-playbook" -i "$1" play.yml >"$1.out" 2>&1 || true
    grep -q "reached late" "$1.out" && echo "goes on" || echo "stops"
}
"$work/venv/bin/ansible-playbook" --version | head -1
expect "one of three hosts fails, max_fail_percentage 0" "$(reached failing)" "stops"
expect "one of three hosts is unreachable, max_fail_percentage 0" "$(reached unreachable)" "goes on"
grep -h "^two " unreachable.out | tail -1
