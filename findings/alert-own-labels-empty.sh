#!/usr/bin/env bash
# Prometheus 2.42.0 (Debian 12): a label that an alerting rule adds itself is on the alert that is sent, but empty in the
# alert's own annotations: `{{ $labels.team }}` becomes nothing, without an error, and `promtool check rules` with all its
# lints finds nothing. Only `promtool test rules` shows it.
# Expected: $labels has the labels that the alert is sent with, or the check refuses one that cannot be there.
# For users: in annotations, name only labels of the expression's series; write the rule's own labels as plain text.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq -o APT::Sandbox::User=root prometheus=2.42.0+ds-5+deb12u1
dpkg-deb -x prometheus_*.deb .

cat >rules.yml <<'RULES'
groups:
- name: disks
  rules:
  - alert: Full
    expr: disk_used > 1
    labels: {team: storage}
    annotations: {text: "disk of {{ $labels.host }} for team {{ $labels.team }}"}
RULES
cat >test.yml <<'TEST'
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
- interval: 1m
  input_series: [{series: 'disk_used{host="a"}', values: '5 5 5'}]
  alert_rule_test:
  - eval_time: 1m
    alertname: Full
    exp_alerts:
    - exp_labels: {host: a, team: storage}
      exp_annotations: {text: "TEXT"}
TEST

usr/bin/promtool --version 2>&1 | head -1
if ! usr/bin/promtool check rules --lint=all --lint-fatal rules.yml; then
    echo "CHANGED: check rules refuses the rule"
    exit 1
fi
for text in "disk of a for team storage" "disk of a for team "; do
    sed "s/TEXT/$text/" test.yml >one.yml
    usr/bin/promtool test rules one.yml >one.log 2>&1 && seen=$text
done
echo "the annotation is \"${seen:-something else}\""
if [ "${seen:-}" != "disk of a for team " ]; then
    echo "CHANGED: the rule's own label is in the annotation"
    exit 1
fi
echo "as described: the rule's own label is empty in its annotation"
